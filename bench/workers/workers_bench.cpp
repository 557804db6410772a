// SPDX-License-Identifier: Apache-2.0
// Two workers against one: the real pipeline::worker on ring ports, each in a thread on a CPU of its own with its own
// flows, RTP -> SRTP. What is timed is the worker's round (TSC cycles per packet, bursts of 64); filling and emptying
// the rings is not, but goes on beside it. Throughput is the sum of the workers' own rates. Medians over the bursts of
// a round, the best of several rounds, one and two workers in turn, because other programs disturb.
//
// Threads: one per worker; a barrier begins each batch, so that all workers work at the same time.
#include <algorithm>
#include <array>
#include <barrier>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <numeric>
#include <random>
#include <thread>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <pthread.h>
#include <rte_cycles.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_ring.h>
#include <sched.h>

#include "dataplane/crypto/engine.hpp"
#include "dataplane/flow/store.hpp"
#include "dataplane/io/eal.hpp"
#include "dataplane/io/port.hpp"
#include "dataplane/pipeline/worker.hpp"

namespace {

using namespace tandem;

constexpr unsigned most_workers = 2, burst = 64, batch = 15 * burst; // two fit a hand-off ring
constexpr std::size_t payload = 160, header = 14 + 20 + 8 + 12;
constexpr std::uint32_t flows_per_address = 60'000;

[[noreturn]] void give_up(const std::string& why) {
    std::fprintf(stderr, "workers_bench: %s\n", why.c_str());
    std::exit(1);
}
void require(bool holds, const char* what) {
    if (!holds)
        give_up(what);
}

std::array<std::uint8_t, 16> ip4(std::uint8_t a, std::uint8_t b, std::uint8_t c, std::uint8_t d) {
    return {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d};
}
api::net_address far_end() {
    api::net_address a{};
    const auto ip = ip4(198, 51, 100, 9);
    std::copy(ip.begin(), ip.end(), a.ip);
    a.port = 6000;
    return a;
}
api::flow_id id_of(std::uint32_t flow) {
    return api::make_flow_id(flow / flows_per_address, static_cast<std::uint16_t>(1000 + flow % flows_per_address));
}
void put16(std::uint8_t* to, unsigned v) {
    to[0] = static_cast<std::uint8_t>(v >> 8);
    to[1] = static_cast<std::uint8_t>(v);
}

unsigned ip_checksum(const std::uint8_t* ip) { // RFC 791; its own field is 0
    unsigned sum = 0;
    for (int i = 0; i < 20; i += 2)
        sum += static_cast<unsigned>(ip[i] << 8 | ip[i + 1]);
    while (sum >> 16 != 0)
        sum = (sum & 0xffff) + (sum >> 16);
    return ~sum & 0xffff;
}

struct world {
    io::eal eal;
    io::port port;
};

world make_world() {
    auto eal = io::eal::start({.instance = "workers-bench", .pages = io::hugepages::automatic, .queues = 2});
    if (!eal)
        give_up(eal.error());
    auto port = io::open_port({.kind = io::port_kind::ring, .interface = "bench0", .queues = most_workers}, eal->pool(),
                              most_workers);
    if (!port)
        give_up(port.error());
    return {std::move(*eal), std::move(*port)};
}

// Flows, tables and workers of one shape.
class rig {
public:
    rig(world& in, unsigned workers, std::uint32_t flows_each, api::suite suite)
        : world_(in), memory_(std::move(*flow::memory::make(workers * flows_each))),
          table_({ip4(192, 0, 2, 1), ip4(192, 0, 2, 2)}), hops_(memory_.slots()), stats_(workers),
          flow_stats_(memory_.slots()), shared_{memory_, table_, hops_, stats_, flow_stats_, {}}, pool_(shared_),
          builder_(std::move(*crypto::make_engine("auto"))), store_(memory_, table_, *builder_, pool_, workers),
          mine_(workers), next_(workers * flows_each, 1) {
        store_.recover();
        store_.on_publish = [this](flow::slot_index slot, const flow::record&) {
            pipeline::hop h{};
            h.link.vlan = pipeline::no_vlan;
            h.mtu = 1500;
            h.state = pipeline::hop_state::routed;
            hops_[slot] = {h, h};
        };
        for (std::uint32_t f = 0; f < workers * flows_each; ++f)
            mine_[add_flow(f, suite)].push_back(f);
        std::mt19937 random(7);
        for (auto& flows : mine_)
            std::shuffle(flows.begin(), flows.end(), random);
        for (unsigned w = 0; w < workers; ++w) {
            pipeline::port_use use{world_.port.id,
                                   static_cast<std::uint16_t>(w),
                                   static_cast<std::uint16_t>(workers),
                                   static_cast<std::uint16_t>(workers),
                                   static_cast<std::uint16_t>(w),
                                   1500,
                                   {}};
            workers_.push_back(std::make_unique<pipeline::worker>(w, shared_, std::move(*crypto::make_engine("auto")),
                                                                  std::vector{use}, pipeline::idle_mode::poll));
            shared_.workers.push_back(workers_.back().get());
        }
    }

    // Each worker's median of TSC cycles per packet. `wrong`: every packet comes to the other worker, which hands over;
    // a worker's round then does both.
    std::vector<double> run(unsigned batches, bool wrong = false) {
        std::vector<double> medians(workers_.size());
        std::barrier together(static_cast<std::ptrdiff_t>(workers_.size()));
        std::vector<std::thread> threads;
        for (unsigned w = 0; w < workers_.size(); ++w)
            threads.emplace_back([&, w] {
                pin(w);
                require(rte_thread_register() == 0, "DPDK takes no more threads");
                medians[w] = work(w, batches, together, wrong);
                rte_thread_unregister();
            });
        for (auto& t : threads)
            t.join();
        while (round(0) + (workers_.size() > 1 ? round(1) : 0u) != 0)
            for (unsigned w = 0; w < workers_.size(); ++w)
                empty(w);
        require(rte_mempool_in_use_count(world_.eal.pool()) == 0, "buffers are missing");
        std::uint64_t drops = 0, out = 0, in = 0;
        for (const auto& s : stats_) {
            drops += std::accumulate(std::begin(s.drops), std::end(s.drops), std::uint64_t{0});
            in += s.counters[static_cast<std::size_t>(api::counter::rx_packets)];
            out += s.counters[static_cast<std::size_t>(api::counter::srtp_protected)];
        }
        if (drops != 0 || in != out || in == 0) {
            std::string why = fmt::format("{} packets in, {} out, {} dropped:", in, out, drops);
            for (const auto& w : stats_)
                for (std::size_t i = 0; i < api::drop_count; ++i)
                    if (w.drops[i] != 0)
                        why += fmt::format(" {} {}", w.drops[i], api::info(static_cast<api::drop>(i)).name);
            give_up(why);
        }
        return medians;
    }

private:
    unsigned add_flow(std::uint32_t f, api::suite suite) {
        api::flow_config c{};
        c.id = id_of(f);
        c.in.suite = api::suite::clear;
        c.out.suite = suite;
        c.carries = api::carries_rtp;
        c.source.policy = api::source_policy::signalled;
        c.source.signalled = far_end();
        c.route.rtp_out = c.route.rtcp_out = c.id;
        c.route.rtp_remote = c.route.rtcp_remote = far_end();
        require(store_.add(c, 0) == api::status::ok, "adding a flow");
        api::epoch_key key{};
        key.id = c.id;
        key.side = api::side::out;
        key.key_length = api::info(suite).key_length;
        key.salt_length = api::info(suite).salt_length;
        for (std::size_t i = 0; i < sizeof key.key; ++i)
            key.key[i] = static_cast<std::uint8_t>(f >> i % 4 * 8 ^ i * 13);
        require(store_.install(key) == api::status::ok, "installing a key");
        return memory_.records()[store_.find(c.id)].worker;
    }

    static void pin(unsigned w) {
        cpu_set_t all, one;
        pthread_getaffinity_np(pthread_self(), sizeof all, &all);
        CPU_ZERO(&one);
        for (int cpu = 0, nth = 0; cpu < CPU_SETSIZE; ++cpu)
            if (CPU_ISSET(cpu, &all) && nth++ == static_cast<int>(w))
                CPU_SET(cpu, &one);
        require(pthread_setaffinity_np(pthread_self(), sizeof one, &one) == 0, "there are too few CPUs");
    }

    void fill(unsigned queue, unsigned owner, std::size_t& at) {
        static constexpr std::uint8_t start[] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0};
        std::array<rte_mbuf*, burst> mbufs;
        std::array<void*, burst> objects;
        for (unsigned done = 0; done < batch; done += burst) {
            require(rte_pktmbuf_alloc_bulk(world_.eal.pool(), mbufs.data(), burst) == 0, "taking buffers");
            for (unsigned i = 0; i < burst; ++i) {
                const std::uint32_t f = mine_[owner][at++ % mine_[owner].size()];
                mbufs[i]->pkt_len = mbufs[i]->data_len = header + payload;
                auto* p = rte_pktmbuf_mtod(mbufs[i], std::uint8_t*);
                std::memset(p, 0, header);
                std::memcpy(p, start, sizeof start);
                p[14] = 0x45;
                put16(p + 16, header - 14 + payload);
                p[22] = 64;
                p[23] = 17;
                const api::net_address from = far_end();
                std::memcpy(p + 26, from.ip + 12, 4);
                std::memcpy(p + 30, table_.addresses()[id_of(f) >> 16].data() + 12, 4);
                put16(p + 24, ip_checksum(p + 14));
                put16(p + 34, from.port);
                put16(p + 36, id_of(f) & 0xffff);
                put16(p + 38, 8 + 12 + payload);
                p[42] = 0x80;
                put16(p + 44, next_[f]++);
                put16(p + 52, f & 0xffff);
                std::memset(p + header, static_cast<int>(f), payload);
                objects[i] = mbufs[i];
            }
            require(rte_ring_enqueue_bulk(world_.port.to_worker[queue], objects.data(), burst, nullptr) == burst,
                    "ring");
        }
    }

    unsigned round(unsigned w) { return workers_[w]->run_once(); }

    void empty(unsigned w) {
        std::array<void*, burst> got;
        while (const unsigned n = rte_ring_dequeue_burst(world_.port.from_worker[w], got.data(), burst, nullptr))
            for (unsigned i = 0; i < n; ++i)
                rte_pktmbuf_free(static_cast<rte_mbuf*>(got[i]));
    }

    double work(unsigned w, unsigned batches, std::barrier<>& together, bool wrong) {
        std::vector<double> cycles;
        std::size_t at = 0;
        const auto n = static_cast<unsigned>(workers_.size());
        for (unsigned b = 0; b < batches; ++b) {
            fill(w, wrong ? (w + 1) % n : w, at);
            together.arrive_and_wait();
            for (unsigned taken = burst; taken != 0;) { // what is handed over later comes in the next batch
                const std::uint64_t begin = rte_rdtsc();
                taken = round(w);
                const std::uint64_t end = rte_rdtsc();
                if (taken == burst && b != 0)
                    cycles.push_back(static_cast<double>(end - begin) / burst);
            }
            empty(w);
            together.arrive_and_wait();
        }
        require(!cycles.empty(), "too few bursts");
        const auto middle = cycles.begin() + static_cast<std::ptrdiff_t>(cycles.size() / 2);
        std::nth_element(cycles.begin(), middle, cycles.end());
        return *middle;
    }

    world& world_;
    flow::memory memory_;
    flow::port_table table_;
    pipeline::hop_table hops_;
    std::vector<api::worker_stats> stats_;
    std::vector<api::flow_stats> flow_stats_;
    pipeline::shared_state shared_;
    pipeline::worker_pool pool_;
    std::unique_ptr<crypto::engine> builder_;
    flow::store store_;
    std::vector<std::vector<std::uint32_t>> mine_; // flows of each worker, in random order
    std::vector<std::uint16_t> next_;
    std::vector<std::unique_ptr<pipeline::worker>> workers_;
};

void measure(world& w, api::suite suite, std::uint32_t flows_each, bool quick, nlohmann::json& rows) {
    rig alone(w, 1, flows_each, suite), both(w, 2, flows_each, suite);
    const unsigned rounds = quick ? 20 : 40, batches = quick ? 60 : 200;
    double one = 1e12, two = 1e12, handed = 1e12;
    for (unsigned i = 0; i < rounds; ++i) {
        one = std::min(one, alone.run(batches)[0]);
        const auto each = both.run(batches);
        two = std::min(two, 2 / (1 / each[0] + 1 / each[1])); // of the sum of rates
    }
    for (unsigned i = 0; i < rounds; ++i) {
        const auto each = both.run(batches, true);
        handed = std::min(handed, 2 / (1 / each[0] + 1 / each[1]));
    }
    const auto hz = static_cast<double>(rte_get_tsc_hz());
    const auto row = [&](unsigned workers, double value, const char* unit, const char* note) {
        rows.push_back({{"bench", "workers"},
                        {"engine", "tandem"},
                        {"suite", api::info(suite).name},
                        {"direction", "rtp-srtp"},
                        {"payload", payload},
                        {"flows", workers * flows_each},
                        {"value", value},
                        {"unit", unit},
                        {"workers", workers},
                        {"note", note}});
    };
    row(1, one, "tsc", "");
    row(2, two, "tsc", "of each worker, both at work");
    row(1, hz / one, "pps", "");
    row(2, 2 * hz / two, "pps", "sum of both");
    row(2, 2 * one / two, "ratio", "times one worker");
    row(2, 2 * handed, "tsc", "every packet comes to the wrong worker: cycles of both together");
    fmt::print("{:24} {:>6} flows a worker: 1 worker {:5.0f} cycles a packet, 2 workers {:5.0f} each: {:.2f} times; "
               "handed over: {:.0f}\n",
               api::info(suite).name, flows_each, one, two, 2 * one / two, 2 * handed);
}

} // namespace

int main(int argc, char** argv) {
    std::string json_path;
    bool quick = false;
    CLI::App cli{"One worker against two, on ring ports", "workers_bench"};
    cli.add_option("--json", json_path, "file for the rows");
    cli.add_flag("--quick", quick, "fewer cases, at most 20 s");
    CLI11_PARSE(cli, argc, argv);
    world w = make_world();
    nlohmann::json rows = nlohmann::json::array();
    for (const auto suite : {api::suite::aead_aes_128_gcm, api::suite::aes_cm_128_hmac_sha1_80})
        for (const std::uint32_t flows :
             quick ? std::vector<std::uint32_t>{1000} : std::vector<std::uint32_t>{1000, 20'000})
            measure(w, suite, flows, quick, rows);
    if (!json_path.empty())
        std::ofstream(json_path) << nlohmann::json{{"rows", rows}}.dump(1) << '\n';
    return 0;
}
