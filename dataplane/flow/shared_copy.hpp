// SPDX-License-Identifier: Apache-2.0
// Plain data that one thread changes while another copies it: word by word, relaxed. No half of a word is seen; that
// words fit together, the caller sees to (two copies and an index, see record.hpp) or does not need.
// Threads: one writer, any reader.
#pragma once

#include <atomic>
#include <cstdint>
#include <iterator>
#include <type_traits>

namespace tandem::flow {

namespace detail {
template <class T>
using word_of = std::conditional_t<alignof(T) % 8 == 0, std::uint64_t,
                                   std::conditional_t<alignof(T) % 4 == 0, std::uint32_t, std::uint16_t>>;
}

template <class T>
[[nodiscard]] T load_shared(const T& from) noexcept {
    using word = detail::word_of<T>;
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) % sizeof(word) == 0);
    word words[sizeof(T) / sizeof(word)];
    auto* const at = reinterpret_cast<word*>(const_cast<T*>(&from));
    for (std::size_t i = 0; i < std::size(words); ++i)
        words[i] = std::atomic_ref<word>(at[i]).load(std::memory_order_relaxed);
    T copy;
    __builtin_memcpy(&copy, words, sizeof copy);
    return copy;
}

template <class T>
void store_shared(T& to, const T& value) noexcept {
    using word = detail::word_of<T>;
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) % sizeof(word) == 0);
    word words[sizeof(T) / sizeof(word)];
    __builtin_memcpy(words, &value, sizeof value);
    auto* const at = reinterpret_cast<word*>(&to);
    for (std::size_t i = 0; i < std::size(words); ++i)
        std::atomic_ref<word>(at[i]).store(words[i], std::memory_order_relaxed);
}

} // namespace tandem::flow
