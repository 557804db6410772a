// SPDX-License-Identifier: Apache-2.0
// TCP connections, each of which is one stream of a session: octets, half-close and reset pass both ways, and who does
// not read holds up who writes at the other end. Used by both ends alike. Owner thread: the driver's executor's.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include <asio/ip/tcp.hpp>

#include "controlplane/session_layer/driver.hpp"

namespace tandem::session_layer {

// Of streams' resets beside reset_code's: the service could not be reached; the gateway's rules do not let it be.
inline constexpr std::uint16_t reset_unreachable = 256, reset_not_allowed = 257;

class tcp_streams : public std::enable_shared_from_this<tcp_streams> {
public:
    struct counters {
        std::uint64_t begun = 0, ended = 0, reset = 0, unreachable = 0;
        std::uint64_t to_session = 0, from_session = 0; // octets
    };

    enum class failure { unreachable, reset };
    tcp_streams(asio::any_io_executor executor, std::weak_ptr<driver> session, std::function<void(failure)> failed = {})
        : executor_(std::move(executor)), session_(std::move(session)), failed_(std::move(failed)) {}

    // From now on the stream is this connection.
    void take(stream_id, asio::ip::tcp::socket connected);
    // Connects first; what comes meanwhile waits. Where that fails the stream is reset.
    void connect(stream_id, link::endpoint to, std::chrono::milliseconds patience);
    // What the session tells of streams; others it leaves alone.
    void on(const event&);
    void abort_all(); // the session is over: each connection is reset

    [[nodiscard]] std::size_t size() const noexcept { return pipes_.size(); }
    [[nodiscard]] const counters& count() const noexcept { return count_; }

private:
    struct pipe {
        pipe(stream_id i, asio::ip::tcp::socket s)
            : id(i), socket(std::move(s)), readable(socket.get_executor()), writable(socket.get_executor()) {}
        stream_id id;
        asio::ip::tcp::socket socket;
        std::vector<std::uint8_t> out;         // for the socket; the stream's window bounds it
        asio::steady_timer readable, writable; // cancelled: the session has octets, or room
        bool ended = false;                    // the other end sends nothing more
        bool over = false, finished = false, drained = false;
    };
    using pipe_ptr = std::shared_ptr<pipe>;

    pipe_ptr add(stream_id, asio::ip::tcp::socket);
    [[nodiscard]] pipe_ptr find(stream_id) const;
    void start(const pipe_ptr&);
    void abort(const pipe_ptr&);
    void fail(const pipe_ptr&, std::uint16_t code); // resets the stream, too
    void forget_if_done(const pipe_ptr&);
    [[nodiscard]] std::size_t write(const pipe_ptr&, std::span<const std::uint8_t>);
    asio::awaitable<void> dial(pipe_ptr, link::endpoint to, std::chrono::milliseconds patience);
    asio::awaitable<void> read(pipe_ptr);
    void read_ended(const pipe_ptr&, const std::error_code&);
    asio::awaitable<void> write_out(pipe_ptr);

    asio::any_io_executor executor_;
    std::weak_ptr<driver> session_;
    std::function<void(failure)> failed_;
    std::map<stream_id, pipe_ptr> pipes_;
    std::array<std::uint8_t, 16384> chunk_; // of whoever reads just now
    counters count_;
};

} // namespace tandem::session_layer
