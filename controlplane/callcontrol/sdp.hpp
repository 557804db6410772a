// SPDX-License-Identifier: Apache-2.0
// SDP (RFC 8866) read line by line: what is not understood is kept, in order, byte for byte. Only what anchoring media
// needs is understood: o=, c=, m=, a=rtcp (RFC 3605), a=rtcp-mux (RFC 5761), direction (RFC 3264), a=crypto (RFC 4568),
// a=fingerprint (RFC 8122, only to say that we do not do DTLS). Pure; any thread; sizes are bounded.
#pragma once

#include <array>
#include <asio/ip/address.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <tl/expected.hpp>

#include "controlplane/callcontrol/sdp_crypto.hpp"

namespace tandem::callcontrol::sdp {

inline constexpr std::size_t max_bytes = 65'000;
inline constexpr std::size_t max_lines = 2'000;
inline constexpr std::size_t max_media = 32;

enum class way : std::uint8_t { sendrecv, sendonly, recvonly, inactive };

[[nodiscard]] std::string_view name(way) noexcept;
[[nodiscard]] constexpr bool sends(way w) noexcept {
    return w == way::sendrecv || w == way::sendonly;
}
[[nodiscard]] constexpr bool receives(way w) noexcept {
    return w == way::sendrecv || w == way::recvonly;
}

// The transports that we anchor, and what we do not.
struct transport {
    bool rtp = false;      // RTP over UDP of any profile
    bool secure = false;   // SAVP, SAVPF
    bool feedback = false; // AVPF, SAVPF
    bool dtls = false;     // UDP/TLS/...
    friend bool operator==(const transport&, const transport&) = default;
};
[[nodiscard]] transport parse_transport(std::string_view proto) noexcept;
[[nodiscard]] std::string_view name(const transport&) noexcept;

struct line {
    char type = 0;
    std::string text; // after "x="
};

struct media {
    std::string kind; // "audio"
    std::uint16_t port = 0;
    std::string port_count; // "/2", kept
    std::string proto;      // as written
    transport profile;
    std::string formats;     // "8 0"
    std::vector<line> lines; // after m=

    // Resolved, session level included.
    asio::ip::address address; // c=
    std::optional<std::uint16_t> rtcp_port;
    std::optional<asio::ip::address> rtcp_address;
    bool rtcp_mux = false;
    way direction = way::sendrecv;
    std::vector<crypto> cryptos;
    bool fingerprint = false;

    [[nodiscard]] bool rejected() const noexcept { return port == 0; }
    [[nodiscard]] bool held_by_address() const noexcept { return address.is_unspecified(); }
};

struct session {
    std::vector<line> lines; // before the first m=
    std::vector<media> m_lines;
    std::string newline = "\r\n";
};

// The error is rtpengine's "Failed to parse SDP" with what was wrong after it.
[[nodiscard]] tl::expected<session, std::string> parse(std::string_view text);

// Of the first payload type: its a=rtpmap, else RFC 3551's table, else 8000.
[[nodiscard]] std::uint32_t clock_rate(const media& line) noexcept;
// Payload types of retransmissions (RFC 4588 8.1) among the line's formats; 0: none. A fourth is left out.
[[nodiscard]] std::array<std::uint8_t, 3> retransmissions(const media& line) noexcept;

// An IPv4 address that is written as an IPv6 one (::ffff:192.0.2.1) is IPv4: such do not travel (RFC 4291 2.5.5.2).
[[nodiscard]] asio::ip::address plain(const asio::ip::address&);
// "IN IP4 192.0.2.1[/ttl]" -> address, plain.
[[nodiscard]] std::optional<asio::ip::address> parse_connection(std::string_view text);
// An attribute's value ("rtcp:5001" -> name "rtcp", value "5001").
struct attribute_view {
    std::string_view name, value;
};
[[nodiscard]] attribute_view split_attribute(std::string_view text) noexcept;
// Whether a lenient reader takes it for that word: letters of either case, blanks around. For what must not go on; what
// we act on is written as RFC 8866 says.
[[nodiscard]] bool passes_for(std::string_view name, std::string_view word) noexcept;
// Whether media can be sent to that address at all: not to many at once (multicast, broadcast), not to no network.
[[nodiscard]] bool is_one_host(const asio::ip::address&) noexcept;

} // namespace tandem::callcontrol::sdp
