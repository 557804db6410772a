// SPDX-License-Identifier: Apache-2.0
// Life of sessions: lifetime (RIM-03), silence, linger, resume, replacement, restart of the control plane, many units.
#include <asio/detached.hpp>
#include <sys/resource.h>

#include "controlplane/session/test_unit.hpp"

namespace tandem::session::testing {
namespace {

using strings = std::vector<std::string>;

class Life : public Gateway {
protected:
    // A unit that is configured; fails the test where it is not.
    asio::awaitable<std::unique_ptr<unit>> join(std::string id, std::optional<tsid> resume = {},
                                                std::uint32_t lifetime = 0) {
        auto u = std::make_unique<unit>(io_, id);
        const auto error = co_await u->connect(at_);
        EXPECT_FALSE(error) << error.message();
        const auto answer = co_await u->configure(resume, lifetime);
        EXPECT_TRUE(answer);
        co_return u;
    }
};

TEST_F(Life, Rim03LifetimeIsTheSmallerWish) {
    config_.lifetime = 120s;
    start();
    run([this]() -> asio::awaitable<void> {
        const auto less = co_await join("alice", {}, 60);
        EXPECT_EQ(gateway_->by_unit("alice")->lifetime, 60s);
        const auto more = co_await join("bob", {}, 100'000);
        EXPECT_EQ(gateway_->by_unit("bob")->lifetime, 120s);
        const auto none = co_await join("carol");
        EXPECT_EQ(gateway_->by_unit("carol")->lifetime, 120s);
    }());
}

TEST_F(Life, Rim03LifetimeEndsThePrimaryNotTheSession) {
    config_.grace = 100ms;
    start();
    run([this]() -> asio::awaitable<void> {
        const auto first = co_await join("alice", {}, 1);
        const auto began = std::chrono::steady_clock::now();
        EXPECT_TRUE(co_await first->closed_by_gateway());
        EXPECT_GE(std::chrono::steady_clock::now() - began, 1s);
        EXPECT_EQ(gateway_->count().lifetime_ended, 1U);
        EXPECT_FALSE(gateway_->by_unit("alice")->up);
        const auto second = co_await join("alice", first->id(), 1);
        EXPECT_EQ(second->id(), first->id());
        EXPECT_EQ(gateway_->by_unit("alice")->reconnects, 1U);
    }());
    EXPECT_EQ(events_, (strings{"up alice", "down alice", "up alice"}));
}

// The unit renews before the end: the session is never down.
TEST_F(Life, Rim03RenewalBeforeTheEndIsSeamless) {
    config_.grace = 200ms;
    start();
    run([this]() -> asio::awaitable<void> {
        const auto first = co_await join("alice", {}, 1);
        co_await pause(700ms);
        const auto second = co_await join("alice", first->id());
        // What was sent before the unit knew of its new connection still counts.
        const auto late = ip_packet(first->inner()[0], asio::ip::make_address("198.51.100.1"));
        co_await first->send_frame(late);
        EXPECT_TRUE(co_await within(2s, [&] { return inner_->from_units.size() == 1; }));
        EXPECT_TRUE(co_await first->closed_by_gateway());
        co_await pause(800ms); // beyond the first one's lifetime and grace
        EXPECT_TRUE(gateway_->by_unit("alice")->up);
        EXPECT_EQ((co_await second->ask(second->next(exchange::keepalive)))->code(), status::ok);
        EXPECT_EQ(gateway_->count().connections_replaced, 1U);
        EXPECT_EQ(gateway_->count().lifetime_ended, 0U);
    }());
    EXPECT_EQ(events_, (strings{"up alice", "up alice"}));
}

TEST_F(Life, KeepaliveLossClosesThenLingerEnds) {
    config_.keepalive = 200ms;
    config_.linger = 300ms;
    start();
    run([this]() -> asio::awaitable<void> {
        const auto alice = co_await join("alice");
        for (int i = 0; i < 10; ++i) { // longer than three intervals, but never silent
            co_await pause(100ms);
            EXPECT_EQ((co_await alice->ask(alice->next(exchange::keepalive)))->code(), status::ok);
        }
        EXPECT_EQ(gateway_->count().keepalive_lost, 0U);
        const auto silent_since = std::chrono::steady_clock::now();
        EXPECT_TRUE(co_await alice->closed_by_gateway());
        EXPECT_GE(std::chrono::steady_clock::now() - silent_since, 590ms);
        EXPECT_EQ(gateway_->count().keepalive_lost, 1U);
        EXPECT_FALSE(gateway_->by_unit("alice")->up);
        EXPECT_TRUE(co_await within(5s, [this] { return !gateway_->by_unit("alice"); }));
        EXPECT_EQ(gateway_->count().sessions_expired, 1U);
    }());
    EXPECT_EQ(events_, (strings{"up alice", "down alice", "end alice"}));
}

TEST_F(Life, ResumeGivesTheSameSessionBack) {
    start();
    run([this]() -> asio::awaitable<void> {
        const auto first = co_await join("alice");
        first->cut();
        EXPECT_TRUE(co_await within(5s, [this] { return !gateway_->by_unit("alice")->up; }));
        const auto second = co_await join("alice", first->id());
        EXPECT_EQ(second->id(), first->id());
        EXPECT_EQ(second->inner(), first->inner());
        EXPECT_EQ(gateway_->count().sessions_resumed, 1U);
    }());
    EXPECT_EQ(events_, (strings{"up alice", "down alice", "up alice"}));
}

TEST_F(Life, ResumeOfAnotherUnitsSessionGivesANewOne) {
    start();
    run([this]() -> asio::awaitable<void> {
        const auto alice = co_await join("alice");
        const auto bob = co_await join("bob", alice->id());
        EXPECT_NE(bob->id(), alice->id());
        EXPECT_NE(bob->inner(), alice->inner());
        EXPECT_TRUE(gateway_->by_unit("alice")->up);
        const auto carol = co_await join("carol", 12345);
        EXPECT_NE(carol->id(), 12345U);
    }());
    EXPECT_EQ(gateway_->count().resume_foreign, 1U);
    EXPECT_EQ(gateway_->count().resume_unknown, 1U);
}

// An agent that was killed knows no TSID: its old session (and calls) end, its address stays.
TEST_F(Life, BeginningAnewEndsTheOldSession) {
    start();
    run([this]() -> asio::awaitable<void> {
        const auto first = co_await join("alice");
        const auto second = co_await join("alice");
        EXPECT_NE(second->id(), first->id());
        EXPECT_EQ(second->inner(), first->inner());
        EXPECT_TRUE(co_await first->closed_by_gateway());
        EXPECT_FALSE(gateway_->by_tsid(first->id()));
        EXPECT_TRUE(gateway_->by_unit("alice")->up);
    }());
    EXPECT_EQ(events_, (strings{"up alice", "end alice", "up alice"}));
}

TEST_F(Life, SessionsSurviveARestartOfTheControlPlane) {
    start();
    tsid before = 0;
    run([&, this]() -> asio::awaitable<void> {
        const auto carol = co_await join("carol"); // takes the first address
        const auto alice = co_await join("alice");
        before = alice->id();
        co_await carol->ask(carol->next(exchange::release));
    }());
    stop();
    start(); // the same store
    EXPECT_EQ(gateway_->count().sessions_restored, 1U);
    EXPECT_FALSE(gateway_->by_unit("alice")->up);
    run([&, this]() -> asio::awaitable<void> {
        const auto bob = co_await join("bob"); // must not get an address of the two
        EXPECT_EQ(bob->inner().at(0), asio::ip::make_address("10.64.0.4"));
        const auto alice = co_await join("alice", before);
        EXPECT_EQ(alice->id(), before);
        EXPECT_EQ(alice->inner().at(0), asio::ip::make_address("10.64.0.3"));
        const auto carol = co_await join("carol");
        EXPECT_EQ(carol->inner().at(0), asio::ip::make_address("10.64.0.2"));
    }());
}

TEST_F(Life, DropSendsReleaseWithItsReason) {
    start();
    run([this]() -> asio::awaitable<void> {
        const auto alice = co_await join("alice");
        EXPECT_FALSE(gateway_->drop(alice->id() ^ 1, "no such session"));
        EXPECT_TRUE(gateway_->drop(alice->id(), "maintenance"));
        const auto release = co_await alice->receive();
        EXPECT_TRUE(release && release->is(exchange::release) && !release->is_response());
        if (!release)
            co_return;
        EXPECT_EQ(release->get<tlv::reason>(), "maintenance");
        EXPECT_TRUE(co_await alice->closed_by_gateway());
        EXPECT_FALSE(gateway_->by_unit("alice"));
    }());
    EXPECT_EQ(events_.back(), "end alice");
}

TEST_F(Life, ARemovedUnitIsThrownOutAndStaysOut) {
    start();
    run([this]() -> asio::awaitable<void> {
        const auto alice = co_await join("alice");
        units_.ids.erase("alice");
        gateway_->forget("alice");
        EXPECT_TRUE(co_await alice->closed_by_gateway());
        EXPECT_FALSE(store_.rows.contains("alice"));
        unit again(io_, "alice");
        EXPECT_TRUE(co_await again.connect(at_)); // an error: not even the handshake
    }());
}

// All come at once, as after a restart of the gateway; who finds too many handshakes under way tries again.
class ManyUnits : public Life, public ::testing::WithParamInterface<int> {};

TEST_P(ManyUnits, ComeAtOnce) {
    const int units = GetParam();
    for (int i = 0; i < units; ++i)
        units_.ids.insert("unit" + std::to_string(i));
    rlimit low{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &low), 0);
    if (low.rlim_max < static_cast<rlim_t>(2 * units + 256)) // the units' ends are in this process too
        GTEST_SKIP() << "needs " << 2 * units + 256 << " descriptors";
    low.rlim_cur = 128;
    config_.keepalive = 60s; // the first ones wait for the last one, and say nothing meanwhile
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &low), 0);
    start(); // raises it to what it needs
    std::vector<std::unique_ptr<unit>> all(static_cast<std::size_t>(units));
    int joined = 0;
    const auto join_in_the_end = [this](std::unique_ptr<unit>& u, std::string id, int& n) -> asio::awaitable<void> {
        for (;;) {
            u = std::make_unique<unit>(io_, id);
            const auto error = co_await u->connect(at_);
            if (!error) {
                const auto answer = co_await u->configure();
                EXPECT_TRUE(answer);
                ++n;
                co_return;
            }
            co_await pause(100ms);
        }
    };
    run(
        [&, this]() -> asio::awaitable<void> {
            for (std::size_t i = 0; i < all.size(); ++i)
                asio::co_spawn(io_, join_in_the_end(all[i], "unit" + std::to_string(i), joined), asio::detached);
            const bool in_time = co_await within(60s, [&] { return joined == units; });
            EXPECT_TRUE(in_time) << joined;
            std::set<tsid> ids;
            std::set<asio::ip::address> inner;
            for (const auto& s : gateway_->all()) {
                EXPECT_TRUE(s.up);
                ids.insert(s.id);
                inner.insert(s.inner.begin(), s.inner.end());
            }
            EXPECT_EQ(ids.size(), all.size());
            EXPECT_EQ(inner.size(), 2 * all.size());
            for (auto& u : all) {
                const auto answer = co_await u->ask(u->next(exchange::keepalive));
                EXPECT_EQ(answer->code(), status::ok);
            }
        }(),
        90s);
}
INSTANTIATE_TEST_SUITE_P(Rim31, ManyUnits, ::testing::Values(100, 1000));

TEST_F(Life, NoAddressLeftIsSaid) {
    config_.inner4 = asio::ip::make_network_v4("10.64.0.0/30"); // the gateway and one unit
    config_.inner6.reset();
    start();
    run([this]() -> asio::awaitable<void> {
        const auto alice = co_await join("alice");
        unit bob(io_, "bob");
        EXPECT_FALSE(co_await bob.connect(at_));
        auto request = bob.next(exchange::config);
        request.add<tlv::id_code>("bob");
        EXPECT_EQ((co_await bob.ask(std::move(request)))->code(), status::no_resources);
        EXPECT_TRUE(co_await bob.closed_by_gateway());
    }());
}

TEST_F(Life, WrongConfigurationIsASentence) {
    const auto error_of = [this](auto change) {
        auto broken = config_;
        change(broken);
        manager m(io_, broken, units_, store_, std::make_unique<fake_inner>());
        const auto ok = m.start();
        return ok ? std::string() : ok.error();
    };
    EXPECT_NE(error_of([](config& c) { c.listen.clear(); }).find("listen"), std::string::npos);
    EXPECT_NE(error_of([](config& c) { c.inner4.reset(), c.inner6.reset(); }).find("inner4"), std::string::npos);
    EXPECT_NE(error_of([](config& c) { c.mtu = 1000; }).find("mtu"), std::string::npos);
    EXPECT_NE(error_of([](config& c) { c.inner4 = asio::ip::make_network_v4("10.0.0.0/32"); }).find("too small"),
              std::string::npos);
    EXPECT_NE(error_of([](config& c) { c.certificates.certificate = "/no/such/file"; }).find("all three"),
              std::string::npos);
    start();
    EXPECT_NE(error_of([this](config& c) { c.listen = {at_}; }).find("another program has that port"),
              std::string::npos);
}

} // namespace
} // namespace tandem::session::testing
