// SPDX-License-Identifier: Apache-2.0
// TCP connections as streams between two sessions in one thread, whose frames are handed over in memory.
#include "controlplane/session_layer/tcp_streams.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include <asio/io_context.hpp>
#include <asio/write.hpp>

namespace tandem::session_layer {
namespace {

using namespace std::chrono_literals;
using tcp = asio::ip::tcp;

class TcpStreams : public ::testing::Test {
protected:
    struct one {
        std::shared_ptr<driver> session;
        std::shared_ptr<tcp_streams> streams;
        link_id link = 0;
        std::vector<event> seen; // no octets
    };

    void SetUp() override {
        const protocol::secret secret(std::vector<std::uint8_t>(32, 1));
        const std::vector<std::uint8_t> binding(32, 2);
        for (const auto end : {role::creator, role::accepter}) {
            auto& e = ends[end == role::accepter];
            e.session = std::make_shared<driver>(io.get_executor(),
                                                 session(end, 7, secret, limits{}, std::chrono::steady_clock::now()),
                                                 [this, &e](const event& what) { on(e, what); });
            e.streams =
                std::make_shared<tcp_streams>(io.get_executor(), e.session, end == role::accepter ? shared : other);
        }
        ends[1].link = ends[1].session->accept({protocol::carrier::stream, [] {}}, binding);
        ends[0].link = ends[0].session->dial({protocol::carrier::stream, [] {}}, 1, binding);
        ends[0].session->move(ends[0].link, reason::start);
        run([&] { return ends[0].session->state().current() && ends[1].session->state().current(); });
    }
    void TearDown() override {
        for (auto& e : ends) {
            e.streams->abort_all();
            e.session->stop();
        }
        io.poll();
    }

    void on(one& e, const event& what) {
        if (const auto* o = std::get_if<opened>(&what))
            e.streams->connect(o->stream, to, 2s);
        else if (!std::holds_alternative<received>(what))
            e.seen.push_back(what);
        e.streams->on(what);
    }
    // Frames and sockets, until it holds.
    template <class Condition>
    void run(Condition holds) {
        for (const auto end = std::chrono::steady_clock::now() + 10s; !holds();) {
            ASSERT_LT(std::chrono::steady_clock::now(), end);
            io.restart();
            io.run_for(1ms);
            exchange();
        }
    }
    void exchange() {
        std::vector<std::uint8_t> frame;
        for (const std::size_t from : {0U, 1U})
            for (; ends[from].session->pull(ends[from].link, frame); frame.clear())
                ends[1 - from].session->received(ends[1 - from].link, frame);
    }
    // A connection whose other end is a stream to `to`.
    tcp::socket forwarded() {
        tcp::acceptor door(io, {asio::ip::address_v4::loopback(), 0});
        tcp::socket program(io);
        program.connect(door.local_endpoint());
        const auto id = ends[0].session->use([](session& s) { return s.open(stream_kind::octets, "there"); });
        ends[0].streams->take(*id, door.accept());
        return program;
    }
    // The service's end of the next one.
    tcp::socket accepted() {
        tcp::socket socket(io);
        service.non_blocking(true);
        std::error_code error;
        run([&] {
            service.accept(socket, error);
            return !error;
        });
        return socket;
    }
    [[nodiscard]] bool was_reset_with(std::uint16_t code) const {
        return std::ranges::any_of(ends[0].seen, [&](const event& e) {
            const auto* r = std::get_if<was_reset>(&e);
            return r != nullptr && r->code == code;
        });
    }

    asio::io_context io;
    tcp::acceptor service{io, {asio::ip::address_v4::loopback(), 0}};
    link::endpoint to{asio::ip::address_v4::loopback(), service.local_endpoint().port()};
    std::shared_ptr<tcp_streams::budget> shared = std::make_shared<tcp_streams::budget>(),
                                         other = std::make_shared<tcp_streams::budget>();
    one ends[2];
};

TEST_F(TcpStreams, OctetsAndBothHalvesPass) {
    auto program = forwarded();
    asio::write(program, asio::buffer("question", 8));
    program.shutdown(tcp::socket::shutdown_send);
    auto served = accepted();
    std::string text;
    served.non_blocking(true);
    std::error_code error;
    run([&] {
        char part[16];
        const auto got = served.read_some(asio::buffer(part), error);
        text.append(part, got);
        return error == asio::error::eof;
    });
    EXPECT_EQ(text, "question");
    EXPECT_EQ(shared->connections, 1U);
    asio::write(served, asio::buffer("answer", 6));
    served.shutdown(tcp::socket::shutdown_send);
    program.non_blocking(true);
    text.clear();
    run([&] {
        char part[16];
        const auto got = program.read_some(asio::buffer(part), error);
        text.append(part, got);
        return error == asio::error::eof;
    });
    EXPECT_EQ(text, "answer");
    run([&] { return ends[0].streams->size() == 0 && ends[1].streams->size() == 0; });
    EXPECT_EQ(ends[1].streams->count().ended, 1U);
    EXPECT_EQ(shared->connections + shared->octets, 0U);
}

TEST_F(TcpStreams, AServiceThatIsNotThereIsAReset) {
    service.close();
    auto program = forwarded();
    run([&] { return was_reset_with(reset_unreachable); });
    program.non_blocking(true);
    std::error_code error;
    char octet = 0;
    run([&] {
        (void)program.read_some(asio::buffer(&octet, 1), error);
        return error && error != asio::error::would_block;
    });
    EXPECT_EQ(error, asio::error::connection_reset);
    EXPECT_EQ(ends[1].streams->count().unreachable, 1U);
}

// Who does not read holds up who writes, and no more than a window is held for him.
TEST_F(TcpStreams, WhoDoesNotReadHoldsUpWhoWrites) {
    auto program = forwarded();
    auto served = accepted();
    program.non_blocking(true);
    const std::vector<std::uint8_t> octets(65536, 5);
    std::size_t wrote = 0;
    std::error_code error;
    for (auto quiet = std::chrono::steady_clock::now(); std::chrono::steady_clock::now() - quiet < 500ms;) {
        const auto more = program.write_some(asio::buffer(octets), error);
        wrote += more;
        if (more != 0)
            quiet = std::chrono::steady_clock::now();
        io.restart();
        io.run_for(1ms);
        exchange();
    }
    EXPECT_GT(wrote, limits{}.window);
    EXPECT_LE(shared->octets, limits{}.window);
    EXPECT_LE(ends[0].session->state().buffered(), limits{}.stream_buffer);
    std::size_t came = 0;
    served.non_blocking(true);
    program.shutdown(tcp::socket::shutdown_send);
    std::vector<std::uint8_t> part(65536);
    run([&] {
        came += served.read_some(asio::buffer(part), error);
        return error == asio::error::eof;
    });
    EXPECT_EQ(came, wrote);
}

TEST_F(TcpStreams, WhatAllHoldTogetherIsBounded) {
    shared->most_octets = 100'000;
    std::vector<tcp::socket> programs, served;
    const std::vector<std::uint8_t> octets(1 << 20, 5);
    for (int i = 0; i < 2; ++i) {
        programs.push_back(forwarded());
        served.push_back(accepted());
        programs.back().non_blocking(true);
    }
    std::error_code error;
    run([&] {
        for (auto& p : programs)
            if (p.is_open())
                (void)p.write_some(asio::buffer(octets), error);
        return was_reset_with(static_cast<std::uint16_t>(reset_code::refused));
    });
    EXPECT_LE(shared->octets, 100'000U);
    EXPECT_EQ(shared->connections, ends[1].streams->size());
}

} // namespace
} // namespace tandem::session_layer
