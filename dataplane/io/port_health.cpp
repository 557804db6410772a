// SPDX-License-Identifier: Apache-2.0
// Is a port still there? What others may take away while we run: the interface, our XDP program, the sockets' places in
// its map. Control thread.
#include <net/if.h>

#include "bpf/loader/edge.hpp"
#include "dataplane/io/interface.hpp"
#include "dataplane/io/port.hpp"

namespace tandem::io {

api::health_state look_at(const port& p) noexcept {
    using state = api::health_state;
    if (p.ifindex == 0) // a test's own
        return state::ok;
    const auto flags = interface_flags(p.ifindex);
    if (!flags)
        return state::interface_gone;
    if ((*flags & IFF_UP) == 0)
        return state::interface_down;
    if (p.edge) {
        switch (p.edge->on(p.ifindex)) {
        case bpf::attached_program::none:
            return state::no_program;
        case bpf::attached_program::other:
            return state::foreign_program;
        case bpf::attached_program::ours:
            break;
        }
        for (std::uint16_t queue = 0; queue < p.rx_queues; ++queue)
            if (!p.edge->has_socket(queue))
                return state::no_socket;
    }
    return (*flags & IFF_RUNNING) == 0 ? state::no_carrier : state::ok;
}

} // namespace tandem::io
