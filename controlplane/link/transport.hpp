// SPDX-License-Identifier: Apache-2.0
// What carries a control channel and the inner packets beside it: whole frames (a control message or an IP packet) both
// ways. Whoever uses it knows neither TLS nor sockets. On a stream a frame has its length before it (tls_tcp.hpp); on
// datagrams it will be one. Owner thread: the executor's. An operation's coroutine may not outlive the transport; at
// most one sends and one receives at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>

#include "controlplane/link/endpoint.hpp"
#include "controlplane/protocol/channel.hpp"
#include "controlplane/protocol/framing.hpp"

namespace tandem::link {

class transport {
public:
    using frame_handler = std::function<void(const protocol::frame&)>;

    transport() = default;
    virtual ~transport() = default;
    transport(const transport&) = delete;
    transport& operator=(const transport&) = delete;

    [[nodiscard]] virtual protocol::carrier kind() const noexcept = 0;
    [[nodiscard]] virtual asio::any_io_executor executor() = 0;
    [[nodiscard]] virtual endpoint local() const = 0;
    [[nodiscard]] virtual endpoint remote() const = 0;
    [[nodiscard]] virtual std::string cipher() const = 0; // empty: clear
    // Octets that both ends of this handshake know and nobody else (RFC 8446 7.5); false where there are none.
    [[nodiscard]] virtual bool exported(std::string_view label, std::span<const std::uint8_t> context,
                                        std::span<std::uint8_t> out) const = 0;

    // A frame of what flush() sends next. False: no room beside those that are there; flush() first. Copied; one of no
    // octets or of more than 65,535 is left out.
    [[nodiscard]] virtual bool add(std::span<const std::uint8_t> frame) = 0;
    // Sends what was added, in as few records as possible; then control messages among it are wiped.
    [[nodiscard]] virtual asio::awaitable<void> flush(std::error_code&) = 0;
    // Waits until something has come and hands up each whole frame, which lives as long as the call of the handler.
    // The handler may close(). An error is told when everything before it has been handed up.
    [[nodiscard]] virtual asio::awaitable<void> receive(const frame_handler&, std::error_code&) = 0;
    // Tells the peer that nothing follows. It may still send; its own end is receive()'s error.
    [[nodiscard]] virtual asio::awaitable<void> shutdown(std::error_code&) = 0;
    // At once: what is under way ends with operation_aborted.
    virtual void close() noexcept = 0;
    [[nodiscard]] virtual bool is_open() const noexcept = 0;
};

} // namespace tandem::link
