// SPDX-License-Identifier: Apache-2.0
// How much memory a flow takes and how many cache lines of it one RTP packet touches, computed from the layouts: for
// `tandemctl status`, for the benchmark's report and for whoever changes a layout. Not counted: the packet itself, the
// worker's own lines, and the port table's entry (4 bytes).
//
//   record   line 0                     state, policy, source, route's stamp
//   sides    line 0 of each under SRTP  epochs, SSRC, window; the in-side's also in clear (RFC 3550 A.3)
//   way      1 line                     layer 2, addresses, ports (pipeline/hops.hpp)
//   counters line 0                     api::flow_stats
//   keys     AES-CM: 4 lines            salt, count and HMAC states; schedule
//            AEAD: 1 + 3 or 4 + powers  salt and count; schedule; one GHASH power for each block of payload and lengths
#pragma once

#include <algorithm>
#include <cstddef>

#include "dataplane/api/stats.hpp"
#include "dataplane/flow/memory.hpp"

namespace tandem::flow {

inline constexpr std::size_t cache_line = 64;

[[nodiscard]] constexpr unsigned lines_between(std::size_t from, std::size_t to) noexcept { // to > from
    return static_cast<unsigned>((to - 1) / cache_line - from / cache_line + 1);
}

// Of one key, for an RTP packet with so many bytes of payload.
[[nodiscard]] constexpr unsigned key_lines(api::suite suite, std::size_t payload) noexcept {
    if (suite == api::suite::clear)
        return 0;
    constexpr std::size_t expanded = offsetof(crypto::key_object, expanded);
    if (!api::info(suite).aead)
        return lines_between(0, expanded + crypto::schedule_bytes(suite));
    const std::size_t schedule = expanded + crypto::schedule_bytes(suite);
    constexpr std::size_t end = expanded + crypto::gcm_expanded_bytes, most = 48; // powers that the library keeps
    const std::size_t powers = std::min((payload + 15) / 16 + 1, most);
    const std::size_t first = std::max(end - 16 * powers, schedule); // a line of both is counted once
    const unsigned shared = (schedule - 1) / cache_line == first / cache_line ? 1 : 0;
    return lines_between(0, schedule) + lines_between(first, end) - shared;
}

[[nodiscard]] constexpr unsigned lines_per_packet(api::suite in, api::suite out, std::size_t payload) noexcept {
    constexpr unsigned record_lines = 1, in_side = 1, way = 1, counters = 1;
    const unsigned out_side = out == api::suite::clear ? 0 : 1;
    return record_lines + in_side + out_side + way + counters + key_lines(in, payload) + key_lines(out, payload);
}

static_assert(offsetof(record, routes) == cache_line);
static_assert(offsetof(side, first_rest) == cache_line);
static_assert(offsetof(api::flow_stats, epoch_out) == cache_line);
static_assert(offsetof(flow_block, in) % cache_line == 0 && offsetof(flow_block, out) % cache_line == 0);
static_assert(sizeof(flow_block) == 576);
static_assert(key_lines(api::suite::aes_cm_128_hmac_sha1_80, 1200) == 4);
static_assert(key_lines(api::suite::aead_aes_128_gcm, 33) == 6 && key_lines(api::suite::aead_aes_128_gcm, 160) == 7);
static_assert(lines_per_packet(api::suite::aes_cm_128_hmac_sha1_80, api::suite::clear, 160) == 8);
static_assert(lines_per_packet(api::suite::aead_aes_128_gcm, api::suite::clear, 160) == 11);

} // namespace tandem::flow
