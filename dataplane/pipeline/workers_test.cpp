// SPDX-License-Identifier: Apache-2.0
// Several workers in threads on ring ports: a flow's packets keep their order also when another worker receives them, a
// full hand-off ring is counted exactly, and who sleeps wakes up for packets, for what is handed over, for the control
// thread and for the end.
#include <map>

#include <gtest/gtest.h>

#include "dataplane/pipeline/testbed_test.hpp"

namespace tandem::pipeline::testing {
namespace {

using api::suite;

// Calls of which each has its SRTP end; packets of one are told by the core port that they leave from.
struct calls {
    testbed& bed;
    std::vector<std::unique_ptr<srtp_end>> ends;
    std::vector<testbed::pair> pairs;
    std::vector<std::vector<std::uint16_t>> heard; // sequence numbers, per call, in the order of coming out

    calls(testbed& t, unsigned n, suite s = suite::aead_aes_128_gcm) : bed(t), heard(n) {
        for (unsigned i = 0; i < n; ++i) {
            pairs.push_back(t.add_pair(access4, core4, s, suite::clear, 4, static_cast<std::uint16_t>(2 * i)));
            ends.push_back(std::make_unique<srtp_end>(s, std::vector<srtp_end::key>{{0, master_key(s, 1)}}, 4, false));
        }
    }
    [[nodiscard]] unsigned owner(unsigned call) const {
        return flow::describe(bed.flows().shared(), slot(call)).worker;
    }
    [[nodiscard]] flow::slot_index slot(unsigned call) const { return bed.flows().find(pairs[call].unit); }
    void say(unsigned call, std::uint16_t sequence, unsigned queue) {
        const auto port = static_cast<std::uint16_t>(4000 + 2 * call);
        bed.inject(0, frame(ends[call]->protect(rtp(sequence, 1000 + call, 20)), unit4, local(access4, port)), queue);
    }
    void hear() {
        for (const auto& f : bed.collect(1)) {
            const auto o = open_frame(f);
            ASSERT_TRUE(o.has_value());
            heard.at((o->source.port - 5000u) / 2)
                .push_back(static_cast<std::uint16_t>(o->payload[2] << 8 | o->payload[3]));
        }
    }
    // Waits until all that went in came out; what hangs here is found by the test's time limit.
    void hear_all(std::uint64_t but = 0) {
        while (bed.collected() + but < bed.injected()) {
            hear();
            std::this_thread::yield();
        }
    }
};

bool rising(const std::vector<std::uint16_t>& numbers) {
    for (std::size_t i = 1; i < numbers.size(); ++i)
        if (static_cast<std::int16_t>(numbers[i] - numbers[i - 1]) <= 0)
            return false;
    return true;
}

class SeveralWorkers : public ::testing::TestWithParam<unsigned> {};
INSTANTIATE_TEST_SUITE_P(N, SeveralWorkers, ::testing::Values(2u, 3u, 4u));

// Call i comes by queue i / 2 % workers: some at their owner, most at another worker.
TEST_P(SeveralWorkers, OrderIsKeptPerFlow) {
    constexpr unsigned n = 8;
    constexpr std::uint16_t each = 400;
    const unsigned workers = GetParam();
    testbed t(workers);
    calls c(t, n);
    unsigned elsewhere = 0;
    for (unsigned i = 0; i < n; ++i)
        elsewhere += c.owner(i) != i / 2 % workers ? 1 : 0;
    ASSERT_GT(elsewhere, 0u);
    ASSERT_LT(elsewhere, n);
    t.start();
    for (std::uint16_t s = 1; s <= each; ++s) {
        for (unsigned i = 0; i < n; ++i)
            c.say(i, s, i / 2 % workers);
        if (t.injected() - t.collected() > 1000)
            c.hear_all(500);
    }
    c.hear_all();
    t.halt();
    for (unsigned i = 0; i < n; ++i) {
        EXPECT_EQ(c.heard[i].size(), each) << "call " << i;
        EXPECT_TRUE(rising(c.heard[i])) << "call " << i;
        EXPECT_EQ(t.stats(c.pairs[i].unit).rx_packets, each);
    }
    EXPECT_EQ(t.counter(api::counter::handed_over), elsewhere * each);
    EXPECT_EQ(t.all_drops(), 0u);
}

// One flow by all queues at once: no promise between queues (as between two links of a network), but each queue's
// packets come out in their order, and all of them.
TEST_P(SeveralWorkers, AFlowByAllQueuesKeepsTheOrderOfEach) {
    constexpr std::uint16_t each = 1200;
    const unsigned workers = GetParam();
    testbed t(workers);
    calls c(t, 1);
    t.start();
    std::uint16_t sent = 0;
    while (sent < each) {
        for (unsigned i = 0; i < 60; ++i) { // less than the replay window of what is under way
            ++sent;
            c.say(0, sent, sent % workers);
        }
        c.hear_all();
    }
    t.halt();
    EXPECT_EQ(c.heard[0].size(), each);
    std::map<unsigned, std::vector<std::uint16_t>> by_queue;
    for (const std::uint16_t s : c.heard[0])
        by_queue[s % workers].push_back(s);
    for (const auto& [queue, numbers] : by_queue)
        EXPECT_TRUE(rising(numbers)) << "queue " << queue;
}

TEST(Balance, ANewCallGoesToTheWorkerWithTheFewest) {
    testbed t(3);
    calls c(t, 6); // two on each; both flows of a call on one
    std::map<unsigned, unsigned> on;
    for (unsigned i = 0; i < 6; ++i) {
        EXPECT_EQ(c.owner(i), t.flows().shared().records()[t.flows().find(c.pairs[i].core)].worker);
        ++on[c.owner(i)];
    }
    EXPECT_EQ(on, (std::map<unsigned, unsigned>{{0, 2}, {1, 2}, {2, 2}}));
    const unsigned freed = c.owner(1);
    for (const auto id : {c.pairs[1].unit, c.pairs[1].core})
        EXPECT_EQ(t.flows().remove(id), api::status::ok);
    t.flows().finish();
    const auto again = t.add_pair(access4, core4, suite::aead_aes_128_gcm, suite::clear, 4, 40);
    EXPECT_EQ(t.flows().shared().records()[t.flows().find(again.unit)].worker, freed);
}

TEST(HandOff, AFullRingIsCountedAndTheRestKeepsItsOrder) {
    testbed t(2);
    calls c(t, 2);
    const unsigned call = c.owner(0) == 1 ? 0 : 1; // worker 1's; it does not run
    ASSERT_EQ(c.owner(call), 1u);
    for (std::uint16_t s = 1; s <= 3000; ++s)
        c.say(call, s, 0);
    t.pump_one(0);
    EXPECT_EQ(t.drops(api::drop::handoff_full), 3000u - 2047);
    EXPECT_EQ(t.counter(api::counter::handed_over), 2047u);
    t.pump();
    c.hear();
    EXPECT_EQ(c.heard[call].size(), 2047u);
    EXPECT_TRUE(rising(c.heard[call]));
    EXPECT_EQ(t.all_drops(), 953u);
    EXPECT_EQ(t.injected(), t.collected() + t.all_drops());
}

class EveryIdleMode : public ::testing::TestWithParam<idle_mode> {
protected:
    static void until_asleep(testbed& t) {
        if (GetParam() != idle_mode::poll)
            for (const auto before = t.counter(api::counter::sleeps); t.counter(api::counter::sleeps) == before;)
                std::this_thread::yield();
    }
};
INSTANTIATE_TEST_SUITE_P(Mode, EveryIdleMode,
                         ::testing::Values(idle_mode::poll, idle_mode::interrupt, idle_mode::adaptive));

TEST_P(EveryIdleMode, WakesForAPacketACommandAHandOverAndTheEnd) {
    testbed t(2, std::nullopt, GetParam());
    calls c(t, 2);
    t.start();
    for (std::uint16_t s = 1; s <= 200; ++s) {
        if (s % 20 == 1)
            until_asleep(t);
        c.say(0, s, c.owner(0));
        c.hear_all();
        c.say(1, s, 1 - c.owner(1)); // the owner gets it handed over
        c.hear_all();
        unsigned ran = 0;
        for (unsigned w = 0; w < 2; ++w)
            t.worker(w).call([&ran] { ++ran; });
        ASSERT_EQ(ran, 2u);
    }
    until_asleep(t);
    t.halt();
    EXPECT_EQ(c.heard[0].size(), 200u);
    EXPECT_EQ(c.heard[1].size(), 200u);
    EXPECT_EQ(t.counter(api::counter::handed_over), 200u);
    if (GetParam() == idle_mode::poll) {
        EXPECT_EQ(t.counter(api::counter::sleeps), 0u);
        EXPECT_EQ(t.counter(api::counter::wakeups), 0u);
    } else {
        EXPECT_GT(t.counter(api::counter::sleeps), 0u);
    }
}

// Each packet goes by one worker to another that sleeps as soon as it can: what nobody wakes it for would stay there.
TEST(HandOff, NoWakeUpIsLost) {
    testbed t(2, std::nullopt, idle_mode::interrupt);
    calls c(t, 1);
    t.start();
    for (unsigned i = 1; i <= 5000; ++i) {
        c.say(0, static_cast<std::uint16_t>(i), 1 - c.owner(0));
        while (t.collected() < t.injected())
            c.hear();
    }
    t.halt();
    EXPECT_EQ(c.heard[0].size(), 5000u);
    EXPECT_TRUE(rising(c.heard[0]));
    EXPECT_GT(t.counter(api::counter::wakeups), 0u);
}

} // namespace
} // namespace tandem::pipeline::testing
