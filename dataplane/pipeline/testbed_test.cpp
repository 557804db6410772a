// SPDX-License-Identifier: Apache-2.0
// See testbed_test.hpp.
#include "dataplane/pipeline/testbed_test.hpp"

#include <arpa/inet.h>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <gtest/gtest.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_ring.h>
#include <srtp2/srtp.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "dataplane/pipeline/ownership.hpp"

namespace tandem::pipeline::testing {

namespace {

const char* const local_ips[] = {"192.0.2.1", "198.51.100.1", "2001:db8::1", "2001:db8:1::1"};
constexpr unsigned queues = 4; // of each port
constexpr std::array<std::uint8_t, 6> peer_mac[2] = {{2, 0, 0, 0, 0, 10}, {2, 0, 0, 0, 0, 11}};

// Started once for the whole test program; ports are used by one testbed after the other.
struct world {
    io::eal eal;
    std::vector<io::port> ports;

    static world& get() {
        static world* made = [] {
            srtp_init();
            auto eal = io::eal::start({"tests", 2, io::hugepages::never, 4096, false});
            if (!eal) {
                std::fprintf(stderr, "%s\n", eal.error().c_str());
                std::exit(1);
            }
            auto* w = new world{std::move(*eal), {}}; // never freed: the EAL cannot be started twice
            for (const char* name : {"test0", "test1"}) {
                io::port_config c;
                c.kind = io::port_kind::ring;
                c.interface = name;
                c.queues = queues;
                auto port = io::open_port(c, w->eal.pool(), queues);
                if (!port) {
                    std::fprintf(stderr, "%s\n", port.error().c_str());
                    std::exit(1);
                }
                w->ports.push_back(std::move(*port));
            }
            return w;
        }();
        return *made;
    }
};

void put16(bytes& to, unsigned v) {
    to.push_back(static_cast<std::uint8_t>(v >> 8));
    to.push_back(static_cast<std::uint8_t>(v));
}
unsigned get16(const bytes& b, std::size_t at) {
    return static_cast<unsigned>(b[at] << 8 | b[at + 1]);
}

// RFC 1071 as it is written, over big-endian words.
unsigned plain_sum(const bytes& b, std::size_t from, std::size_t to, unsigned long sum = 0) {
    for (std::size_t i = from; i < to; i += 2)
        sum += static_cast<unsigned long>(b[i] << 8) + (i + 1 < to ? b[i + 1] : 0u);
    while (sum >> 16 != 0)
        sum = (sum & 0xffff) + (sum >> 16);
    return static_cast<unsigned>(sum);
}

} // namespace

api::net_address address(const std::string& ip, std::uint16_t port) {
    api::net_address a{};
    a.port = port;
    a.ip[10] = a.ip[11] = 0xff;
    if (inet_pton(AF_INET, ip.c_str(), a.ip + 12) != 1)
        inet_pton(AF_INET6, ip.c_str(), a.ip);
    return a;
}
api::net_address local(unsigned index, std::uint16_t port) {
    return address(local_ips[index], port);
}
api::flow_id id(unsigned index, std::uint16_t port) {
    return api::make_flow_id(index, port);
}

bytes rtp(std::uint16_t sequence, std::uint32_t ssrc, std::size_t payload) {
    bytes p{0x80, 0x00};
    put16(p, sequence);
    put16(p, 0);
    put16(p, sequence * 160u & 0xffff);
    put16(p, ssrc >> 16);
    put16(p, ssrc & 0xffff);
    for (std::size_t i = 0; i < payload; ++i)
        p.push_back(static_cast<std::uint8_t>(i * 7 + sequence));
    return p;
}

bytes rtcp(std::uint32_t ssrc) {
    bytes p{0x80, 200, 0, 6};
    put16(p, ssrc >> 16);
    put16(p, ssrc & 0xffff);
    p.resize(28, 0x5a);
    return p;
}

bytes frame(const bytes& payload, const api::net_address& from, const api::net_address& to, int vlan) {
    const bool v4 = flow::is_ipv4(to.ip);
    bytes f{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2};
    if (vlan >= 0) {
        put16(f, 0x8100);
        put16(f, static_cast<unsigned>(vlan));
    }
    put16(f, v4 ? 0x0800 : 0x86dd);
    const std::size_t ip = f.size();
    const auto udp_length = static_cast<unsigned>(payload.size() + 8);
    if (v4) {
        put16(f, 0x4500);
        put16(f, udp_length + 20);
        put16(f, 0x1234);
        put16(f, 0);
        put16(f, 60u << 8 | 17u); // TTL, UDP
        put16(f, 0);
        f.insert(f.end(), from.ip + 12, from.ip + 16);
        f.insert(f.end(), to.ip + 12, to.ip + 16);
        const unsigned sum = ~plain_sum(f, ip, ip + 20) & 0xffff;
        f[ip + 10] = static_cast<std::uint8_t>(sum >> 8);
        f[ip + 11] = static_cast<std::uint8_t>(sum);
    } else {
        put16(f, 0x6000);
        put16(f, 0);
        put16(f, udp_length);
        put16(f, 17u << 8 | 60u);
        f.insert(f.end(), from.ip, from.ip + 16);
        f.insert(f.end(), to.ip, to.ip + 16);
    }
    put16(f, from.port);
    put16(f, to.port);
    put16(f, udp_length);
    put16(f, 0xdead); // as veth leaves it: never to be trusted
    f.insert(f.end(), payload.begin(), payload.end());
    return f;
}

std::optional<opened> open_frame(const bytes& f) {
    const auto wrong = [](const char* what) {
        std::fprintf(stderr, "bad frame: %s\n", what);
        return std::nullopt;
    };
    opened o{};
    if (f.size() < 14)
        return wrong("short");
    std::copy_n(f.begin(), 6, o.destination_mac.begin());
    std::copy_n(f.begin() + 6, 6, o.source_mac.begin());
    std::size_t at = 12;
    if (get16(f, at) == 0x8100) {
        o.vlan = static_cast<int>(get16(f, at + 2));
        at += 4;
    }
    const bool v4 = get16(f, at) == 0x0800;
    if (!v4 && get16(f, at) != 0x86dd)
        return wrong("type");
    at += 2;
    std::size_t udp = 0;
    unsigned long pseudo = 0;
    o.source.ip[10] = o.source.ip[11] = o.destination.ip[10] = o.destination.ip[11] = v4 ? 0xff : 0;
    if (v4) {
        if (f[at] != 0x45 || get16(f, at + 2) != f.size() - at || plain_sum(f, at, at + 20) != 0xffff)
            return wrong("IPv4 header");
        o.dscp = f[at + 1] >> 2;
        o.ttl = f[at + 8];
        std::copy_n(f.data() + at + 12, 4, o.source.ip + 12);
        std::copy_n(f.data() + at + 16, 4, o.destination.ip + 12);
        udp = at + 20;
        pseudo = plain_sum(f, at + 12, at + 20);
    } else {
        if (f[at] >> 4 != 6 || get16(f, at + 4) != f.size() - at - 40 || f[at + 6] != 17)
            return wrong("IPv6 header");
        o.dscp = (get16(f, at) >> 6) & 0x3f;
        o.ttl = f[at + 7];
        std::copy_n(f.data() + at + 8, 16, o.source.ip);
        std::copy_n(f.data() + at + 24, 16, o.destination.ip);
        udp = at + 40;
        pseudo = plain_sum(f, at + 8, at + 40);
    }
    if (get16(f, udp + 4) != f.size() - udp)
        return wrong("UDP length");
    if (get16(f, udp + 6) == 0 || plain_sum(f, udp, f.size(), pseudo + 17 + (f.size() - udp)) != 0xffff)
        return wrong("UDP checksum");
    o.source.port = static_cast<std::uint16_t>(get16(f, udp));
    o.destination.port = static_cast<std::uint16_t>(get16(f, udp + 2));
    o.payload.assign(f.begin() + static_cast<std::ptrdiff_t>(udp) + 8, f.end());
    return o;
}

testbed::testbed(unsigned workers, std::optional<flow::memory> memory, idle_mode idle, bool verify_checksum)
    : memory_(memory ? std::move(*memory) : std::move(*flow::memory::make(64))), hops_(memory_.slots()),
      worker_stats_(workers), flow_stats_(memory_.slots()) {
    world& w = world::get();
    std::vector<flow::ip_bytes> ips;
    for (const char* ip : local_ips) {
        const auto a = address(ip, 0);
        flow::ip_bytes b;
        std::copy_n(a.ip, 16, b.begin());
        ips.push_back(b);
    }
    table_ = std::make_unique<flow::port_table>(ips);
    shared_ = std::unique_ptr<shared_state>(new shared_state{memory_, *table_, hops_, worker_stats_, flow_stats_, {}});
    pool_ = std::make_unique<worker_pool>(*shared_);
    builder_ = std::move(*crypto::make_engine("auto"));
    store_ = std::make_unique<flow::store>(memory_, *table_, *builder_, *pool_, workers);
    store_->on_publish = [this](flow::slot_index slot, const flow::record& r) {
        const auto way = [&](api::flow_id from) {
            hop h{};
            const unsigned port = (from >> 16) & 1;
            std::copy_n(peer_mac[port].begin(), 6, h.link.destination_mac);
            h.link.source_mac[0] = 2;
            h.link.vlan = no_vlan;
            h.mtu = 1500;
            h.port = static_cast<std::uint8_t>(port);
            h.state = hop_state::routed;
            return h;
        };
        hops_[slot] = {way(r.where().rtp_out), way(r.where().rtcp_out)};
        flow_stats_[slot] = {};
        flow_stats_[slot].id = r.id;
    };
    store_->on_withdraw = [this](flow::slot_index slot, const flow::record&) { flow_stats_[slot].id = 0; };
    store_->on_carry = [this](const flow::succession& flow) {
        flow::carry_counters(flow_stats_, memory_.records(), flow);
        carry_ways(hops_, memory_.records(), flow);
    };
    for (unsigned i = 0; i < workers; ++i) {
        std::vector<port_use> use;
        for (const auto& p : w.ports)
            use.push_back({p.id, static_cast<std::uint16_t>(i), static_cast<std::uint16_t>(workers), queues,
                           static_cast<std::uint16_t>(i), 1500, p.mac, verify_checksum});
        bells_.push_back(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
        idle_config waits(idle);
        waits.descriptors = {bells_.back()};
        waits.every_queue = true;
        workers_.push_back(std::make_unique<pipeline::worker>(i, *shared_, std::move(*crypto::make_engine("auto")), use,
                                                              std::move(waits)));
        shared_->workers.push_back(workers_.back().get());
    }
    store_->recover();
    ++memory_.header().starts;
}

testbed::~testbed() {
    halt();
    if (!workers_.empty())
        settle();
    workers_.clear();
    for (const int bell : bells_)
        close(bell);
}

// The account at the end.
void testbed::settle() {
    pump();
    for (unsigned port = 0; port < 2; ++port)
        for (const auto& left : collect(port))
            EXPECT_TRUE(open_frame(left).has_value());
    if (check_account) {
        const auto own = counter(api::counter::packets_out); // the control plane's, not injected
        EXPECT_EQ(injected_ + own, collected_ + all_drops() + counter(api::counter::punted))
            << "a frame neither came out nor went up, nor was dropped under a name";
        EXPECT_EQ(counter(api::counter::rx_packets), injected_);
        EXPECT_EQ(counter(api::counter::tx_packets), collected_);
    }
    store_->finish();
    EXPECT_EQ(rte_mempool_in_use_count(world::get().eal.pool()), 0u) << "buffers leaked";
}

rte_mempool* testbed::buffers() {
    return world::get().eal.pool();
}

flow::memory testbed::take_memory() {
    halt();
    pump();
    for (unsigned port = 0; port < 2; ++port)
        (void)collect(port);
    workers_.clear();
    shared_->workers.clear();
    return std::move(memory_);
}

std::uint64_t testbed::drops(api::drop reason) const {
    std::uint64_t n = 0;
    for (const auto& s : worker_stats_)
        n += api::read(s.drops[static_cast<std::size_t>(reason)]);
    return n;
}
std::uint64_t testbed::all_drops() const {
    std::uint64_t n = 0;
    for (std::size_t i = 0; i < api::drop_count; ++i)
        n += drops(static_cast<api::drop>(i));
    return n;
}
std::uint64_t testbed::counter(api::counter what) const {
    std::uint64_t n = 0;
    for (const auto& s : worker_stats_)
        n += api::read(s.counters[static_cast<std::size_t>(what)]);
    return n;
}
const api::flow_stats& testbed::stats(api::flow_id id) const {
    return flow_stats_.at(table_->find(id));
}

std::vector<api::flow_event> testbed::events() {
    std::vector<api::flow_event> all(256);
    unsigned n = 0;
    for (auto& w : workers_)
        n += w->drain_events(std::span(all).subspan(n));
    all.resize(n);
    return all;
}

void testbed::inject(unsigned port, const bytes& frame, unsigned queue) {
    world& w = world::get();
    rte_mbuf* m = rte_pktmbuf_alloc(w.eal.pool());
    ASSERT_NE(m, nullptr);
    takes(m);
    std::memcpy(rte_pktmbuf_append(m, static_cast<std::uint16_t>(frame.size())), frame.data(), frame.size());
    gives(m);
    ASSERT_EQ(rte_ring_enqueue(w.ports[port].to_worker[queue], m), 0);
    eventfd_write(bells_[queue % bells_.size()], 1);
    ++injected_;
}

void testbed::start() {
    for (auto& w : workers_)
        threads_.emplace_back([&worker = *w] {
            EXPECT_EQ(rte_thread_register(), 0);
            worker.run();
            rte_thread_unregister();
        });
    for (auto& w : workers_)
        while (!w->running())
            std::this_thread::yield();
}

void testbed::halt() {
    for (auto& w : workers_)
        if (!threads_.empty())
            w->stop();
    for (auto& thread : threads_)
        thread.join();
    threads_.clear();
}

void testbed::pump_one(unsigned worker) {
    for (unsigned idle = 0; idle < 2;)
        idle = workers_[worker]->run_once() == 0 ? idle + 1 : 0;
}

void testbed::pump() {
    for (unsigned idle = 0; idle < 2;) {
        unsigned n = 0;
        for (auto& w : workers_)
            if (!w->running())
                n += w->run_once();
        idle = n == 0 ? idle + 1 : 0;
    }
}

std::vector<bytes> testbed::collect(unsigned port) {
    std::vector<bytes> out;
    for (rte_ring* ring : world::get().ports[port].from_worker)
        for (void* got = nullptr; rte_ring_dequeue(ring, &got) == 0;) {
            auto* m = static_cast<rte_mbuf*>(got);
            takes(m);
            const auto* data = rte_pktmbuf_mtod(m, const std::uint8_t*);
            out.emplace_back(data, data + m->data_len);
            gives(m);
            rte_pktmbuf_free(m);
            ++collected_;
        }
    return out;
}

std::vector<opened> testbed::pass(unsigned port, const std::vector<bytes>& frames) {
    for (const auto& f : frames)
        inject(port, f);
    pump();
    std::vector<opened> out;
    for (unsigned p = 0; p < 2; ++p)
        for (const auto& f : collect(p)) {
            auto o = open_frame(f);
            EXPECT_TRUE(o.has_value());
            if (o)
                out.push_back(std::move(*o));
        }
    return out;
}

testbed::pair testbed::add_pair(unsigned access, unsigned core, api::suite unit_suite, api::suite core_suite,
                                std::uint8_t mki, std::uint16_t more) {
    const bool v6 = core >= access6;
    const auto phone = address(v6 ? "2001:db8:1::9" : "198.51.100.9", 6000);
    const auto plus = [more](unsigned port) { return static_cast<std::uint16_t>(port + more); };
    const pair p{id(access, plus(4000)), id(core, plus(5000))};
    api::flow_config up{};
    up.id = p.unit;
    up.reverse = p.core;
    up.tag = 1;
    up.in.suite = unit_suite;
    up.out.suite = core_suite;
    up.carries = api::carries_rtp | api::carries_rtcp;
    up.source.policy = api::source_policy::authenticated;
    up.in.mki_length = mki;
    up.route.rtp_out = up.route.rtcp_out = p.core;
    up.route.rtp_remote = up.route.rtcp_remote = phone;
    up.dscp = 46;
    std::ranges::copy(retransmissions, up.retransmissions);
    api::flow_config down = up;
    down.id = p.core;
    down.reverse = p.unit;
    down.in.suite = core_suite;
    down.out.suite = unit_suite;
    down.in.mki_length = 0;
    down.out.mki_length = mki;
    down.source.policy =
        core_suite == api::suite::clear ? api::source_policy::signalled : api::source_policy::authenticated;
    down.source.signalled = phone;
    down.route.rtp_out = down.route.rtcp_out = p.unit;
    down.route.rtp_remote = down.route.rtcp_remote = {};
    EXPECT_EQ(store_->add(up, 0), api::status::ok);
    EXPECT_EQ(store_->add(down, 0), api::status::ok);
    if (unit_suite != api::suite::clear) {
        EXPECT_EQ(store_->install(epoch_key(p.unit, api::side::in, 0, unit_suite, 1)), api::status::ok);
        EXPECT_EQ(store_->install(epoch_key(p.core, api::side::out, 0, unit_suite, 2)), api::status::ok);
    }
    if (core_suite != api::suite::clear) {
        EXPECT_EQ(store_->install(epoch_key(p.core, api::side::in, 0, core_suite, 3)), api::status::ok);
        EXPECT_EQ(store_->install(epoch_key(p.unit, api::side::out, 0, core_suite, 4)), api::status::ok);
    }
    return p;
}

} // namespace tandem::pipeline::testing
