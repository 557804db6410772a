// SPDX-License-Identifier: Apache-2.0
// TCP connections, each of which is one stream of a session: octets, half-close and reset pass both ways, and who does
// not read holds up who writes at the other end. Those of kind packed are compressed here: what enters the session is,
// and of what came so much is unpacked as the socket is to take next; the rest waits compressed. Used by both ends
// alike. Owner thread: the driver's executor's.
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
#include "controlplane/session_layer/packing.hpp"

namespace tandem::session_layer {

// Of streams' resets beside reset_code's: the service could not be reached; the gateway's rules do not let it be; what
// came is not the one whole zstd frame that it is to be; it refers back further than the receiver holds.
inline constexpr std::uint16_t reset_unreachable = 256, reset_not_allowed = 257, reset_not_zstd = 258,
                               reset_zstd_window = 259;

class tcp_streams : public std::enable_shared_from_this<tcp_streams> {
public:
    struct counters {
        std::uint64_t begun = 0, ended = 0, reset = 0, unreachable = 0;
        std::uint64_t to_session = 0, from_session = 0;    // octets, as the connections have them
        std::uint64_t not_zstd = 0, zstd_window = 0;       // resets of that name by this end
        std::uint64_t no_context = 0;                      // reset for want of memory for a context
        std::uint64_t packed = 0;                          // streams that are compressed
        std::uint64_t plain_octets = 0, packed_octets = 0; // of these, both directions, before it and on the link
    };

    // What those who share it hold together: connections, and octets for sockets that do not take them.
    struct budget {
        std::size_t most_connections = 0, most_octets = 0;     // 0 = no bound
        std::size_t most_contexts = 0, most_contexts_each = 0; // octets of compression: of all, of one tcp_streams
        std::size_t connections = 0, octets = 0, contexts = 0;
        [[nodiscard]] bool has_room() const noexcept {
            return (most_connections == 0 || connections < most_connections) &&
                   (most_octets == 0 || octets < most_octets);
        }
    };
    enum class failure { unreachable, reset, not_zstd, zstd_window, no_context };

    tcp_streams(asio::any_io_executor executor, std::weak_ptr<driver> session,
                std::shared_ptr<budget> shared = std::make_shared<budget>(), std::function<void(failure)> failed = {})
        : executor_(std::move(executor)), session_(std::move(session)), budget_(std::move(shared)),
          failed_(std::move(failed)) {}

    // From now on the stream is this connection.
    void take(stream_id, asio::ip::tcp::socket connected, stream_kind = stream_kind::octets);
    // Connects first; what comes meanwhile waits. Where that fails the stream is reset.
    void connect(stream_id, link::endpoint to, std::chrono::milliseconds patience, stream_kind = stream_kind::octets);
    // What the session tells of streams; others it leaves alone.
    void on(const event&);
    void abort_all(); // the session is over: each connection is reset

    [[nodiscard]] std::size_t size() const noexcept { return pipes_.size(); }
    [[nodiscard]] const counters& count() const noexcept { return count_; }
    // Of compression, there now: one for a direction that was used and is not over.
    [[nodiscard]] std::size_t contexts() const noexcept { return contexts_; }
    [[nodiscard]] std::size_t context_octets() const noexcept { return context_octets_; }

private:
    struct pipe {
        pipe(stream_id i, asio::ip::tcp::socket s)
            : id(i), socket(std::move(s)), readable(socket.get_executor()), writable(socket.get_executor()) {}
        stream_id id;
        asio::ip::tcp::socket socket;
        byte_queue out;                        // for the socket, compressed if packed; the stream's window bounds it
        std::size_t held = 0;                  // of them and of what is being written
        asio::steady_timer readable, writable; // cancelled: the session has octets, or room
        bool ended = false;                    // the other end sends nothing more
        bool over = false, finished = false, drained = false;
        bool packed = false;
        bool unsaid = false; // the packer has octets that the other end cannot read yet
        std::unique_ptr<packer> packs;
        std::unique_ptr<unpacker> unpacks;
        std::size_t contexts = 0, context_octets = 0; // of these, as they are accounted for
    };
    using pipe_ptr = std::shared_ptr<pipe>;

    pipe_ptr add(stream_id, asio::ip::tcp::socket, stream_kind);
    [[nodiscard]] pipe_ptr find(stream_id) const;
    void start(const pipe_ptr&);
    void abort(const pipe_ptr&);
    void fail(const pipe_ptr&, std::uint16_t code); // resets the stream, too
    void forget_if_done(const pipe_ptr&);
    void forget(const pipe_ptr&);
    [[nodiscard]] std::size_t write(const pipe_ptr&, std::span<const std::uint8_t>);
    asio::awaitable<void> dial(pipe_ptr, link::endpoint to, std::chrono::milliseconds patience);
    asio::awaitable<void> read(pipe_ptr);
    // Of chunk_ to what goes to the session. False: the connection has failed.
    [[nodiscard]] bool prepare(const pipe_ptr&, std::size_t size, packer::flush, std::vector<std::uint8_t>& to_session);
    // The socket's next octets; how many of `out` they were.
    [[nodiscard]] std::size_t next_out(const pipe_ptr&, std::vector<std::uint8_t>& octets);
    [[nodiscard]] std::size_t unpack_next(const pipe_ptr&, std::vector<std::uint8_t>& octets);
    [[nodiscard]] bool context_fits(const pipe_ptr&);
    void fail_unpacking(const pipe_ptr&, unpacker::fault);
    void account_contexts(const pipe_ptr&) noexcept;
    asio::awaitable<void> write_out(pipe_ptr);

    asio::any_io_executor executor_;
    std::weak_ptr<driver> session_;
    std::shared_ptr<budget> budget_;
    std::function<void(failure)> failed_;
    std::map<stream_id, pipe_ptr> pipes_;
    std::array<std::uint8_t, 16384> chunk_; // of whoever reads just now
    std::size_t contexts_ = 0, context_octets_ = 0;
    counters count_;
};

} // namespace tandem::session_layer
