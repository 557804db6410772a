// SPDX-License-Identifier: Apache-2.0
// DPDK's net_af_xdp does everything at once when a queue is opened: it loads the XDP program, attaches it, registers
// all packet buffers with the kernel, and binds a socket to the queue. Only the last needs the queue for itself, and
// the rest takes 60 ms or more a port, in which media waits when one data plane takes over from another. So the driver
// is led through it twice: in a rehearsal, beside the data plane in force, everything but the last is made and kept;
// then it is opened with what was kept, as soon as the kernel gives the queue free.
//
// For that, the five functions of libbpf and libxdp that the driver calls for these steps are this library's own
// (driver.cpp), and pass on to theirs whatever is called outside of a driver_scope. The program is attached and
// detached by us alone. Buffers with other arguments than in the rehearsal are registered anew.
#pragma once

#include <cstdint>
#include <vector>

namespace tandem::bpf {

// What the driver has made for one port. The descriptors and the memory are the driver's, and stay for the process's
// life.
struct driver_parts {
    struct umem;
    driver_parts();
    driver_parts(const driver_parts&) = delete;
    driver_parts& operator=(const driver_parts&) = delete;
    ~driver_parts();

    // Where the packet buffers end: net_af_xdp registers as many bytes as they would fill without gaps, but between
    // ordinary pages there are some, and what lies behind would never be received into, nor sent.
    const void* buffers_end = nullptr;
    int program = -1;        // loaded, not attached
    std::vector<umem> umems; // registered buffers, one a queue, until they are used
    unsigned umems_made = 0;
    std::vector<int> sockets; // one a queue
};

// Says what the driver is about to do; in this thread, one at a time.
class driver_scope {
public:
    enum class act : std::uint8_t { rehearse, open, close };
    driver_scope(act what, driver_parts& with) noexcept;
    driver_scope(const driver_scope&) = delete;
    driver_scope& operator=(const driver_scope&) = delete;
    ~driver_scope();
};

} // namespace tandem::bpf
