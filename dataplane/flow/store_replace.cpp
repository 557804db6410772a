// SPDX-License-Identifier: Apache-2.0
// Flows that take the place of others, with their state: store::replace.
//
//   plan    every item is looked at; nothing is changed
//   build   each new flow beside the old ones, in a slot of its own (state building, part comes; the old ones: part
//   goes) switch  one command on the media's worker, between two of its bursts: state is copied (carry.hpp), then
//           memory_header::decided is stored, then states and port table follow
//   tidy    parts are taken back, then `decided`; the old flows are wiped once no worker can hold one (finish())
//
// A kill before the store of `decided` leaves the old flows, which nothing was taken from; one after it the new ones:
// recover() ends what was begun. Control thread, but for take_force() and carry(), which run on the worker.
#include <algorithm>

#include "dataplane/flow/carry.hpp"
#include "dataplane/flow/side_internal.hpp"
#include "dataplane/flow/store.hpp"

namespace tandem::flow {

namespace {
constexpr std::size_t largest_group = 16; // flows; a media has four at most. What is between two bursts is bounded
}

// One new flow of a group.
struct store::coming {
    const api::flow_replacement& what;
    succession from{};
    old_sides in{}, out{};
    bool published = false; // its port is open
};

struct store::group {
    std::vector<coming> comes;
    std::vector<slot_index> goes; // each once
    key_moves keys;
    std::uint8_t worker = 0;

    [[nodiscard]] bool has(api::flow_id id) const noexcept {
        return std::any_of(comes.begin(), comes.end(), [&](const coming& c) { return c.what.config.id == id; });
    }
};

void store::replace(std::span<const api::flow_replacement> items, std::uint64_t now_ns,
                    std::span<api::status> statuses) {
    apply_updates();
    std::fill(statuses.begin(), statuses.end(), api::status::ok);
    group g{{}, {}, key_moves(keys_, builder_)};
    for (const auto& item : items)
        g.comes.push_back({item});
    if (items.size() > largest_group)
        std::fill(statuses.begin(), statuses.end(), api::status::bad_message);
    else if (plan(g, statuses) && !(build(g, now_ns, statuses) && switch_over(g, statuses)))
        undo(g);
    const auto bad = [](api::status s) { return s != api::status::ok; };
    if (std::any_of(statuses.begin(), statuses.end(), bad))
        std::replace(statuses.begin(), statuses.end(), api::status::ok, api::status::group_refused);
}

// --- plan
// -----------------------------------------------------------------------------------------------------------

bool store::plan(group& g, std::span<api::status> statuses) {
    for (std::size_t i = 0; i < g.comes.size(); ++i)
        statuses[i] = plan_item(g, i);
    if (!g.goes.empty())
        g.worker = memory_.records()[g.goes.front()].worker;
    else if (!g.comes.empty())
        g.worker = choose_worker(g.comes.front().what.config);
    return std::all_of(statuses.begin(), statuses.end(), [](auto s) { return s == api::status::ok; });
}

api::status store::plan_item(group& g, std::size_t at) const {
    coming& c = g.comes[at];
    const api::flow_config& config = c.what.config;
    if (const auto wrong = check(config); wrong != api::status::ok)
        return wrong;
    const auto sound = [](api::key_choice choice, const api::epoch_key& key) {
        return choice <= api::key_choice::fresh && (choice == api::key_choice::fresh || key.key_length == 0);
    };
    if (!sound(c.what.in_keys, c.what.in_key) || !sound(c.what.out_keys, c.what.out_key))
        return api::status::bad_message;
    if (config.tag != g.comes.front().what.config.tag)
        return api::status::not_yours;
    for (std::size_t i = 0; i < at; ++i)
        if (g.comes[i].what.config.id == config.id)
            return api::status::flow_exists;
    if (const slot_index same = table_.find(config.id); same != no_slot)
        if (const auto wrong = name_old(g, same, config.tag); wrong != api::status::ok)
            return wrong;
    if (const auto wrong = find_old(g, c.what.in_from, config.tag, c.from.in); wrong != api::status::ok)
        return wrong;
    return find_old(g, c.what.out_from, config.tag, c.from.out);
}

api::status store::name_old(group& g, slot_index slot, std::uint64_t tag) const {
    if (memory_.records()[slot].tag != tag)
        return api::status::not_yours;
    if (std::find(g.goes.begin(), g.goes.end(), slot) == g.goes.end())
        g.goes.push_back(slot);
    return api::status::ok;
}

// The flows that a side goes on with. Of two, one carries RTP and the other RTCP.
api::status store::find_old(group& g, const api::flow_id (&names)[2], std::uint64_t tag,
                            std::array<slot_index, 2>& to) const {
    std::size_t found = 0;
    for (const api::flow_id name : names) {
        if (name == 0)
            continue;
        const slot_index slot = table_.find(name);
        if (slot == no_slot)
            return api::status::unknown_flow;
        if (const auto wrong = name_old(g, slot, tag); wrong != api::status::ok)
            return wrong;
        to[found++] = slot;
    }
    if (found < 2)
        return api::status::ok;
    const auto carries = [&](std::size_t i) { return memory_.records()[to[i]].carries; };
    if (carries(0) == api::carries_rtcp)
        std::swap(to[0], to[1]);
    return carries(0) == api::carries_rtp && carries(1) == api::carries_rtcp ? api::status::ok : api::status::bad_state;
}

// --- build
// ----------------------------------------------------------------------------------------------------------

bool store::build(group& g, std::uint64_t now_ns, std::span<api::status> statuses) {
    for (std::size_t i = 0; i < g.comes.size(); ++i)
        if (statuses[i] = build_one(g, g.comes[i], now_ns); statuses[i] != api::status::ok)
            return false;
    return true;
}

api::status store::build_one(group& g, coming& c, std::uint64_t now_ns) {
    const auto slot = take_slot(g.worker);
    if (!slot)
        return api::status::table_full;
    c.from.to = *slot;
    record& r = memory_.records()[*slot];
    store_state(r, state::building);
    store_part(r, part::comes);
    fill(r, c.what.config, g.worker, now_ns);
    const auto old = [&](const auto& column, slot_index at) { return at == no_slot ? nullptr : &column[at]; };
    c.in = {old(memory_.ins(), c.from.in[0]), old(memory_.ins(), c.from.in[1])};
    c.out = {old(memory_.outs(), c.from.out[0]), old(memory_.outs(), c.from.out[1])};
    for (const api::side which : {api::side::in, api::side::out})
        if (const auto wrong = build_side(g, c, which); wrong != api::status::ok)
            return wrong;
    for (std::size_t i = 0; i < 2; ++i) {
        const slot_index from = c.from.in[i];
        c.from.errors[i] = std::none_of(g.comes.data(), &c, [&](const coming& before) {
            return std::find(before.from.in.begin(), before.from.in.end(), from) != before.from.in.end();
        });
    }
    switch_route(r, route_for(g, c));
    on_publish(*slot, r);
    c.published = true;
    return api::status::ok;
}

api::status store::build_side(group& g, coming& c, api::side which) {
    const bool in = which == api::side::in;
    side& to = in ? memory_.ins()[c.from.to] : memory_.outs()[c.from.to];
    const api::epoch_key& key = in ? c.what.in_key : c.what.out_key;
    old_sides& from = in ? c.in : c.out;
    const auto status = plan_side(to, which, in ? c.what.config.in : c.what.config.out, from,
                                  in ? c.what.in_keys : c.what.out_keys, key.key_length == 0 ? nullptr : &key, g.keys);
    from.whole = from.streams && std::none_of(g.comes.data(), &c, [&](const coming& before) {
                     const old_sides& other = in ? before.in : before.out;
                     return other.streams && other.first == from.first;
                 });
    if (status != api::status::ok || from.streams)
        return status;
    return begins_again(g, to) ? api::status::bad_state : api::status::ok;
}

// A key that an old flow has, on a side that does not go on with that one's indices.
bool store::begins_again(const group& g, const side& to) const noexcept {
    for (const slot_index slot : g.goes)
        if (shares_key(to, to.which == api::side::in ? memory_.ins()[slot] : memory_.outs()[slot], keys_))
            return true;
    return false;
}

// The flow that hears the leg which `c` sends to: a new one, else one in force.
record* store::partner_of(const group& g, const coming& c) const noexcept {
    const api::flow_id id = c.what.config.reverse;
    for (const coming& other : g.comes)
        if (other.what.config.id == id && other.from.to != no_slot)
            return &memory_.records()[other.from.to];
    const slot_index slot = id == 0 ? no_slot : table_.find(id);
    return slot == no_slot ? nullptr : &memory_.records()[slot];
}

std::optional<route> store::old_way(const coming& c, std::uint8_t kind) const noexcept {
    for (const slot_index slot : c.from.out)
        if (slot != no_slot && (memory_.records()[slot].carries & kind) != 0)
            return route_of(memory_.records()[slot]);
    return std::nullopt;
}

// As it is now: until the switch the old flows' ways may move, then it is asked again.
route store::route_for(const group& g, const coming& c) const noexcept {
    const auto rtp = old_way(c, api::carries_rtp), rtcp = old_way(c, api::carries_rtcp);
    route to = c.what.config.route;
    carry_remotes(to, c.what.config.carries, rtp ? &*rtp : nullptr, rtcp ? &*rtcp : nullptr);
    if (check_out(to.rtp_out, to.rtp_remote) != api::status::ok) // a leg of another family now
        to.rtp_remote = {};
    if (check_out(to.rtcp_out, to.rtcp_remote) != api::status::ok)
        to.rtcp_remote = {};
    if (const record* partner = partner_of(g, c); partner != nullptr)
        learn_from(*partner, to);
    return to;
}

// --- switch
// ---------------------------------------------------------------------------------------------------------

bool store::switch_over(group& g, std::span<api::status> statuses) {
    for (const slot_index slot : g.goes) {
        record& r = memory_.records()[slot];
        store_part(r, part::goes);
        if (r.worker != g.worker) // its state rests while another worker reads it
            workers_.run(r.worker, [&] { store_state(r, state::held); });
    }
    bool done = false;
    workers_.run(g.worker, [&] { done = take_force(g); });
    if (done)
        tidy(g);
    else
        std::fill(statuses.begin(), statuses.end(), api::status::table_full);
    return done;
}

// On the media's worker, between two bursts: no flow of it processes a packet meanwhile.
bool store::take_force(group& g) noexcept {
    const auto records = memory_.records();
    for (coming& c : g.comes) {
        const std::uint8_t carries = c.what.config.carries;
        if (!carry_streams(memory_.ins()[c.from.to], streams_, c.in, carries) ||
            !carry_streams(memory_.outs()[c.from.to], streams_, c.out, carries))
            return false;
        const bool rtp = (carries & api::carries_rtp) != 0;
        for (const slot_index old : c.from.in) // RTP's source is no other flow's
            if (old != no_slot && c.what.config.source.anew == 0 &&
                ((records[old].carries & api::carries_rtp) != 0) == rtp)
                carry_source(records[c.from.to], records[old]);
    }
    for (const coming& c : g.comes) {
        switch_route(records[c.from.to], route_for(g, c));
        on_carry(c.from);
    }
    g.keys.carry_counts();
    store_decided(true); // here
    for (const slot_index slot : g.goes) {
        store_state(records[slot], state::removing);
        if (!g.has(records[slot].id))
            table_.clear(records[slot].id);
    }
    for (const coming& c : g.comes) {
        store_state(records[c.from.to], state::active);
        table_.set(c.what.config.id, c.from.to);
    }
    for (const coming& c : g.comes)
        await_latch(g, c);
    return true;
}

// Sent to another address now: who authenticates decides where the leg is.
void store::await_latch(const group& g, const coming& c) const noexcept {
    const auto rtp = old_way(c, api::carries_rtp), rtcp = old_way(c, api::carries_rtcp);
    record* const partner = partner_of(g, c);
    if (partner != nullptr && partner->source == api::source_policy::authenticated &&
        is_sent_elsewhere(c.what.config.route, c.what.config.carries, rtp ? &*rtp : nullptr, rtcp ? &*rtcp : nullptr))
        partner->seen = 0;
}

void store::store_decided(bool is) noexcept {
    std::atomic_ref(memory_.header().decided).store(is ? 1 : 0, std::memory_order_release);
    std::atomic_signal_fence(std::memory_order_seq_cst); // what follows stays behind it
}

// --- tidy
// -----------------------------------------------------------------------------------------------------------

void store::tidy(group& g) {
    const auto records = memory_.records();
    for (const coming& c : g.comes)
        store_part(records[c.from.to], part::none);
    store_decided(false);
    for (const slot_index slot : g.goes) {
        for (side* old : {&memory_.ins()[slot], &memory_.outs()[slot]})
            disown(g, *old);
        --count_;
        --flows_of_[records[slot].worker];
        on_withdraw(slot, records[slot]);
        leaving_.push_back(slot);
    }
    for (const coming& c : g.comes) {
        ++count_;
        ++flows_of_[g.worker];
        top_ = std::max(top_, c.from.to + 1);
        on_replaced(c.from.to, records[c.from.to]);
    }
}

// What is another side's now goes from the old one before that is wiped.
void store::disown(const group& g, side& old) const noexcept {
    for (std::uint64_t& entry : old.epochs)
        if (entry != 0 && g.keys.moved(detail::key_index(entry)))
            rtp::commit_store(entry, 0);
    const bool taken = std::any_of(g.comes.begin(), g.comes.end(), [&](const coming& c) {
        return (c.in.whole && c.in.first == &old) || (c.out.whole && c.out.first == &old);
    });
    if (taken)
        old.more = 0;
}

// Places that were taken for a new side, but not those that it has in common with an old one.
void store::give_back_streams(side& to, const old_sides& from) const noexcept {
    if (!from.whole || to.more != from.first->more)
        release_streams(to, streams_);
}

void store::undo(group& g) noexcept {
    const auto records = memory_.records();
    for (const slot_index slot : g.goes) {
        if (load_state(records[slot]) == state::held)
            store_state(records[slot], state::active);
        store_part(records[slot], part::none);
    }
    g.keys.undo();
    for (const coming& c : g.comes) {
        if (c.from.to == no_slot)
            continue;
        if (c.published)
            on_withdraw(c.from.to, records[c.from.to]);
        give_back_streams(memory_.ins()[c.from.to], c.in);
        give_back_streams(memory_.outs()[c.from.to], c.out);
        wipe(c.from.to);
        free_like(c.from.to).push_back(c.from.to);
    }
}

} // namespace tandem::flow
