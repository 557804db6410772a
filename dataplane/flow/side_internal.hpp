// SPDX-License-Identifier: Apache-2.0
// How side's published words are read and written; for side*.cpp only (worker: side.cpp; control thread:
// side_control.cpp; streams: side_streams.cpp).
#pragma once

#include <atomic>
#include <cstdint>

#include "dataplane/flow/side.hpp"
#include "dataplane/rtp/suite.hpp"

namespace tandem::flow::detail {

// --- epochs

[[nodiscard]] inline std::uint64_t load_epoch(const side& what, unsigned slot) noexcept {
    return std::atomic_ref<std::uint64_t>(const_cast<std::uint64_t&>(what.epochs[slot]))
        .load(std::memory_order_acquire);
}
[[nodiscard]] constexpr std::uint32_t mki_of(std::uint64_t entry) noexcept {
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

// Of a protected packet. AEAD: the MKI is the last field; AES-CM: the tag follows it.
[[nodiscard]] inline const std::uint8_t* mki_in(const side& what, const std::uint8_t* data, std::size_t length,
                                                bool rtcp) noexcept {
    return data + length - what.mki_length - (api::info(what.suite).aead ? 0 : rtp::tag_length(what.suite, rtcp));
}
[[nodiscard]] inline std::uint32_t read_mki(const std::uint8_t* at, std::uint8_t length) noexcept {
    std::uint32_t value = 0;
    for (unsigned i = 0; i < length; ++i)
        value = value << 8 | at[i];
    return value;
}

inline constexpr std::uint16_t first_generation = 1; // of a side's first key

[[nodiscard]] constexpr std::uint32_t mki_mask(std::uint8_t length) noexcept {
    return length >= 4 ? 0xffffffffU : (std::uint32_t{1} << 8 * length) - 1;
}

// Serial numbers: of two keys that are less than 2^15 apart. Farther apart, a newer one may be taken for an older:
// a stream is then remembered for longer.
[[nodiscard]] constexpr bool newer(std::uint16_t generation, std::uint16_t than) noexcept {
    return static_cast<std::int16_t>(generation - than) > 0;
}

// --- stream ids: one word, so that one store changes it, and on the line that every packet touches
//   upper << 48 | flags | in use << 32 | SSRC
// upper is of each kind of side another thing. out: the sequence on the wire minus the source's. SRTP in: the
// generation of the newest key that packets were accepted under. Clear in: the sequence number that would confirm a
// jump.

inline constexpr std::uint64_t id_in_use = std::uint64_t{1} << 32;
inline constexpr std::uint64_t id_awaiting = std::uint64_t{1} << 33;   // clear in: there was a jump
inline constexpr std::uint64_t id_anew = std::uint64_t{1} << 34;       // SRTP in: indices began anew under a key ...
inline constexpr std::uint64_t id_rtp_heard = std::uint64_t{1} << 35;  // ... and packets of this kind
inline constexpr std::uint64_t id_rtcp_heard = std::uint64_t{1} << 36; // were accepted, both under upper's

[[nodiscard]] constexpr bool is_of(std::uint64_t id, std::uint32_t ssrc) noexcept {
    return id << 31 == (id_in_use | ssrc) << 31; // whatever flags and upper are
}
[[nodiscard]] constexpr std::uint16_t upper_of(std::uint64_t id) noexcept {
    return static_cast<std::uint16_t>(id >> 48);
}
[[nodiscard]] constexpr std::uint16_t heard_under(std::uint64_t id) noexcept {
    return upper_of(id);
}
[[nodiscard]] constexpr std::uint64_t with_upper(std::uint64_t id, std::uint16_t upper) noexcept {
    return (id & 0xffffffffffff) | std::uint64_t{upper} << 48;
}

// --- streams

// Where one stream lies.
struct stream_ref {
    std::uint64_t* id = nullptr;
    rtp::replay_window* rtp = nullptr;
    stream_rest* rest = nullptr;
    unsigned at = 0; // the first one, then those of the pool

    [[nodiscard]] explicit operator bool() const noexcept { return id != nullptr; }
    [[nodiscard]] rtp::replay_window& window(bool rtcp) const noexcept { return rtcp ? rest->rtcp : *rtp; }
};

[[nodiscard]] inline stream_ref first_stream(side& what) noexcept {
    return {&what.first_id, &what.first_rtp, &what.first_rest, 0};
}
[[nodiscard]] inline stream_ref further_stream(stream& of, unsigned at) noexcept {
    return {&of.id, &of.rtp, &of.rest, at};
}

[[nodiscard]] inline std::uint32_t load_link(const std::uint32_t& to) noexcept { // + 1; 0 = none
    return std::atomic_ref(const_cast<std::uint32_t&>(to)).load(std::memory_order_acquire);
}

// Every place of a side, in use or not, until `what` returns true; whether it did.
template <class F>
bool any_stream(side& of, const stream_pool& streams, F&& what) {
    if (what(first_stream(of)))
        return true;
    unsigned at = own_streams;
    for (std::uint32_t link = load_link(of.more); link != 0 && at < max_streams;
         link = load_link(streams.link(link - 1)), ++at)
        if (what(further_stream(streams[link - 1], at)))
            return true;
    return false;
}

[[nodiscard]] stream_ref find_other(side& what, const stream_pool& streams, std::uint32_t ssrc) noexcept;

// Changed only where the caller may change the side.
[[nodiscard]] inline stream_ref find_stream(const side& what, const stream_pool& streams, std::uint32_t ssrc) noexcept {
    auto& of = const_cast<side&>(what);
    if (is_of(what.first_id, ssrc)) [[likely]]
        return first_stream(of);
    return find_other(of, streams, ssrc);
}

// A zeroed place that is not in use yet, of the pool where those that there are are taken; nothing, and the reason,
// where there is none.
[[nodiscard]] stream_ref free_or_new_place(side& what, stream_pool& streams, api::drop& why) noexcept;
// Likewise, but before the pool is asked the longest unused stream goes, where it may. A clear side is never refused:
// there it goes once clear_streams are known, or the pool has no more for clear media.
[[nodiscard]] stream_ref make_room(side& what, stream_pool& streams, api::drop& why) noexcept;

} // namespace tandem::flow::detail
