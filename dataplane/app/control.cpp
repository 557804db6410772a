// SPDX-License-Identifier: Apache-2.0
// See control.hpp.
#include "dataplane/app/control.hpp"

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstring>
#include <ctime>
#include <netinet/in.h>
#include <sys/signalfd.h>
#include <unistd.h>
#include <utility>

#include <rte_cycles.h>
#include <spdlog/spdlog.h>

#include "bpf/loader/edge.hpp"
#include "dataplane/api/probes.hpp"
#include "dataplane/api/service_manager.hpp"
#include "dataplane/app/holder_words.hpp"
#include "dataplane/app/perimeter.hpp"

namespace tandem::app {

namespace {

constexpr std::uint64_t millisecond = 1'000'000, second = 1'000'000'000;
constexpr int poll_ms = 10; // events wait no longer than this
constexpr int short_poll_ms = 1;
constexpr std::uint64_t age_interval_ns = 100 * millisecond;
constexpr std::uint64_t recovery_routes_ns = 50 * millisecond; // phones with an address each: 8 us of netlink for each
constexpr flow::slot_index aged_at_once = 4096; // a million flows take 2.5 s and less than a tenth of this thread
constexpr std::uint64_t worker_silence_ns = 3 * second;

std::uint64_t realtime_ns() {
    timespec t{};
    clock_gettime(CLOCK_REALTIME, &t);
    return static_cast<std::uint64_t>(t.tv_sec) * second + static_cast<std::uint64_t>(t.tv_nsec);
}

} // namespace

control::control(const config& settings, flow::store& flows, pipeline::shared_state& shared, stats_file& stats,
                 std::vector<io::port>& ports, io::nexthop_resolver& resolver, flow::executor& workers,
                 holder_link& holder)
    : settings_(settings), flows_(flows), shared_(shared), stats_(stats), ports_(ports), resolver_(resolver),
      holder_(holder), routes_(resolver, flows, workers, shared.hops, shared.table.addresses()),
      packets_(shared, flows, workers, routes_), sight_(shared, ports, settings.audit_path()),
      ageing_(shared.memory.records().size()), ring_drops_(stats.workers()), started_ns_(realtime_ns()) {
    flows_.on_publish = [this](auto slot, const auto& r) { published(slot, r); };
    flows_.on_withdraw = [this](auto slot, const auto& r) { withdrawn(slot, r); };
    flows_.on_change = [this](auto slot, const auto&) { moved_.push_back(slot); };
    flows_.on_carry = [this](const auto& flow) {
        flow::carry_counters(stats_.flows(), shared_.memory.records(), flow);
        pipeline::carry_ways(shared_.hops, shared_.memory.records(), flow);
    };
    flows_.on_replaced = [this](auto slot, const auto&) { replaced(slot); };
    api::stats_header& h = stats_.header();
    h.started_ns = started_ns_;
    h.tsc_hz = rte_get_tsc_hz();
    h.flow_bytes = static_cast<std::uint32_t>(flow::memory::bytes_per_flow());
    std::copy(std::begin(h.edge), std::end(h.edge), edge_before_.begin());
}

tl::expected<void, std::string> control::set_up_edge() {
    place_addresses();
    for (const auto& port : ports_) {
        if (!port.edge)
            continue;
        for (std::uint32_t i = 0; i < settings_.addresses.size(); ++i)
            if (auto done = port.edge->add_media_address(settings_.addresses[i].ip, i); !done)
                return done;
        for (const std::uint16_t tunnel : settings_.tunnel_tcp)
            if (auto done = port.edge->add_tunnel_port(tunnel, IPPROTO_TCP); !done)
                return done;
        if (auto done =
                port.edge->set_handshake_limit(settings_.handshakes_per_second, settings_.handshake_burst,
                                               settings_.total_handshakes_per_second, settings_.total_handshake_burst);
            !done)
            return done;
    }
    return {};
}

// Frames of another VLAN than an address's are no media of ours.
void control::place_addresses() {
    if (placed_ == resolver_.generation())
        return;
    placed_ = resolver_.generation();
    const auto& addresses = shared_.table.addresses();
    for (std::uint32_t i = 0; i < addresses.size(); ++i) {
        const auto vlan = resolver_.vlan_of(addresses[i]);
        shared_.table.set_vlan(i, !vlan ? flow::port_table::any_vlan : *vlan == 0 ? flow::port_table::untagged : *vlan);
    }
}

void control::recover() {
    flow::memory_header& h = shared_.memory.header();
    routes_until_ns_ = pipeline::monotonic_ns() + recovery_routes_ns;
    recovered_ = flows_.recover();
    routes_until_ns_ = 0;
    for (api::flow_stats& s : stats_.flows()) // counters of flows that are no more
        if (s.id != 0 && flows_.find(s.id) != static_cast<flow::slot_index>(&s - stats_.flows().data()))
            s = {};
    ++h.starts;
    if (recovered_.wiped != 0)
        spdlog::info("wiped {} flows that were half-made when the last data plane ended", recovered_.wiped);
    if (recovered_.unreachable != 0)
        spdlog::warn("removed {} flows whose local address is no longer in the configuration", recovered_.unreachable);
}

void control::workers_started(rte_mempool* buffers) {
    health_.emplace(shared_.workers, ports_, buffers);
    packets_.use(buffers);
    flow::memory_header& h = shared_.memory.header();
    const std::uint64_t now = pipeline::monotonic_ns();
    if (recovered_.last_heartbeat_ns != 0 && now > recovered_.last_heartbeat_ns)
        h.last_gap_ms = static_cast<std::uint32_t>((now - recovered_.last_heartbeat_ns) / millisecond);
    if (h.starts > 1)
        spdlog::warn("restart {} on this flow state: {} flows go on, gap {} ms", h.starts - 1, recovered_.kept,
                     h.last_gap_ms);
}

void control::published(flow::slot_index slot, const flow::record& r) {
    api::flow_stats& s = stats_.flows()[slot];
    if (s.id != r.id || s.tag != r.tag) {
        s = {};
        s.id = r.id;
        s.tag = r.tag;
    }
    api::probe_flow_create(r.id, r.tag, r.in.suite, r.out.suite);
    s.suite_in = r.in.suite;
    s.suite_out = r.out.suite;
    s.epoch_out = flow::sending_epoch(shared_.memory.outs()[slot]);
    const std::uint64_t now = pipeline::monotonic_ns();
    ageing_.begin(slot, now, s.last_packet_ns);
    if (routes_until_ns_ != 0 && now > routes_until_ns_)
        routes_.postpone(slot);
    else
        routes_.prepare(slot, r);
    for (const auto& port : ports_)
        if (port.edge)
            port.edge->open_port(r.id >> 16, static_cast<std::uint16_t>(r.id));
}

void control::withdrawn(flow::slot_index slot, const flow::record& r) {
    api::probe_flow_remove(r.id, r.tag);
    if (flows_.find(r.id) == flow::no_slot) // else another one has taken its place
        for (const auto& port : ports_)
            if (port.edge)
                port.edge->close_port(r.id >> 16, static_cast<std::uint16_t>(r.id));
    stats_.flows()[slot].id = 0;
}

// In force, with another's counters.
void control::replaced(flow::slot_index slot) {
    const api::flow_stats& s = stats_.flows()[slot];
    ageing_.begin(slot, pipeline::monotonic_ns(), s.last_packet_ns);
    moved_.push_back(slot); // it may have learned where it sends to
}

void control::hello(api::hello_reply& reply, std::vector<api::address_entry>& addresses) {
    const flow::memory_header& h = shared_.memory.header();
    reply.max_flows = h.max_flows;
    reply.flows = flows_.count();
    reply.generation = h.generation;
    reply.started_ns = started_ns_;
    reply.restarts = h.starts - 1;
    reply.last_gap_ms = h.last_gap_ms;
    stats_.path().copy(reply.stats_path, sizeof reply.stats_path - 1);
    for (std::uint32_t i = 0; i < settings_.addresses.size(); ++i) {
        api::address_entry e{};
        std::memcpy(e.ip, settings_.addresses[i].ip.data(), sizeof e.ip);
        e.index = i;
        settings_.addresses[i].name.copy(e.name, sizeof e.name - 1);
        addresses.push_back(e);
    }
}

api::status control::flow_add(const api::flow_config& item, std::uint32_t& stats_index) {
    const auto status = flows_.add(item, pipeline::monotonic_ns());
    if (status == api::status::ok)
        stats_index = flows_.find(item.id);
    return status;
}
api::status control::flow_update(const api::flow_update& item) {
    return flows_.update_later(item);
}
api::status control::flow_remove(const api::flow_ref& item) {
    return flows_.remove(item.id);
}

void control::flow_replace(std::span<const api::flow_replacement> group, std::span<api::item_status> statuses) {
    std::vector<api::status> said(group.size());
    flows_.replace(group, pipeline::monotonic_ns(), said);
    for (std::size_t i = 0; i < group.size(); ++i) {
        const api::flow_id id = group[i].config.id;
        statuses[i] = {id, said[i], 0, said[i] == api::status::ok ? flows_.find(id) : 0};
        for (const auto* key : {&group[i].in_key, &group[i].out_key})
            if (said[i] == api::status::ok && key->key_length != 0)
                api::probe_rekey(id, key == &group[i].in_key ? api::side::in : api::side::out, key->epoch,
                                 api::rekey_step::installed);
    }
}

void control::stream_put(std::span<const api::stream_item> items, std::span<api::item_status> statuses) {
    std::vector<api::status> said(items.size());
    flows_.put_streams(items, said);
    for (std::size_t i = 0; i < items.size(); ++i)
        statuses[i] = {items[i].id, said[i], 0, 0};
}

std::vector<api::stream_item> control::stream_list(const api::list_request& from) {
    return flows_.list_streams(from);
}

api::status control::epoch_install(const api::epoch_key& item) {
    const auto status = flows_.install(item);
    if (status == api::status::ok)
        api::probe_rekey(item.id, item.side, item.epoch, api::rekey_step::installed);
    if (status == api::status::ok && item.side == api::side::out)
        note_epoch(item.id);
    return status;
}

api::status control::epoch_switch(const api::epoch_ref& item) {
    const auto status = flows_.switch_to(item);
    if (status == api::status::ok) {
        api::probe_rekey(item.id, item.side, item.epoch, api::rekey_step::switched);
        note_epoch(item.id);
        const auto worker = shared_.memory.records()[flows_.find(item.id)].worker;
        api::bump(stats_.workers()[worker].counters[static_cast<std::size_t>(api::counter::epoch_switches)]);
    }
    return status;
}

api::status control::epoch_retire(const api::epoch_ref& item) {
    const auto status = flows_.retire(item);
    if (status == api::status::ok)
        api::probe_rekey(item.id, item.side, item.epoch, api::rekey_step::retired);
    return status;
}

api::status control::inner_set(const api::inner_perimeter& item, std::uint32_t& ports) {
    const perimeter kept(settings_.perimeter_path());
    const auto status = kept.change(item, ports_, ports);
    if (status != api::status::ok)
        spdlog::error("the inner networks that the control plane named are not guarded here as it asked");
    return status;
}

api::status control::source_prove(const api::proven_source& item) {
    bpf::edge::address ip{};
    std::copy(std::begin(item.ip), std::end(item.ip), ip.begin());
    auto status = api::status::ok;
    for (const auto& port : ports_)
        if (port.edge && !port.edge->prove(ip))
            status = api::status::not_possible;
    return status;
}

void control::packet_out(std::span<const packet_to_send> items, std::span<api::item_status> statuses) {
    packets_.send(items, statuses);
}

void control::end_of_request() {
    flows_.finish();
    routes_.follow(moved_);
    moved_.clear();
}

void control::note_epoch(api::flow_id id) {
    const flow::slot_index slot = flows_.find(id);
    if (slot != flow::no_slot)
        stats_.flows()[slot].epoch_out = flow::sending_epoch(shared_.memory.outs()[slot]);
}

std::vector<api::flow_entry> control::flow_list(const api::list_request& from) {
    return flows_.list(from);
}

std::vector<api::port_entry> control::port_list() {
    std::vector<api::port_entry> list;
    for (const auto& port : ports_)
        list.push_back(io::describe(port));
    return list;
}

std::vector<api::health_entry> control::health() {
    return health_->report(pipeline::monotonic_ns());
}

// A leg moved: the flows that send to it get the kernel's route instead of the layer 2 seen in the packet.
void control::followed(const api::flow_event& latched) {
    const flow::slot_index slot = flows_.find(latched.id);
    if (slot == flow::no_slot)
        return;
    const flow::record& r = shared_.memory.records()[slot];
    for (const api::flow_id id : {r.reverse, flow::route_of(r).rtcp_out})
        if (const flow::slot_index other = id == 0 ? flow::no_slot : flows_.find(id); other != flow::no_slot)
            moved_.push_back(other);
}

void control::drain(contract_server& server) {
    std::array<api::flow_event, 256> events;
    for (pipeline::worker* w : shared_.workers)
        while (const unsigned n = w->drain_events(events)) {
            for (unsigned i = 0; i < n; ++i)
                if (events[i].type == api::event_type::flow_latched)
                    followed(events[i]);
            server.send_events({events.data(), n});
        }
    routes_.follow(moved_);
    moved_.clear();
}

// Every flow once in age_interval_ns, or as often as the walk in parts comes round where there are many.
void control::age(contract_server& server, std::uint64_t now_ns) {
    if (next_aged_ >= flows_.top()) {
        if (now_ns < next_age_ns_)
            return;
        next_age_ns_ = now_ns + age_interval_ns;
        next_aged_ = 0;
    }
    std::vector<api::flow_event> events;
    const flow::slot_index from = std::exchange(next_aged_, next_aged_ + aged_at_once);
    flows_.for_each(from, next_aged_, [&](flow::slot_index slot, const flow::record& r) {
        const auto what = ageing_.look(slot, api::read(stats_.flows()[slot].last_packet_ns), r.timeout_s, now_ns);
        if (!what)
            return;
        api::flow_event e{*what, {}, 0, r.id, r.tag, stats_.flows()[slot].epoch_in, 0, {}};
        if (const auto source = flow::source_of(r))
            e.address = *source;
        events.push_back(e);
        if (*what == api::event_type::flow_timeout) // its only writer is this thread
            api::bump(stats_.workers()[r.worker].counters[static_cast<std::size_t>(api::counter::flow_timeouts)]);
    });
    server.send_events(events);
}

void control::each_second(std::uint64_t now_ns) {
    std::array<std::uint64_t, 256> sum = edge_before_;
    for (const auto& port : ports_)
        if (port.edge)
            if (const auto verdicts = port.edge->verdicts())
                for (std::size_t i = 0; i < sum.size(); ++i)
                    sum[i] += (*verdicts)[i];
    std::copy(sum.begin(), sum.end(), stats_.header().edge);
    ring_drops_.refresh(ports_);
    routes_.tick(now_ns);
    if (const auto worker = health_->hangs(now_ns, worker_silence_ns))
        spdlog::error("worker {} has not come round for {} s: this data plane hangs", *worker,
                      worker_silence_ns / second);
    else if (holder_.fd() < 0)
        api::tell_service_manager("WATCHDOG=1"); // else the holder does, for as long as it hears of us
}

control::end control::run(contract_server& server, int signals) {
    std::vector<pollfd> polled;
    bool sweeping = false;
    server.observe_by(sight_);
    for (;;) {
        polled.assign({{signals, POLLIN, 0}, {resolver_.fd(), POLLIN, 0}, {holder_.fd(), POLLIN, 0}});
        server.add_descriptors(polled);
        const bool soon = sight_.active() || packets_.busy(pipeline::monotonic_ns());
        const int wait_ms = sweeping ? 0 : soon ? short_poll_ms : poll_ms;
        ::poll(polled.data(), polled.size(), wait_ms);
        if (signalfd_siginfo info{}; polled[0].revents != 0 && read(signals, &info, sizeof info) == sizeof info) {
            spdlog::info("signal {}: ending; flows end with this process", info.ssi_signo);
            sight_.end();
            return end::over;
        }
        if (polled[1].revents != 0)
            routes_.process();
        place_addresses();
        if (const auto order = polled[2].revents != 0 ? holder_.heard() : holder_link::order::none;
            order != holder_link::order::none) {
            sight_.end();
            if (order == holder_link::order::leave)
                return end::leave;
            spdlog::error("the holder is gone, and nobody keeps its place: ending; flows end with this process");
            return end::over;
        }
        server.ready(std::span(polled).subspan(3));
        drain(server);
        const std::uint64_t now = pipeline::monotonic_ns();
        health_->tick(now);
        if (!health_->hangs(now, worker_silence_ns))
            holder_.keep_saying(holder_words::forwards, now);
        packets_.pump(server, now);
        if (sight_.active())
            sight_.pump(now);
        stats_.header().heartbeat_ns = now;
        stats_.header().flows = flows_.count();
        stats_.header().keys = flows_.keys_used();
        age(server, now);
        sweeping = routes_.sweep();
        if (now >= next_second_ns_) {
            next_second_ns_ = now + second;
            each_second(now);
        }
    }
}

} // namespace tandem::app
