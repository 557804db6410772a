// SPDX-License-Identifier: Apache-2.0
// Keeps every flow's layer 2 way in step with the kernel's routes and neighbours: asks the resolver, hands what changed
// to the flow's worker, a few flows a command. After news of the kernel all flows are walked in parts (sweep()), so
// that a million of them hold up nothing else on this thread. Owner: the control thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "dataplane/flow/store.hpp"
#include "dataplane/io/nexthop.hpp"
#include "dataplane/pipeline/hops.hpp"

namespace tandem::app {

class route_keeper {
public:
    route_keeper(io::nexthop_resolver& resolver, flow::store& flows, flow::executor& workers, pipeline::hop_table& hops,
                 const std::vector<flow::ip_bytes>& addresses)
        : resolver_(resolver), flows_(flows), workers_(workers), hops_(hops), addresses_(addresses) {}

    // Before the flow is published: written in place.
    void prepare(flow::slot_index slot, const flow::record& r);
    // Instead of prepare(): sweep() finds the way while the workers run already.
    void postpone(flow::slot_index slot);
    // Flows in force whose remotes moved.
    void follow(std::span<const flow::slot_index> slots);
    // The kernel has news, or it is time: every flow is asked for again where an answer may have changed, by sweep().
    void process();
    void tick(std::uint64_t now_ns);
    // Goes on with that for a while; true where there is more to do: come back soon.
    bool sweep();

    // How a packet from this local address gets there now: resolved, or why not.
    [[nodiscard]] io::hop_state find(api::flow_id from, const api::net_address& remote, pipeline::hop& to);

private:
    struct change {
        flow::slot_index slot;
        bool rtcp;
        api::net_address remote; // for which it was resolved
        pipeline::hop to;
    };
    [[nodiscard]] bool ask(api::flow_id from, const api::net_address& remote, const pipeline::hop& now,
                           pipeline::hop& to);
    void collect(flow::slot_index slot, const flow::record& r, std::vector<change>& to);
    void apply(std::vector<change>& changes);

    io::nexthop_resolver& resolver_;
    flow::store& flows_;
    flow::executor& workers_;
    pipeline::hop_table& hops_;
    const std::vector<flow::ip_bytes>& addresses_;
    std::uint64_t generation_ = 0;
    flow::slot_index next_ = 0; // of the walk over all flows
    flow::slot_index left_ = 0; // slots still to be walked; 0 = done
    std::uint64_t next_refresh_ns_ = 0;
    std::uint64_t next_all_ns_ = 0;
};

} // namespace tandem::app
