// SPDX-License-Identifier: Apache-2.0
// Drop reasons, generated from drops.def (also read by bpf/, as an enum of C).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tandem::api {

enum class drop : std::uint8_t {
#define X(name, text) name,
#include "dataplane/api/drops.def"
#undef X
};

struct drop_info {
    std::string_view name;
    std::string_view text;
};

inline constexpr std::array drop_table{
#define X(name, text) drop_info{#name, text},
#include "dataplane/api/drops.def"
#undef X
};

inline constexpr std::size_t drop_count = drop_table.size();

[[nodiscard]] constexpr const drop_info& info(drop reason) noexcept {
    return drop_table[static_cast<std::size_t>(reason)];
}

// Counted by the XDP edge, not by workers.
[[nodiscard]] constexpr bool by_edge(drop reason) noexcept {
    return info(reason).name.starts_with("edge_") && reason != drop::edge_end;
}

} // namespace tandem::api
