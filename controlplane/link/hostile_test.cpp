// SPDX-License-Identifier: Apache-2.0
// TLS over TCP against peers and networks that do not keep to the rules, and ends that stop in the middle.
#include "controlplane/link/link_fixture.hpp"

namespace tandem::link::testing {
namespace {

// RIM-04: the gateway's audit line has what it needs; the unit sees an alert.
TEST_F(Link, Rim04AWrongKeyIsAnAlert) {
    client_context_ = protocol::make_client_context("alice", key(8)).value();
    join();
    spawn(greet(*unit_, side::client, unit_error_));
    spawn(greet(*gateway_, side::server, gateway_error_));
    run();
    EXPECT_TRUE(is_tls(gateway_error_)) << gateway_error_.message();
    EXPECT_FALSE(is_alert(gateway_error_));
    EXPECT_EQ(gateway_->offered()->id_code, "alice");
    EXPECT_TRUE(gateway_->offered()->known);
    EXPECT_FALSE(gateway_->peer());
    EXPECT_TRUE(is_alert(unit_error_)) << unit_error_.message();
}

TEST_F(Link, AHandshakeThatIsCutEnds) {
    join();
    spawn(greet(*gateway_, side::server, gateway_error_));
    run([&] { return gateway_->native() != nullptr; });
    unit_->close();
    run();
    EXPECT_EQ(gateway_error_, failure::truncated);
    EXPECT_FALSE(is_tls(gateway_error_)) << "lost, not refused";

    join();
    spawn(greet(*gateway_, side::server, gateway_error_));
    run([&] { return gateway_->native() != nullptr; });
    gateway_->close();
    run();
    EXPECT_EQ(gateway_error_, asio::error::operation_aborted);
}

TEST_F(Link, APeerThatClosesWithoutAWordIsAnErrorBehindItsFrames) {
    join();
    establish();
    spawn(send(*unit_, {control(9, 9), packet(100)}, unit_error_));
    run();
    unit_->close();
    std::vector<bytes> got;
    spawn(receive(*gateway_, got, gateway_error_));
    run();
    EXPECT_EQ(got, (std::vector<bytes>{control(9, 9), packet(100)}));
    EXPECT_EQ(gateway_error_, failure::truncated);
    for (gateway_error_.clear(); !gateway_error_; run()) // the kernel takes the first
        spawn(send(*gateway_, {packet(100)}, gateway_error_));
    EXPECT_FALSE(is_tls(gateway_error_)) << gateway_error_.message();
}

// It has no more to say, and listens still.
TEST_F(Link, AHalfOpenPeerIsStillWrittenTo) {
    join_by_middle();
    establish();
    std::vector<bytes> at_gateway, at_unit;
    spawn(receive(*gateway_, at_gateway, gateway_error_));
    middle_[1].shutdown(tcp::socket::shutdown_send);
    run();
    EXPECT_EQ(gateway_error_, failure::truncated);
    std::error_code sent;
    spawn(receive(*unit_, at_unit, unit_error_));
    spawn(send(*gateway_, {packet(100)}, sent));
    run([&] { return !at_unit.empty(); });
    EXPECT_FALSE(sent) << sent.message();
    unit_->close();
    run();
}

TEST_F(Link, GarbageAfterTheHandshakeIsAnAlert) {
    join_by_middle();
    establish();
    std::vector<bytes> at_gateway, at_unit;
    spawn(receive(*gateway_, at_gateway, gateway_error_));
    spawn(receive(*unit_, at_unit, unit_error_));
    const bytes garbage(600, 0x17);
    EXPECT_EQ(::send(middle_[1].native_handle(), garbage.data(), garbage.size(), MSG_NOSIGNAL), 600);
    run([&] { return unit_error_ && gateway_error_; });
    EXPECT_TRUE(is_tls(gateway_error_)) << gateway_error_.message();
    EXPECT_FALSE(is_alert(gateway_error_));
    EXPECT_TRUE(is_alert(unit_error_)) << unit_error_.message();
    EXPECT_TRUE(at_gateway.empty());
    run();
    spawn(receive(*gateway_, at_gateway, unit_error_)); // told again, not read on
    run();
    EXPECT_EQ(unit_error_, gateway_error_);
}

// A record of our keys that was changed on its way.
TEST_F(Link, AFlippedBitIsFoundAndNothingOfItsRecordIsTaken) {
    auto [a, m] = sockets();
    auto [n, b] = sockets();
    unit_ = std::make_unique<tls_tcp>(std::move(a));
    gateway_ = std::make_unique<tls_tcp>(std::move(b));
    bool flips = false;
    const auto pass = [](tcp::socket& from, tcp::socket& to, const bool& flip) -> asio::awaitable<void> {
        bytes some(4096);
        std::error_code error;
        while (!error) {
            const auto got = co_await from.async_read_some(asio::buffer(some), with(error));
            some[got / 2] = static_cast<std::uint8_t>(some[got / 2] ^ (flip ? 1U : 0U));
            if (!error)
                co_await asio::async_write(to, asio::buffer(some, got), with(error));
        }
    };
    const bool never = false;
    asio::co_spawn(io_, pass(m, n, flips), asio::detached);
    asio::co_spawn(io_, pass(n, m, never), asio::detached);
    establish();
    flips = true;
    std::vector<bytes> got;
    spawn(receive(*gateway_, got, gateway_error_));
    spawn(send(*unit_, {packet(100)}, unit_error_));
    run();
    EXPECT_TRUE(is_tls(gateway_error_)) << gateway_error_.message();
    EXPECT_TRUE(got.empty());
    unit_->close();
    gateway_->close();
    io_.run_for(50ms); // before the sockets in between go
}

TEST_F(Link, AWriteThatDoesNotFitIsCancelledInTheMiddle) {
    join({}, 4096);
    establish();
    for (int i = 0; i < 3; ++i)
        EXPECT_EQ(unit_->add(packet(60000)), i == 0);
    bool ended = false;
    spawn([](tls_tcp& unit, std::error_code& error, bool& over) -> asio::awaitable<void> {
        co_await unit.flush(error);
        over = true;
    }(*unit_, unit_error_, ended));
    for (int i = 0; i < 20; ++i)
        io_.run_one_for(5ms);
    EXPECT_FALSE(ended) << "nobody reads";
    unit_->close();
    run();
    EXPECT_EQ(unit_error_, asio::error::operation_aborted);
    std::vector<bytes> got; // the other end: what is whole of it, never a part of a frame
    spawn(receive(*gateway_, got, gateway_error_));
    run();
    EXPECT_TRUE(got.empty());
    EXPECT_EQ(gateway_error_, failure::truncated);
}

// The handler ends the connection at a frame: those behind it in the same record are not handed up.
TEST_F(Link, NothingIsHandedUpAfterClose) {
    join();
    establish();
    spawn(send(*unit_, {packet(10), packet(20), packet(30)}, unit_error_));
    run();
    std::size_t taken = 0;
    spawn([](tls_tcp& gateway, std::size_t& frames, std::error_code& error) -> asio::awaitable<void> {
        const transport::frame_handler take = [&](const protocol::frame&) {
            ++frames;
            gateway.close();
        };
        while (!error)
            co_await gateway.receive(take, error);
    }(*gateway_, taken, gateway_error_));
    run();
    EXPECT_EQ(taken, 1U);
    EXPECT_EQ(gateway_error_, asio::error::operation_aborted);
}

} // namespace
} // namespace tandem::link::testing
