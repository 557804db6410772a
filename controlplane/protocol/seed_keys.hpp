// SPDX-License-Identifier: Apache-2.0
// Seed -> SRTP master key and salt, the same function on gateway and unit.
//
//   PRK = HKDF-Extract(salt = "tandem media seed v1", IKM = seed)                       (RFC 5869, SHA-256)
//   key || salt = HKDF-Expand(PRK, info, key_length + salt_length)
//   info = TSID (8) || media (4) || direction (1) || epoch (4) || suite (2), network byte order
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "controlplane/protocol/secret.hpp"
#include "dataplane/api/suites.hpp"

namespace tandem::protocol {

enum class direction : std::uint8_t { to_gateway = 0, to_unit = 1 };

struct key_binding {
    std::uint64_t tsid;
    std::uint32_t media;
    direction way;
    std::uint32_t epoch;
    api::suite suite;
};

// HKDF-SHA256 (RFC 5869) itself, for vectors and for others that need it.
[[nodiscard]] bool hkdf_sha256(std::span<const std::uint8_t> salt, std::span<const std::uint8_t> ikm,
                               std::span<const std::uint8_t> info, std::span<std::uint8_t> out) noexcept;

// key || salt of the suite's lengths; nothing where the suite is clear, the seed is out of 16..64 bytes or OpenSSL
// fails.
[[nodiscard]] std::optional<secret> derive_keys(const secret& seed, const key_binding& binding);

// `seed-is-key` compatibility: the seed's bytes are the master key and salt themselves; nothing where lengths differ.
[[nodiscard]] std::optional<secret> seed_as_keys(const secret& seed, api::suite suite);

// Tells a seed or key from another without keeping it.
using digest_bytes = std::array<std::uint8_t, 16>;
[[nodiscard]] digest_bytes digest(std::span<const std::uint8_t> secret) noexcept;

} // namespace tandem::protocol
