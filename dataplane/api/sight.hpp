// SPDX-License-Identifier: Apache-2.0
// Looking at packets over the contract's socket (contract.hpp): trace and capture. Part of the contract's version.
//
// An observer is a connection of its own that says no HELLO and controls nothing; its user is the controller's or root.
// TRACE_START or CAPTURE_START is answered by observe_reply + port_entry[count] (records name ports by their place in
// it), then come TRACE_RECORDS and CAPTURE_RECORDS (sequence 0) and at last OBSERVE_END. One trace and one capture run
// at a time; closing the connection ends them. `plaintext` is root's alone and written to the audit log first.
//
// Never a key. Payload only by a capture, and only where it is ciphertext, unless plaintext was granted.
#pragma once

#include <cstdint>
#include <type_traits>

#include "dataplane/api/contract.hpp"
#include "dataplane/api/drops.hpp"
#include "dataplane/api/stats.hpp"

namespace tandem::api {

inline constexpr std::uint32_t max_trace_packets = 100'000;
inline constexpr std::uint32_t max_snap_length = 2048;
inline constexpr std::size_t max_observed_places = 32;

// Only packets that come to one of these local addresses and ports (a captured packet out: that came there).
struct observed_places {
    std::uint32_t count; // 0 = any packet
    std::uint32_t reserved;
    net_address at[max_observed_places];
};
static_assert(sizeof(observed_places) == 8 + 32 * 24);

struct trace_request {
    std::uint32_t packets; // 1..max_trace_packets
    std::uint32_t reserved;
    observed_places places;
};
static_assert(sizeof(trace_request) == 784);

enum capture_direction : std::uint8_t { capture_in = 1, capture_out = 2 };

struct capture_request {
    char port[16];          // interface; empty = all
    std::uint8_t direction; // capture_in | capture_out
    std::uint8_t plaintext; // payload as it is; root only
    api::drop drop;         // only packets dropped for it; none = all packets
    std::uint8_t reserved;
    std::uint32_t snap_length; // bytes of a frame; 1..max_snap_length
    std::uint32_t seconds;     // 0 = until stopped
    std::uint32_t reserved1;
    std::uint64_t packets; // 0 = until stopped
    observed_places places;
};
static_assert(sizeof(capture_request) == 816);

struct observe_reply {
    std::uint32_t workers;
    std::uint32_t pid; // of the data plane
};

enum trace_flags : std::uint16_t {
    trace_rtcp = 1,
    trace_accepted = 2, // authenticated and from a permitted source
    trace_latched = 4,  // moved the leg
    trace_handed = 8,   // went to the worker that owns the flow, which traces it again
    trace_sent = 16,
    trace_in_index = 32, // in_index and in_epoch are set
    trace_out_index = 64,
    trace_media = 128,  // ssrc and sequence are set
    trace_punted = 256, // went up to the control plane
};

// One packet's way. `last` is the stage where it ended, with `reason`, or send.
struct trace_record {
    std::uint64_t time_ns; // CLOCK_REALTIME, of its burst
    flow_id flow;          // 0 = none found
    std::uint16_t flags;   // trace_flags
    std::uint8_t worker;
    std::uint8_t port; // it came by
    api::stage last;
    api::drop reason;
    std::uint8_t out_port;
    std::uint8_t burst; // packets in its burst
    suite in_suite;
    suite out_suite;
    std::uint16_t in_length; // of the frame
    std::uint16_t in_payload;
    std::uint16_t out_payload;
    std::uint16_t sequence;
    std::uint32_t ssrc;
    std::uint32_t in_epoch;
    std::uint32_t out_epoch;
    std::uint64_t in_index; // SRTP index as guessed, or SRTCP's own
    std::uint64_t out_index;
    std::uint64_t tag;
    net_address source;
    net_address destination; // local
    net_address out_source;
    net_address out_destination;
};
static_assert(sizeof(trace_record) == 64 + 8 + 4 * 24);

enum class capture_way : std::uint8_t { in = 1, out = 2 };

// Followed by `captured` bytes of the frame, padded to a multiple of 8.
struct capture_record {
    std::uint64_t time_ns; // CLOCK_REALTIME, of its burst
    std::uint32_t original;
    std::uint32_t captured;
    std::uint8_t port;
    capture_way way;
    std::uint8_t worker;
    api::drop reason;      // none = not dropped
    std::uint8_t withheld; // payload was cut because it is, or may be, in clear
    std::uint8_t reserved[3];
};
static_assert(sizeof(capture_record) == 24);

[[nodiscard]] constexpr std::size_t padded_capture(std::uint32_t captured) noexcept {
    return sizeof(capture_record) + (std::size_t{captured} + 7) / 8 * 8;
}

enum class observe_end_reason : std::uint16_t { complete, time, data_plane_ends };

struct observe_end {
    observe_end_reason reason;
    std::uint16_t reserved;
    std::uint32_t reserved1;
    std::uint64_t records; // sent
    std::uint64_t lost;    // did not fit the workers' rings (also counted: capture_lost)
};
static_assert(sizeof(observe_end) == 24);

template <>
struct items_of<message_type::trace_start> : item_types<trace_request, port_entry> {};
template <>
struct items_of<message_type::capture_start> : item_types<capture_request, port_entry> {};
template <>
struct items_of<message_type::trace_records> : item_types<trace_record, no_item> {};
template <>
struct items_of<message_type::capture_records> : item_types<capture_record, no_item> {};
template <>
struct items_of<message_type::observe_end> : item_types<api::observe_end, no_item> {};

} // namespace tandem::api
