// SPDX-License-Identifier: Apache-2.0
// That an end of a link knows its session's secret (COL-28). The proof is bound to the session, the dialler's network,
// the side and the link itself (`binding`: what no other link has, the exporter of its TLS handshake). Any thread.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "controlplane/protocol/secret.hpp"

namespace tandem::session_layer {

enum class prover : std::uint8_t { dialler, accepter };
using proof = std::array<std::uint8_t, 32>;

// All zero, which matches() nothing, where the library fails, or without secret or binding.
[[nodiscard]] proof prove(const protocol::secret& secret, prover, std::uint64_t tsid, std::uint32_t group,
                          std::span<const std::uint8_t> binding) noexcept;
// In constant time.
[[nodiscard]] bool matches(const proof& expected, std::span<const std::uint8_t> told) noexcept;

} // namespace tandem::session_layer
