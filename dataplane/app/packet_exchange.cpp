// SPDX-License-Identifier: Apache-2.0
// See packet_exchange.hpp.
#include "dataplane/app/packet_exchange.hpp"

#include <cstring>

#include <rte_mbuf.h>

#include "dataplane/pipeline/ownership.hpp"
#include "dataplane/rtp/demux.hpp"

namespace tandem::app {

namespace {

constexpr std::uint64_t neighbour_ns = 1'000'000'000; // as long as the kernel asks for one
constexpr std::uint64_t busy_ns = 100'000'000;        // a handshake's next packet comes within that
constexpr std::size_t most_waiting = 64;
constexpr std::uint16_t packets_at_once = 40;
static_assert(packets_at_once * (sizeof(api::packet_in) + api::padded_packet(api::max_packet_bytes)) +
                  sizeof(api::contract_header) <=
              api::contract_max_message);

} // namespace

void packet_exchange::pump(contract_server& server, std::uint64_t now_ns) {
    for (std::size_t i = 0; i < shared_.workers.size(); ++i)
        if (pipeline::worker& w = *shared_.workers[i]; w.punted().front() != nullptr) {
            busy_until_ns_ = now_ns + busy_ns;
            drain(w, shared_.worker_stats[i], server);
        }
    std::erase_if(waiting_, [&](const waiting& w) {
        const bool may = flows_.find(w.what.id) != flow::no_slot && now_ns < w.until_ns;
        const auto state = may ? try_send(w.what, w.bytes) : io::hop_state::failed;
        if (state != io::hop_state::resolved && state != io::hop_state::pending)
            unsent(0);
        return state != io::hop_state::pending;
    });
}

// Its only writer is this thread.
void packet_exchange::unsent(unsigned worker) noexcept {
    api::bump(shared_.worker_stats[worker].counters[static_cast<std::size_t>(api::counter::packets_out_unsent)]);
}

// At most what its ring holds: a worker that goes on handing up does not hold this thread.
void packet_exchange::drain(pipeline::worker& from, api::worker_stats& stats, contract_server& server) {
    std::uint16_t count = 0;
    const auto tell = [&] {
        if (count != 0 && !server.send_packets(message_, count))
            api::bump(stats.counters[static_cast<std::size_t>(api::counter::punts_unread)], count);
        message_.clear();
        count = 0;
    };
    for (std::size_t n = 0; n < pipeline::punt::slots; ++n) {
        const std::byte* const slot = from.punted().front();
        if (slot == nullptr)
            break;
        api::packet_in about;
        std::memcpy(&about, slot, sizeof about);
        message_.insert(message_.end(), slot, slot + sizeof about + api::padded_packet(about.length));
        from.punted().pop();
        if (++count == packets_at_once)
            tell();
    }
    tell();
}

api::status packet_exchange::check(const packet_to_send& packet) const {
    const api::packet_out& what = packet.what;
    const flow::slot_index slot = flows_.find(what.id);
    if (slot == flow::no_slot)
        return api::status::unknown_flow;
    const flow::record& r = shared_.memory.records()[slot];
    if (what.destination.port == 0)
        return api::status::bad_port;
    std::uint8_t local[16];
    std::memcpy(local, shared_.table.addresses()[what.id >> 16].data(), sizeof local);
    if (flow::is_ipv4(local) != flow::is_ipv4(what.destination.ip))
        return api::status::bad_address;
    if (rtp::punted_as(std::to_integer<std::uint8_t>(packet.bytes[0]), r.flags) == api::packet_kind::none)
        return api::status::bad_state;
    return api::status::ok;
}

void packet_exchange::send(std::span<const packet_to_send> packets, std::span<api::item_status> statuses) {
    for (std::size_t i = 0; i < packets.size(); ++i) {
        const auto& [what, bytes] = packets[i];
        api::status status = check(packets[i]);
        if (const auto state = status == api::status::ok ? try_send(what, bytes) : io::hop_state::resolved;
            state == io::hop_state::pending && waiting_.size() < most_waiting)
            waiting_.push_back({what, {bytes.begin(), bytes.end()}, pipeline::monotonic_ns() + neighbour_ns});
        else if (state != io::hop_state::resolved)
            status = api::status::not_possible;
        statuses[i] = {what.id, status, 0, 0};
    }
}

io::hop_state packet_exchange::try_send(const api::packet_out& what, std::span<const std::byte> bytes) {
    pipeline::hop way{};
    const auto state = routes_.find(what.id, what.destination, way);
    if (state == io::hop_state::resolved)
        leave(what, bytes, way);
    return state;
}

void packet_exchange::leave(const api::packet_out& what, std::span<const std::byte> bytes, const pipeline::hop& way) {
    const flow::record& r = shared_.memory.records()[flows_.find(what.id)];
    api::net_address local{};
    std::memcpy(local.ip, shared_.table.addresses()[what.id >> 16].data(), sizeof local.ip);
    local.port = static_cast<std::uint16_t>(what.id);
    const auto ends = pipeline::make_endpoints(local, what.destination);
    const std::size_t headers = pipeline::header_bytes(ends.ipv4 != 0, way.link.vlan != pipeline::no_vlan);
    rte_mbuf* const m = buffers_ != nullptr ? rte_pktmbuf_alloc(buffers_) : nullptr;
    if (m == nullptr || bytes.size() + headers - pipeline::ethernet_bytes(way.link) > way.mtu ||
        bytes.size() + headers > rte_pktmbuf_tailroom(m)) {
        rte_pktmbuf_free(m);
        return unsent(r.worker);
    }
    pipeline::takes(m);
    auto* const frame =
        reinterpret_cast<std::uint8_t*>(rte_pktmbuf_append(m, static_cast<std::uint16_t>(headers + bytes.size())));
    std::memcpy(frame + headers, bytes.data(), bytes.size());
    pipeline::write_headers(frame + headers, static_cast<std::uint16_t>(bytes.size()), way.link, ends, r.dscp);
    pipeline::gives(m);
    const pipeline::whole_frame leaves{m, way.port, way.state == pipeline::hop_state::here};
    workers_.run(r.worker, [&] { shared_.workers[r.worker]->send_whole({&leaves, 1}); });
}

} // namespace tandem::app
