// SPDX-License-Identifier: Apache-2.0
// See cpus.hpp. sysfs: devices/system/cpu, class/net/*/device/numa_node; sched_getaffinity(2), set_mempolicy(2).
#include "dataplane/io/cpus.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace tandem::io {

namespace {

const std::filesystem::path system_cpus = "/sys/devices/system/cpu";

int node_of_cpu(unsigned id) {
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator(system_cpus / fmt::format("cpu{}", id), ignored))
        if (const std::string name = entry.path().filename(); name.starts_with("node"))
            return static_cast<int>(std::strtol(name.c_str() + 4, nullptr, 10));
    return 0;
}

std::string ids(const std::vector<cpu>& list, bool permitted_only) {
    std::vector<unsigned> numbers;
    for (const cpu& c : list)
        if (c.permitted || !permitted_only)
            numbers.push_back(c.id);
    return fmt::format("{}", fmt::join(numbers, ", "));
}

tl::expected<std::vector<cpu>, std::string> as_told(const std::vector<cpu>& present,
                                                    const std::vector<unsigned>& wanted) {
    std::vector<cpu> chosen;
    for (const unsigned id : wanted) {
        const auto found = std::find_if(present.begin(), present.end(), [&](const cpu& c) { return c.id == id; });
        if (found == present.end())
            return tl::unexpected(fmt::format("cpus names CPU {}, which is not there or offline; there are: {}", id,
                                              ids(present, false)));
        if (!found->permitted)
            return tl::unexpected(fmt::format("cpus names CPU {}, which this process may not use; it may use: {} (see "
                                              "taskset, CPUAffinity= and AllowedCPUs= of the service)",
                                              id, ids(present, true)));
        chosen.push_back(*found);
    }
    return chosen;
}

} // namespace

std::vector<cpu> read_cpus() {
    cpu_set_t set;
    CPU_ZERO(&set);
    const bool known = sched_getaffinity(0, sizeof set, &set) == 0;
    std::vector<cpu> all;
    for (unsigned id = 0; id < CPU_SETSIZE; ++id) {
        const bool permitted = known && CPU_ISSET(id, &set);
        const auto directory = system_cpus / fmt::format("cpu{}", id);
        unsigned online = id == 0 ? 1 : 0; // CPU 0 often has no such file
        std::ifstream(directory / "online") >> online;
        if (!permitted && (online == 0 || !std::filesystem::exists(directory / "topology")))
            continue;
        unsigned sibling = id; // "0-1" or "0,64": the first number
        std::ifstream(directory / "topology/thread_siblings_list") >> sibling;
        all.push_back({id, node_of_cpu(id), sibling, permitted});
    }
    if (all.empty())
        all.push_back({});
    return all;
}

tl::expected<std::vector<cpu>, std::string> choose_cpus(const std::vector<cpu>& present, unsigned workers,
                                                        const std::vector<unsigned>& wanted, int node) {
    if (!wanted.empty())
        return as_told(present, wanted);
    std::vector<cpu> free;
    std::copy_if(present.begin(), present.end(), std::back_inserter(free), [](const cpu& c) { return c.permitted; });
    if (free.size() < workers + 2u)
        return std::vector<cpu>{};
    std::set<unsigned> cores{free.front().core};
    free.erase(free.begin());        // the first is the control thread's, and where interrupts come by default
    std::map<unsigned, bool> second; // a core's other thread
    for (const cpu& c : free)
        second[c.id] = !cores.insert(c.core).second;
    std::stable_sort(free.begin(), free.end(), [&](const cpu& a, const cpu& b) {
        const auto rank = [&](const cpu& c) { return (node >= 0 && c.node != node ? 2 : 0) + (second[c.id] ? 1 : 0); };
        return rank(a) < rank(b);
    });
    free.resize(workers);
    std::sort(free.begin(), free.end(), [](const cpu& a, const cpu& b) { return a.id < b.id; });
    return free;
}

int interface_node(const std::string& interface) {
    int node = -1;
    std::ifstream("/sys/class/net/" + interface + "/device/numa_node") >> node;
    return node;
}

int node_of(const std::vector<std::string>& interfaces) {
    if (!std::filesystem::exists("/sys/devices/system/node/node1"))
        return -1;
    std::map<int, unsigned> votes;
    for (const auto& name : interfaces)
        if (const int node = interface_node(name); node >= 0)
            ++votes[node];
    int best = -1;
    for (const auto& [node, count] : votes)
        if (best < 0 || count > votes[best])
            best = node;
    return best;
}

memory_on_node::memory_on_node(int node) noexcept {
    if (node < 0 || node >= 64)
        return;
    const unsigned long mask = 1ul << node;
    set_ = syscall(SYS_set_mempolicy, MPOL_PREFERRED, &mask, sizeof mask * 8 + 1) == 0;
}

memory_on_node::~memory_on_node() {
    if (set_)
        syscall(SYS_set_mempolicy, MPOL_DEFAULT, nullptr, 0);
}

} // namespace tandem::io
