// SPDX-License-Identifier: Apache-2.0
// DPDK's environment (EAL), started once per process from our own configuration: arguments derived, quiet, no PCI scan,
// no telemetry, no files in the run directory. Also the one mbuf pool. Owner: the data plane's main (control) thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <tl/expected.hpp>

struct rte_mempool;

namespace tandem::io {

enum class hugepages : std::uint8_t {
    automatic, // hugepages where enough are free, else ordinary pages
    never,
    require, // refuse to start without
};

struct eal_config {
    std::string instance = "main";
    unsigned workers = 1;
    hugepages pages = hugepages::automatic;
    unsigned descriptors = 2048;  // of all ports' receive rings together, for the pool's size (0: tests without ports)
    bool verbose = false;         // DPDK's own log on stderr
    std::vector<unsigned> cpus{}; // one for each worker; empty = chosen (cpus.hpp)
    int node = -1;                // NUMA node of the ports; -1 = unknown, or there is one only
};

// The running EAL. At most one in a process's life: DPDK cannot be started again after it was ended.
class eal {
public:
    // The error is a sentence for the operator, with a remedy.
    [[nodiscard]] static tl::expected<eal, std::string> start(const eal_config& config);

    eal(eal&& other) noexcept;
    eal& operator=(eal&&) = delete;
    ~eal(); // waits for the workers, then frees everything; close ports before

    // The DPDK lcore id of each worker, for rte_eal_remote_launch; the main lcore (0) is the control thread.
    [[nodiscard]] const std::vector<unsigned>& worker_lcores() const noexcept { return worker_lcores_; }
    [[nodiscard]] bool uses_hugepages() const noexcept { return uses_hugepages_; }
    // What an operator should hear: pages in use, workers that share a core.
    [[nodiscard]] const std::vector<std::string>& notes() const noexcept { return notes_; }
    // One pool for all ports, so that AF_XDP sends without a copy what it received on another port.
    [[nodiscard]] rte_mempool* pool() const noexcept { return pool_; }

private:
    eal() = default;

    std::vector<unsigned> worker_lcores_;
    std::vector<std::string> notes_;
    rte_mempool* pool_ = nullptr;
    bool uses_hugepages_ = false;
    bool running_ = false;
};

// Bytes that a packet may grow by at its front (VLAN tag, longer IP header) and at its end (SRTP tag and MKI).
inline constexpr std::uint16_t mbuf_headroom = 128;
inline constexpr std::uint16_t mbuf_data_room = 2048 + mbuf_headroom;

} // namespace tandem::io
