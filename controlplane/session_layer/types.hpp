// SPDX-License-Identifier: Apache-2.0
// What a session is told and tells: limits, errors, events.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <variant>
#include <vector>

#include "controlplane/protocol/channel.hpp"

namespace tandem::session_layer {

using protocol::carrier; // stream: in order and complete until it is lost; datagrams: neither
using protocol::instant; // always the caller's
using link_id = std::uint32_t;
using stream_id = std::uint32_t;

// Which end made the session. Either may dial links, open streams and begin a handover.
enum class role : std::uint8_t { creator, accepter };
[[nodiscard]] constexpr role other(role r) noexcept {
    return r == role::creator ? role::accepter : role::creator;
}

// packed: octets, too, which the application compresses (packing.hpp); an end that does not know it refuses the stream.
enum class stream_kind : std::uint8_t { octets, datagrams, packed };
[[nodiscard]] constexpr bool carries_octets(stream_kind k) noexcept {
    return k != stream_kind::datagrams;
}

enum class error : std::uint8_t {
#define X(name, text) name,
#include "controlplane/session_layer/errors.def"
#undef X
    count
};
[[nodiscard]] const char* text_of(error) noexcept;
using error_counts = std::array<std::uint64_t, static_cast<std::size_t>(error::count)>;

struct limits {
    std::size_t streams = 1024;              // at once, that the other end opened; as many of our own
    std::size_t stream_buffer = 512 * 1024;  // octets that a stream keeps until they are acknowledged
    std::size_t buffered = 16 * 1024 * 1024; // of all streams together
    std::size_t shared = 2 * 1024 * 1024;    // of it, in equal parts for those that keep any, of two turns at least
    std::uint64_t window = 256 * 1024;       // octets of a stream that may come before the application took them
    std::uint64_t first_window = 64 * 1024;  // before the first WINDOW; the same at both ends, not above `window`
    std::size_t turn = 8192;                 // octets that a stream sends before the next one
    std::size_t datagrams = 64;              // that wait for the link; the oldest gives way
    std::size_t datagram_octets = 1 << 20;   // of them together; the newest one may be more
    std::chrono::milliseconds datagram_age{60};
    std::size_t flight = 32 * 1024;       // octets under way where a link of datagrams carries streams
    std::chrono::milliseconds retry{200}; // over datagrams, of what is not answered; doubles up to retry_max
    std::chrono::milliseconds retry_max{3200};
    std::chrono::milliseconds confirm{1000}; // ANNOUNCE not confirmed: hard
    std::chrono::milliseconds answer{5000};  // BEGIN not answered: that link is closed; CONFIRM without BEGIN: hard
    std::chrono::hours keep{24 * 7};         // without a network
};

// Reset codes of this layer; the application's begin at 256.
enum class reset_code : std::uint16_t { cancelled = 0, refused = 1, violation = 2 };

enum class handover_kind : std::uint8_t { first, soft, hard, soft_into_hard };
enum class handover_end : std::uint8_t {
    completed,
    stopped, // the creator's took its place (COL-36)
    failed   // its new link went; a hard one follows, or there is no network
};
enum class reason : std::uint8_t { start, lost, better, cost, new_address, asked, by_peer, again };
[[nodiscard]] const char* text_of(handover_kind) noexcept;
[[nodiscard]] const char* text_of(handover_end) noexcept;
[[nodiscard]] const char* text_of(reason) noexcept;

// ---- events, in order

struct opened { // by the other end; label lives as long as the frame that was received
    stream_id stream;
    stream_kind kind;
    std::span<const std::uint8_t> label;
};
struct received { // the next octets; they live as long as the frame. consumed() makes room for more
    stream_id stream;
    std::span<const std::uint8_t> octets;
};
struct received_datagram { // lives as long as the frame
    stream_id stream;
    std::span<const std::uint8_t> octets;
};
struct closed { // the other end sends nothing more on it
    stream_id stream;
};
struct was_reset { // by the other end, or for what it did; the stream is gone
    stream_id stream;
    std::uint16_t code;
};
struct finished { // both directions ended in order and all is acknowledged; the stream is gone
    stream_id stream;
};
struct writable { // write() had taken less than it was given; now there is room
    stream_id stream;
};
struct link_ready { // joined
    link_id link;
};
enum class link_end : std::uint8_t { refused, malformed, silent };
struct close_link { // the session has forgotten it already
    link_id link;
    link_end why;
};
struct handover { // one procedure, as this end saw it
    role initiator;
    std::uint32_t number;
    handover_kind kind;
    handover_end how;
    reason why;
    std::optional<link_id> from;
    link_id to;
    instant began, ended;
    std::uint64_t sent_again; // octets of streams, by this end
};
struct stall { // a stream of octets had something to send and might not
    stream_id stream;
    instant began, ended;
};
struct expired {}; // without a network for too long: everything is gone
using event = std::variant<opened, received, received_datagram, closed, was_reset, finished, writable, link_ready,
                           close_link, handover, stall, expired>;
using events = std::vector<event>;

} // namespace tandem::session_layer
