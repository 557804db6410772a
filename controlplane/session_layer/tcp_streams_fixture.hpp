// SPDX-License-Identifier: Apache-2.0
// Test support only: TCP connections as streams between two sessions in one thread, whose frames are handed over in
// memory.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include <asio/write.hpp>

#include "controlplane/session_layer/pair_in_memory.hpp"
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

class TcpStreams : public pair_in_memory {
protected:
    void SetUp() override {
        join();
        for (const std::size_t end : {0U, 1U})
            streams[end] =
                std::make_shared<tcp_streams>(io.get_executor(), ends[end].session, end == 1 ? shared : other);
    }
    void TearDown() override {
        for (auto& s : streams)
            s->abort_all();
        leave();
    }
    void on(std::size_t end, const event& what) override {
        if (const auto* o = std::get_if<opened>(&what))
            streams[end]->connect(o->stream, to, 2s, o->kind);
        else if (!std::holds_alternative<received>(what))
            seen[end].push_back(what);
        streams[end]->on(what);
    }
    // A connection whose other end is a stream to `to`.
    tcp::socket forwarded(stream_kind kind = stream_kind::octets) {
        tcp::acceptor door(io, {asio::ip::address_v4::loopback(), 0});
        tcp::socket program(io);
        program.connect(door.local_endpoint());
        const auto id = ends[0].session->use([&](session& s) { return s.open(kind, "there"); });
        streams[0]->take(*id, door.accept(), kind);
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
        return std::ranges::any_of(seen[0], [&](const event& e) {
            const auto* r = std::get_if<was_reset>(&e);
            return r != nullptr && r->code == code;
        });
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

    tcp::acceptor service{io, {asio::ip::address_v4::loopback(), 0}};
    link::endpoint to{asio::ip::address_v4::loopback(), service.local_endpoint().port()};
    std::shared_ptr<tcp_streams::budget> shared = std::make_shared<tcp_streams::budget>(),
                                         other = std::make_shared<tcp_streams::budget>();
    std::shared_ptr<tcp_streams> streams[2];
    std::vector<event> seen[2]; // no octets
};

} // namespace tandem::session_layer
