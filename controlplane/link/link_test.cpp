// SPDX-License-Identifier: Apache-2.0
// TLS over TCP as a transport between two ends that keep to the rules.
#include <malloc.h>

#include "controlplane/link/link_fixture.hpp"

namespace tandem::link::testing {
namespace {

TEST_F(Link, FramesOfBothWaysArriveWholeAndInOrder) {
    join();
    establish();
    EXPECT_EQ(gateway_->peer()->id_code, "alice");
    EXPECT_EQ(gateway_->remote(), unit_->local());
    EXPECT_EQ(text_of(gateway_->remote()), "127.0.0.1:" + std::to_string(unit_->local().port));
    EXPECT_EQ(unit_->cipher(), "TLS_AES_256_GCM_SHA384");
    std::vector<bytes> up, down, at_gateway, at_unit;
    for (std::size_t i = 1; i < 400; ++i) {
        up.push_back(packet(i * 7, static_cast<std::uint8_t>(i)));
        down.push_back(i % 5 == 0 ? control(i * 3, static_cast<std::uint8_t>(i)) : packet(65535 - i));
    }
    std::error_code sent_up, sent_down;
    spawn(receive(*gateway_, at_gateway, gateway_error_));
    spawn(receive(*unit_, at_unit, unit_error_));
    spawn(send(*unit_, up, sent_up));
    spawn(send(*gateway_, down, sent_down));
    run([&] { return at_gateway.size() == up.size() && at_unit.size() == down.size(); });
    EXPECT_EQ(at_gateway, up);
    EXPECT_EQ(at_unit, down);
    unit_->close();
    gateway_->close();
    run();
    EXPECT_EQ(unit_error_, asio::error::operation_aborted);
}

TEST_F(Link, RecordsMayComeOctetByOctet) {
    join_by_middle();
    establish();
    const std::vector<bytes> sent{control(40, 1), packet(1400), packet(1), control(3000, 2)};
    std::vector<bytes> got;
    std::error_code error;
    spawn(receive(*gateway_, got, gateway_error_));
    spawn(send(*unit_, sent, error));
    run([&] { return got.size() == sent.size(); });
    EXPECT_EQ(got, sent);
    unit_->close();
    run();
    EXPECT_EQ(gateway_error_, failure::truncated);
}

TEST_F(Link, FramesThatWaitTogetherAreOneRecord) {
    join();
    establish();
    seen by_unit;
    watch(*unit_, by_unit);
    for (std::uint8_t i = 0; i < 10; ++i)
        EXPECT_TRUE(unit_->add(packet(1400, i)));
    EXPECT_TRUE(unit_->add(packet(2300)));
    EXPECT_FALSE(unit_->add(packet(100)));
    spawn(send(*unit_, {}, unit_error_));
    run();
    EXPECT_EQ(by_unit.records, 1U);
}

// What a ClientHello costs before it is whole is a socket.
TEST_F(Link, AClientHelloIsWaitedFor) {
    join_by_middle();
    int begun = 0;
    bool whole = false;
    spawn(greet(*unit_, side::client, unit_error_));
    spawn([](tls_tcp& gateway, int& times, bool& there) -> asio::awaitable<void> {
        there = co_await gateway.greeted([&times] { ++times; });
    }(*gateway_, begun, whole));
    run([&] { return whole; });
    EXPECT_EQ(begun, 1);
    EXPECT_EQ(gateway_->native(), nullptr);
    spawn(greet(*gateway_, side::server, gateway_error_));
    run();
    EXPECT_FALSE(unit_error_ || gateway_error_);
}

TEST_F(Link, AnOrderlyEndIsToldAndTheOtherWayStaysOpen) {
    join();
    establish();
    std::vector<bytes> at_gateway, at_unit;
    std::error_code shut, sent;
    spawn(receive(*gateway_, at_gateway, gateway_error_));
    spawn([](tls_tcp& unit, std::error_code& error) -> asio::awaitable<void> {
        EXPECT_TRUE(unit.add(control(9, 9)));
        co_await unit.flush(error);
        co_await unit.shutdown(error);
    }(*unit_, shut));
    run();
    EXPECT_FALSE(shut) << shut.message();
    EXPECT_EQ(gateway_error_, asio::error::eof);
    EXPECT_EQ(at_gateway, std::vector<bytes>{control(9, 9)});
    spawn(receive(*unit_, at_unit, unit_error_));
    spawn(send(*gateway_, {packet(20)}, sent));
    run([&] { return !at_unit.empty(); });
    EXPECT_FALSE(sent) << sent.message();
    gateway_->close();
    run();
    EXPECT_EQ(unit_error_, failure::truncated);
}

TEST_F(Link, KeysAreRenewedWhileBothEndsWrite) {
    join({.records_per_key = 3});
    establish();
    seen by_unit, by_gateway;
    watch(*unit_, by_unit);
    watch(*gateway_, by_gateway);
    const std::vector<bytes> sent(300, packet(9000, 3));
    std::vector<bytes> at_gateway, at_unit;
    std::error_code up, down;
    spawn(receive(*gateway_, at_gateway, gateway_error_));
    spawn(receive(*unit_, at_unit, unit_error_));
    spawn(send(*unit_, sent, up));
    spawn(send(*gateway_, sent, down));
    run([&] { return at_gateway.size() == sent.size() && at_unit.size() == sent.size(); });
    EXPECT_EQ(at_gateway, sent);
    EXPECT_EQ(at_unit, sent);
    EXPECT_FALSE(up || down);
    EXPECT_EQ(by_unit.key_updates, 100U);
    EXPECT_EQ(by_gateway.key_updates, 100U);
    unit_->close();
    gateway_->close();
    run();
}

TEST_F(Link, IdleConnectionsHoldNoBuffer) {
    constexpr std::size_t count = 50, most_each = 16384;
    std::vector<std::unique_ptr<tls_tcp>> held;
    std::vector<bytes> got;
    std::vector<std::error_code> ends(4 * count);
    std::error_code sent;
    const auto before = ::mallinfo2().uordblks;
    for (std::size_t i = 0; i < count; ++i) {
        join();
        establish();
        spawn(receive(*gateway_, got, ends[2 * i]));
        spawn(receive(*unit_, got, ends[2 * i + 1]));
        spawn(send(*unit_, std::vector<bytes>(20, packet(1400)), sent));
        spawn(send(*gateway_, std::vector<bytes>(20, packet(1400)), sent));
        run([&] { return got.size() == 40; });
        got = {};
        held.push_back(std::move(unit_));
        held.push_back(std::move(gateway_));
    }
#ifndef __SANITIZE_ADDRESS__ // its allocator counts otherwise
    EXPECT_LT((::mallinfo2().uordblks - before) / held.size(), most_each);
#endif
    EXPECT_GE(before, 0U);
    EXPECT_LE(spare_inputs().count(), spare_buffers::most);
    EXPECT_GE(spare_inputs().count(), 1U);
    EXPECT_GE(spare_batches().count(), 1U);
    for (const auto& one : held)
        one->close();
    run();
}

// A batch may hold a seed: nothing of it is left in a buffer that serves others.
TEST_F(Link, ControlMessagesAreWipedWhenTheyAreOut) {
    join();
    establish();
    spawn(send(*unit_, {control(200, 0xA5), packet(20)}, unit_error_));
    run();
    const auto used = spare_batches().get();
    EXPECT_EQ(std::count(used.data(), used.data() + 202, std::uint8_t{0xA5}), 0);
}

} // namespace
} // namespace tandem::link::testing
