// SPDX-License-Identifier: Apache-2.0
// The configuration's ports, and lo for peers on this host (host_peers): planned before the EAL is started, prepared
// beside another data plane, started when it is this one's turn; and what workers, resolver and holder need of them.
// Owner: the main thread.
#pragma once

#include <string>
#include <vector>

#include <tl/expected.hpp>

#include "dataplane/app/config.hpp"
#include "dataplane/app/perimeter.hpp"
#include "dataplane/io/port.hpp"
#include "dataplane/pipeline/sleeper.hpp"
#include "dataplane/pipeline/worker.hpp"

namespace tandem::app {

struct port_plan {
    std::vector<io::port_config> ports;
    unsigned descriptors = 0; // of all receive rings
};

// Errors are sentences for the operator. A lo that nobody asked for by name is left out where it cannot be had (another
// instance has it, it is down), with a word why.
[[nodiscard]] tl::expected<port_plan, std::string> plan_ports(const config& settings);
[[nodiscard]] tl::expected<std::vector<io::port>, std::string> prepare_ports(const config& settings,
                                                                             const port_plan& plan, rte_mempool* pool);
// `held`: the one before may still be ending.
[[nodiscard]] tl::expected<void, std::string> start_ports(const config& settings, std::vector<io::port>& ports,
                                                          rte_mempool* pool, const perimeter& guarded, bool held);

[[nodiscard]] std::vector<flow::ip_bytes> address_list(const config& settings);
[[nodiscard]] std::vector<unsigned> ifindexes_of(const std::vector<io::port>& ports);
[[nodiscard]] std::vector<int> sockets_of(const std::vector<io::port>& ports);
[[nodiscard]] std::vector<pipeline::port_use> ports_of_worker(const config& settings,
                                                              const std::vector<io::port>& ports, unsigned worker);
[[nodiscard]] pipeline::idle_config idle_of_worker(const config& settings, const std::vector<io::port>& ports,
                                                   unsigned worker);

} // namespace tandem::app
