// SPDX-License-Identifier: Apache-2.0
// The probe: it says so when a worker does not come round, drops it, or makes something else of it; and it leaves no
// trace in what an operator counts.
#include "dataplane/pipeline/probe.hpp"

#include <chrono>
#include <cstring>
#include <thread>

#include <gtest/gtest.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>

#include "dataplane/flow/side_testing.hpp"
#include "dataplane/pipeline/testbed_test.hpp"

namespace tandem::pipeline::testing {
namespace {

using state = api::health_state;
using flow::testing::sanitized;

// Whole, or with one fault of a kind.
class faulty_engine final : public crypto::engine {
public:
    enum class fault { none, encrypts_wrong, refuses };
    fault now = fault::none;

    [[nodiscard]] std::string_view name() const noexcept override { return sound_->name(); }
    [[nodiscard]] std::uint32_t fingerprint() const noexcept override { return sound_->fingerprint(); }
    [[nodiscard]] bool build(api::suite s, const crypto::session_keys& k, crypto::key_object& out) noexcept override {
        return sound_->build(s, k, out);
    }
    void protect(std::span<crypto::op> ops) noexcept override {
        sound_->protect(ops);
        if (now == fault::encrypts_wrong)
            ops[0].packet[20] ^= 1;
    }
    void unprotect(std::span<crypto::op> ops) noexcept override {
        sound_->unprotect(ops);
        if (now == fault::refuses)
            ops[0].result = api::drop::srtp_auth;
    }
    void restore(crypto::op& failed) noexcept override { sound_->restore(failed); }

private:
    std::unique_ptr<crypto::engine> sound_ = std::move(*crypto::make_engine("auto"));
};

struct lane_of_rings {
    io::port port;
    explicit lane_of_rings(const char* name) {
        io::port_config c;
        c.kind = io::port_kind::ring;
        c.interface = name;
        auto opened = io::open_port(c, pool(), 1);
        EXPECT_TRUE(opened.has_value());
        port = std::move(*opened);
    }
    [[nodiscard]] probe::lane lane() const {
        port_use use;
        use.id = port.id;
        use.rx_queues = 1;
        return {use, port.to_worker[0], port.from_worker[0]};
    }
    static rte_mempool* pool() { return rte_mempool_lookup("tandem"); }
};

struct Probe : ::testing::Test {
    std::unique_ptr<crypto::engine> judge = std::move(*crypto::make_engine("openssl"));

    std::unique_ptr<probe> make(worker& subject, const lane_of_rings& by, rte_mempool* pool = lane_of_rings::pool()) {
        auto made = probe::make(subject, by.lane(), pool, *judge);
        EXPECT_TRUE(made.has_value()) << made.error();
        return std::move(*made);
    }
    // What came back of the one that is on its way.
    static state comes_back(probe& p) {
        for (unsigned i = 0; i < 10'000 && p.waiting_since_ns() != 0; ++i) {
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
            p.look();
        }
        EXPECT_EQ(p.waiting_since_ns(), 0u);
        return p.state();
    }
};

TEST_F(Probe, GoesRoundAndLeavesNoTrace) {
    testbed bed;
    const lane_of_rings by("probe-a");
    const auto p = make(bed.worker(), by);
    EXPECT_EQ(p->state(), state::no_answer);
    EXPECT_EQ(p->last_good_ns(), 0u);
    bed.start();
    for (unsigned i = 0; i < 20; ++i) {
        const std::uint64_t begin = monotonic_ns();
        p->turn();
        ASSERT_EQ(comes_back(*p), state::ok);
        EXPECT_GE(p->last_good_ns(), begin);
    }
    bed.halt();
    for (const auto what : {api::counter::rx_packets, api::counter::tx_packets, api::counter::rx_bytes,
                            api::counter::tx_bytes, api::counter::bursts, api::counter::srtp_protected,
                            api::counter::srtp_unprotected, api::counter::latches, api::counter::events_lost})
        EXPECT_EQ(bed.counter(what), 0u) << static_cast<int>(what);
    EXPECT_EQ(bed.all_drops(), 0u);
    EXPECT_EQ(bed.flows().count(), 0u);
    EXPECT_TRUE(bed.flows().list({}).empty());
    EXPECT_TRUE(bed.events().empty());
    for (const auto& s : bed.flow_stats())
        EXPECT_EQ(s.id, 0u);
    for (const auto packets : bed.sight().stage_packets)
        EXPECT_EQ(packets, 0u);
}

// The sequence numbers wrap: 70,000 probes are five hours.
TEST_F(Probe, GoesOnForHours) {
    testbed bed; // without a thread: the errand runs at once
    const lane_of_rings by("probe-b");
    const auto p = make(bed.worker(), by);
    for (unsigned i = 0; i < (sanitized ? 2000u : 70'000u); ++i) {
        p->turn();
        p->look();
        ASSERT_EQ(p->state(), state::ok) << i;
    }
}

TEST_F(Probe, AWorkerThatDoesNotComeRound) {
    testbed bed;
    const lane_of_rings by("probe-c");
    const auto p = make(bed.worker(), by);
    bed.start();
    p->turn();
    ASSERT_EQ(comes_back(*p), state::ok);
    std::atomic<bool> stuck{true};
    const std::function<void()> wait = [&] {
        while (stuck)
            std::this_thread::yield();
    };
    errand hang{&wait};
    ASSERT_TRUE(bed.worker().post(hang));
    p->turn();
    const std::uint64_t last = p->last_good_ns();
    for (unsigned i = 0; i < 200; ++i) // far more than the mailbox holds
        p->turn();
    EXPECT_EQ(p->state(), state::no_answer);
    EXPECT_EQ(p->last_good_ns(), last);
    stuck = false;
    ASSERT_EQ(comes_back(*p), state::ok) << "the one that waited comes through";
    EXPECT_GT(p->last_good_ns(), last);
    bed.halt();
}

TEST_F(Probe, WhatComesOutWrong) {
    testbed bed; // for its EAL and the worker's surroundings
    auto engine = std::make_shared<faulty_engine>();
    flow::memory memory = std::move(*flow::memory::make(4));
    flow::port_table table({flow::ip_bytes{}});
    hop_table hops(4);
    std::vector<api::worker_stats> worker_stats(1);
    std::vector<api::flow_stats> flow_stats(4);
    shared_state shared{memory, table, hops, worker_stats, flow_stats, {}};
    worker subject(0, shared, engine, {}, idle_mode::poll);
    const lane_of_rings by("probe-d");
    const auto p = make(subject, by);
    const auto next = [&] {
        p->turn();
        p->look();
        return p->state();
    };
    EXPECT_EQ(next(), state::ok);
    const std::uint64_t good = p->last_good_ns();
    engine->now = faulty_engine::fault::encrypts_wrong;
    EXPECT_EQ(next(), state::wrong);
    EXPECT_EQ(p->dropped_for(), api::drop::none) << "it came out, but changed";
    engine->now = faulty_engine::fault::refuses;
    EXPECT_EQ(next(), state::wrong);
    EXPECT_EQ(p->dropped_for(), api::drop::srtp_auth);
    EXPECT_EQ(p->last_good_ns(), good);
    engine->now = faulty_engine::fault::none;
    EXPECT_EQ(next(), state::ok);
    EXPECT_EQ(p->dropped_for(), api::drop::none);
}

TEST_F(Probe, NoBufferForIt) {
    testbed bed;
    const lane_of_rings by("probe-e");
    rte_mempool* const few = rte_pktmbuf_pool_create("few", 3, 0, 0, io::mbuf_data_room, SOCKET_ID_ANY);
    ASSERT_NE(few, nullptr);
    {
        const auto p = make(bed.worker(), by, few);
        rte_mbuf* all[3];
        ASSERT_EQ(rte_pktmbuf_alloc_bulk(few, all, 3), 0);
        p->turn();
        p->look();
        EXPECT_EQ(p->state(), state::no_buffer);
        rte_pktmbuf_free_bulk(all, 3);
        p->turn();
        p->look();
        EXPECT_EQ(p->state(), state::ok);
    }
    EXPECT_EQ(rte_mempool_in_use_count(few), 0u);
    rte_mempool_free(few);
}

} // namespace
} // namespace tandem::pipeline::testing
