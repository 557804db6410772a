// SPDX-License-Identifier: Apache-2.0
// See unit_streams.hpp.
#include "controlplane/session/unit_streams.hpp"

#include <algorithm>

#include <spdlog/spdlog.h>

namespace tandem::session {
namespace {

namespace layer = session_layer;
using namespace std::chrono_literals;

constexpr auto reset_refused = static_cast<std::uint16_t>(layer::reset_code::refused);
constexpr auto connect_patience = 10s;
constexpr std::size_t most_kept = 4 * 1024 * 1024; // octets that a unit's streams keep until they are acknowledged
constexpr std::size_t most_streams = 1024;         // that a unit has open
constexpr std::size_t most_datagrams = 1024;       // that wait for its link: a burst of all its sockets
// Of all units together.
constexpr std::size_t most_connections = 8192;
constexpr std::size_t most_held = 256 * 1024 * 1024; // octets for services that do not read
constexpr auto datagram_idle = 5min;                 // RFC 4787 REQ-5
// Octets of compression's contexts, some 1 MiB for a stream both ways: of all units, and of one.
constexpr std::size_t most_contexts = 512 * 1024 * 1024, most_contexts_each = 128 * 1024 * 1024;

void note(counters& count, layer::tcp_streams::failure what) {
    using enum layer::tcp_streams::failure;
    switch (what) {
    case unreachable:
        ++count.streams_unreachable;
        break;
    case reset:
        ++count.streams_reset;
        break;
    case not_zstd:
        ++count.streams_not_zstd;
        break;
    case zstd_window:
        ++count.streams_zstd_window;
        break;
    case no_context:
        ++count.streams_no_context;
        break;
    }
}

std::uint64_t counters::*counter_of(layer::udp_streams::fate f) {
    using fate = layer::udp_streams::fate;
    switch (f) {
    case fate::to_service:
        return &counters::datagrams_to_services;
    case fate::from_service:
        return &counters::datagrams_from_services;
    case fate::not_allowed:
        return &counters::datagrams_not_allowed;
    case fate::unsent:
        return &counters::datagrams_unsent;
    case fate::lost:
        break;
    }
    return &counters::datagrams_lost;
}

} // namespace

std::shared_ptr<const unit_streams::common> unit_streams::make_common(std::vector<service_rule> rules,
                                                                      std::shared_ptr<counters> count,
                                                                      std::shared_ptr<handovers> moves) {
    auto budget = std::make_shared<layer::tcp_streams::budget>();
    budget->most_connections = most_connections;
    budget->most_octets = most_held;
    budget->most_contexts = most_contexts;
    budget->most_contexts_each = most_contexts_each;
    return std::make_shared<const common>(
        common{std::move(rules), std::move(count), std::move(budget), std::move(moves)});
}

std::shared_ptr<unit_streams> unit_streams::begin(channel& on, std::uint64_t tsid, std::string unit,
                                                  std::shared_ptr<const common> all) {
    const auto secret = layer::new_secret_of(on.link().carrier(), tsid);
    if (secret.empty())
        return nullptr;
    const std::shared_ptr<unit_streams> fresh(new unit_streams(std::move(unit), std::move(all)));
    layer::limits limits;
    limits.buffered = most_kept;
    limits.streams = most_streams;
    limits.datagrams = most_datagrams;
    fresh->driver_ = std::make_shared<layer::driver>(
        on.executor(), layer::session(layer::role::accepter, tsid, secret, limits, std::chrono::steady_clock::now()),
        [weak = std::weak_ptr(fresh)](const layer::event& e) {
            if (const auto self = weak.lock())
                self->on(e);
        });
    fresh->streams_ = std::make_shared<layer::tcp_streams>(
        on.executor(), fresh->driver_, fresh->common_->budget,
        [count = fresh->common_->count](layer::tcp_streams::failure what) { note(*count, what); });
    fresh->datagrams_ = std::make_shared<layer::udp_streams>(
        on.executor(), fresh->driver_, fresh->common_->budget,
        [common = fresh->common_](const link::endpoint& peer) {
            return may_reach(common->rules, peer, service_kind::udp);
        },
        [count = fresh->common_->count](layer::udp_streams::fate f) { ++(*count.*counter_of(f)); }, datagram_idle);
    return fresh;
}

void unit_streams::carried_by(channel& by) {
    const auto id = driver_->accept(layer::guest_on(by.link()), layer::binding_of(by.link().carrier()));
    by.carry(layer::riding(driver_, id));
}

void unit_streams::stop() {
    streams_->abort_all();
    datagrams_->abort_all();
    driver_->stop();
}

void unit_streams::on(const layer::event& e) {
    if (const auto* o = std::get_if<layer::opened>(&e))
        return on_opened(*o);
    if (const auto* h = std::get_if<layer::handover>(&e))
        return on_handover(*h);
    if (const auto* c = std::get_if<layer::close_link>(&e); c != nullptr && c->why != layer::link_end::silent) {
        ++common_->count->stream_joins_refused;
        spdlog::warn("streams of '{}': a primary does not carry them: its frames are {}", unit_,
                     c->why == layer::link_end::refused ? "not of this session" : "malformed");
    }
    streams_->on(e);
    datagrams_->on(e);
}

bool unit_streams::carries_datagrams() const {
    return std::ranges::any_of(common_->rules, [](const auto& r) { return r.kind == service_kind::udp; });
}

// The label says where to: an address and a port; of datagrams each one does.
void unit_streams::on_opened(const layer::opened& o) {
    const auto& count = common_->count;
    ++count->streams_begun;
    const std::string label(o.label.begin(), o.label.end());
    const auto to = link::parse_endpoint(label);
    const bool octets = layer::carries_octets(o.kind);
    const bool allowed = octets ? to && may_reach(common_->rules, *to) : carries_datagrams();
    if (allowed && !common_->budget->has_room()) {
        ++count->streams_refused;
        return driver_->use([&](layer::session& s) { s.reset(o.stream, reset_refused); });
    }
    if (allowed)
        return octets ? streams_->connect(o.stream, *to, connect_patience, o.kind) : datagrams_->begin(o.stream);
    ++count->streams_not_allowed;
    if (to && !std::exchange(told_, true))
        spdlog::warn("audit: '{}' asked for a stream to {}: refused, [tunnel] services does not name it", unit_,
                     link::text_of(*to));
    driver_->use([&](layer::session& s) { s.reset(o.stream, layer::reset_not_allowed); });
}

void unit_streams::on_handover(const layer::handover& h) {
    if (!moves_.note(h))
        return;
    ++common_->count->stream_handovers;
    common_->count->stream_octets_again += h.sent_again;
    common_->moves->streams_moved(
        unit_, {h.kind, std::chrono::duration_cast<std::chrono::milliseconds>(h.ended - h.began), h.sent_again});
    spdlog::info("streams of '{}' moved: {}, {} octets sent again", unit_, moves_.last, h.sent_again);
}

streams_info unit_streams::describe() const {
    const auto& c = streams_->count();
    return {driver_->links(),
            streams_->size() + datagrams_->size(),
            c.begun,
            c.to_session,
            c.from_session,
            moves_.count,
            moves_.octets_again,
            moves_.last,
            {c.packed, streams_->contexts(), streams_->context_octets(), c.plain_octets, c.packed_octets}};
}

} // namespace tandem::session
