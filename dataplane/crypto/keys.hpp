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
#include "dataplane/rtp/suite.hpp"

namespace tandem::crypto {

// Not removed by the optimiser.
void wipe(void* memory, std::size_t length) noexcept;
[[nodiscard]] bool equal_constant_time(const void* a, const void* b, std::size_t length) noexcept;

// One direction's session keys for RTP or for RTCP; the suite says how much of each array counts.
struct raw_keys {
    std::uint8_t key[32];
    std::uint8_t auth[20];
    std::uint8_t salt[14]; // AEAD: 12
};
static_assert(sizeof(raw_keys) == 66);

struct session_keys {
    raw_keys rtp;
    raw_keys rtcp;
};

// Bytes of a suite's expansion, of any engine: IPsec-MB's gcm_key_data, or an AES-128 schedule (the HMAC states lie in
// the first line).
inline constexpr std::size_t gcm_expanded_bytes = 1008, cm_expanded_bytes = 11 * 16;
// A key of 256 bits lies in an object of the longer kind, whatever its cipher: those of AES-CM that are common stay
// short.
[[nodiscard]] constexpr bool is_long(api::suite suite) noexcept {
    return api::info(suite).aead || api::info(suite).key_length > 16;
}
[[nodiscard]] constexpr std::size_t expanded_bytes(api::suite suite) noexcept {
    return is_long(suite) ? gcm_expanded_bytes : cm_expanded_bytes;
}
[[nodiscard]] constexpr std::size_t schedule_bytes(api::suite suite) noexcept { // AES's round keys, one way
    return (api::info(suite).key_length == 32 ? 15 : 11) * std::size_t{16};
}

// What no RTP packet reads; lies behind the expansion.
struct key_cold {
    std::uint32_t fingerprint;  // of the engine that expanded it
    std::uint32_t rtcp_packets; // under this key (RFC 3711 9.2); the worker's
    session_keys raw;
};

// A key in the pool is as long as its suite needs, key_bytes(suite): AES-CM 384, AEAD 1,216. This type is as long as
// the longest; never copy or clear one in a pool as a whole. An RTP packet touches: AES-CM the first 240 bytes (4
// lines); AEAD the first line, the schedule (3 or 4 lines) and as many GHASH powers, from the expansion's end, as it
// has blocks.
struct alignas(64) key_object {
    std::uint8_t rtp_salt[14];                       // AEAD: 12
    api::suite suite;                                // clear: free
    std::uint64_t rtp_packets;                       // under this key (RFC 3711 9.2); the worker's
    std::uint8_t head[40];                           // the engine's: HMAC states
    std::uint8_t expanded[gcm_expanded_bytes + 144]; // expanded_bytes(suite), then key_cold

    [[nodiscard]] key_cold& cold() noexcept { return *reinterpret_cast<key_cold*>(expanded + expanded_bytes(suite)); }
    [[nodiscard]] const key_cold& cold() const noexcept {
        return *reinterpret_cast<const key_cold*>(expanded + expanded_bytes(suite));
    }
};
static_assert(offsetof(key_object, expanded) == 64 && sizeof(key_cold) == 140 && alignof(key_cold) == 4);
static_assert(sizeof(key_object) == 64 + gcm_expanded_bytes + 144 && std::is_trivially_copyable_v<key_object>);

[[nodiscard]] constexpr std::size_t key_bytes(api::suite suite) noexcept {
    return (64 + expanded_bytes(suite) + sizeof(key_cold) + 63) / 64 * 64;
}
static_assert(key_bytes(api::suite::aes_cm_128_hmac_sha1_80) == 384);
static_assert(key_bytes(api::suite::aead_aes_256_gcm) == sizeof(key_object));

// Functions that only prefetch must be inlined: gcc 12 takes them for pure and drops the calls.
#define TANDEM_PREFETCHES __attribute__((always_inline)) inline

// The lines of a key that an RTP packet of `length` bytes will touch. Level 2: 448 lines of a burst are more than the
// first cache holds, and its prefetches are dropped where too many are under way. Of the GHASH powers (H^1 last) those
// for the packet's blocks, AAD's and lengths' among them; the library keeps 48.
TANDEM_PREFETCHES void prefetch_lines(const void* of, std::size_t from, std::size_t to) noexcept {
    for (std::size_t line = from / 64 * 64; line < to; line += 64)
        __builtin_prefetch(static_cast<const std::uint8_t*>(of) + line, 0, 2);
}
TANDEM_PREFETCHES void prefetch_key(const key_object& key, api::suite suite, std::size_t length) noexcept {
    if (!api::info(suite).aead) {
        prefetch_lines(&key, 0, 64 + schedule_bytes(suite));
        return;
    }
    constexpr std::size_t end = 64 + gcm_expanded_bytes, most = 48 * 16;
    prefetch_lines(&key, 0, 64 + schedule_bytes(suite));
    const std::size_t powers = (length / 16 + 1) * 16;
    prefetch_lines(&key, end - (powers < most ? powers : most), end);
}

// What every engine's build() begins with: the object is wiped as far as its suite reaches, and holds the raw keys.
void begin_key(key_object& out, api::suite suite, std::uint32_t fingerprint, const session_keys& keys) noexcept;

// RFC 3711 4.3 with kdr 0: `out` bytes of the PRF for one label. `salt` 12 (AEAD) or 14 bytes. Control thread.
[[nodiscard]] bool derive(std::span<const std::uint8_t> master_key, std::span<const std::uint8_t> master_salt,
                          rtp::label label, std::span<std::uint8_t> out) noexcept;

// All six. False where a length does not fit the suite, the suite is clear, or OpenSSL fails. Control thread.
[[nodiscard]] bool derive_session_keys(api::suite suite, std::span<const std::uint8_t> master_key,
                                       std::span<const std::uint8_t> master_salt, session_keys& out) noexcept;

} // namespace tandem::crypto
