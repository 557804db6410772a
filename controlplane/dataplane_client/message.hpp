// SPDX-License-Identifier: Apache-2.0
// Items of a contract message, read out of its bytes. Pure.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>

namespace tandem::dataplane_client {

template <class Item>
[[nodiscard]] Item item_at(std::span<const std::uint8_t> bytes, std::size_t index) noexcept {
    Item item;
    std::memcpy(&item, bytes.data() + index * sizeof(Item), sizeof(Item));
    return item;
}

} // namespace tandem::dataplane_client
