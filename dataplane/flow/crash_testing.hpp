// SPDX-License-Identifier: Apache-2.0
// For tests that kill a process in the middle of its work: packets without a heap, and an engine that believes every
// tag, so that the stores of the subject are most of what runs.
#pragma once

#include <cstdint>

#include "dataplane/flow/side_testing.hpp"

namespace tandem::flow::testing {

class believer final : public crypto::engine {
public:
    [[nodiscard]] std::string_view name() const noexcept override { return "believer"; }
    [[nodiscard]] std::uint32_t fingerprint() const noexcept override { return 1; }
    [[nodiscard]] bool build(api::suite which, const crypto::session_keys& keys,
                             crypto::key_object& out) noexcept override {
        crypto::begin_key(out, which, 1, keys);
        return true;
    }
    void protect(std::span<crypto::op>) noexcept override {}
    void unprotect(std::span<crypto::op>) noexcept override {}
    void restore(crypto::op&) noexcept override {}
};

// A packet as it lies in a burst; not on the heap, because a killed child must not need an allocator.
struct packet {
    alignas(8) std::uint8_t bytes[96];
    std::uint32_t length;
};

// With a believing engine only the header, the MKI and SRTCP's index word have a meaning.
inline packet make(std::uint32_t ssrc, std::uint16_t sequence, bool rtcp, bool sealed, std::uint32_t epoch) {
    packet made{};
    made.bytes[0] = 0x80;
    made.bytes[1] = rtcp ? 200 : 0;
    if (rtcp) {
        made.bytes[3] = 1;
        rtp::store32(made.bytes + 4, ssrc);
    } else {
        made.bytes[2] = static_cast<std::uint8_t>(sequence >> 8);
        made.bytes[3] = static_cast<std::uint8_t>(sequence);
        rtp::store32(made.bytes + 8, ssrc);
    }
    made.length = rtcp ? 8 : 20;
    if (sealed) {
        made.length += rtp::max_tag_length;
        if (rtcp) {
            rtp::store32(made.bytes + made.length, rtp::rtcp_encrypted | sequence);
            made.length += 4;
        }
        rtp::store32(made.bytes + made.length, epoch);
        made.length += 4;
    }
    return made;
}

} // namespace tandem::flow::testing
