// SPDX-License-Identifier: Apache-2.0
// How each flow's packets leave on layer 2. Process-local: after a restart the control thread resolves again.
// Owner of an entry: the worker of its flow; the control thread changes it through that worker (between two bursts), or
// before the flow is published.
#pragma once

#include <cstdint>
#include <vector>

#include "dataplane/pipeline/frame.hpp"

namespace tandem::pipeline {

enum class hop_state : std::uint8_t {
    none,   // no route or no neighbour yet: no_next_hop
    seen,   // the layer 2 source of the packet that latched, until the route is resolved
    routed, // the kernel's route and neighbour
};

struct hop {
    link_out link;
    std::uint16_t mtu;
    std::uint8_t port; // index of the port
    hop_state state;
};

struct flow_hops {
    hop rtp;
    hop rtcp;
};

using hop_table = std::vector<flow_hops>; // by slot

} // namespace tandem::pipeline
