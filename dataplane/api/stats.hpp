// SPDX-License-Identifier: Apache-2.0
// The stats segment: a file in /dev/shm that the data plane writes and anyone permitted maps read-only.
// Layout: stats_header, worker_stats[workers], flow_stats[max_flows]. Every 64-bit counter has one writer (its worker)
// and is read without a lock; a reader may see two counters of one flow a packet apart. Never a key, seed or payload.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "dataplane/api/contract.hpp"
#include "dataplane/api/drops.hpp"

namespace tandem::api {

enum class counter : std::uint16_t {
#define X(name, unit, text) name,
#include "dataplane/api/counters.def"
#undef X
    count
};

// A counter's only writer adds to it, others read it meanwhile: plain moves, but no half of a number is ever seen.
template <typename word>
inline void bump(word& counter, std::type_identity_t<word> by = 1) noexcept {
    std::atomic_ref<word> c(counter);
    c.store(c.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
}
template <typename word>
inline void put(word& counter, std::type_identity_t<word> value) noexcept {
    std::atomic_ref<word>(counter).store(value, std::memory_order_relaxed);
}
template <typename word>
[[nodiscard]] inline word read(const word& counter) noexcept {
    return std::atomic_ref<word>(const_cast<word&>(counter)).load(std::memory_order_relaxed);
}

inline constexpr std::uint32_t stats_magic = 0x54535431; // "TST1"
inline constexpr std::uint16_t stats_version = 6;
inline constexpr std::size_t max_counters = 64;
inline constexpr std::size_t max_drops = 64;
static_assert(static_cast<std::size_t>(counter::count) <= max_counters && drop_count <= max_drops);

struct alignas(64) stats_header {
    std::uint32_t magic;
    std::uint16_t version;
    std::uint16_t workers;
    std::uint32_t max_flows;
    std::uint32_t flow_bytes; // flow-state memory per flow, for `tandemctl status`
    std::uint64_t pid;
    std::uint64_t started_ns;    // CLOCK_REALTIME
    std::uint64_t heartbeat_ns;  // CLOCK_MONOTONIC, by the control thread
    std::uint64_t worker_offset; // from the segment's start
    std::uint64_t flow_offset;
    std::uint64_t edge[256]; // sums of the XDP edge's verdicts (edge_maps.h), refreshed each second
    std::uint32_t flows;     // in force now, of max_flows; by the control thread
    std::uint32_t keys;      // key objects in use; by the control thread
    std::uint64_t tsc_hz;    // of all *_tsc fields
};

// Stages of a worker's round, in their order (dataplane/pipeline).
enum class stage : std::uint8_t { receive, lookup, unprotect, protect, send, count };
inline constexpr std::size_t stage_count = static_cast<std::size_t>(stage::count);
inline constexpr std::size_t burst_classes = 7; // 1, 2-3, 4-7, 8-15, 16-31, 32-63, 64 packets

// How a worker spends its time, since it was started: TSC cycles, written once per burst by the worker alone. Its busy
// share over an interval is the growth of busy_tsc over that of the TSC.
struct alignas(64) worker_sight {
    std::uint64_t started_tsc; // 0 = not started
    std::uint64_t busy_tsc;    // in rounds that took packets
    // From one poll of the ports to the next while there were packets or the control thread's changes to be done; sleep
    // is not in it. What the kernel takes away (other threads on the core) is.
    std::uint64_t longest_gap_tsc;
    std::uint64_t longest_gap_second_tsc; // of the last full second of work
    std::uint32_t lcore;
    std::uint32_t cpu; // where it was when it was started
    std::uint64_t reserved[3];
    std::uint64_t stage_tsc[8];     // by stage; rounds without packets are not in it
    std::uint64_t stage_packets[8]; // that entered the stage
    std::uint64_t burst_sizes[8];   // rounds by burst class
};
static_assert(sizeof(worker_sight) == 256 && stage_count <= 8 && burst_classes <= 8);

struct alignas(64) worker_stats {
    std::uint64_t counters[max_counters];
    std::uint64_t drops[max_drops]; // by api::drop
    worker_sight sight;
};

// One flow's counters. `slot` numbers are in flow_entry::stats_index; `id` is 0 in a slot that is not in use.
struct alignas(64) flow_stats {
    // Line 0: what every RTP packet writes.
    std::uint64_t rx_packets; // accepted (authenticated where the in-side is SRTP), RTP
    std::uint64_t rx_bytes;   // UDP payload
    std::uint64_t tx_packets; // RTP
    std::uint64_t tx_bytes;
    std::uint64_t expected;       // RTP packets by sequence numbers, per RFC 3550 A.3, summed over SSRCs
    std::uint64_t last_packet_ns; // CLOCK_MONOTONIC of the last accepted packet, coarse (<= 10 ms)
    std::uint64_t tag;
    flow_id id;
    std::uint32_t epoch_in; // newest epoch that authenticated
    // Line 1.
    std::uint32_t epoch_out; // epoch now sent under
    suite suite_in;
    suite suite_out;
    std::uint32_t rtcp_rx_packets;
    std::uint32_t rtcp_tx_packets;
    // Report blocks (RFC 3550 6.4.1) in the RTCP that this flow accepted: what its sender hears of us. Where a packet
    // has several blocks, the worst value of each kind; jitter in the RTP clock's units.
    std::uint32_t reports;         // blocks
    std::uint32_t reported_loss;   // the last packet's, as on the wire: fraction << 24 | cumulative, signed 24 bits
    std::uint32_t reported_jitter; // the last packet's
    std::uint32_t reported_jitter_max;
    std::uint64_t auth_failures;
    std::uint32_t replays;      // already seen or too old
    std::uint32_t wrong_source; // also in other_drops
    std::uint64_t other_drops;
    std::uint64_t tx_dropped; // accepted but not sent
};
static_assert(sizeof(flow_stats) == 128 && offsetof(flow_stats, epoch_out) == 64);
static_assert(offsetof(flow_stats, reports) == 80 && offsetof(flow_stats, tx_dropped) == 120);

// Of 256: the share lost since the report before. In packets: lost since the start, below 0 where more came than were
// expected (duplicates).
[[nodiscard]] constexpr std::uint8_t reported_fraction(const flow_stats& s) noexcept {
    return static_cast<std::uint8_t>(s.reported_loss >> 24);
}
[[nodiscard]] constexpr std::int32_t reported_cumulative(const flow_stats& s) noexcept {
    return static_cast<std::int32_t>(s.reported_loss << 8) >> 8;
}

} // namespace tandem::api
