// SPDX-License-Identifier: Apache-2.0
// What was lost between the XDP edge and a worker: frames for which a port's receive ring or its buffers had no room.
// DPDK 22.11 tells less than the kernel knows (imissed leaves out a full ring), so AF_XDP's sockets are asked
// themselves (XDP_STATISTICS). Owner: the control thread; costs the workers nothing.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "dataplane/api/stats.hpp"
#include "dataplane/io/port.hpp"

namespace tandem::io {

struct ring_drops {
    std::uint64_t ring_full = 0;  // the worker did not come round in time
    std::uint64_t no_buffer = 0;  // the fill ring was empty, or the frame larger than a buffer
    std::uint64_t tx_invalid = 0; // descriptors that the kernel refused to send
};

// AF_XDP sockets that this process has open, in the order of their numbers.
[[nodiscard]] std::vector<int> open_xdp_sockets();

// Since the socket was made. Zeros where it does not answer.
[[nodiscard]] ring_drops read_ring_drops(int xdp_socket) noexcept;

// One port's receive queue since the port was opened. Ports without a kernel interface: all of the port, on queue 0.
[[nodiscard]] ring_drops read_ring_drops(const port& p, std::uint16_t queue) noexcept;

// Writes the counters rx_ring_full, rx_no_buffer and tx_invalid of each worker: its queues over all ports, on top of
// what a predecessor of this stats segment counted.
class ring_drop_counters {
public:
    explicit ring_drop_counters(std::span<api::worker_stats> workers);
    void refresh(std::span<const port> ports) noexcept;

private:
    std::span<api::worker_stats> workers_;
    std::vector<ring_drops> before_;
};

} // namespace tandem::io
