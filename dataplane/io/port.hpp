// SPDX-License-Identifier: Apache-2.0
// Ports: the interfaces that the workers receive from and send to. AF_XDP in production (the kernel keeps the
// interface, its addresses and what is not media); ring, null and pcap for tests and benchmarks. Owner: the control
// thread opens and closes; workers only use `id` and queue numbers.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <tl/expected.hpp>

#include "dataplane/api/contract.hpp"

struct rte_mempool;
struct rte_ring;
namespace tandem::bpf {
struct driver_parts;
class edge;
class interface_claim;
} // namespace tandem::bpf

namespace tandem::io {

enum class port_kind : std::uint8_t { af_xdp, ring, null, pcap };
enum class xdp_mode : std::uint8_t { none, generic, driver };

struct port_config {
    port_kind kind = port_kind::af_xdp;
    std::string interface {};         // kernel interface (af_xdp), or a name of the test's own
    std::string pcap_in{};            // pcap: file to read, may be empty
    std::string pcap_out{};           // pcap: file to write, may be empty
    std::uint16_t queues = 1;         // ring, null: queue pairs. af_xdp takes all queues of the interface
    std::uint16_t descriptors = 2048; // of each queue's rings
    // af_xdp: told to the edge (index = position) as soon as it is attached, so that after a restart as little media as
    // possible meets the kernel, which would answer with ICMP errors.
    std::vector<std::array<std::uint8_t, 16>> media_addresses{};
};

// An open, started port. Closed (program detached, claim given up) by close_port() or the destructor.
struct port {
    port() noexcept;
    port(port&& other) noexcept;
    port& operator=(port&& other) noexcept;
    ~port();

    static constexpr std::uint16_t no_id = 0xffff;

    std::uint16_t id = no_id; // DPDK port id
    port_kind kind = port_kind::af_xdp;
    xdp_mode mode = xdp_mode::none;
    std::string name;      // interface
    unsigned ifindex = 0;  // 0 where there is no kernel interface
    bool loopback = false; // lo: media of programs on this host, sent to the kernel's own addresses
    std::array<std::uint8_t, 6> mac{};
    std::uint16_t mtu = 1500;
    std::uint16_t rx_queues = 1;
    std::uint16_t descriptors = 2048;
    std::uint16_t tx_queues = 1;     // worker w sends on queue w: never fewer than workers
    std::unique_ptr<bpf::edge> edge; // its XDP maps; null where there is no program
    std::unique_ptr<bpf::interface_claim> claim;
    std::unique_ptr<bpf::driver_parts> driver; // af_xdp: what net_af_xdp has made for it
    std::vector<rte_ring*> to_worker;          // ring: the test enqueues mbufs here, one ring per queue ...
    std::vector<rte_ring*> from_worker;        // ... and dequeues here what was sent
    std::vector<int> sockets;                  // af_xdp: net_af_xdp's own, one a queue; only asked for statistics
    std::vector<std::string> notes;            // what an operator should hear, e.g. that the mode is generic
};

// Number of receive queues that open_port() will use (times descriptors: eal_config's, before the EAL is started). An
// interface with fewer queues than workers is asked to make more (ethtool channels); the error says what to do where it
// cannot.
[[nodiscard]] tl::expected<std::uint16_t, std::string> prepare_queues(const port_config& config, unsigned workers);

// Everything that can be done beside another data plane on the same interface, which is most of it. Once that has
// ended, claim_port() makes the interface this process's own, and start_port() puts program and sockets on it.
[[nodiscard]] tl::expected<port, std::string> prepare_port(const port_config& config, rte_mempool* pool,
                                                           unsigned workers);
[[nodiscard]] tl::expected<void, std::string> claim_port(port& p);
[[nodiscard]] tl::expected<void, std::string> start_port(port& p, rte_mempool* pool);

// All three, claim first. An AF_XDP interface can be opened once in a process: net_af_xdp of DPDK 22.11 does not close
// its socket, so the queue stays taken until the process ends. The error is a sentence for the operator: no such
// interface, another Tandem or another XDP program on it, missing privileges, ...
[[nodiscard]] tl::expected<port, std::string> open_port(const port_config& config, rte_mempool* pool, unsigned workers);

void close_port(port& p) noexcept;

// To the next process, at the end of this one: its sockets and the claim are given up, the program stays. Nothing else
// may be done with it.
void leave_port(port& p) noexcept;

[[nodiscard]] api::port_entry describe(const port& p) noexcept;

// Whether media still comes and goes by it: its interface, our program on it, a socket behind every queue. Some system
// calls (port_health.cpp).
[[nodiscard]] api::health_state look_at(const port& p) noexcept;

} // namespace tandem::io
