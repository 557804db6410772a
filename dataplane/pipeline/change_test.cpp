// SPDX-License-Identifier: Apache-2.0
// Changes while packets run, several workers, and what a kill leaves behind.
#include <atomic>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <thread>
#include <unistd.h>

#include "dataplane/pipeline/testbed_test.hpp"

namespace tandem::pipeline::testing {
namespace {

using api::drop;

// Flows come and go on the running worker while a call's packets pass: none of the call's is lost.
TEST(Change, FlowsComeAndGoUnderTraffic) {
    testbed t;
    const auto p = t.add_pair(access4, core4, gcm);
    srtp_end unit(gcm, {{0, master_key(gcm, 1)}}, 4, false);
    std::thread loop([&] { t.worker().run(); });
    while (!t.worker().running())
        std::this_thread::yield();
    std::uint64_t out = 0;
    const auto gather = [&] {
        for (unsigned port = 0; port < 2; ++port)
            for (const auto& f : t.collect(port)) {
                EXPECT_TRUE(open_frame(f).has_value());
                ++out;
            }
    };
    std::uint16_t n = 0;
    for (unsigned round = 0; round < 300; ++round) {
        api::flow_config c{};
        c.id = id(access6, static_cast<std::uint16_t>(1000 + round % 7));
        c.reverse = p.core;
        c.in.suite = gcm;
        c.carries = 3;
        c.route.rtp_out = c.route.rtcp_out = p.core;
        c.route.rtp_remote = c.route.rtcp_remote = phone4;
        ASSERT_EQ(t.flows().add(c, 0), api::status::ok);
        ASSERT_EQ(t.flows().install(epoch_key(c.id, api::side::in, 0, gcm, 9)), api::status::ok);
        for (int i = 0; i < 5; ++i)
            t.inject(0, frame(unit.protect(rtp(n++)), unit4, local(access4, 4000)));
        api::flow_update u{};
        u.id = c.id;
        u.mask = api::update_flags;
        u.flags = static_cast<std::uint8_t>(round % 2 == 0 ? api::flow_paused : 0);
        ASSERT_EQ(t.flows().update(u), api::status::ok);
        ASSERT_EQ(t.flows().remove(c.id), api::status::ok);
        t.flows().finish();
        gather();
    }
    for (int wait = 0; wait < 2000 && out < 1500; ++wait) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        gather();
    }
    t.worker().stop();
    loop.join();
    EXPECT_EQ(out, 1500u);
    EXPECT_EQ(t.all_drops(), 0u);
    EXPECT_EQ(t.flows().shared().keys().used(), 2u);
}

// A packet that RSS brought to the wrong worker is handed to the flow's own.
TEST(Change, PacketsFindTheirWorker) {
    testbed t(2);
    const auto p = t.add_pair(access4, core4, gcm);
    const auto& r = t.flows().shared().records()[t.flows().find(p.unit)];
    EXPECT_EQ(r.worker, t.flows().shared().records()[t.flows().find(p.core)].worker); // pairs stay together
    srtp_end unit(gcm, {{0, master_key(gcm, 1)}}, 4, false);
    for (std::uint16_t n = 0; n < 100; ++n)
        t.inject(0, frame(unit.protect(rtp(n)), unit4, local(access4, 4000)), n % 2); // queue 0 and 1 alternate
    t.pump();
    EXPECT_EQ(t.collect(1).size(), 100u);
    EXPECT_EQ(t.all_drops(), 0u);
}

// What a kill leaves: flows, keys, ROC, replay window, latched address; the next process goes on.
TEST(Recovery, GoesOnWhereTheLastOneWasKilled) {
    srtp_end unit_out(gcm, {{0, master_key(gcm, 1)}}, 4, false), unit_in(gcm, {{0, master_key(gcm, 2)}}, 4, true);
    std::vector<bytes> sent;
    std::optional<flow::memory> memory;
    std::uint16_t n = 65500;
    for (int life = 0; life < 20; ++life) {
        testbed t(1, std::move(memory));
        if (life == 0)
            t.add_pair(access4, core4, gcm);
        EXPECT_EQ(t.flows().count(), 2u);
        for (const auto& old : sent) // recorded earlier, played again
            EXPECT_TRUE(t.pass(0, {old}).empty());
        EXPECT_EQ(t.drops(drop::srtp_replay) + t.drops(drop::srtp_too_old), sent.size());
        if (life != 0) { // the leg is where it was: nothing needs to be heard first
            const auto first = t.pass(1, {frame(rtp(n, 5), phone4, local(core4, 5000))});
            ASSERT_EQ(first.size(), 1u);
            EXPECT_TRUE(unit_in.unprotect(first[0].payload).has_value());
            ++n;
        }
        for (int i = 0; i < 7; ++i, ++n) {
            sent.push_back(frame(unit_out.protect(rtp(n)), unit4, local(access4, 4000)));
            const auto up = t.pass(0, {sent.back()});
            ASSERT_EQ(up.size(), 1u) << "life " << life << " packet " << n;
            EXPECT_EQ(up[0].payload, rtp(n));
            const auto down = t.pass(1, {frame(rtp(n, 5), phone4, local(core4, 5000))});
            ASSERT_EQ(down.size(), 1u);
            EXPECT_EQ(unit_in.unprotect(down[0].payload), rtp(n, 5)); // libsrtp2 refuses an index that comes twice
        }
        memory = t.take_memory();
    }
}

// Killed between any two stores of add or remove: what is neither free nor active is wiped.
TEST(Recovery, HalfMadeFlowsAreWiped) {
    std::optional<flow::memory> memory;
    {
        testbed t;
        const auto p = t.add_pair(access4, core4, gcm);
        auto records = t.flows().shared().records();
        flow::store_state(records[t.flows().find(p.unit)], flow::state::removing);
        flow::store_state(records[t.flows().find(p.core)], flow::state::building);
        memory = t.take_memory();
    }
    testbed t(1, std::move(memory));
    EXPECT_EQ(t.flows().count(), 0u);
    EXPECT_EQ(t.flows().shared().keys().used(), 0u);
    const auto ins = t.flows().shared().ins();
    for (std::size_t slot = 0; slot < ins.size(); ++slot) {
        const auto* raw = reinterpret_cast<const std::uint8_t*>(&ins[slot]);
        for (std::size_t i = 0; i < sizeof ins[slot]; ++i)
            ASSERT_EQ(raw[i], 0);
    }
    t.add_pair(access4, core4, gcm);
}

TEST(Recovery, ForeignMemoryIsRefusedAsALayout) {
    const int fd = memfd_create("foreign", MFD_ALLOW_SEALING);
    ASSERT_EQ(ftruncate(fd, 1 << 20), 0);
    auto taken = flow::memory::adopt(fd, 64);
    ASSERT_FALSE(taken.has_value());
    EXPECT_EQ(taken.error().what, flow::memory_error::kind::layout);
    close(fd);
}

TEST(Recovery, MemoryIsSealedAndFoundAgain) {
    const int fd = memfd_create("state", MFD_ALLOW_SEALING);
    std::uint64_t generation = 0;
    {
        auto first = flow::memory::adopt(fd, 16);
        ASSERT_TRUE(first.has_value());
        EXPECT_TRUE(first->fresh());
        generation = first->header().generation;
    }
    EXPECT_NE(ftruncate(fd, 0), 0);
    auto second = flow::memory::adopt(fd, 99); // max_flows of the memory in force counts
    ASSERT_TRUE(second.has_value());
    EXPECT_FALSE(second->fresh());
    EXPECT_EQ(second->header().generation, generation);
    EXPECT_EQ(second->header().max_flows, 16u);
    second->header().version = 99;
    EXPECT_FALSE(flow::memory::adopt(fd, 16).has_value());
    close(fd);
}

} // namespace
} // namespace tandem::pipeline::testing
