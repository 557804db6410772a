// SPDX-License-Identifier: Apache-2.0
// Open addressing with linear probing, at most two thirds full (a miss looks at 5 cells; at four fifths at 13): the
// rows stand in one array and nothing else is kept. A Slot has taken(), hash() (32 bits, well mixed) and is free when
// value-initialised. Pure.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace tandem::policy {

template <class Slot>
class slots {
public:
    [[nodiscard]] std::size_t size() const noexcept { return used_; }
    [[nodiscard]] std::size_t bytes() const noexcept { return cells_.capacity() * sizeof(Slot); }
    [[nodiscard]] const std::vector<Slot>& cells() const noexcept { return cells_; } // free ones among them

    void clear() {
        cells_ = {};
        used_ = 0;
    }
    void reserve(std::size_t rows) {
        if (rows + rows / 2 + 1 > cells_.size())
            rebuild(rows + rows / 2 + 1);
    }
    // same(slot): is it the one that is sought?
    template <class Same>
    [[nodiscard]] const Slot* find(std::uint32_t hash, Same&& same) const noexcept {
        if (used_ == 0)
            return nullptr;
        for (auto at = home(hash); cells_[at].taken(); at = next(at))
            if (same(cells_[at]))
                return &cells_[at];
        return nullptr;
    }
    // The cache line where a find() will look first is asked for.
    void prefetch(std::uint32_t hash) const noexcept {
        if (used_ != 0)
            __builtin_prefetch(&cells_[home(hash)]);
    }
    [[nodiscard]] Slot* mutable_slot(const Slot* found) noexcept {
        return found == nullptr ? nullptr : &cells_[static_cast<std::size_t>(found - cells_.data())];
    }
    // One that is not there yet.
    void insert(const Slot& fresh) {
        if ((used_ + 1) * 3 > cells_.size() * 2)
            rebuild(std::max<std::size_t>(16, cells_.size() + cells_.size() / 2));
        place(fresh);
        ++used_;
    }
    // The rows behind it move up, so that no probe ends at the hole.
    void erase(const Slot* found) {
        auto hole = static_cast<std::size_t>(found - cells_.data());
        for (auto at = next(hole); cells_[at].taken(); at = next(at)) {
            const auto wants = home(cells_[at].hash());
            // Does it lie before or at the hole (on the circle), seen from where the row stands?
            const bool movable = at > hole ? (wants <= hole || wants > at) : (wants <= hole && wants > at);
            if (movable)
                cells_[std::exchange(hole, at)] = cells_[at];
        }
        cells_[hole] = Slot{};
        --used_;
    }

private:
    [[nodiscard]] std::size_t home(std::uint32_t hash) const noexcept {
        return static_cast<std::size_t>((std::uint64_t{hash} * cells_.size()) >> 32);
    }
    [[nodiscard]] std::size_t next(std::size_t at) const noexcept { return at + 1 == cells_.size() ? 0 : at + 1; }
    void place(const Slot& row) {
        auto at = home(row.hash());
        while (cells_[at].taken())
            at = next(at);
        cells_[at] = row;
    }
    void rebuild(std::size_t size) {
        std::vector<Slot> before(size);
        before.swap(cells_);
        for (const auto& row : before)
            if (row.taken())
                place(row);
    }

    std::vector<Slot> cells_;
    std::size_t used_ = 0;
};

} // namespace tandem::policy
