// SPDX-License-Identifier: Apache-2.0
// See ring_drops.hpp. net_af_xdp keeps its sockets to itself; they are told from the others by their domain.
#include "dataplane/io/ring_drops.hpp"

#include <linux/if_xdp.h>
#include <rte_ethdev.h>
#include <sys/socket.h>

namespace tandem::io {

namespace {
constexpr int highest_descriptor = 4096; // ports are opened when few other files are
}

std::vector<int> open_xdp_sockets() {
    std::vector<int> found;
    for (int fd = 0; fd < highest_descriptor; ++fd) { // /proc/self/fd is not ours to read once we are not dumpable
        int domain = 0;
        socklen_t size = sizeof domain;
        if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_XDP)
            found.push_back(fd);
    }
    return found;
}

ring_drops read_ring_drops(int xdp_socket) noexcept {
    xdp_statistics said{};
    socklen_t size = sizeof said;
    if (getsockopt(xdp_socket, SOL_XDP, XDP_STATISTICS, &said, &size) != 0)
        return {};
    return {said.rx_ring_full, said.rx_dropped, said.tx_invalid_descs};
}

ring_drops read_ring_drops(const port& p, std::uint16_t queue) noexcept {
    if (queue < p.sockets.size())
        return read_ring_drops(p.sockets[queue]);
    rte_eth_stats said{};
    if (p.kind == port_kind::af_xdp || queue != 0 || rte_eth_stats_get(p.id, &said) != 0)
        return {};
    return {said.imissed, said.rx_nombuf, 0};
}

namespace {

std::uint64_t& at(api::worker_stats& w, api::counter which) noexcept {
    return w.counters[static_cast<std::size_t>(which)];
}

} // namespace

ring_drop_counters::ring_drop_counters(std::span<api::worker_stats> workers) : workers_(workers) {
    for (api::worker_stats& w : workers)
        before_.push_back(
            {at(w, api::counter::rx_ring_full), at(w, api::counter::rx_no_buffer), at(w, api::counter::tx_invalid)});
}

void ring_drop_counters::refresh(std::span<const port> ports) noexcept {
    for (std::size_t w = 0; w < workers_.size(); ++w) {
        ring_drops sum = before_[w];
        for (const port& p : ports)
            for (std::size_t queue = w; queue < p.rx_queues; queue += workers_.size()) {
                const ring_drops seen = read_ring_drops(p, static_cast<std::uint16_t>(queue));
                sum.ring_full += seen.ring_full;
                sum.no_buffer += seen.no_buffer;
                sum.tx_invalid += seen.tx_invalid;
            }
        at(workers_[w], api::counter::rx_ring_full) = sum.ring_full;
        at(workers_[w], api::counter::rx_no_buffer) = sum.no_buffer;
        at(workers_[w], api::counter::tx_invalid) = sum.tx_invalid;
    }
}

} // namespace tandem::io
