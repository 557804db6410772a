// SPDX-License-Identifier: Apache-2.0
// See unit_streams.hpp.
#include "controlplane/session/unit_streams.hpp"

#include <spdlog/spdlog.h>

namespace tandem::session {
namespace {

namespace layer = session_layer;
using namespace std::chrono_literals;

constexpr auto reset_refused = static_cast<std::uint16_t>(layer::reset_code::refused);
constexpr auto connect_patience = 10s;
constexpr std::size_t most_kept = 4 * 1024 * 1024; // octets that a unit's streams keep until they are acknowledged
constexpr std::size_t most_streams = 1024;         // that a unit has open
// Of all units together.
constexpr std::size_t most_connections = 8192;
constexpr std::size_t most_held = 256 * 1024 * 1024; // octets for services that do not read
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

} // namespace

std::shared_ptr<const unit_streams::common> unit_streams::make_common(std::vector<service_rule> rules,
                                                                      std::shared_ptr<counters> count) {
    auto budget = std::make_shared<layer::tcp_streams::budget>();
    budget->most_connections = most_connections;
    budget->most_octets = most_held;
    budget->most_contexts = most_contexts;
    budget->most_contexts_each = most_contexts_each;
    return std::make_shared<const common>(common{std::move(rules), std::move(count), std::move(budget)});
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
    fresh->driver_ = std::make_shared<layer::driver>(
        on.executor(), layer::session(layer::role::accepter, tsid, secret, limits, std::chrono::steady_clock::now()),
        [weak = std::weak_ptr(fresh)](const layer::event& e) {
            if (const auto self = weak.lock())
                self->on(e);
        });
    fresh->streams_ = std::make_shared<layer::tcp_streams>(
        on.executor(), fresh->driver_, fresh->common_->budget,
        [count = fresh->common_->count](layer::tcp_streams::failure what) { note(*count, what); });
    return fresh;
}

void unit_streams::carried_by(channel& by) {
    const auto id = driver_->accept(layer::guest_on(by.link()), layer::binding_of(by.link().carrier()));
    by.carry(layer::riding(driver_, id));
}

void unit_streams::stop() {
    streams_->abort_all();
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
}

// The label says where to: an address and a port.
void unit_streams::on_opened(const layer::opened& o) {
    const auto& count = common_->count;
    ++count->streams_begun;
    const std::string label(o.label.begin(), o.label.end());
    const auto to = link::parse_endpoint(label);
    const bool allowed = layer::carries_octets(o.kind) && to && may_reach(common_->rules, *to);
    if (allowed && !common_->budget->has_room()) {
        ++count->streams_refused;
        return driver_->use([&](layer::session& s) { s.reset(o.stream, reset_refused); });
    }
    if (allowed)
        return streams_->connect(o.stream, *to, connect_patience, o.kind);
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
    spdlog::info("streams of '{}' moved: {}, {} octets sent again", unit_, moves_.last, h.sent_again);
}

streams_info unit_streams::describe() const {
    const auto& c = streams_->count();
    return {driver_->links(),
            streams_->size(),
            c.begun,
            c.to_session,
            c.from_session,
            moves_.count,
            moves_.octets_again,
            moves_.last,
            {c.packed, streams_->contexts(), streams_->context_octets(), c.plain_octets, c.packed_octets}};
}

} // namespace tandem::session
