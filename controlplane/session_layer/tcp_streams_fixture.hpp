// SPDX-License-Identifier: Apache-2.0
// Test support only: TCP connections as streams between two sessions in one thread, whose frames are handed over in
// memory.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include <asio/io_context.hpp>
#include <asio/write.hpp>

#include "controlplane/session_layer/tcp_streams.hpp"

namespace tandem::session_layer {

using namespace std::chrono_literals;
using tcp = asio::ip::tcp;

inline std::vector<std::uint8_t> frame_of(std::span<const std::uint8_t> plain) {
    packer p;
    std::vector<std::uint8_t> out;
    EXPECT_TRUE(p.pack(plain, packer::flush::end, out));
    return out;
}

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
        for (const auto end : {role::creator, role::accepter}) {
            auto& e = ends[end == role::accepter];
            e.session = std::make_shared<driver>(io.get_executor(),
                                                 session(end, 7, secret, limits{}, std::chrono::steady_clock::now()),
                                                 [this, &e](const event& what) { on(e, what); });
            e.streams =
                std::make_shared<tcp_streams>(io.get_executor(), e.session, end == role::accepter ? shared : other);
        }
        link();
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
            e.streams->connect(o->stream, to, 2s, o->kind);
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
    tcp::socket forwarded(stream_kind kind = stream_kind::octets) {
        tcp::acceptor door(io, {asio::ip::address_v4::loopback(), 0});
        tcp::socket program(io);
        program.connect(door.local_endpoint());
        const auto id = ends[0].session->use([&](session& s) { return s.open(kind, "there"); });
        ends[0].streams->take(*id, door.accept(), kind);
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

    // Once more as they began, over a link that has nothing of the one before.
    void relink() {
        for (auto& e : ends)
            e.session->drop(e.link);
        link();
        ends[0].session->move(ends[0].link, reason::lost);
    }
    void link() {
        const std::vector<std::uint8_t> binding(32, ++links);
        ends[1].link = ends[1].session->accept({protocol::carrier::stream, [] {}}, binding);
        ends[0].link = ends[0].session->dial({protocol::carrier::stream, [] {}}, 1, binding);
    }
    // All that comes until the other side ends or fails.
    std::string read_all(tcp::socket& socket, std::error_code& error) {
        std::string text;
        std::vector<char> part(65536);
        socket.non_blocking(true);
        run([&] {
            const auto got = socket.read_some(asio::buffer(part), error);
            text.append(part.data(), got);
            return error && error != asio::error::would_block;
        });
        return text;
    }

    asio::io_context io;
    std::uint8_t links = 0;
    tcp::acceptor service{io, {asio::ip::address_v4::loopback(), 0}};
    link::endpoint to{asio::ip::address_v4::loopback(), service.local_endpoint().port()};
    std::shared_ptr<tcp_streams::budget> shared = std::make_shared<tcp_streams::budget>(),
                                         other = std::make_shared<tcp_streams::budget>();
    one ends[2];
};

} // namespace tandem::session_layer
