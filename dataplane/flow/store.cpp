// SPDX-License-Identifier: Apache-2.0
// See store.hpp. Control thread only.
#include "dataplane/flow/store.hpp"

#include <algorithm>

namespace tandem::flow {

namespace {
constexpr slot_index slots_in_block = 64;
}

store::store(memory& state, port_table& table, crypto::engine& builder, executor& workers, unsigned worker_count)
    : memory_(state), table_(table), keys_(state.keys()), streams_(state.streams()), builder_(builder),
      workers_(workers), worker_count_(worker_count), flows_of_(worker_count), free_(worker_count) {}

bool store::reachable(const record& r) const noexcept {
    const auto& now = table_.addresses();
    const auto same = [&](api::flow_id id) {
        const std::uint32_t index = id >> 16;
        return index < now.size() && index < memory_.header().addresses &&
               std::memcmp(now[index].data(), memory_.header().address[index], 16) == 0;
    };
    return same(r.id) && ((r.carries & api::carries_rtp) == 0 || same(r.where().rtp_out)) &&
           ((r.carries & api::carries_rtcp) == 0 || same(r.where().rtcp_out));
}

recovery store::recover() {
    recovery done;
    memory_header& h = memory_.header();
    const auto records = memory_.records();
    keys_.recover_begin();
    streams_.recover_begin();
    free_.assign(worker_count_, {});
    for (slot_index i = 0; i < records.size(); ++i) {
        record& r = records[i];
        settle(r);
        const state s = load_state(r);
        if (s == state::active && reachable(r)) {
            flow::recover(memory_.ins()[i], keys_, streams_);
            flow::recover(memory_.outs()[i], keys_, streams_);
            note_source(r);
            if (r.worker >= worker_count_)
                r.worker = static_cast<std::uint8_t>(r.worker % worker_count_); // pairs stay together
            ++done.kept;
            continue;
        }
        if (s != state::free) {
            s == state::active ? ++done.unreachable : ++done.wiped;
            wipe(i); // without its keys and blocks: nothing marks them, recover_end wipes them
        }
    }
    std::atomic_ref(h.decided).store(0, std::memory_order_release); // every part is played
    keys_.recover_end(builder_);
    streams_.recover_end();
    for (auto& list : free_)
        list.reserve(records.size() / worker_count_ + slots_in_block);
    top_ = 0;
    for (slot_index i = static_cast<slot_index>(records.size()); i-- > 0;) { // low slots are given out first
        if (load_state(records[i]) == state::free)
            free_like(i).push_back(i);
        else
            publish(i);
    }
    h.addresses = static_cast<std::uint32_t>(table_.addresses().size());
    for (std::size_t a = 0; a < table_.addresses().size(); ++a)
        std::memcpy(h.address[a], table_.addresses()[a].data(), 16);
    done.last_heartbeat_ns = h.starts != 0 ? h.heartbeat_ns : 0;
    return done;
}

// A kill came in the midst of a replacement: all of it is done, or nothing.
void store::settle(record& r) noexcept {
    const bool decided = memory_.header().decided != 0;
    if (load_state(r) == state::held || (r.part == part::comes && decided))
        store_state(r, state::active);
    if (r.part == part::goes && decided)
        store_state(r, state::removing);
    if (load_state(r) == state::active)
        store_part(r, part::none);
}

void store::publish(slot_index slot) {
    record& r = memory_.records()[slot];
    on_publish(slot, r);
    table_.set(r.id, slot);
    ++count_;
    ++flows_of_[r.worker];
    top_ = std::max(top_, slot + 1);
}

api::status store::check_out(api::flow_id from, const api::net_address& to) const noexcept {
    const std::uint32_t index = from >> 16;
    if (index >= table_.addresses().size())
        return api::status::bad_address;
    if ((from & 0xffff) == 0)
        return api::status::bad_port;
    std::uint8_t local[16];
    std::memcpy(local, table_.addresses()[index].data(), sizeof local);
    if (to.port != 0 && is_ipv4(local) != is_ipv4(to.ip))
        return api::status::bad_address;
    return api::status::ok;
}

api::status store::check_route(std::uint8_t carries, const route& to) const noexcept {
    if ((carries & api::carries_rtp) != 0)
        if (const auto wrong = check_out(to.rtp_out, to.rtp_remote); wrong != api::status::ok)
            return wrong;
    if ((carries & api::carries_rtcp) != 0)
        if (const auto wrong = check_out(to.rtcp_out, to.rtcp_remote); wrong != api::status::ok)
            return wrong;
    return api::status::ok;
}

namespace {

// What the flow asks to be handed up: DTLS and a clear tunnel's control messages begin alike.
bool can_tell_apart(std::uint8_t flags) noexcept {
    constexpr std::uint8_t both = api::flow_punts_dtls | api::flow_punts_control;
    return (flags & both) != both;
}

} // namespace

api::status store::check(const api::flow_config& c) const noexcept {
    if (c.id >> 16 >= table_.addresses().size())
        return api::status::bad_address;
    if ((c.id & 0xffff) == 0)
        return api::status::bad_port;
    for (const api::side_config& side : {c.in, c.out})
        if (api::find_suite(static_cast<std::uint16_t>(side.suite)) == nullptr)
            return api::status::bad_suite;
    if (c.in.mki_length > 4 || c.out.mki_length > 4 || c.dscp > 63 || c.source.policy > api::source_policy::followed ||
        (c.carries & (api::carries_rtp | api::carries_rtcp)) == 0)
        return api::status::bad_message;
    if (c.in.suite == api::suite::clear && c.source.policy == api::source_policy::authenticated)
        return api::status::bad_suite; // nothing to authenticate by
    if (!can_tell_apart(c.flags))
        return api::status::bad_state;
    return check_route(c.carries, c.route);
}

std::vector<slot_index>& store::free_like(slot_index slot) noexcept {
    return free_[slot / slots_in_block % worker_count_];
}

// The worker's own, or the fullest of the others'.
std::vector<slot_index>& store::free_near(unsigned worker) noexcept {
    if (!free_[worker].empty())
        return free_[worker];
    return *std::max_element(free_.begin(), free_.end(),
                             [](const auto& a, const auto& b) { return a.size() < b.size(); });
}

// Both flows of a pair live on one worker, so that latching needs no lock; so do RTP and RTCP of a leg, which may
// become one flow.
std::uint8_t store::choose_worker(const api::flow_config& c) {
    for (const api::flow_id partner : {c.reverse, c.route.rtp_out, c.route.rtcp_out})
        if (const slot_index slot = partner == 0 ? no_slot : table_.find(partner); slot != no_slot)
            return memory_.records()[slot].worker;
    if (const slot_index slot = table_.find(c.id ^ 1); slot != no_slot && memory_.records()[slot].tag == c.tag)
        return memory_.records()[slot].worker;
    // The one with the fewest, not the next in turn: calls that end leave gaps.
    return static_cast<std::uint8_t>(std::min_element(flows_of_.begin(), flows_of_.end()) - flows_of_.begin());
}

// A remote that is not known yet, but whose leg has been heard already.
void store::learn_from_partner(const record& r, route& to) const noexcept {
    if (const slot_index slot = r.reverse == 0 ? no_slot : table_.find(r.reverse); slot != no_slot)
        learn_from(memory_.records()[slot], to);
}

void store::learn_from(const record& partner, route& to) noexcept {
    const auto heard = source_of(partner);
    if (!heard || partner.source == api::source_policy::signalled)
        return;
    if (to.rtp_remote.port == 0 && (partner.carries & api::carries_rtp) != 0)
        to.rtp_remote = *heard;
    if (to.rtcp_remote.port == 0 && (partner.carries & api::carries_rtcp) != 0)
        to.rtcp_remote = *heard;
}

api::status store::add(const api::flow_config& c, std::uint64_t now_ns) {
    if (const auto wrong = check(c); wrong != api::status::ok)
        return wrong;
    if (table_.find(c.id) != no_slot)
        return api::status::flow_exists;
    const std::uint8_t worker = choose_worker(c);
    const auto slot = count_ < memory_.header().max_flows ? take_slot(worker) : std::nullopt;
    if (!slot)
        return api::status::table_full;
    record& r = memory_.records()[*slot];
    store_state(r, state::building);
    auto status = init_side(memory_.ins()[*slot], api::side::in, c.in.suite, c.in.mki_length);
    if (status == api::status::ok)
        status = init_side(memory_.outs()[*slot], api::side::out, c.out.suite, c.out.mki_length);
    if (status != api::status::ok) {
        wipe(*slot);
        free_like(*slot).push_back(*slot);
        return status;
    }
    fill(r, c, worker, now_ns);
    route to = c.route;
    learn_from_partner(r, to);
    switch_route(r, to);
    store_state(r, state::active); // last: from here on a restart finds it
    publish(*slot);
    return api::status::ok;
}

std::optional<slot_index> store::take_slot(unsigned worker) {
    if (free_near(worker).empty())
        finish(); // perhaps this very request removed some
    auto& free = free_near(worker);
    if (free.empty())
        return std::nullopt;
    const slot_index slot = free.back();
    free.pop_back();
    return slot;
}

namespace {

void set_source(record& r, const api::source_config& to) noexcept {
    r.source = to.policy;
    r.strict_port = to.strict_port;
    r.window_ms = to.window_ms;
    r.signalled_source = to.signalled;
    r.received_from = to.received_from;
    r.window_ends_ns = 0;
    r.others = 0;
    store_rule(r, api::source_rule::none, 0);
}

} // namespace

// All but the state and the route.
void store::fill(record& r, const api::flow_config& c, std::uint8_t worker, std::uint64_t now_ns) noexcept {
    r.id = c.id;
    r.reverse = c.reverse;
    r.in = c.in;
    r.out = c.out;
    r.carries = c.carries;
    r.dscp = c.dscp;
    r.flags = c.flags;
    r.timeout_s = c.timeout_s;
    std::ranges::copy(c.retransmissions, r.retransmissions);
    r.tag = c.tag;
    r.created_ns = now_ns;
    set_source(r, c.source);
    r.worker = worker;
}

api::status store::check_update(const api::flow_update& u) const noexcept {
    const slot_index slot = table_.find(u.id);
    if (slot == no_slot)
        return api::status::unknown_flow;
    const record& r = memory_.records()[slot];
    if ((u.mask & api::update_dscp) != 0 && u.dscp > 63)
        return api::status::bad_message;
    if ((u.mask & api::update_flags) != 0 && !can_tell_apart(u.flags))
        return api::status::bad_state;
    if ((u.mask & api::update_source) != 0) {
        if (u.source.policy > api::source_policy::followed)
            return api::status::bad_message;
        if (u.source.policy == api::source_policy::authenticated && r.in.suite == api::suite::clear)
            return api::status::bad_suite;
    }
    return (u.mask & api::update_remote) == 0 ? api::status::ok : check_route(r.carries, u.route);
}

api::status store::update_later(const api::flow_update& u) {
    const auto status = check_update(u);
    if (status == api::status::ok)
        updates_.push_back(u);
    return status;
}

api::status store::update(const api::flow_update& u) {
    const auto status = update_later(u);
    apply_updates();
    return status;
}

// On the flow's worker, between two bursts.
void store::apply(const api::flow_update& u, slot_index slot) const noexcept {
    record& r = memory_.records()[slot];
    if ((u.mask & api::update_source) != 0) {
        set_source(r, u.source);
        r.seen = 0; // `learned` begins anew; an authenticated leg latches again by its next packet
    }
    if ((u.mask & api::update_reverse) != 0)
        r.reverse = u.reverse;
    if ((u.mask & api::update_remote) != 0) {
        route to = u.route;
        learn_from_partner(r, to);
        switch_route(r, to);
        const slot_index other = r.reverse == 0 ? no_slot : table_.find(r.reverse);
        if (other != no_slot && memory_.records()[other].source == api::source_policy::authenticated)
            memory_.records()[other].seen = 0; // who authenticates decides where the leg is
    }
    if ((u.mask & api::update_flags) != 0)
        r.flags = u.flags;
    if ((u.mask & api::update_timeout) != 0)
        r.timeout_s = u.timeout_s;
    if ((u.mask & api::update_dscp) != 0)
        r.dscp = u.dscp;
}

// In order for each worker; a command holds so few that the worker's next burst does not wait for it.
void store::apply_updates() {
    struct item {
        const api::flow_update* what;
        slot_index slot;
    };
    std::vector<std::vector<item>> by_worker(worker_count_);
    for (const auto& u : updates_)
        if (const slot_index slot = table_.find(u.id); slot != no_slot)
            by_worker[memory_.records()[slot].worker % worker_count_].push_back({&u, slot});
    for (unsigned worker = 0; worker < worker_count_; ++worker)
        for (std::size_t at = 0; at < by_worker[worker].size(); at += flows_per_command) {
            const auto part = std::span(by_worker[worker]).subspan(at);
            workers_.run(worker, [&] {
                for (const item& i : part.first(std::min(flows_per_command, part.size())))
                    apply(*i.what, i.slot);
            });
        }
    for (const auto& u : updates_)
        if (const slot_index slot = table_.find(u.id); slot != no_slot && (u.mask & api::update_remote) != 0)
            on_change(slot, memory_.records()[slot]);
    updates_.clear();
}

api::status store::remove(api::flow_id id) {
    const slot_index slot = table_.find(id);
    if (slot == no_slot)
        return api::status::unknown_flow;
    record& r = memory_.records()[slot];
    store_state(r, state::removing); // first: a restart from here on wipes it
    table_.clear(id);
    --count_;
    --flows_of_[r.worker];
    on_withdraw(slot, r);
    leaving_.push_back(slot);
    return api::status::ok;
}

void store::finish() {
    apply_updates();
    if (leaving_.empty() && retired_keys_.empty())
        return;
    workers_.quiesce();
    for (const auto key : retired_keys_)
        keys_.release(key);
    retired_keys_.clear();
    for (const slot_index slot : leaving_) {
        for (side* s : {&memory_.ins()[slot], &memory_.outs()[slot]}) {
            crypto::key_pool::index keys[max_epochs];
            const unsigned n = retire_all(*s, keys);
            for (unsigned k = 0; k < n; ++k)
                keys_.release(keys[k]);
            release_streams(*s, streams_);
        }
        wipe(slot);
        free_like(slot).push_back(slot);
    }
    leaving_.clear();
}

// Everything but the state word, which goes last: a kill in between leaves a record that recovery wipes again.
void store::wipe(slot_index slot) noexcept {
    record& r = memory_.records()[slot];
    crypto::wipe(&memory_.ins()[slot], sizeof(side));
    crypto::wipe(&memory_.outs()[slot], sizeof(side));
    static_assert(offsetof(record, state) == 0);
    crypto::wipe(reinterpret_cast<std::byte*>(&r) + sizeof r.state, sizeof r - sizeof r.state);
    store_state(r, state::free);
}

side* store::side_of(api::flow_id id, api::side which) noexcept {
    const slot_index slot = table_.find(id);
    if (slot == no_slot)
        return nullptr;
    return which == api::side::in ? &memory_.ins()[slot] : &memory_.outs()[slot];
}

api::status store::install(const api::epoch_key& key) {
    if (key.side > api::side::out || key.key_length > sizeof key.key || key.salt_length > sizeof key.salt)
        return api::status::bad_key_length;
    side* const s = side_of(key.id, key.side);
    return s == nullptr ? api::status::unknown_flow : flow::install(*s, keys_, builder_, key);
}

api::status store::switch_to(const api::epoch_ref& epoch) {
    if (epoch.side != api::side::out)
        return api::status::bad_epoch;
    side* const s = side_of(epoch.id, epoch.side);
    return s == nullptr ? api::status::unknown_flow : flow::switch_to(*s, epoch.epoch);
}

api::status store::retire(const api::epoch_ref& epoch) {
    if (epoch.side > api::side::out)
        return api::status::bad_epoch;
    side* const s = side_of(epoch.id, epoch.side);
    if (s == nullptr)
        return api::status::unknown_flow;
    const retired gone = flow::retire(*s, epoch.epoch);
    if (gone.key)
        retired_keys_.push_back(*gone.key);
    return gone.status;
}

std::vector<api::flow_entry> store::list(const api::list_request& from) const {
    std::vector<api::flow_entry> page;
    // In the order of ids: the port table is walked, not the slots, so that pages fit together while flows come and go.
    const std::uint64_t ids = std::uint64_t{table_.addresses().size()} << 16;
    for (std::uint64_t id = from.has_after != 0 ? std::uint64_t{from.after} + 1 : 0;
         id < ids && page.size() < api::list_page; ++id)
        if (const slot_index slot = table_.find(static_cast<api::flow_id>(id)); slot != no_slot)
            page.push_back(describe(memory_, slot));
    return page;
}

api::flow_entry describe(const memory& state, slot_index slot) noexcept {
    const record& r = state.records()[slot];
    const auto source = source_of(r);
    api::flow_entry e{};
    api::flow_config& c = e.config;
    c.id = r.id;
    c.reverse = r.reverse;
    c.tag = r.tag;
    c.in = r.in;
    c.out = r.out;
    c.carries = r.carries;
    c.dscp = r.dscp;
    c.flags = r.flags;
    c.timeout_s = r.timeout_s;
    std::ranges::copy(r.retransmissions, c.retransmissions);
    c.source.policy = r.source;
    c.source.strict_port = r.strict_port;
    c.source.window_ms = r.window_ms;
    c.source.signalled = r.signalled_source;
    c.source.received_from = r.received_from;
    c.route = route_of(r);
    e.in_epoch_count = static_cast<std::uint8_t>(list_epochs(state.ins()[slot], e.in_epochs));
    e.out_epoch_count = static_cast<std::uint8_t>(list_epochs(state.outs()[slot], e.out_epochs));
    e.latched = source ? 1 : 0;
    e.worker = r.worker;
    e.sending_epoch = sending_epoch(state.outs()[slot]);
    e.stats_index = slot;
    if (!source)
        return e;
    e.source = *source;
    e.rule = load_rule(r);
    e.source_since_ns = api::read(r.source_since_ns);
    return e;
}

} // namespace tandem::flow
