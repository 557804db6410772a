// SPDX-License-Identifier: Apache-2.0
// The way up: packets that are no media, on flows that ask for them (api::flow_flags), go by a ring to the control
// thread, which gives them to the control plane (PACKET_IN). Anybody can send such packets, so a source's network, a
// flow and the worker may each hand up so many a second and no more; the tables do not grow, and a full ring costs the
// packet. Media pay nothing: only what was about to be dropped comes here.
//
// Threads: take() the worker's; front() and pop() the control thread's. All memory is taken at the start.
#pragma once

#include <cstdint>
#include <span>

#include "dataplane/api/contract.hpp"
#include "dataplane/api/drops.hpp"
#include "dataplane/pipeline/shares.hpp"
#include "dataplane/pipeline/slot_ring.hpp"

namespace tandem::pipeline {

class punt {
public:
    static constexpr std::size_t slots = 128;
    // A second: a handshake of DTLS takes ten, STUN's checks a few. A flow's is more than a source's, so that one
    // stranger does not keep its peer out; a worker's is what a control plane can look at.
    static constexpr std::uint64_t per_source = 32, per_flow = 64, per_worker = 2048;

    punt() : ring_(sizeof(api::packet_in) + api::padded_packet(api::max_packet_bytes), slots) {}

    // `about` with the bytes' length; none, or why it stays here.
    [[nodiscard]] api::drop take(const api::packet_in& about, std::span<const std::uint8_t> bytes) noexcept;

    // The oldest, an api::packet_in and its bytes; null where there is none.
    [[nodiscard]] const std::byte* front() const noexcept { return ring_.front(); }
    void pop() noexcept { ring_.pop(); }

private:
    shares<1024, per_source> sources_;
    shares<4096, per_flow> flows_;
    shares<2, per_worker> all_;
    slot_ring ring_;
};

} // namespace tandem::pipeline
