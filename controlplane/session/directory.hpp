// SPDX-License-Identifier: Apache-2.0
// What the rest of the control plane may know and ask of sessions. One thread: the control plane's io_context.
#pragma once

#include <asio/awaitable.hpp>
#include <asio/ip/address.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <tl/expected.hpp>

#include "controlplane/protocol/message.hpp"
#include "controlplane/protocol/moment.hpp"

namespace tandem::session {

using tsid = std::uint64_t;

// What `tandemctl session show` says of a unit's streams.
struct streams_info {
    std::size_t links = 0, streams = 0;
    std::uint64_t begun = 0, to_unit = 0, from_unit = 0; // octets as they came from and went to services
    std::uint64_t handovers = 0, octets_again = 0;
    std::string last_handover; // "soft, better, 12 ms"; empty: none yet
    struct {
        std::uint64_t begun = 0;
        std::size_t contexts = 0, context_octets = 0; // there now
        std::uint64_t plain = 0, on_link = 0;         // octets, both directions
    } compressed;                                     // of those that are
};

struct session_info {
    tsid id = 0;
    std::string unit;                     // id code
    std::vector<asio::ip::address> inner; // the unit's inner addresses
    asio::ip::address inner_gateway;      // the gateway's inner address of the first family (see inner_gateway_v6 too)
    std::optional<asio::ip::address> inner_gateway_v6;
    asio::ip::address outer; // the primary's remote address now
    std::uint16_t outer_port = 0;
    bool up = false;                 // primary connected and configured
    std::string transport;           // "tls"
    std::string cipher;              // e.g. TLS_AES_256_GCM_SHA384
    std::chrono::seconds lifetime{}; // of the primary, as negotiated
    protocol::moment since;
    std::uint64_t rx_bytes = 0, tx_bytes = 0; // inner IP bytes through the primary
    std::uint64_t rx_packets = 0, tx_packets = 0;
    std::uint32_t reconnects = 0;
    std::optional<streams_info> streams; // none: it has none
};

enum class request_error { no_session, not_up, timeout, refused };

class directory {
public:
    virtual ~directory() = default;

    [[nodiscard]] virtual std::optional<session_info> by_tsid(tsid) const = 0;
    [[nodiscard]] virtual std::optional<session_info> by_unit(const std::string& id_code) const = 0;
    [[nodiscard]] virtual std::optional<session_info> by_inner(const asio::ip::address&) const = 0;
    [[nodiscard]] virtual std::vector<session_info> all() const = 0;

    // Ends the session: RELEASE to the unit, tunnel closed. False where there is none.
    virtual bool drop(tsid, const std::string& reason) = 0;

    // Sends a request down the session's primary and waits for its response. The message's TSID and sequence are filled
    // in here. A message that holds a seed is wiped by its own destructor (protocol::message does that for every TLV).
    virtual asio::awaitable<tl::expected<protocol::message, request_error>>
    request(tsid, protocol::message, std::chrono::milliseconds timeout) = 0;

    // Called on the io_context: primary configured (again), and primary lost or released (final = session is over).
    std::function<void(const session_info&)> on_up;
    std::function<void(const session_info&, bool final)> on_down;
};

} // namespace tandem::session
