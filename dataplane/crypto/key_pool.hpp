// SPDX-License-Identifier: Apache-2.0
// Key objects in one block of the flow-state memory, named by index: a fixed array, nothing allocated, no pointer
// stored. A view: copy it freely. Control thread takes, releases and recovers; workers only read objects that were
// published.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "dataplane/crypto/engine.hpp"
#include "dataplane/crypto/keys.hpp"

namespace tandem::crypto {

class key_pool {
public:
    using index = std::uint32_t;

    // Bytes of memory (64-byte aligned) for `capacity` keys.
    [[nodiscard]] static std::size_t bytes(std::uint32_t capacity) noexcept;
    // Over zeroed memory, or over memory that a predecessor filled: the same call, nothing is written.
    key_pool(void* memory, std::uint32_t capacity) noexcept;

    [[nodiscard]] std::uint32_t capacity() const noexcept { return capacity_; }
    [[nodiscard]] std::uint32_t used() const noexcept; // walks the states: control thread, rarely
    // The same number without a walk, where only this view takes and releases, since its recover_end().
    [[nodiscard]] std::uint32_t in_use() const noexcept { return in_use_; }

    [[nodiscard]] key_object& operator[](index at) noexcept { return objects_[at]; }
    [[nodiscard]] const key_object& operator[](index at) const noexcept { return objects_[at]; }

    // A free, wiped object; nothing where all are taken.
    [[nodiscard]] std::optional<index> take() noexcept;
    // Wipes, then frees. No worker may still read it (quiescence is the caller's).
    void release(index at) noexcept;

    // Restart: begin, then mark() every key that a side names (flow::recover does), then end: the rest is wiped and
    // freed, and keys that another engine expanded are built again.
    void recover_begin() noexcept;
    void mark(index at) noexcept;
    void recover_end(engine& with) noexcept;

private:
    static void keep(key_object& key, engine& with) noexcept;

    enum state : std::uint8_t { free_ = 0, taken_ = 1, marked_ = 2 };

    std::uint8_t* states_;
    key_object* objects_;
    std::uint32_t capacity_;
    std::uint32_t next_ = 0;      // free keys are at or behind it, or in released_
    std::vector<index> released_; // the last released, still warm, is the next one taken
    std::uint32_t in_use_ = 0;
};

} // namespace tandem::crypto
