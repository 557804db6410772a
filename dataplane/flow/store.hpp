// SPDX-License-Identifier: Apache-2.0
// What the control thread does to flows: add, update, remove, replace, epochs, list, and recovery after a restart.
//
// Rules of publication: a flow is built beside and appears by one store in the port table; it goes by the same store,
// and its memory and keys are wiped only after every worker has passed between two bursts (finish(), once per request).
// What a worker reads and moves itself (remotes, source, flags) is changed by that worker, between two bursts
// (executor::run).
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "dataplane/api/contract.hpp"
#include "dataplane/flow/carry.hpp"
#include "dataplane/flow/memory.hpp"
#include "dataplane/flow/port_table.hpp"

namespace tandem::flow {

// A command to a worker changes at most this many flows: some microseconds between two of its bursts.
inline constexpr std::size_t flows_per_command = 32;

// How the control thread reaches workers. The pipeline implements it; tests without a thread call at once.
class executor {
public:
    virtual ~executor() = default;
    virtual void run(unsigned worker, const std::function<void()>& between_bursts) = 0; // returns after it ran
    virtual void quiesce() = 0; // returns after every worker has passed between two bursts
};

struct recovery {
    std::uint32_t kept = 0;
    std::uint32_t wiped = 0;             // half-made or half-removed
    std::uint32_t unreachable = 0;       // their local address is no longer configured
    std::uint64_t last_heartbeat_ns = 0; // of the predecessor's workers; 0 = none
};

class store {
public:
    store(memory& state, port_table& table, crypto::engine& builder, executor& workers, unsigned worker_count);

    // Before the workers start: takes over what a predecessor left, or nothing on fresh memory.
    recovery recover();

    [[nodiscard]] api::status add(const api::flow_config& config, std::uint64_t now_ns);
    [[nodiscard]] api::status update(const api::flow_update& change); // in force on return
    // Checked now, in force after finish(): a request's updates reach each worker in few, short commands.
    [[nodiscard]] api::status update_later(const api::flow_update& change);
    [[nodiscard]] api::status remove(api::flow_id id);
    // One group: all of it in force on return, or nothing changed. One status an item.
    void replace(std::span<const api::flow_replacement> group, std::uint64_t now_ns, std::span<api::status> statuses);
    [[nodiscard]] api::status install(const api::epoch_key& key);
    [[nodiscard]] api::status switch_to(const api::epoch_ref& epoch);
    [[nodiscard]] api::status retire(const api::epoch_ref& epoch);
    void finish(); // waits for the workers once, then wipes what the request took out of use

    [[nodiscard]] std::vector<api::flow_entry> list(const api::list_request& from) const;
    // store_streams.cpp: of SRTP sides, a page of whole flows; into sides that have had no key yet. One status an item.
    [[nodiscard]] std::vector<api::stream_item> list_streams(const api::list_request& from) const;
    void put_streams(std::span<const api::stream_item> items, std::span<api::status> statuses);
    [[nodiscard]] slot_index find(api::flow_id id) const noexcept { return table_.find(id); }
    [[nodiscard]] std::uint32_t count() const noexcept { return count_; }
    [[nodiscard]] std::uint32_t keys_used() const noexcept { return keys_.in_use(); }
    [[nodiscard]] memory& shared() noexcept { return memory_; }

    // Slots below this one may hold a flow: a few flows in a large memory cost no walk over all of it.
    [[nodiscard]] slot_index top() const noexcept { return top_; }
    // Calls back for every flow in force in [from, to): a walk over many is done in parts, between other work.
    template <class F>
    void for_each(slot_index from, slot_index to, F&& what) const {
        const auto records = memory_.records();
        for (slot_index slot = from; slot < std::min(to, top_); ++slot)
            if (load_state(records[slot]) == state::active)
                what(slot, records[slot]);
    }

    // Told before a flow's port is published and after it was withdrawn: XDP ports, next hops, stats slots.
    std::function<void(slot_index, const record&)> on_publish = [](slot_index, const record&) {};
    std::function<void(slot_index, const record&)> on_withdraw = [](slot_index, const record&) {};
    std::function<void(slot_index, const record&)> on_change = [](slot_index, const record&) {}; // remotes may differ
    // What is kept elsewhere by slot (counters, ways) goes along with a flow: on its worker, between two bursts. Then,
    // by the control thread: it is in force.
    std::function<void(const succession&)> on_carry = [](const succession&) {};
    std::function<void(slot_index, const record&)> on_replaced = [](slot_index, const record&) {};

private:
    [[nodiscard]] api::status check(const api::flow_config& config) const noexcept;
    [[nodiscard]] api::status check_route(std::uint8_t carries, const route& to) const noexcept;
    [[nodiscard]] api::status check_out(api::flow_id from, const api::net_address& to) const noexcept;
    [[nodiscard]] std::uint8_t choose_worker(const api::flow_config& config);
    [[nodiscard]] api::status check_update(const api::flow_update& change) const noexcept;
    void apply_updates();
    void apply(const api::flow_update& change, slot_index slot) const noexcept;
    void learn_from_partner(const record& r, route& to) const noexcept;
    static void learn_from(const record& partner, route& to) noexcept;
    void wipe(slot_index slot) noexcept;
    void fill(record& r, const api::flow_config& config, std::uint8_t worker, std::uint64_t now_ns) noexcept;
    [[nodiscard]] std::optional<slot_index> take_slot(unsigned worker);
    void settle(record& r) noexcept;

    // store_streams.cpp
    void append_streams(api::flow_id id, slot_index slot, std::vector<api::stream_item>& to) const;
    [[nodiscard]] api::status put_side(std::span<const api::stream_item> items, std::span<const std::size_t> which,
                                       std::span<api::status> statuses);
    // store_replace.cpp
    struct coming;
    struct group;
    [[nodiscard]] bool plan(group& g, std::span<api::status> statuses);
    [[nodiscard]] api::status plan_item(group& g, std::size_t at) const;
    [[nodiscard]] api::status name_old(group& g, slot_index slot, std::uint64_t tag) const;
    [[nodiscard]] api::status find_old(group& g, const api::flow_id (&names)[2], std::uint64_t tag,
                                       std::array<slot_index, 2>& to) const;
    [[nodiscard]] bool build(group& g, std::uint64_t now_ns, std::span<api::status> statuses);
    [[nodiscard]] api::status build_one(group& g, coming& c, std::uint64_t now_ns);
    [[nodiscard]] api::status build_side(group& g, coming& c, api::side which);
    [[nodiscard]] bool begins_again(const group& g, const side& to) const noexcept;
    [[nodiscard]] record* partner_of(const group& g, const coming& c) const noexcept;
    [[nodiscard]] std::optional<route> old_way(const coming& c, std::uint8_t kind) const noexcept;
    [[nodiscard]] route route_for(const group& g, const coming& c) const noexcept;
    [[nodiscard]] bool switch_over(group& g, std::span<api::status> statuses);
    [[nodiscard]] bool take_force(group& g) noexcept;
    void await_latch(const group& g, const coming& c) const noexcept;
    void store_decided(bool is) noexcept;
    void tidy(group& g);
    void disown(const group& g, side& old) const noexcept;
    void give_back_streams(side& to, const old_sides& from) const noexcept;
    void undo(group& g) noexcept;

    [[nodiscard]] bool reachable(const record& r) const noexcept;
    [[nodiscard]] side* side_of(api::flow_id id, api::side which) noexcept;
    void publish(slot_index slot);

    memory& memory_;
    port_table& table_;
    crypto::key_pool keys_;
    stream_pool streams_;
    crypto::engine& builder_;
    executor& workers_;
    unsigned worker_count_;
    std::vector<std::uint32_t> flows_of_; // by worker
    std::uint32_t count_ = 0;
    slot_index top_ = 0;
    // By worker: slots are given out in blocks, so that what two workers write lies apart: processors fetch
    // neighbouring lines, too.
    std::vector<std::vector<slot_index>> free_;
    [[nodiscard]] std::vector<slot_index>& free_near(unsigned worker) noexcept;
    [[nodiscard]] std::vector<slot_index>& free_like(slot_index slot) noexcept;
    std::vector<api::flow_update> updates_;             // to be applied by finish()
    std::vector<slot_index> leaving_;                   // withdrawn, to be wiped by finish()
    std::vector<crypto::key_pool::index> retired_keys_; // likewise
};

// The contract's view of a flow.
[[nodiscard]] api::flow_entry describe(const memory& state, slot_index slot) noexcept;

} // namespace tandem::flow
