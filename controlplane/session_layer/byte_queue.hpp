// SPDX-License-Identifier: Apache-2.0
// Octets of a stream that the other end has not acknowledged: appended behind, dropped in front, read anywhere. Empty,
// it holds no memory. One thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace tandem::session_layer {

class byte_queue {
public:
    [[nodiscard]] std::size_t size() const noexcept { return bytes_.size() - head_; }
    [[nodiscard]] std::span<const std::uint8_t> view() const noexcept { return std::span(bytes_).subspan(head_); }

    void append(std::span<const std::uint8_t> more) {
        if (head_ >= size())
            compact();
        bytes_.insert(bytes_.end(), more.begin(), more.end());
    }
    // All of them; none is left.
    [[nodiscard]] std::vector<std::uint8_t> take() noexcept {
        compact();
        return std::exchange(bytes_, {});
    }
    void drop(std::size_t count) noexcept {
        head_ += std::min(count, size());
        if (head_ == bytes_.size())
            clear();
    }
    void clear() noexcept {
        std::vector<std::uint8_t>().swap(bytes_);
        head_ = 0;
    }

private:
    // Each octet moves at most once for each that was dropped before it.
    void compact() noexcept {
        bytes_.erase(bytes_.begin(), bytes_.begin() + static_cast<std::ptrdiff_t>(head_));
        head_ = 0;
    }
    std::vector<std::uint8_t> bytes_;
    std::size_t head_ = 0;
};

} // namespace tandem::session_layer
