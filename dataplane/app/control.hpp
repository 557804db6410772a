// SPDX-License-Identifier: Apache-2.0
// The control thread: answers the contract, keeps XDP's open ports and the next hops in step with the flows, ages them,
// sums the edge's verdicts, passes events on. Owner of everything here: the main thread. Workers never wait for it.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "dataplane/app/config.hpp"
#include "dataplane/app/contract_server.hpp"
#include "dataplane/app/health.hpp"
#include "dataplane/app/holder_link.hpp"
#include "dataplane/app/observation.hpp"
#include "dataplane/app/packet_exchange.hpp"
#include "dataplane/app/route_keeper.hpp"
#include "dataplane/app/stats_file.hpp"
#include "dataplane/flow/ageing.hpp"
#include "dataplane/flow/store.hpp"
#include "dataplane/io/nexthop.hpp"
#include "dataplane/io/port.hpp"
#include "dataplane/io/ring_drops.hpp"
#include "dataplane/pipeline/worker.hpp"

namespace tandem::app {

class control final : public contract_handler {
public:
    control(const config& settings, flow::store& flows, pipeline::shared_state& shared, stats_file& stats,
            std::vector<io::port>& ports, io::nexthop_resolver& resolver, flow::executor& workers, holder_link& holder);

    // Fills XDP's maps with what does not change; then recover() takes over what a predecessor left.
    [[nodiscard]] tl::expected<void, std::string> set_up_edge();
    void recover();
    void workers_started(rte_mempool* buffers); // the gap ends here

    // Until SIGTERM or SIGINT, or its holder is gone for good; `leave`: the next data plane goes on with the flows.
    enum class end : std::uint8_t { over, leave };
    [[nodiscard]] end run(contract_server& server, int signals);

    // contract_handler
    void hello(api::hello_reply& reply, std::vector<api::address_entry>& addresses) override;
    api::status flow_add(const api::flow_config& item, std::uint32_t& stats_index) override;
    api::status flow_update(const api::flow_update& item) override;
    api::status flow_remove(const api::flow_ref& item) override;
    api::status epoch_install(const api::epoch_key& item) override;
    api::status epoch_switch(const api::epoch_ref& item) override;
    api::status epoch_retire(const api::epoch_ref& item) override;
    void flow_replace(std::span<const api::flow_replacement> group, std::span<api::item_status> statuses) override;
    void stream_put(std::span<const api::stream_item> items, std::span<api::item_status> statuses) override;
    std::vector<api::stream_item> stream_list(const api::list_request& from) override;
    std::vector<api::flow_entry> flow_list(const api::list_request& from) override;
    std::vector<api::port_entry> port_list() override;
    std::vector<api::health_entry> health() override;
    api::status source_prove(const api::proven_source& item) override;
    api::status inner_set(const api::inner_perimeter& item, std::uint32_t& ports) override;
    void packet_out(std::span<const packet_to_send> items, std::span<api::item_status> statuses) override;
    void end_of_request() override;

private:
    void published(flow::slot_index slot, const flow::record& r);
    void replaced(flow::slot_index slot);
    void withdrawn(flow::slot_index slot, const flow::record& r);
    void drain(contract_server& server);
    void followed(const api::flow_event& latched);
    void age(contract_server& server, std::uint64_t now_ns);
    void each_second(std::uint64_t now_ns);
    void place_addresses();
    void note_epoch(api::flow_id id);

    const config& settings_;
    flow::store& flows_;
    pipeline::shared_state& shared_;
    stats_file& stats_;
    std::vector<io::port>& ports_;
    io::nexthop_resolver& resolver_;
    holder_link& holder_;
    route_keeper routes_;
    packet_exchange packets_;
    observation sight_;
    std::optional<app::health> health_; // once the workers run
    flow::ageing ageing_;
    flow::recovery recovered_;
    io::ring_drop_counters ring_drops_;
    std::uint64_t started_ns_;
    std::array<std::uint64_t, 256> edge_before_{}; // verdicts that a predecessor counted
    std::uint64_t placed_ = 0; // the resolver's generation in which the addresses' VLANs were asked for
    std::uint64_t next_second_ns_ = 0;
    std::uint64_t routes_until_ns_ = 0; // at a recovery: later flows' ways are found once the workers run; 0 = no limit
    std::uint64_t next_age_ns_ = 0;
    flow::slot_index next_aged_ = 0;      // of the walk that looks for silence
    std::vector<flow::slot_index> moved_; // flows whose remotes moved in this turn: their ways are asked for together
};

} // namespace tandem::app
