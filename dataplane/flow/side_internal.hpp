// SPDX-License-Identifier: Apache-2.0
// How side's published words are read and written; for side.cpp (worker) and side_control.cpp (control thread) only.
#pragma once

#include <atomic>
#include <cstdint>

#include "dataplane/flow/side.hpp"

namespace tandem::flow::detail {

inline constexpr std::uint64_t id_in_use = std::uint64_t{1} << 32;

[[nodiscard]] inline std::uint64_t load_epoch(const side& what, unsigned slot) noexcept {
    return std::atomic_ref<std::uint64_t>(const_cast<std::uint64_t&>(what.epochs[slot]))
        .load(std::memory_order_acquire);
}
[[nodiscard]] constexpr std::uint32_t epoch_number(std::uint64_t entry) noexcept {
    return static_cast<std::uint32_t>(entry);
}
[[nodiscard]] constexpr crypto::key_pool::index key_index(std::uint64_t entry) noexcept {
    return static_cast<std::uint32_t>(entry >> 32) - 1;
}

[[nodiscard]] inline std::uint8_t load_sending(const side& what) noexcept {
    return std::atomic_ref<std::uint8_t>(const_cast<std::uint8_t&>(what.sending)).load(std::memory_order_acquire);
}
inline void store_sending(side& what, std::uint8_t value) noexcept {
    std::atomic_ref<std::uint8_t>(what.sending).store(value, std::memory_order_release);
}

[[nodiscard]] constexpr std::uint32_t mki_mask(std::uint8_t length) noexcept {
    return length >= 4 ? 0xffffffffU : (std::uint32_t{1} << 8 * length) - 1;
}

} // namespace tandem::flow::detail
