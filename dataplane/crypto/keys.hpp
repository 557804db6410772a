// SPDX-License-Identifier: Apache-2.0
// SRTP keys as plain bytes that live in the flow-state memory: no pointer in them, so that a restarted process maps
// them at another address and goes on. Made by the control thread, read by the worker that owns the flow.
//
//   master key + salt --derive_session_keys()--> session_keys --engine::build()--> key_object
//
// RTP's part is expanded (AES schedule, GHASH powers or HMAC states); RTCP's stays raw and is expanded on use, because
// it is rare and a second expansion would double a flow's memory. The raw RTP keys stay too (cold line): another
// engine, or another version of it, expands again after a restart. Sources: RFC 3711 4.3 (AES-CM PRF, kdr 0), RFC 6188
// (256-bit PRF), RFC 7714 11 (96-bit salt).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "dataplane/api/suites.hpp"
#include "dataplane/media/suite.hpp"

namespace tandem::crypto {

// Not removed by the optimiser.
void wipe(void* memory, std::size_t length) noexcept;
[[nodiscard]] bool equal_constant_time(const void* a, const void* b, std::size_t length) noexcept;

// One direction's session keys for RTP or for RTCP; the suite says how much of each array counts.
struct raw_keys {
    std::uint8_t key[32];
    std::uint8_t auth[20];
    std::uint8_t salt[14]; // AEAD: 12
    std::uint8_t reserved[2];
};
static_assert(sizeof(raw_keys) == 68);

struct session_keys {
    raw_keys rtp;
    raw_keys rtcp;
};

inline constexpr std::size_t expanded_bytes = 1024; // the largest of any engine (IPsec-MB's gcm_key_data: 1,008)

struct alignas(64) key_object {
    // hot line
    api::suite suite;
    std::uint16_t reserved0;
    std::uint32_t fingerprint;  // of the engine that expanded it
    std::uint8_t rtp_iv[16];    // AES-CM: salt << 16 (16 bytes); AEAD: salt (12 bytes)
    std::uint64_t rtp_packets;  // under this key (RFC 3711 9.2); the worker's
    std::uint64_t rtcp_packets; // likewise
    std::uint8_t reserved1[24];
    // used per RTP packet, by the engine
    std::uint8_t expanded[expanded_bytes];
    // cold
    session_keys raw;
    std::uint8_t reserved2[56];
};
static_assert(sizeof(key_object) == 64 + expanded_bytes + 192 && std::is_trivially_copyable_v<key_object>);

// RFC 3711 4.3 with kdr 0: `out` bytes of the PRF for one label. `salt` 12 (AEAD) or 14 bytes. Control thread.
[[nodiscard]] bool derive(std::span<const std::uint8_t> master_key, std::span<const std::uint8_t> master_salt,
                          media::label label, std::span<std::uint8_t> out) noexcept;

// All six. False where a length does not fit the suite, the suite is clear, or OpenSSL fails. Control thread.
[[nodiscard]] bool derive_session_keys(api::suite suite, std::span<const std::uint8_t> master_key,
                                       std::span<const std::uint8_t> master_salt, session_keys& out) noexcept;

} // namespace tandem::crypto
