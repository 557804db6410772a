// SPDX-License-Identifier: Apache-2.0
// Packets between the control plane and the flows' ports (PACKET_IN, PACKET_OUT): takes what the workers handed up
// (pipeline/punt.hpp) to the contract's socket, and sends what comes back by the flow's own worker, from the flow's
// port. What nobody reads is thrown away; a packet whose next hop's neighbour is not known yet waits for it, as the
// kernel would have it wait, a moment and not many of them. Owner: the control thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "dataplane/app/contract_server.hpp"
#include "dataplane/app/route_keeper.hpp"
#include "dataplane/flow/store.hpp"
#include "dataplane/pipeline/worker.hpp"

struct rte_mempool;

namespace tandem::app {

class packet_exchange {
public:
    packet_exchange(pipeline::shared_state& shared, flow::store& flows, flow::executor& workers, route_keeper& routes)
        : shared_(shared), flows_(flows), workers_(workers), routes_(routes) {}

    void use(rte_mempool* buffers) noexcept { buffers_ = buffers; }
    // What the workers handed up, and packets whose neighbour answered meanwhile. Often.
    void pump(contract_server& server, std::uint64_t now_ns);
    // Something came or waits: more may follow soon.
    [[nodiscard]] bool busy(std::uint64_t now_ns) const noexcept {
        return !waiting_.empty() || now_ns < busy_until_ns_;
    }
    void send(std::span<const packet_to_send> packets, std::span<api::item_status> statuses);

private:
    struct waiting {
        api::packet_out what;
        std::vector<std::byte> bytes;
        std::uint64_t until_ns; // CLOCK_MONOTONIC
    };
    [[nodiscard]] api::status check(const packet_to_send& packet) const;
    // resolved: it left, or was counted; else why there is no way to it (yet). Its flow is in force.
    [[nodiscard]] io::hop_state try_send(const api::packet_out& what, std::span<const std::byte> bytes);
    void leave(const api::packet_out& what, std::span<const std::byte> bytes, const pipeline::hop& way);
    void unsent(unsigned worker) noexcept;
    void drain(pipeline::worker& from, api::worker_stats& stats, contract_server& server);

    pipeline::shared_state& shared_;
    flow::store& flows_;
    flow::executor& workers_;
    route_keeper& routes_;
    rte_mempool* buffers_ = nullptr;
    std::vector<waiting> waiting_;
    std::uint64_t busy_until_ns_ = 0;
    std::vector<std::byte> message_; // gathered of one worker, not sent yet
};

} // namespace tandem::app
