// SPDX-License-Identifier: Apache-2.0
// A burst on its way through the stages: what is known of each packet, and who has left it and why.
// Owner: one worker; a burst lives in the worker and is reused. No allocation.
#pragma once

#include <array>
#include <cstdint>

#include <rte_mbuf.h>

#include "dataplane/api/drops.hpp"
#include "dataplane/flow/port_table.hpp"
#include "dataplane/flow/record.hpp"
#include "dataplane/pipeline/frame.hpp"

namespace tandem::pipeline {

inline constexpr unsigned burst_size = 64;

struct hop;

// How it left the burst where it was not dropped; `reason` then only says that it is gone.
enum class departure : std::uint8_t {
    none,
    handed,
    punted
}; // to the worker that owns its flow, up to the control plane

struct packet {
    rte_mbuf* mbuf;
    std::uint8_t* payload; // of UDP; in place through the whole walk
    flow::record* flow;
    const hop* way;       // from protect on
    std::uint32_t length; // of the payload as it is now
    std::uint32_t received_length;
    flow::slot_index slot;
    std::uint8_t port; // index of the port it came by
    bool rtcp;
    bool accepted; // authenticated and from a permitted source
    bool latched;  // moved the leg
    departure left;
    api::drop reason;   // none while it is in the burst
    std::uint8_t turns; // how often it was turned back
    std::uint8_t hops;  // TTL or hop limit as it came, 2 or more
    api::net_address source;

    [[nodiscard]] api::drop dropped_for() const noexcept { return left == departure::none ? reason : api::drop::none; }
};

struct burst {
    std::array<packet, burst_size> packets;
    unsigned count = 0;
    unsigned fresh = 0;       // from this place on: as they came by a port
    unsigned gone = 0;        // of them: dropped or handed over
    std::uint64_t now_ns = 0; // CLOCK_MONOTONIC, once per burst
};

// Bytes that may still be written in front of and behind the payload.
[[nodiscard]] inline std::size_t room_before(const packet& p) noexcept {
    return static_cast<std::size_t>(p.payload - static_cast<std::uint8_t*>(p.mbuf->buf_addr));
}
[[nodiscard]] inline std::size_t room_for_payload(const packet& p) noexcept {
    return p.mbuf->buf_len - room_before(p);
}

} // namespace tandem::pipeline
