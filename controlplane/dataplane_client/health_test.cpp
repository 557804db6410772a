// SPDX-License-Identifier: Apache-2.0
// Health: the judgement over what was said and how long ago, and the watch on a real socket.
#include "controlplane/dataplane_client/health.hpp"

#include <functional>
#include <gtest/gtest.h>

#include "controlplane/dataplane_client/fake_dataplane.hpp"

namespace tandem::dataplane_client {
namespace {

using namespace std::chrono_literals;
using clock = health_report::clock;
using state = api::health_state;

api::health_entry worker(state s, std::uint32_t age_ms) {
    return {api::health_kind::worker, s, 0, age_ms, "worker 0"};
}
api::health_entry port(state s, std::uint32_t age_ms) {
    return {api::health_kind::port, s, 0, age_ms, "acc0"};
}

TEST(Judge, NothingWasSaidYet) {
    EXPECT_EQ(judge({}, "", clock::now()), "the data plane has not said yet how it is");
    EXPECT_EQ(judge({}, "data plane is not there", clock::now()), "data plane is not there");
}

TEST(Judge, WellUntilItIsSilentForTheLimit) {
    const auto at = clock::now();
    const std::optional<health_report> said{{at, {worker(state::ok, 250), port(state::ok, 0)}}};
    EXPECT_EQ(judge(said, "", at), "");
    EXPECT_EQ(judge(said, "", at + health_limit - 250ms), "");
    EXPECT_EQ(judge(said, "", at + health_limit - 249ms),
              "data plane does not answer since 2.5 s: it is stopped, or its control "
              "thread hangs; restart tandem-dataplane");
    // A restart is shorter than the limit; then the connection's own words are said.
    EXPECT_EQ(judge(said, "connection lost", at + 1s), "");
    EXPECT_EQ(judge(said, "connection lost", at + 4s), "connection lost");
}

TEST(Judge, NamesThePartThatIsIll) {
    const auto at = clock::now();
    const auto of = [&](api::health_entry part) {
        return judge(health_report{at, {worker(state::ok, 0), part}}, "", at);
    };
    EXPECT_EQ(of(port(state::no_program, 2400)), "") << "not for so short a time";
    EXPECT_EQ(of(port(state::no_program, 2600)),
              "port acc0 has lost its XDP program (somebody detached it): no media comes in; restart tandem-dataplane "
              "(2.6 s)");
    EXPECT_TRUE(of(worker(state::no_answer, 4000)).starts_with("worker 0 of the data plane does not come round"));
    EXPECT_TRUE(of(port(state::interface_down, 4000)).starts_with("port acc0 is down: ip link set dev acc0 up"));
    EXPECT_EQ(of(port(state::no_carrier, 0)), "") << "is told, but is no fault of the data plane's";
    EXPECT_FALSE(of(worker(static_cast<state>(99), 4000)).empty());
}

TEST(Judge, EveryStateHasItsWords) {
    for (auto s = state::ok; s <= state::no_carrier; s = static_cast<state>(static_cast<int>(s) + 1)) {
        EXPECT_NE(text(s), "unknown");
        EXPECT_EQ(describe(port(s, 0)).find("does not know"), std::string::npos);
    }
}

struct watch_test : testing::Test {
    asio::io_context io{1};
    timeline log;
    fake_dataplane dataplane{log};
    client to{io, dataplane.path()};
    health_watch under{io, to};

    void TearDown() override {
        under.stop();
        to.stop();
        io.restart();
        io.run_for(20ms);
    }
    bool until(const std::function<bool()>& done) {
        const auto end = clock::now() + 8s;
        while (!done() && clock::now() < end) {
            io.restart();
            io.run_for(2ms);
        }
        return done();
    }
    void say(std::vector<api::health_entry> parts) {
        const std::lock_guard guard(dataplane.lock);
        dataplane.health = std::move(parts);
    }
};

TEST_F(watch_test, FollowsWhatTheDataPlaneSays) {
    EXPECT_FALSE(under.well());
    EXPECT_FALSE(under.trouble().empty());
    to.start();
    under.start();
    EXPECT_TRUE(under.well()) << "nothing bad is known yet";
    ASSERT_TRUE(until([&] { return under.last().has_value(); }));
    EXPECT_TRUE(under.well());
    EXPECT_EQ(under.trouble(), "");
    ASSERT_EQ(under.last()->parts.size(), 2u);
    say({worker(state::no_answer, 5000)});
    ASSERT_TRUE(until([&] { return !under.well(); }));
    EXPECT_TRUE(under.trouble().starts_with("worker 0 of the data plane does not come round")) << under.trouble();
    say({worker(state::ok, 100)});
    ASSERT_TRUE(until([&] { return under.well(); }));
    EXPECT_EQ(under.trouble(), "");
    dataplane.stop();
    ASSERT_TRUE(until([&] { return !to.connected(); }));
    EXPECT_TRUE(under.well()) << "a restart is no illness";
}

// Stopped and going on, it tells ages from before it was stopped: first that it was well 2.3 s ago.
TEST_F(watch_test, IsNotWellForAMomentByWhatIsAlmostTooOld) {
    to.start();
    under.start();
    ASSERT_TRUE(until([&] { return under.last().has_value(); }));
    say({worker(state::ok, 5000)});
    ASSERT_TRUE(until([&] { return !under.well(); }));
    EXPECT_TRUE(under.trouble().starts_with("data plane does not answer since 5.")) << under.trouble();
    say({worker(state::ok, 2300)});
    bool seen_well = false;
    const auto end = clock::now() + 800ms; // three questions
    until([&] { return (seen_well = under.well()) || clock::now() > end; });
    EXPECT_FALSE(seen_well);
    say({worker(state::ok, 100)});
    EXPECT_TRUE(until([&] { return under.well(); }));
    EXPECT_EQ(under.trouble(), "");
}

TEST_F(watch_test, AsksSoonerWhereWhatItKnowsRunsOut) {
    to.start();
    under.start();
    say({worker(state::ok, 1800)});
    ASSERT_TRUE(until([&] { return under.last() && under.last()->parts[0].age_ms == 1800; }));
    const auto first = under.last()->at;
    say({worker(state::ok, 0)});
    ASSERT_TRUE(until([&] { return under.last()->at != first; }));
    EXPECT_LT(under.last()->at - first, 480ms) << "250 ms, not 500";
    EXPECT_TRUE(under.well());
}

} // namespace
} // namespace tandem::dataplane_client
