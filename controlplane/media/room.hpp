// SPDX-License-Identifier: Apache-2.0
// What new calls leave to those that there are: a re-offer may add a media, and a flow that takes another's place lies
// beside it for a moment. Private to this room. Pure.
#pragma once

#include <algorithm>
#include <cstddef>

namespace tandem::media {

[[nodiscard]] constexpr std::size_t spare_flows(std::size_t max_flows) noexcept {
    return std::clamp<std::size_t>(max_flows / 64, std::min<std::size_t>(8, max_flows / 4), 256);
}
// Pairs, of one address.
[[nodiscard]] constexpr std::size_t spare_ports(std::size_t total) noexcept {
    return std::min<std::size_t>(total / 64, 16);
}

} // namespace tandem::media
