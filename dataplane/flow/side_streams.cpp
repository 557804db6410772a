// SPDX-License-Identifier: Apache-2.0
// One side of a flow, its streams (side.hpp): places, those of the pool too; copies in and out. The order of stores is
// the subject: a stream exists once its id says so, a place of the pool once it is linked.
#include <algorithm>
#include <array>

#include "dataplane/flow/side_internal.hpp"
#include "dataplane/rtp/index.hpp"

namespace tandem::flow {

using namespace detail;
using api::drop;
using rtp::commit_store;

namespace {

// Whether a stream may be forgotten: no key that it was used under can be used again. in: no such key is installed (its
// packets cannot be replayed); out: every key from the one now sent under on is newer (its indices cannot repeat).
[[nodiscard]] bool forgettable(const side& what, const stream_rest& of) noexcept {
    if (what.suite == api::suite::clear)
        return true;
    const std::uint8_t sending = what.which == api::side::out ? load_sending(what) : 0;
    if (what.which == api::side::out && sending == 0)
        return false;
    for (unsigned slot = 0; slot < max_epochs; ++slot) {
        const bool over = sending != 0 && what.numbers[slot] < what.numbers[sending - 1];
        if (load_epoch(what, slot) != 0 && !over && !newer(what.generations[slot], of.last_generation))
            return false;
    }
    return true;
}

// The place is free from here on, and zeroed: the next packet in it turns to it anew.
void forget(side& what, const stream_ref& gone) noexcept {
    commit_store(*gone.id, 0);
    gone.rtp->clear();
    gone.rest->rtcp.clear();
    gone.rest->last_use = 0;
    gone.rest->last_generation = 0;
    // A slot without a key is the control thread's (install resets it).
    for (unsigned slot = 0; slot < max_epochs; ++slot)
        if ((what.suite == api::suite::clear || load_epoch(what, slot) != 0) && what.epoch_used[slot] == gone.at + 1)
            what.epoch_used[slot] = static_cast<std::uint8_t>(max_streams + 1);
}

// A place of the pool behind those that there are, or why not.
[[nodiscard]] drop add_place(side& what, stream_pool& streams, unsigned most, stream_pool::asker who) noexcept {
    unsigned count = own_streams;
    std::uint32_t* last = &what.more;
    for (; *last != 0; last = &streams.link(*last - 1))
        if (++count >= most)
            return drop::ssrc_limit;
    const auto place = streams.take(who);
    if (!place)
        return drop::stream_pool_empty;
    std::atomic_ref(*last).store(*place + 1, std::memory_order_release);
    std::atomic_signal_fence(std::memory_order_seq_cst);
    return drop::none;
}

[[nodiscard]] stream_ref free_place(side& what, const stream_pool& streams) noexcept {
    stream_ref found;
    static_cast<void>(any_stream(what, streams, [&](const stream_ref& place) {
        const bool free = *place.id == 0;
        if (free)
            found = place;
        return free;
    }));
    return found;
}

[[nodiscard]] stream_ref longest_unused(side& what, const stream_pool& streams) noexcept {
    stream_ref found;
    static_cast<void>(any_stream(what, streams, [&](const stream_ref& place) {
        if (forgettable(what, *place.rest) &&
            (!found || what.clock - place.rest->last_use > what.clock - found.rest->last_use))
            found = place;
        return false;
    }));
    return found;
}

} // namespace

stream_ref detail::find_other(side& what, const stream_pool& streams, std::uint32_t ssrc) noexcept {
    unsigned at = own_streams;
    for (std::uint32_t link = load_link(what.more); link != 0 && at < max_streams;
         link = load_link(streams.link(link - 1)), ++at)
        if (is_of(streams[link - 1].id, ssrc))
            return further_stream(streams[link - 1], at);
    return {};
}

stream_ref detail::free_or_new_place(side& what, stream_pool& streams, drop& why) noexcept {
    why = drop::none;
    if (const stream_ref free = free_place(what, streams))
        return free;
    why = add_place(what, streams, max_streams, stream_pool::asker::authenticated);
    return why == drop::none ? free_place(what, streams) : stream_ref{};
}

stream_ref detail::make_room(side& what, stream_pool& streams, drop& why) noexcept {
    why = drop::none;
    if (const stream_ref free = free_place(what, streams))
        return free;
    if (what.suite == api::suite::clear &&
        add_place(what, streams, clear_streams, stream_pool::asker::anyone) == drop::none)
        return free_place(what, streams);
    if (const stream_ref oldest = longest_unused(what, streams)) {
        forget(what, oldest);
        return oldest;
    }
    return free_or_new_place(what, streams, why);
}

void release_streams(side& what, const stream_pool& streams) noexcept {
    std::uint32_t link = what.more;
    what.more = 0;
    for (unsigned n = own_streams; link != 0 && n < max_streams; ++n) {
        const stream_pool::index at = link - 1;
        link = streams.link(at);
        streams.release(at);
    }
}

void abandon(side& what) noexcept {
    store_sending(what, 0);
    for (unsigned slot = 0; slot < max_epochs; ++slot)
        commit_store(what.epochs[slot], 0);
    what.more = 0;
}

// --- copies

namespace {

[[nodiscard]] api::window_state copy_of(const rtp::replay_window& window) noexcept {
    api::window_state copy{};
    copy.next = window.shared_next();
    const auto ones = [](std::uint64_t count) {
        return count >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1;
    };
    copy.seen[0] = ones(copy.next);
    copy.seen[1] = copy.next <= 64 ? 0 : ones(copy.next - 64);
    return copy;
}

[[nodiscard]] std::uint64_t load_id(const std::uint64_t& id) noexcept {
    return std::atomic_ref<std::uint64_t>(const_cast<std::uint64_t&>(id)).load(std::memory_order_acquire);
}

// No index beyond `highest`, the newest one seen, none seen that does not exist.
[[nodiscard]] bool possible(const api::window_state& window, std::uint64_t highest) noexcept {
    if (window.next > highest + 1)
        return false;
    if (window.next != 0 && (window.seen[0] & 1) == 0)
        return false;
    for (std::uint64_t i = window.next; i < rtp::replay_window::size; ++i)
        if ((window.seen[i / 64] >> i % 64 & 1) != 0)
            return false;
    return true;
}

[[nodiscard]] bool possible(const side& of, const api::stream_state& state) noexcept {
    const bool out = of.which == api::side::out;
    api::window_state rtcp = state.rtcp;
    if (out) // only `next` counts
        rtcp = copy_of(rtp::replay_window::restored(rtcp.next, {}));
    return possible(state.rtp, rtp::max_rtp_index) && possible(rtcp, rtp::max_rtcp_index) && (out || state.offset == 0);
}

} // namespace

unsigned list_streams(const side& what, const stream_pool& streams,
                      std::span<api::stream_state, max_streams> to) noexcept {
    unsigned count = 0;
    static_cast<void>(any_stream(const_cast<side&>(what), streams, [&](const stream_ref& place) {
        const std::uint64_t id = load_id(*place.id);
        if ((id & id_in_use) == 0)
            return false;
        api::stream_state& state = to[count];
        state = {};
        state.ssrc = static_cast<std::uint32_t>(id);
        state.offset = what.which == api::side::out ? upper_of(id) : std::uint16_t{0};
        state.rtp = copy_of(*place.rtp);
        state.rtcp = copy_of(place.rest->rtcp);
        if (is_of(load_id(*place.id), state.ssrc)) // not given to another meanwhile
            ++count;
        return false;
    }));
    return count;
}

api::status put_stream(side& what, stream_pool& streams, const api::stream_state& state) noexcept {
    if (what.suite == api::suite::clear || what.generation != 0 || !possible(what, state) ||
        find_stream(what, streams, state.ssrc))
        return api::status::bad_state;
    drop why{};
    const stream_ref place = free_or_new_place(what, streams, why);
    if (!place)
        return why == drop::ssrc_limit ? api::status::bad_state : api::status::table_full;
    *place.rtp = rtp::replay_window::restored(state.rtp.next, state.rtp.seen);
    place.rest->rtcp = rtp::replay_window::restored(state.rtcp.next, state.rtcp.seen);
    place.rest->last_generation = first_generation; // nothing of the first key may come again
    commit_store(*place.id, what.which == api::side::out
                                ? with_upper(id_in_use | state.ssrc, state.offset)
                                : with_upper(id_in_use | id_rtp_heard | id_rtcp_heard | state.ssrc, first_generation));
    return api::status::ok;
}

namespace {

// The id of a stream that is joined from two. What was heard under the newer key holds; both sides count their keys
// alike.
[[nodiscard]] std::uint64_t joined_id(const side& to, const stream_ref& place, const stream_ref& known,
                                      unsigned kinds) noexcept {
    const std::uint64_t plain = id_in_use | static_cast<std::uint32_t>(*known.id);
    const bool rtp = (kinds & rtp_streams) != 0;
    if (to.which == api::side::out || to.suite == api::suite::clear) {
        const std::uint64_t of = rtp ? *known.id : *place.id;
        return with_upper(plain | (of & id_awaiting), upper_of(of));
    }
    const std::uint64_t had = *place.id & (id_anew | id_rtp_heard | id_rtcp_heard);
    const std::uint64_t taken =
        *known.id & (id_anew | (rtp ? id_rtp_heard : 0) | ((kinds & rtcp_streams) != 0 ? id_rtcp_heard : 0));
    const std::uint16_t before = heard_under(*place.id), under = heard_under(*known.id);
    if (*place.id == 0 || newer(under, before))
        return with_upper(plain | taken, under);
    return with_upper(plain | had | (under == before ? taken : 0), before);
}

void join(side& to, const stream_ref& place, const stream_ref& known, unsigned kinds) noexcept {
    const std::uint64_t id = joined_id(to, place, known, kinds);
    if ((kinds & rtp_streams) != 0)
        *place.rtp = *known.rtp;
    if ((kinds & rtcp_streams) != 0)
        place.rest->rtcp = known.rest->rtcp;
    if (newer(known.rest->last_generation, place.rest->last_generation))
        place.rest->last_generation = known.rest->last_generation;
    place.rest->last_use = ++to.clock;
    commit_store(*place.id, id);
}

} // namespace

bool take_streams(side& to, stream_pool& streams, const side& from, unsigned kinds) noexcept {
    return !any_stream(const_cast<side&>(from), streams, [&](const stream_ref& known) {
        const bool wanted = ((kinds & rtp_streams) != 0 && known.rtp->started()) ||
                            ((kinds & rtcp_streams) != 0 && known.rest->rtcp.started());
        if ((*known.id & id_in_use) == 0 || !wanted)
            return false;
        drop why{};
        stream_ref place = find_stream(to, streams, static_cast<std::uint32_t>(*known.id));
        if (!place)
            place = free_or_new_place(to, streams, why);
        if (place)
            join(to, place, known, kinds);
        return !place;
    });
}

} // namespace tandem::flow
