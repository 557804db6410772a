// SPDX-License-Identifier: Apache-2.0
// Bytes that must not outlive their use: wiped in the destructor, on move and on assignment; never copied by accident,
// never printed. Sizes up to 96 bytes live inline, so no reallocation leaves a copy behind.
#pragma once

#include <algorithm>
#include <array>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>

namespace tandem::protocol {

// Not removed by the optimiser: the barrier says that the zeros may be read.
inline void wipe(void* memory, std::size_t length) noexcept {
    if (length == 0)
        return;
    std::memset(memory, 0, length);
    __asm__ __volatile__("" : : "r"(memory) : "memory");
}

class secret {
public:
    static constexpr std::size_t capacity = 96;

    secret() = default;
    explicit secret(std::span<const std::uint8_t> bytes) : size_(bytes.size()) {
        assert(bytes.size() <= capacity);
        std::copy(bytes.begin(), bytes.end(), bytes_.begin());
    }
    secret(secret&& other) noexcept { take(other); }
    secret& operator=(secret&& other) noexcept {
        if (this != &other) {
            clear();
            take(other);
        }
        return *this;
    }
    secret(const secret&) = delete;
    secret& operator=(const secret&) = delete;
    ~secret() { clear(); }

    [[nodiscard]] secret copy() const { return secret(view()); }
    [[nodiscard]] std::span<const std::uint8_t> view() const noexcept { return {bytes_.data(), size_}; }
    // For whoever fills it (RNG, KDF): `size` bytes, zeroed.
    [[nodiscard]] std::span<std::uint8_t> resize(std::size_t size) noexcept {
        assert(size <= capacity);
        clear();
        size_ = size;
        return {bytes_.data(), size_};
    }
    [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    void clear() noexcept {
        wipe(bytes_.data(), bytes_.size());
        size_ = 0;
    }

private:
    void take(secret& other) noexcept {
        bytes_ = other.bytes_;
        size_ = other.size_;
        other.clear();
    }
    std::array<std::uint8_t, capacity> bytes_{};
    std::size_t size_ = 0;
};

// A secret inside a value that is copied whole, on purpose: what is planned lies beside what is in force.
class kept_secret : public secret {
public:
    using secret::secret;
    kept_secret() = default;
    kept_secret(secret&& from) noexcept : secret(std::move(from)) {}
    kept_secret(kept_secret&&) noexcept = default;
    kept_secret& operator=(kept_secret&&) noexcept = default;
    kept_secret(const kept_secret& other) : secret(other.view()) {}
    kept_secret& operator=(const kept_secret& other) {
        if (this != &other)
            *this = kept_secret(other);
        return *this;
    }
    ~kept_secret() = default;
    friend bool operator==(const kept_secret& a, const kept_secret& b) noexcept {
        return std::ranges::equal(a.view(), b.view());
    }
};

} // namespace tandem::protocol
