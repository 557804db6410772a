// SPDX-License-Identifier: Apache-2.0
// One side of a flow, the control thread's part (side.hpp): epochs come and go, and what a restart makes of a side.
// What a crash leaves half made was not published and does not exist.
#include <algorithm>

#include "dataplane/flow/side_internal.hpp"
#include "dataplane/media/suite.hpp"

namespace tandem::flow {

using namespace detail;
using media::commit_store;

namespace {

[[nodiscard]] int slot_of_epoch(const side& what, std::uint32_t epoch) noexcept {
    for (unsigned slot = 0; slot < max_epochs; ++slot) {
        const std::uint64_t entry = load_epoch(what, slot);
        if (entry != 0 && epoch_number(entry) == epoch)
            return static_cast<int>(slot);
    }
    return -1;
}

} // namespace

api::status init_side(side& what, api::side which, api::suite suite, std::uint8_t mki_length) noexcept {
    if (api::find_suite(static_cast<std::uint16_t>(suite)) == nullptr)
        return api::status::bad_suite;
    if (mki_length > media::max_mki_length || (suite == api::suite::clear && mki_length != 0))
        return api::status::bad_message;
    what = {};
    what.suite = suite;
    what.mki_length = mki_length;
    what.which = which;
    return api::status::ok;
}

namespace {

// Whether `epoch` may be installed beside what there is; not_a_status: go on.
[[nodiscard]] api::status check_epoch(const side& what, const crypto::key_pool& pool, std::uint32_t epoch,
                                      const crypto::session_keys& keys, bool& installed) noexcept {
    installed = false;
    for (unsigned slot = 0; slot < max_epochs; ++slot) {
        const std::uint64_t entry = load_epoch(what, slot);
        if (entry == 0)
            continue;
        const std::uint32_t mask = what.mki_length == 0 ? 0xffffffffU : mki_mask(what.mki_length);
        if (((epoch_number(entry) ^ epoch) & mask) != 0)
            continue;
        installed = epoch_number(entry) == epoch &&
                    crypto::equal_constant_time(&pool[key_index(entry)].cold().raw, &keys, sizeof keys);
        return installed ? api::status::ok : api::status::bad_epoch;
    }
    if (what.which == api::side::out && what.generation != 0 && epoch <= what.highest_epoch)
        return api::status::bad_epoch;
    return api::status::ok;
}

[[nodiscard]] int empty_slot(const side& what) noexcept {
    for (unsigned slot = 0; slot < max_epochs; ++slot)
        if (load_epoch(what, slot) == 0)
            return static_cast<int>(slot);
    return -1;
}

} // namespace

api::status install(side& what, crypto::key_pool& pool, crypto::engine& engine, const api::epoch_key& key) noexcept {
    const auto& row = api::info(what.suite);
    if (what.suite == api::suite::clear)
        return api::status::bad_suite;
    if (key.key_length != row.key_length || key.salt_length != row.salt_length)
        return api::status::bad_key_length;
    if (key.epoch > mki_mask(what.mki_length) && what.mki_length != 0)
        return api::status::bad_epoch; // the MKI field cannot carry it

    crypto::session_keys keys{};
    const auto wiped = [&keys](api::status status) {
        crypto::wipe(&keys, sizeof keys);
        return status;
    };
    if (!crypto::derive_session_keys(what.suite, {key.key, key.key_length}, {key.salt, key.salt_length}, keys))
        return wiped(api::status::bad_key_length);
    bool installed = false;
    if (const auto status = check_epoch(what, pool, key.epoch, keys, installed); status != api::status::ok || installed)
        return wiped(status);
    const int slot = empty_slot(what);
    if (slot < 0)
        return wiped(api::status::too_many_epochs);
    const auto object = pool.take(what.suite);
    if (!object)
        return wiped(api::status::table_full);
    if (!engine.build(what.suite, keys, pool[*object])) {
        pool.release(*object);
        return wiped(api::status::bad_suite);
    }

    // Built; now published. A crash before the store of `epochs` leaves an object that recover_end() wipes.
    const auto at = static_cast<unsigned>(slot);
    what.generations[at] = what.generation + 1;
    what.epoch_used[at] = 0;
    what.highest_epoch = what.generation == 0 ? key.epoch : std::max(what.highest_epoch, key.epoch);
    ++what.generation;
    commit_store(what.epochs[at], std::uint64_t{*object + 1} << 32 | key.epoch);
    if (what.which == api::side::out && what.generation == 1)
        store_sending(what, static_cast<std::uint8_t>(at + 1));
    return wiped(api::status::ok);
}

api::status switch_to(side& what, std::uint32_t epoch) noexcept {
    const int slot = slot_of_epoch(what, epoch);
    if (slot < 0 || what.which != api::side::out)
        return api::status::bad_epoch;
    const auto at = static_cast<unsigned>(slot);
    const std::uint8_t now = load_sending(what);
    if (now != 0 && what.generations[at] < what.generations[now - 1])
        return api::status::bad_epoch;
    store_sending(what, static_cast<std::uint8_t>(at + 1));
    return api::status::ok;
}

retired retire(side& what, std::uint32_t epoch) noexcept {
    const int slot = slot_of_epoch(what, epoch);
    if (slot < 0)
        return {api::status::bad_epoch, 0};
    const auto at = static_cast<unsigned>(slot);
    const auto key = key_index(load_epoch(what, at));
    if (load_sending(what) == at + 1)
        store_sending(what, 0);
    commit_store(what.epochs[at], 0);
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
        for (; at > 0 && what.generations[order[at - 1]] < what.generations[slot]; --at)
            order[at] = order[at - 1];
        order[at] = slot;
    }
    for (unsigned i = 0; i < count; ++i)
        epochs[i] = epoch_number(load_epoch(what, order[i]));
    return count;
}

std::uint32_t sending_epoch(const side& what) noexcept {
    const std::uint8_t sending = load_sending(what);
    return sending == 0 ? 0 : epoch_number(load_epoch(what, sending - 1U));
}

void recover(side& what, crypto::key_pool& pool) noexcept {
    for (unsigned slot = 0; slot < max_epochs; ++slot) {
        const std::uint64_t entry = what.epochs[slot];
        if (entry == 0)
            continue;
        if (!pool.mark(key_index(entry), what.suite))
            what.epochs[slot] = 0; // not our layout: better no key than a wrong one
    }
    if (what.sending > max_epochs || (what.sending != 0 && what.epochs[what.sending - 1] == 0))
        what.sending = 0;
    // Killed between an install's two stores: the first out-key is there, but not sent under yet.
    if (what.which == api::side::out && what.generation == 1 && what.sending == 0)
        for (unsigned slot = 0; slot < max_epochs; ++slot)
            if (what.epochs[slot] != 0)
                what.sending = static_cast<std::uint8_t>(slot + 1);
    for (unsigned i = 0; i < max_streams; ++i) {
        if (what.id(i) == 0) {
            what.rtp(i) = {};
            what.rest(i) = {};
        } else {
            what.rtp(i).recover();
            what.rest(i).rtcp.recover();
        }
    }
}

} // namespace tandem::flow
