// SPDX-License-Identifier: Apache-2.0
// Key objects in one block of the flow-state memory, named by index: nothing allocated there, no pointer stored.
// Objects are as long as their suite needs (key_bytes): AEAD's grow from the block's start, AES-CM's from its end, so
// that any mix fits as long as the sum does. An index counts 64-byte lines from the start.
//
// A view: copy it freely, but only one view takes and releases. Control thread takes, releases and recovers; workers
// only read objects that were published.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "dataplane/crypto/engine.hpp"
#include "dataplane/crypto/keys.hpp"

namespace tandem::crypto {

class key_pool {
public:
    using index = std::uint32_t;

    // Bytes of memory (64-byte aligned) for `capacity` keys of the longest kind.
    [[nodiscard]] static constexpr std::size_t bytes(std::uint32_t capacity) noexcept {
        return states_bytes(capacity) + std::size_t{lines_for(capacity)} * line;
    }
    // Over zeroed memory, or over memory that a predecessor filled: the same call, nothing is written.
    key_pool(void* memory, std::uint32_t capacity) noexcept;

    [[nodiscard]] std::uint32_t capacity() const noexcept { return capacity_; } // keys of the longest kind
    [[nodiscard]] bool contains(index at) const noexcept { return at < lines_; }
    [[nodiscard]] std::uint32_t used() const noexcept; // walks the states: control thread, rarely
    // The same number without a walk, where only this view takes and releases, since its recover_end().
    [[nodiscard]] std::uint32_t in_use() const noexcept { return in_use_; }

    [[nodiscard]] key_object& operator[](index at) noexcept {
        return *reinterpret_cast<key_object*>(objects_ + std::size_t{at} * line);
    }
    [[nodiscard]] const key_object& operator[](index at) const noexcept {
        return *reinterpret_cast<const key_object*>(objects_ + std::size_t{at} * line);
    }
    [[nodiscard]] index index_of(const key_object& key) const noexcept {
        return static_cast<index>(static_cast<std::size_t>(reinterpret_cast<const std::byte*>(&key) - objects_) / line);
    }

    // A free, wiped object for a key of `suite`; nothing where all are taken.
    [[nodiscard]] std::optional<index> take(api::suite suite) noexcept;
    // Wipes, then frees. No worker may still read it (quiescence is the caller's).
    void release(index at) noexcept;

    // Restart: begin, then mark() every key that a side names (flow::recover does), then end: the rest is wiped and
    // freed, and keys that another engine expanded are built again.
    void recover_begin() noexcept;
    // False where no such key was taken for this suite: then nothing is marked.
    [[nodiscard]] bool mark(index at, api::suite suite) noexcept;
    void recover_end(engine& with) noexcept;

private:
    static constexpr std::size_t line = 64;
    [[nodiscard]] static constexpr std::uint32_t lines_for(std::uint32_t capacity) noexcept {
        return static_cast<std::uint32_t>(capacity * (sizeof(key_object) / line));
    }
    [[nodiscard]] static constexpr std::size_t states_bytes(std::uint32_t capacity) noexcept {
        return (std::size_t{lines_for(capacity)} + line - 1) / line * line;
    }
    // A line's state is its object's where an object begins there, else 0. Kinds differ, so that the two ends, whose
    // objects begin at different multiples, cannot be taken for each other.
    enum kind : std::uint8_t { aead, cm };
    enum state : std::uint8_t { free_ = 0, taken_ = 2, marked_ = 4 }; // taken and marked: plus the kind
    [[nodiscard]] static constexpr std::uint8_t with_kind(state s, kind which) noexcept {
        return static_cast<std::uint8_t>(std::uint8_t{s} | std::uint8_t{which});
    }
    [[nodiscard]] static constexpr kind kind_of(api::suite suite) noexcept { return is_long(suite) ? aead : cm; }
    [[nodiscard]] static constexpr std::uint32_t lines_of(kind which) noexcept {
        return static_cast<std::uint32_t>(
            key_bytes(which == aead ? api::suite::aead_aes_128_gcm : api::suite::aes_cm_128_hmac_sha1_80) / line);
    }
    [[nodiscard]] index place(kind which, std::uint32_t n) const noexcept { // of the nth object of a kind
        return which == aead ? n * lines_of(aead) : lines_ - (n + 1) * lines_of(cm);
    }
    template <class F>
    void for_each(F&& what) const;
    void find_free() noexcept;
    [[nodiscard]] bool populate(kind which) noexcept;
    void rebuild(key_object& key, engine& with) const noexcept;

    std::uint8_t* states_;
    std::byte* objects_;
    std::uint32_t capacity_;
    std::uint32_t lines_;
    std::uint32_t in_use_ = 0;
    // Where taking goes on; found from the states by the first take of this view, or at a recovery's end.
    bool known_ = false;
    std::array<std::uint32_t, 2> reached_{}; // objects of a kind that were ever in use, counted from its end
    std::array<std::uint32_t, 2> ready_{};   // objects whose memory is there for certain
    std::array<std::vector<index>, 2> free_list_;
};

} // namespace tandem::crypto
