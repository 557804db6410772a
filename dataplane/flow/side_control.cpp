// SPDX-License-Identifier: Apache-2.0
// One side of a flow, the control thread's part (side.hpp): epochs come and go, and what a restart makes of a side.
// What a crash leaves half made was not published and does not exist.
#include <algorithm>

#include "dataplane/flow/side_internal.hpp"
#include "dataplane/rtp/suite.hpp"

namespace tandem::flow {

using namespace detail;
using rtp::commit_store;

namespace {

[[nodiscard]] int slot_of_epoch(const side& what, std::uint32_t epoch) noexcept {
    for (unsigned slot = 0; slot < max_epochs; ++slot)
        if (load_epoch(what, slot) != 0 && what.numbers[slot] == epoch)
            return static_cast<int>(slot);
    return -1;
}

} // namespace

api::status init_side(side& what, api::side which, api::suite suite, std::uint8_t mki_length) noexcept {
    if (api::find_suite(static_cast<std::uint16_t>(suite)) == nullptr)
        return api::status::bad_suite;
    if (mki_length > rtp::max_mki_length || (suite == api::suite::clear && mki_length != 0))
        return api::status::bad_message;
    what = {};
    what.suite = suite;
    what.mki_length = mki_length;
    what.which = which;
    return api::status::ok;
}

namespace {

// What an epoch's key is among those installed.
struct kinship {
    bool installed = false; // this very epoch
    int twin = -1;          // slot of another epoch with an equal key
};

[[nodiscard]] api::status check_epoch(const side& what, const crypto::key_pool& pool, const api::epoch_key& key,
                                      const crypto::session_keys& keys, kinship& found) noexcept {
    found = {};
    for (unsigned slot = 0; slot < max_epochs; ++slot) {
        const std::uint64_t entry = load_epoch(what, slot);
        if (entry == 0)
            continue;
        const bool equal = crypto::equal_constant_time(&pool[key_index(entry)].cold().raw, &keys, sizeof keys);
        const bool same_mki = what.mki_length == 0 || mki_of(entry) == key.mki;
        if (what.numbers[slot] == key.epoch) {
            found.installed = equal && same_mki;
            return found.installed ? api::status::ok : api::status::bad_epoch;
        }
        if (equal)
            found.twin = static_cast<int>(slot);
        else if (what.mki_length != 0 && same_mki)
            return api::status::bad_epoch;
    }
    if (what.which == api::side::out && what.generation != 0 && key.epoch <= what.highest_epoch)
        return api::status::bad_epoch;
    return api::status::ok;
}

[[nodiscard]] int empty_slot(const side& what) noexcept {
    for (unsigned slot = 0; slot < max_epochs; ++slot)
        if (load_epoch(what, slot) == 0)
            return static_cast<int>(slot);
    return -1;
}

[[nodiscard]] constexpr std::uint16_t next_generation(std::uint16_t after) noexcept {
    return after == 0xffff ? first_generation : static_cast<std::uint16_t>(after + 1);
}

// Built; now published: before the store of `epochs` a crash leaves an object that recover_end() wipes, and a side that
// has had one key less.
void publish(side& what, unsigned at, crypto::key_pool::index object, const api::epoch_key& key,
             std::uint16_t generation) noexcept {
    const bool first = what.generation == 0;
    what.numbers[at] = key.epoch;
    what.generations[at] = generation;
    what.epoch_used[at] = 0;
    what.highest_epoch = first ? key.epoch : std::max(what.highest_epoch, key.epoch);
    commit_store(what.epochs[at], std::uint64_t{object + 1} << 32 | (what.mki_length == 0 ? 0 : key.mki));
    if (first || newer(generation, what.generation))
        what.generation = generation;
    if (what.which == api::side::out && first)
        store_sending(what, static_cast<std::uint8_t>(at + 1));
}

} // namespace

api::status install(side& what, crypto::key_pool& pool, crypto::engine& engine, const api::epoch_key& key) noexcept {
    const auto& row = api::info(what.suite);
    if (what.suite == api::suite::clear)
        return api::status::bad_suite;
    if (key.key_length != row.key_length || key.salt_length != row.salt_length)
        return api::status::bad_key_length;
    if (key.mki > mki_mask(what.mki_length) && what.mki_length != 0)
        return api::status::bad_epoch; // the MKI field cannot carry it

    crypto::session_keys keys{};
    const auto wiped = [&keys](api::status status) {
        crypto::wipe(&keys, sizeof keys);
        return status;
    };
    if (!crypto::derive_session_keys(what.suite, {key.key, key.key_length}, {key.salt, key.salt_length}, keys))
        return wiped(api::status::bad_key_length);
    kinship found;
    if (const auto status = check_epoch(what, pool, key, keys, found); status != api::status::ok || found.installed)
        return wiped(status);
    const int slot = empty_slot(what);
    if (slot < 0)
        return wiped(api::status::too_many_epochs);
    if (found.twin >= 0) {
        const auto twin = static_cast<unsigned>(found.twin);
        publish(what, static_cast<unsigned>(slot), key_index(load_epoch(what, twin)), key, what.generations[twin]);
        return wiped(api::status::ok);
    }
    const auto object = pool.take(what.suite);
    if (!object)
        return wiped(api::status::table_full);
    if (!engine.build(what.suite, keys, pool[*object])) {
        pool.release(*object);
        return wiped(api::status::bad_suite);
    }
    publish(what, static_cast<unsigned>(slot), *object, key, next_generation(what.generation));
    return wiped(api::status::ok);
}

api::status switch_to(side& what, std::uint32_t epoch) noexcept {
    const int slot = slot_of_epoch(what, epoch);
    if (slot < 0 || what.which != api::side::out)
        return api::status::bad_epoch;
    const auto at = static_cast<unsigned>(slot);
    const std::uint8_t now = load_sending(what);
    if (now != 0 && what.numbers[at] < what.numbers[now - 1])
        return api::status::bad_epoch;
    store_sending(what, static_cast<std::uint8_t>(at + 1));
    return api::status::ok;
}

namespace {

[[nodiscard]] bool is_named(const side& what, crypto::key_pool::index key) noexcept {
    for (unsigned slot = 0; slot < max_epochs; ++slot)
        if (const std::uint64_t entry = load_epoch(what, slot); entry != 0 && key_index(entry) == key)
            return true;
    return false;
}

} // namespace

retired retire(side& what, std::uint32_t epoch) noexcept {
    const int slot = slot_of_epoch(what, epoch);
    if (slot < 0)
        return {api::status::bad_epoch, {}};
    const auto at = static_cast<unsigned>(slot);
    const auto key = key_index(load_epoch(what, at));
    if (load_sending(what) == at + 1)
        store_sending(what, 0);
    commit_store(what.epochs[at], 0);
    if (is_named(what, key))
        return {api::status::ok, {}};
    return {api::status::ok, key};
}

unsigned retire_all(side& what, crypto::key_pool::index (&keys)[max_epochs]) noexcept {
    unsigned count = 0;
    store_sending(what, 0);
    for (unsigned slot = 0; slot < max_epochs; ++slot) {
        const std::uint64_t entry = load_epoch(what, slot);
        if (entry == 0)
            continue;
        commit_store(what.epochs[slot], 0);
        if (!is_named(what, key_index(entry)))
            keys[count++] = key_index(entry);
    }
    return count;
}

unsigned list_epochs(const side& what, std::uint32_t (&epochs)[max_epochs]) noexcept {
    unsigned order[max_epochs] = {};
    unsigned count = 0;
    for (unsigned slot = 0; slot < max_epochs; ++slot) {
        if (load_epoch(what, slot) == 0)
            continue;
        unsigned at = count++;
        for (; at > 0 && what.numbers[order[at - 1]] < what.numbers[slot]; --at)
            order[at] = order[at - 1];
        order[at] = slot;
    }
    for (unsigned i = 0; i < count; ++i)
        epochs[i] = what.numbers[order[i]];
    return count;
}

std::uint32_t sending_epoch(const side& what) noexcept {
    const std::uint8_t sending = load_sending(what);
    return sending == 0 ? 0 : what.numbers[sending - 1];
}

namespace {

// Places that are the side's own, as far as the chain is whole.
void recover_links(side& what, const stream_pool& streams) noexcept {
    unsigned count = own_streams;
    for (std::uint32_t* link = &what.more; *link != 0; link = &streams.link(*link - 1), ++count)
        if (count == max_streams || !streams.mark(*link - 1)) {
            *link = 0;
            return;
        }
}

} // namespace

void recover(side& what, crypto::key_pool& pool, const stream_pool& streams) noexcept {
    for (unsigned slot = 0; slot < max_epochs; ++slot) {
        const std::uint64_t entry = what.epochs[slot];
        if (entry == 0)
            continue;
        if (!pool.mark(key_index(entry), what.suite))
            what.epochs[slot] = 0; // not our layout: better no key than a wrong one
        else if (what.generation == 0 || newer(what.generations[slot], what.generation))
            what.generation = what.generations[slot];
    }
    if (what.sending > max_epochs || (what.sending != 0 && what.epochs[what.sending - 1] == 0))
        what.sending = 0;
    // Killed between an install's two stores: the first out-key is there, but not sent under yet.
    if (what.which == api::side::out && what.generation == 1 && what.sending == 0)
        for (unsigned slot = 0; slot < max_epochs; ++slot)
            if (what.epochs[slot] != 0)
                what.sending = static_cast<std::uint8_t>(slot + 1);
    recover_links(what, streams);
    static_cast<void>(any_stream(what, streams, [](const stream_ref& place) {
        if ((*place.id & id_in_use) == 0) {
            *place.id = 0;
            *place.rtp = {};
            *place.rest = {};
        } else {
            place.rtp->recover();
            place.rest->rtcp.recover();
        }
        return false;
    }));
}

} // namespace tandem::flow
