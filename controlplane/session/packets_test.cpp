// SPDX-License-Identifier: Apache-2.0
// Inner packets: routed by destination, sources checked, oldest dropped when a unit does not read, control ahead of
// bulk.
#include <asio/detached.hpp>

#include "controlplane/session/test_unit.hpp"

namespace tandem::session::testing {
namespace {

using asio::ip::make_address;
struct Packets : Gateway {
    asio::awaitable<void> bring_up(unit& one) {
        EXPECT_FALSE(co_await one.connect(at_));
        EXPECT_TRUE(co_await one.configure());
    }
    // The gateway runs, alice and bob are up.
    template <class Body>
    void with_two(Body body) {
        start();
        run([](Packets& test, Body& then) -> asio::awaitable<void> {
            unit alice(test.io_, "alice"), bob(test.io_, "bob");
            co_await test.bring_up(alice);
            co_await test.bring_up(bob);
            co_await then(alice, bob);
        }(*this, body));
    }
};

TEST_F(Packets, ASpoofedSourceIsDroppedAndCounted) {
    with_two([this](unit& alice, unit& bob) -> asio::awaitable<void> {
        const auto core = make_address("198.51.100.1");
        const auto core6 = make_address("2001:db8::1");
        co_await alice.send_frame(ip_packet(bob.inner()[0], core));            // another unit's
        co_await alice.send_frame(ip_packet(core, core));                      // nobody's
        co_await alice.send_frame(ip_packet(make_address("10.64.0.1"), core)); // the gateway's
        co_await alice.send_frame(ip_packet(bob.inner()[1], core6));
        const auto good4 = ip_packet(alice.inner()[0], core);
        const auto good6 = ip_packet(alice.inner()[1], core6);
        co_await alice.send_frame(good4);
        co_await alice.send_frame(good6);
        auto cut = good4;
        cut.pop_back(); // shorter than its header says
        co_await alice.send_frame(cut);
        co_await alice.send_frame(ip_packet(alice.inner()[0], core, 1481));                         // above the MTU
        co_await alice.send_frame(ip_packet(make_address("fe80::1"), make_address("ff02::2"), 48)); // its own link's
        co_await alice.ask(alice.next(exchange::keepalive)); // all the above has been seen
        EXPECT_EQ(inner_->from_units, (std::vector<bytes>{good4, good6}));
        EXPECT_EQ(gateway_->by_unit("alice")->rx_packets, 2U);
        EXPECT_EQ(gateway_->by_unit("alice")->rx_bytes, good4.size() + good6.size());
    });
    EXPECT_EQ(gateway_->count().spoofed, 4U);
    EXPECT_EQ(gateway_->count().bad_inner, 2U);
    EXPECT_EQ(gateway_->count().link_local, 1U);
}

// Neither into the other's tunnel nor to the host, which might forward it; the gateway itself is no unit.
TEST_F(Packets, UnitsDoNotReachEachOther) {
    with_two([this](unit& alice, unit& bob) -> asio::awaitable<void> {
        co_await alice.send_frame(ip_packet(alice.inner()[0], bob.inner()[0]));
        co_await alice.send_frame(ip_packet(alice.inner()[1], bob.inner()[1]));
        const auto to_gateway = ip_packet(alice.inner()[0], make_address("10.64.0.1"));
        co_await alice.send_frame(to_gateway);
        co_await alice.ask(alice.next(exchange::keepalive));
        EXPECT_EQ(inner_->from_units, (std::vector<bytes>{to_gateway}));
        inner_->to_units(ip_packet(alice.inner()[0], bob.inner()[0])); // the host forwarded it all the same
        const auto from_gateway = ip_packet(make_address("10.64.0.1"), bob.inner()[0]);
        inner_->to_units(from_gateway);
        EXPECT_EQ(co_await bob.receive_frame(), from_gateway);
    });
    EXPECT_EQ(gateway_->count().isolated, 3U);
}

TEST_F(Packets, UnitsReachEachOtherWhereIsolationIsOff) {
    config_.isolate = false;
    with_two([this](unit& alice, unit& bob) -> asio::awaitable<void> {
        const auto there = ip_packet(alice.inner()[0], bob.inner()[0]);
        co_await alice.send_frame(there);
        co_await alice.ask(alice.next(exchange::keepalive));
        EXPECT_EQ(inner_->from_units, (std::vector<bytes>{there})); // the host's to route
        inner_->to_units(there);
        EXPECT_EQ(co_await bob.receive_frame(), there);
    });
    EXPECT_EQ(gateway_->count().isolated, 0U);
}

TEST_F(Packets, NoPacketPassesBeforeConfig) {
    start();
    run([this]() -> asio::awaitable<void> {
        unit alice(io_, "alice");
        EXPECT_FALSE(co_await alice.connect(at_));
        co_await alice.send_frame(ip_packet(make_address("10.64.0.2"), make_address("198.51.100.1")));
        EXPECT_TRUE(co_await alice.configure());
    }());
    EXPECT_TRUE(inner_->from_units.empty());
    EXPECT_EQ(gateway_->count().not_configured, 1U);
}

TEST_F(Packets, DestinationDecidesTheTunnel) {
    with_two([this](unit& alice, unit& bob) -> asio::awaitable<void> {
        const auto core = make_address("198.51.100.1");
        const auto to_alice = ip_packet(core, alice.inner()[0]);
        const auto to_bob = ip_packet(make_address("2001:db8::1"), bob.inner()[1]);
        inner_->to_units(to_alice);
        inner_->to_units(to_bob);
        inner_->to_units(ip_packet(core, make_address("10.64.9.9")));
        inner_->to_units(bytes(3, 0x45));
        EXPECT_EQ(co_await alice.receive_frame(), to_alice);
        EXPECT_EQ(co_await bob.receive_frame(), to_bob);
        EXPECT_EQ(gateway_->by_unit("bob")->tx_packets, 1U);
        bob.cut();
        const bool down = co_await within(10s, [&] { return !gateway_->by_unit("bob")->up; });
        EXPECT_TRUE(down);
        inner_->to_units(to_bob);
    });
    EXPECT_EQ(gateway_->count().no_session, 1U);
    EXPECT_EQ(gateway_->count().bad_inner, 1U);
    EXPECT_EQ(gateway_->count().unit_down, 1U);
}

// A unit that reads nothing: the queue is bounded, its oldest go; a control message sent then overtakes the rest.
TEST_F(Packets, ControlOvertakesBulkAndTheQueueIsBounded) {
    start();
    run([this]() -> asio::awaitable<void> {
        unit alice(io_, "alice");
        EXPECT_FALSE(co_await alice.connect(at_, 16384));
        EXPECT_TRUE(co_await alice.configure());
        constexpr std::size_t sent = 6000;
        for (std::size_t i = 0; i < sent; ++i) {
            auto p = ip_packet(make_address("198.51.100.1"), alice.inner()[0], 1200);
            p[20] = static_cast<std::uint8_t>(i >> 8);
            p[21] = static_cast<std::uint8_t>(i);
            inner_->to_units(p);
            if (i % 50 == 0)
                co_await pause(1ms); // the writer has its turns
        }
        EXPECT_GT(gateway_->count().queue_full, 0U);
        auto request = message::request(exchange::seed);
        request.add<tlv::media_id>(1).add<tlv::epoch>(1).add<tlv::seed>(bytes(16, 9));
        asio::co_spawn(
            io_,
            [](Packets& t, tsid id, message m) -> asio::awaitable<void> {
                co_await t.request(id, std::move(m), 10s);
            }(*this, alice.id(), std::move(request)),
            asio::detached);
        co_await pause(10ms);
        std::size_t before = 0, after = 0;
        bool control = false;
        int last = -1;
        while (last != static_cast<int>(sent) - 1) {
            const auto frame = co_await alice.receive_frame();
            EXPECT_TRUE(frame);
            if (!frame)
                co_return;
            if (protocol::kind_of(*frame) == protocol::frame_kind::control) {
                control = true;
                continue;
            }
            const int number = (*frame)[20] << 8 | (*frame)[21];
            EXPECT_GT(number, last); // dropped, never reordered; the newest arrive
            last = number;
            ++(control ? after : before);
        }
        EXPECT_TRUE(control);
        EXPECT_GE(after * 1200, config_.queue_bytes / 2) << "the queue was behind the control message";
        EXPECT_LE((after + 1) * 1200, config_.queue_bytes + 2 * 16384);
        EXPECT_EQ(before + after + gateway_->count().queue_full, sent);
    }());
}

} // namespace
} // namespace tandem::session::testing
