// SPDX-License-Identifier: Apache-2.0
// The key pool: one state byte per line (dense, so that a search touches few), then the objects. Control thread.
#include "dataplane/crypto/key_pool.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <sys/mman.h>

namespace tandem::crypto {

namespace {

constexpr std::size_t page = 4096;

} // namespace

key_pool::key_pool(void* memory, std::uint32_t capacity) noexcept
    : states_(static_cast<std::uint8_t*>(memory)),
      // The objects are implicit-lifetime data in shared memory; nothing is constructed.
      objects_(static_cast<std::byte*>(memory) + states_bytes(capacity)), capacity_(capacity),
      lines_(lines_for(capacity)) {}

// Calls back with every object that is not free. Only lines whose state says so are objects.
template <class F>
void key_pool::for_each(F&& what) const {
    for (index at = 0; at < lines_; ++at) {
        if (at % 8 == 0 && at + 8 <= lines_) {
            std::uint64_t eight = 0;
            std::memcpy(&eight, states_ + at, sizeof eight);
            if (eight == 0) {
                at += 7;
                continue;
            }
        }
        if (states_[at] != free_)
            what(at, static_cast<kind>(states_[at] & 1));
    }
}

std::uint32_t key_pool::used() const noexcept {
    std::uint32_t n = 0;
    for_each([&](index, kind) { ++n; });
    return n;
}

void key_pool::find_free() noexcept {
    known_ = true;
    reached_ = ready_ = {};
    in_use_ = 0;
    for_each([&](index at, kind which) {
        const std::uint32_t n = which == aead ? at / lines_of(aead) : (lines_ - at) / lines_of(cm) - 1;
        reached_[which] = std::max(reached_[which], n + 1);
        ++in_use_;
    });
    for (const kind which : {aead, cm}) {
        free_list_[which].clear();
        for (std::uint32_t n = reached_[which]; n-- > 0;)
            if (states_[place(which, n)] == free_)
                free_list_[which].push_back(place(which, n));
    }
}

// Memory that was never touched may not be there: asked for here, some objects at once, where it can be refused,
// instead of dying of it.
bool key_pool::populate(kind which) noexcept {
    constexpr std::uint32_t step = 64;
    if (reached_[which] < ready_[which])
        return true;
    const index first = place(which, reached_[which]);
    const auto ask = [&](std::uint32_t count) {
        const std::size_t bytes = std::size_t{lines_of(which)} * count * line;
        std::byte* const edge = objects_ + std::size_t{first} * line;
        const auto begin = reinterpret_cast<std::uintptr_t>(
            which == aead ? edge : std::max(objects_, edge + std::size_t{lines_of(cm)} * line - bytes));
        const auto end =
            std::min(reinterpret_cast<std::uintptr_t>(objects_ + std::size_t{lines_} * line), begin + bytes);
        const std::uintptr_t from = begin / page * page;
        const std::uintptr_t to = (end + page - 1) / page * page;
        const bool there = madvise(reinterpret_cast<void*>(from), to - from, MADV_POPULATE_WRITE) == 0 ||
                           errno == EINVAL; // a kernel before 5.14
        if (there)
            ready_[which] = reached_[which] + count;
        return there;
    };
    return ask(step) || ask(1);
}

std::optional<key_pool::index> key_pool::take(api::suite suite) noexcept {
    if (!known_)
        find_free();
    const kind which = kind_of(suite);
    index at = 0;
    if (auto& list = free_list_[which]; !list.empty()) {
        at = list.back(); // the one released last: warm
        list.pop_back();
    } else {
        const std::uint64_t both = std::uint64_t{reached_[aead]} * lines_of(aead) +
                                   std::uint64_t{reached_[cm]} * lines_of(cm) + lines_of(which);
        if (both > lines_)
            return std::nullopt;
        at = place(which, reached_[which]);
        if (!populate(which))
            return std::nullopt;
        ++reached_[which];
    }
    states_[at] = with_kind(taken_, which);
    ++in_use_;
    return at;
}

void key_pool::release(index at) noexcept {
    if (at >= lines_ || states_[at] == free_)
        return;
    const auto which = static_cast<kind>(states_[at] & 1);
    wipe(objects_ + std::size_t{at} * line, lines_of(which) * line);
    states_[at] = free_;
    if (!known_)
        return;
    if (in_use_ != 0)
        --in_use_;
    if (at == place(which, reached_[which] - 1))
        --reached_[which]; // the last of its end: its place is anyone's again
    else
        free_list_[which].push_back(at);
}

void key_pool::recover_begin() noexcept {
    known_ = false;
    for_each([&](index at, kind which) { states_[at] = with_kind(taken_, which); });
}

bool key_pool::mark(index at, api::suite suite) noexcept {
    if (at >= lines_ || states_[at] == free_ || (states_[at] & 1) != kind_of(suite) || (*this)[at].suite != suite)
        return false;
    states_[at] = with_kind(marked_, kind_of(suite));
    return true;
}

void key_pool::rebuild(key_object& key, engine& with) const noexcept {
    session_keys raw = key.cold().raw;
    const std::uint64_t rtp = key.rtp_packets;
    const std::uint32_t rtcp = key.cold().rtcp_packets;
    static_cast<void>(with.build(key.suite, raw, key));
    key.rtp_packets = rtp;
    key.cold().rtcp_packets = rtcp;
    wipe(&raw, sizeof raw);
}

void key_pool::recover_end(engine& with) noexcept {
    for_each([&](index at, kind which) {
        if ((states_[at] & marked_) == 0)
            return release(at);
        if (key_object& key = (*this)[at]; key.cold().fingerprint != with.fingerprint())
            rebuild(key, with);
        states_[at] = with_kind(taken_, which);
    });
    find_free();
}

} // namespace tandem::crypto
