// SPDX-License-Identifier: Apache-2.0
// Captured programs' connections: local listeners, and where each connection was to go. The io_context's thread.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <string>

#include <asio/awaitable.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <tl/expected.hpp>

#include "bpf/loader/capture.hpp"
#include "controlplane/link/tcp_acceptor.hpp"
#include "tools/agent/capture/datagram_capture.hpp"
#include "tools/agent/capture/settings.hpp"
#include "tools/agent/capture/taker.hpp"

namespace tandem::agent {

class program_capture {
public:
    struct counters {
        std::uint64_t taken = 0;
        std::uint64_t strangers = 0; // connected to the listener by themselves: closed
        std::uint64_t no_room = 0;   // waits for descriptors
    };
    // Listens, then attaches; with the privileges that bpf::capture needs. `to` outlives it.
    [[nodiscard]] static tl::expected<std::unique_ptr<program_capture>, std::string>
    start(asio::io_context& io, const capture_settings& settings, taker& to);

    program_capture(asio::io_context& io, taker& to, std::chrono::seconds idle)
        : io_(io), taker_(to), datagrams_(io, to, idle) {}
    [[nodiscard]] const counters& count() const noexcept { return count_; }
    [[nodiscard]] const datagram_capture& datagrams() const noexcept { return datagrams_; }
    [[nodiscard]] bpf::capture_counters kernel_count() const { return capture_->counters(); }

private:
    [[nodiscard]] tl::expected<std::uint16_t, std::string> listen(const asio::ip::address& on);
    asio::awaitable<void> accept(link::tcp_acceptor& on);
    void hand_on(asio::ip::tcp::socket program);

    asio::io_context& io_;
    taker& taker_;
    std::list<link::tcp_acceptor> acceptors_;
    datagram_capture datagrams_;
    std::optional<bpf::capture> capture_;
    counters count_;
};

} // namespace tandem::agent
