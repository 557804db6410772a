// SPDX-License-Identifier: Apache-2.0
// See rig.hpp.
#include "bench/setup/rig.hpp"

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <stdexcept>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>
#include <utility>

#include <fmt/format.h>
#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_launch.h>
#include <rte_mbuf.h>
#include <rte_ring.h>

namespace tandem::bench::setup {

namespace {

constexpr std::size_t frame_bytes = 14 + 20 + 8 + 12 + 160;
constexpr std::size_t ip_at = 14, udp_at = 34, rtp_at = 42;

template <class T>
T take(tl::expected<T, std::string> from) {
    if (!from)
        throw std::runtime_error(from.error());
    return std::move(*from);
}

// Every remote lies behind one neighbour on port 0: the port itself.
class one_neighbour final : public io::nexthop_resolver {
public:
    explicit one_neighbour(const std::array<std::uint8_t, 6>& mac) : fd_(eventfd(0, EFD_CLOEXEC)) {
        way_.state = io::hop_state::resolved;
        way_.hop.source_mac = way_.hop.destination_mac = mac;
        way_.hop.mtu = 1500;
    }
    ~one_neighbour() override { close(fd_); }
    io::hop_result resolve(const api::net_address&, const api::net_address&) override { return way_; }
    [[nodiscard]] int fd() const noexcept override { return fd_; }
    bool process() override { return false; }
    [[nodiscard]] std::uint64_t generation() const noexcept override { return 1; }
    void refresh() override {}

private:
    int fd_;
    io::hop_result way_;
};

void put16(std::uint8_t* to, unsigned value) noexcept {
    to[0] = static_cast<std::uint8_t>(value >> 8);
    to[1] = static_cast<std::uint8_t>(value);
}
unsigned get16(const std::uint8_t* from) noexcept {
    return static_cast<unsigned>(from[0] << 8 | from[1]);
}

// RTP from the core's phone of a pair to its clear flow; no UDP checksum (RFC 768).
std::array<std::uint8_t, frame_bytes> make_frame(unsigned pair, const std::array<std::uint8_t, 6>& mac) {
    std::array<std::uint8_t, frame_bytes> f{};
    std::copy(mac.begin(), mac.end(), f.begin());
    std::copy(mac.begin(), mac.end(), f.begin() + 6);
    put16(&f[12], 0x0800);
    f[ip_at] = 0x45;
    put16(&f[ip_at + 2], frame_bytes - ip_at);
    f[ip_at + 8] = 64;
    f[ip_at + 9] = 17;
    const auto from = address_of(200, 0), to = address_of(0, 0);
    std::memcpy(&f[ip_at + 12], from.ip + 12, 4);
    std::memcpy(&f[ip_at + 16], to.ip + 12, 4);
    std::uint32_t sum = 0;
    for (std::size_t i = ip_at; i < udp_at; i += 2)
        sum += get16(&f[i]);
    sum = (sum & 0xffff) + (sum >> 16);
    put16(&f[ip_at + 10], ~(sum + (sum >> 16)) & 0xffff);
    put16(&f[udp_at], sink_port);
    put16(&f[udp_at + 2], clear_port + pair);
    put16(&f[udp_at + 4], frame_bytes - udp_at);
    f[rtp_at] = 0x80;
    f[rtp_at + 1] = 8;
    put16(&f[rtp_at + 10], pair + 1); // SSRC
    return f;
}

void raise(std::atomic<std::uint64_t>& to, std::uint64_t value) noexcept {
    if (value > to.load(std::memory_order_relaxed))
        to.store(value, std::memory_order_relaxed);
}

// Whether the kernel took this thread's core away since the last look. A system call: after what took long anyway.
bool interrupted(std::uint64_t& before) noexcept {
    rusage used{};
    getrusage(RUSAGE_THREAD, &used);
    const auto now = static_cast<std::uint64_t>(used.ru_nivcsw);
    return std::exchange(before, now) != now;
}

} // namespace

api::net_address address_of(unsigned index, std::uint16_t port) noexcept {
    return {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 198, 18, static_cast<std::uint8_t>(index), 1}, port, {}};
}

void rig::timed::run(unsigned worker, const std::function<void()>& what) {
    to.run(worker, [&] {
        const std::uint64_t begin = rte_rdtsc();
        what();
        const std::uint64_t took = rte_rdtsc() - begin;
        if (took >= look_closer_tsc && interrupted(switches_before))
            return;
        raise(longest, took);
        by_half_us[std::min<std::uint64_t>(took * 20 / look_closer_tsc, by_half_us.size() - 1)]++;
    });
}

void rig::timed::reset() noexcept {
    longest = 0;
    for (auto& n : by_half_us)
        n = 0;
}

double rig::timed::most_us(double share) const noexcept {
    std::uint64_t all = 0, seen = 0;
    for (const auto& n : by_half_us)
        all += n;
    for (std::size_t i = 0; i < by_half_us.size(); ++i)
        if ((seen += by_half_us[i]) >= static_cast<std::uint64_t>(share * static_cast<double>(all)) && seen != 0)
            return static_cast<double>(i + 1) / 2;
    return 0;
}

rig::rig(std::uint32_t flows, unsigned packets_per_second) {
    char directory[] = "/tmp/tandem-setup-XXXXXX";
    if (mkdtemp(directory) == nullptr)
        throw std::runtime_error("no directory in /tmp");
    settings_ = {directory, std::string(directory) + "/contract.sock"};
    config_.instance = fmt::format("setup-bench-{}", getpid());
    config_.run_dir = directory;
    config_.max_flows = flows + 2 * traffic_pairs;
    std::vector<flow::ip_bytes> addresses;
    for (unsigned i = 0; i <= (flows + flows_per_address - 1) / flows_per_address; ++i) {
        app::config::address a;
        a.name = "media";
        std::copy_n(address_of(i, 0).ip, 16, a.ip.begin());
        config_.addresses.push_back(a);
        addresses.push_back(a.ip);
    }
    eal_ = std::make_unique<io::eal>(take(io::eal::start({config_.instance, 1, io::hugepages::automatic, 1, false})));
    io::port_config port;
    port.kind = io::port_kind::ring;
    port.interface = "setup0";
    ports_.push_back(take(io::open_port(port, eal_->pool(), 1)));
    auto memory = flow::memory::make(config_.max_flows);
    if (!memory)
        throw std::runtime_error(memory.error().text);
    memory_ = std::make_unique<flow::memory>(std::move(*memory));
    stats_ = std::make_unique<app::stats_file>(take(app::stats_file::open(config_.stats_path(), 1, memory_->slots())));
    table_ = std::make_unique<flow::port_table>(addresses);
    hops_ = pipeline::hop_table(memory_->slots());
    shared_ = std::unique_ptr<pipeline::shared_state>(
        new pipeline::shared_state{*memory_, *table_, hops_, stats_->workers(), stats_->flows(), {}});
    pool_ = std::make_unique<pipeline::worker_pool>(*shared_);
    timed_ = std::make_unique<timed>(*pool_);
    timed_->look_closer_tsc = rte_get_tsc_hz() / 100'000; // 10 us
    builder_ = take(crypto::make_engine("auto"));
    flows_ = std::make_unique<flow::store>(*memory_, *table_, *builder_, *timed_, 1);
    resolver_ = std::make_unique<one_neighbour>(ports_[0].mac);
    control_ =
        std::make_unique<app::control>(config_, *flows_, *shared_, *stats_, ports_, *resolver_, *timed_, holder_);
    pipeline::port_use use;
    use.id = ports_[0].id;
    use.rx_queues = 1;
    use.mac = ports_[0].mac;
    worker_ = std::make_unique<pipeline::worker>(0, *shared_, take(crypto::make_engine("auto")), std::vector{use},
                                                 pipeline::idle_mode::poll);
    shared_->workers.push_back(worker_.get());
    control_->recover();

    tsc_per_us_ = static_cast<double>(rte_get_tsc_hz()) / 1e6;
    tsc_per_packet_ = rte_get_tsc_hz() / packets_per_second;
    for (unsigned pair = 0; pair < traffic_pairs; ++pair)
        frames_.push_back(make_frame(pair, ports_[0].mac));
    callback_ = rte_eth_add_rx_callback(ports_[0].id, 0, on_receive, this);
    if (callback_ == nullptr)
        throw std::runtime_error("this DPDK was built without receive callbacks");
    rte_eal_remote_launch(
        [](void* worker) {
            static_cast<pipeline::worker*>(worker)->run();
            return 0;
        },
        worker_.get(), eal_->worker_lcores()[0]);
    while (!worker_->running())
        usleep(50);
    control_->workers_started(eal_->pool());
    server_ = take(app::contract_server::listen(settings_.run_dir_socket, geteuid(), *control_));
    if (pipe(stop_) != 0)
        throw std::runtime_error("pipe");
    thread_ = std::thread([this] { static_cast<void>(control_->run(*server_, stop_[0])); });
}

rig::~rig() {
    if (thread_.joinable()) {
        const signalfd_siginfo end{};
        [[maybe_unused]] const auto written = write(stop_[1], &end, sizeof end);
        thread_.join();
    }
    if (worker_) {
        worker_->stop();
        rte_eal_wait_lcore(eal_->worker_lcores()[0]);
    }
    if (callback_ != nullptr)
        rte_eth_remove_rx_callback(ports_[0].id, 0, callback_);
    server_.reset();
    if (stats_)
        stats_->remove();
    std::error_code ignored;
    std::filesystem::remove_all(settings_.directory, ignored);
    close(stop_[0]);
    close(stop_[1]);
}

std::uint64_t rig::drops() const noexcept {
    std::uint64_t sum = 0;
    for (const std::uint64_t n : stats_->workers()[0].drops)
        sum += __atomic_load_n(&n, __ATOMIC_RELAXED);
    return sum;
}

// --- the worker's thread

std::uint16_t rig::on_receive(std::uint16_t, std::uint16_t, rte_mbuf** packets, std::uint16_t count, std::uint16_t most,
                              void* self) {
    return static_cast<rig*>(self)->wire(packets, count, most);
}

std::uint16_t rig::wire(rte_mbuf** packets, std::uint16_t count, std::uint16_t most) noexcept {
    if (left_tsc_ != 0)
        note_gap(rte_rdtsc() - left_tsc_);
    count = take_sent(packets, count, most);
    if (on_.load(std::memory_order_relaxed))
        count = make_packets(packets, count, most);
    rounds_.fetch_add(1, std::memory_order_relaxed);
    left_tsc_ = rte_rdtsc();
    return count;
}

void rig::note_gap(std::uint64_t gap) noexcept {
    raise(longest_gap_, gap);
    if (gap < timed_->look_closer_tsc) {
        raise(longest_own_gap_, gap);
        return;
    }
    if (interrupted(switches_before_)) {
        preempted_.fetch_add(1, std::memory_order_relaxed);
        return;
    }
    raise(longest_own_gap_, gap);
    if (static_cast<double>(gap) > 50 * tsc_per_us_)
        own_over_.fetch_add(1, std::memory_order_relaxed);
}

// What was sent to one of our own ports comes in again; the rest has arrived.
std::uint16_t rig::take_sent(rte_mbuf** packets, std::uint16_t count, std::uint16_t most) noexcept {
    const auto own = address_of(0, 0);
    void* sent = nullptr;
    while (count < most && rte_ring_dequeue(ports_[0].from_worker[0], &sent) == 0) {
        auto* packet = static_cast<rte_mbuf*>(sent);
        if (std::memcmp(rte_pktmbuf_mtod_offset(packet, const std::uint8_t*, ip_at + 16), own.ip + 12, 4) == 0) {
            packets[count++] = packet;
        } else {
            rte_pktmbuf_free(packet);
            received_.fetch_add(1, std::memory_order_relaxed);
        }
    }
    return count;
}

std::uint16_t rig::make_packets(rte_mbuf** packets, std::uint16_t count, std::uint16_t most) noexcept {
    const std::uint64_t now = rte_rdtsc();
    if (next_packet_tsc_ + 1'000 * tsc_per_packet_ < now)
        next_packet_tsc_ = now; // after a pause: not all that was missed
    for (; count < most && next_packet_tsc_ <= now; next_packet_tsc_ += tsc_per_packet_) {
        rte_mbuf* made = rte_pktmbuf_alloc(eal_->pool());
        if (made == nullptr)
            return count;
        auto& frame = frames_[next_pair_++ % traffic_pairs];
        put16(&frame[rtp_at + 2], get16(&frame[rtp_at + 2]) + 1);
        std::memcpy(rte_pktmbuf_append(made, frame_bytes), frame.data(), frame_bytes);
        packets[count++] = made;
        sent_.fetch_add(1, std::memory_order_relaxed);
    }
    return count;
}

// --- the client's thread

void rig::pass_rounds(unsigned n) const noexcept {
    const std::uint64_t until = rounds_.load(std::memory_order_relaxed) + n;
    while (rounds_.load(std::memory_order_relaxed) < until)
        usleep(20);
}

void rig::traffic(bool on) noexcept {
    on_ = on;
    pass_rounds(2); // the one under way may still make some
    for (int i = 0; !on && i < 5000 && sent_.load() != received_.load() + drops(); ++i)
        pass_rounds(8);
}

void rig::reset() noexcept {
    pass_rounds(2); // a gap that is under way belongs to what was before
    timed_->reset();
    longest_gap_ = longest_own_gap_ = own_over_ = preempted_ = 0;
}

observed rig::look() noexcept {
    observed o;
    o.longest_gap_us = static_cast<double>(longest_gap_.load()) / tsc_per_us_;
    o.longest_command_us = static_cast<double>(timed_->longest.load()) / tsc_per_us_;
    o.most_commands_us = timed_->most_us(0.999);
    o.longest_own_gap_us = static_cast<double>(longest_own_gap_.load()) / tsc_per_us_;
    o.own_gaps_over_50us = own_over_.load();
    o.preempted = preempted_.load();
    o.sent = sent_.load();
    o.received = received_.load();
    return o;
}

} // namespace tandem::bench::setup
