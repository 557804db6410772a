// SPDX-License-Identifier: Apache-2.0
// See route_keeper.hpp. While a neighbour is being asked for, the way in force stays; when it fails, the flow has none.
#include "dataplane/app/route_keeper.hpp"

#include <algorithm>
#include <cstring>

#include "dataplane/pipeline/worker.hpp"

namespace tandem::app {

namespace {

constexpr std::uint64_t second_ns = 1'000'000'000;
constexpr std::uint64_t sweep_ns = 2'000'000;   // of this thread's time, then other work
constexpr flow::slot_index slots_at_once = 256; // between two looks at the clock

bool same(const pipeline::hop& a, const pipeline::hop& b) noexcept {
    return a.state == b.state && a.port == b.port && a.mtu == b.mtu && a.link.vlan == b.link.vlan &&
           std::memcmp(a.link.source_mac, b.link.source_mac, 6) == 0 &&
           std::memcmp(a.link.destination_mac, b.link.destination_mac, 6) == 0;
}

} // namespace

io::hop_state route_keeper::find(api::flow_id from, const api::net_address& remote, pipeline::hop& to) {
    api::net_address local{};
    std::memcpy(local.ip, addresses_[from >> 16].data(), sizeof local.ip);
    local.port = static_cast<std::uint16_t>(from);
    for (const auto& own : addresses_)
        if (std::memcmp(own.data(), remote.ip, sizeof remote.ip) == 0) {
            to = pipeline::way_back();
            return io::hop_state::resolved;
        }
    const io::hop_result found = resolver_.resolve(local, remote);
    to = {};
    if (found.state != io::hop_state::resolved)
        return found.state;
    std::memcpy(to.link.source_mac, found.hop.source_mac.data(), 6);
    std::memcpy(to.link.destination_mac, found.hop.destination_mac.data(), 6);
    to.link.vlan = found.hop.vlan == 0 ? pipeline::no_vlan : found.hop.vlan;
    to.mtu = found.hop.mtu;
    to.port = static_cast<std::uint8_t>(found.hop.port);
    to.state = pipeline::hop_state::routed;
    return found.state;
}

// True where the flow's hop is to be changed.
bool route_keeper::ask(api::flow_id from, const api::net_address& remote, const pipeline::hop& now, pipeline::hop& to) {
    if (remote.port == 0 || from >> 16 >= addresses_.size())
        return false;
    switch (find(from, remote, to)) {
    case io::hop_state::resolved:
        return !same(now, to);
    case io::hop_state::pending:
        return false;
    case io::hop_state::no_route:
    case io::hop_state::not_a_port:
    case io::hop_state::failed:
        break;
    }
    return now.state == pipeline::hop_state::routed; // one taken from a received frame is the best there is
}

void route_keeper::prepare(flow::slot_index slot, const flow::record& r) {
    hops_[slot] = {};
    const flow::route& to = r.where();
    pipeline::hop found{};
    if ((r.carries & api::carries_rtp) != 0 && ask(to.rtp_out, to.rtp_remote, hops_[slot].rtp, found))
        hops_[slot].rtp = found;
    if ((r.carries & api::carries_rtcp) != 0 && ask(to.rtcp_out, to.rtcp_remote, hops_[slot].rtcp, found))
        hops_[slot].rtcp = found;
}

void route_keeper::postpone(flow::slot_index slot) {
    hops_[slot] = {};
    left_ = std::max(left_, slot + 1);
}

void route_keeper::collect(flow::slot_index slot, const flow::record& r, std::vector<change>& to) {
    const flow::route way = flow::route_of(r);
    const auto now = flow::load_shared(hops_[slot]);
    change c{slot, false, way.rtp_remote, {}};
    if ((r.carries & api::carries_rtp) != 0 && ask(way.rtp_out, way.rtp_remote, now.rtp, c.to))
        to.push_back(c);
    c = {slot, true, way.rtcp_remote, {}};
    if ((r.carries & api::carries_rtcp) != 0 && ask(way.rtcp_out, way.rtcp_remote, now.rtcp, c.to))
        to.push_back(c);
}

void route_keeper::apply(std::vector<change>& changes) {
    const auto records = flows_.shared().records();
    const auto worker_of = [&](const change& c) { return records[c.slot].worker; };
    std::stable_sort(changes.begin(), changes.end(),
                     [&](const change& a, const change& b) { return worker_of(a) < worker_of(b); });
    for (std::size_t at = 0; at < changes.size();) {
        const unsigned worker = worker_of(changes[at]);
        std::size_t end = at;
        while (end < changes.size() && end - at < flow::flows_per_command && worker_of(changes[end]) == worker)
            ++end;
        workers_.run(worker, [&] {
            for (; at < end; ++at) {
                const change& c = changes[at];
                const flow::record& r = records[c.slot];
                const auto& remote = c.rtcp ? r.where().rtcp_remote : r.where().rtp_remote;
                if (flow::same_address(remote, c.remote)) // it may have latched elsewhere meanwhile
                    (c.rtcp ? hops_[c.slot].rtcp : hops_[c.slot].rtp) = c.to;
            }
        });
        at = end;
    }
    changes.clear();
}

void route_keeper::follow(std::span<const flow::slot_index> slots) {
    std::vector<change> changes;
    for (const flow::slot_index slot : slots)
        if (const flow::record& r = flows_.shared().records()[slot]; flow::load_state(r) == flow::state::active)
            collect(slot, r, changes);
    apply(changes);
}

bool route_keeper::sweep() {
    if (left_ == 0)
        return false;
    const std::uint64_t begin = pipeline::monotonic_ns();
    std::vector<change> changes;
    do {
        const flow::slot_index top = std::max<flow::slot_index>(flows_.top(), 1);
        if (next_ >= top)
            next_ = 0;
        const flow::slot_index count = std::min({slots_at_once, left_, top - next_});
        flows_.for_each(next_, next_ + count,
                        [&](flow::slot_index slot, const flow::record& r) { collect(slot, r, changes); });
        next_ += count;
        left_ -= count;
        apply(changes);
    } while (left_ != 0 && pipeline::monotonic_ns() - begin < sweep_ns);
    return left_ != 0;
}

void route_keeper::process() {
    resolver_.process();
    if (generation_ == resolver_.generation())
        return;
    generation_ = resolver_.generation();
    left_ = flows_.top(); // once round from here: a walk that is under way has seen some of it already changed
    sweep();
}

void route_keeper::tick(std::uint64_t now_ns) {
    if (now_ns >= next_refresh_ns_) {
        next_refresh_ns_ = now_ns + io::nexthop_resolver::refresh_interval_s * second_ns;
        resolver_.refresh();
    }
    if (now_ns >= next_all_ns_) {
        next_all_ns_ = now_ns + 60 * second_ns;
        left_ = flows_.top();
        sweep();
    }
    process();
}

} // namespace tandem::app
