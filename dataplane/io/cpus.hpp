// SPDX-License-Identifier: Apache-2.0
// Which CPU each worker gets. Told by the configuration, or chosen: on the NUMA node of the ports, one per physical
// core before a second thread of a core, and only where two are left for everyone else. Control thread, at start.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <tl/expected.hpp>

namespace tandem::io {

struct cpu {
    unsigned id = 0;
    int node = 0;          // NUMA
    unsigned core = 0;     // equal for hardware threads of one core: the lowest id of them
    bool permitted = true; // in this process's affinity
};

// What sysfs and the scheduler say; CPUs that are online, by id.
[[nodiscard]] std::vector<cpu> read_cpus();

// One for each worker, in their order. `wanted`: the configuration's list (checked: there, permitted), empty = choose;
// empty result = leave it to the scheduler. `node`: of the ports, -1 = unknown. The error says what to do.
[[nodiscard]] tl::expected<std::vector<cpu>, std::string> choose_cpus(const std::vector<cpu>& present, unsigned workers,
                                                                      const std::vector<unsigned>& wanted, int node);

// NUMA node of an interface's device; -1 where it has none (veth, one node).
[[nodiscard]] int interface_node(const std::string& interface);

// The node that most of these interfaces are on; -1 = unknown, or the machine has one node only.
[[nodiscard]] int node_of(const std::vector<std::string>& interfaces);

// While it lives, memory that this thread touches first comes from that node where it has some (MPOL_PREFERRED).
class memory_on_node {
public:
    explicit memory_on_node(int node) noexcept; // -1: nothing
    ~memory_on_node();
    memory_on_node(const memory_on_node&) = delete;
    memory_on_node& operator=(const memory_on_node&) = delete;

private:
    bool set_ = false;
};

} // namespace tandem::io
