// SPDX-License-Identifier: Apache-2.0
// See unit_streams.hpp.
#include "controlplane/session/unit_streams.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

namespace tandem::session {
namespace {

namespace layer = session_layer;
using namespace std::chrono_literals;

constexpr auto connect_patience = 10s;
constexpr std::size_t most_buffered = 4 * 1024 * 1024; // octets that a unit's streams keep here

} // namespace

std::shared_ptr<unit_streams> unit_streams::begin(channel& on, std::uint64_t tsid, std::string unit,
                                                  const std::vector<service_rule>& rules,
                                                  std::shared_ptr<counters> count) {
    const auto& carrier = on.link().carrier();
    const auto secret = layer::new_secret_of(carrier, tsid);
    if (secret.empty())
        return nullptr;
    const std::shared_ptr<unit_streams> fresh(new unit_streams(std::move(unit), rules, std::move(count)));
    layer::limits limits;
    limits.buffered = most_buffered;
    fresh->driver_ = std::make_shared<layer::driver>(
        on.executor(), layer::session(layer::role::accepter, tsid, secret, limits, std::chrono::steady_clock::now()),
        [weak = std::weak_ptr(fresh)](const layer::event& e) {
            if (const auto self = weak.lock())
                self->on(e);
        });
    fresh->streams_ = std::make_shared<layer::tcp_streams>(
        on.executor(), fresh->driver_, [count = fresh->count_](layer::tcp_streams::failure what) {
            ++(what == layer::tcp_streams::failure::reset ? count->streams_reset : count->streams_unreachable);
        });
    return fresh;
}

void unit_streams::carried_by(channel& by) {
    const auto binding = layer::binding_of(by.link().carrier());
    const auto connection = by.link().weak_from_this();
    const auto more = [connection] {
        if (const auto c = connection.lock())
            c->ask_rider();
    };
    const auto id = driver_->accept(layer::guest{protocol::carrier::stream, more}, binding);
    ++links_;
    const auto self = shared_from_this();
    by.carry({.take = [self, id](std::span<const std::uint8_t> frame) { self->driver_->received(id, frame); },
              .next = [self, id](std::vector<std::uint8_t>& frame) { return self->driver_->pull(id, frame); },
              .gone =
                  [self, id] {
                      --self->links_;
                      self->driver_->drop(id);
                  }});
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
        ++count_->stream_joins_refused;
        spdlog::warn("streams of '{}': a primary does not carry them: its frames are {}", unit_,
                     c->why == layer::link_end::refused ? "not of this session" : "malformed");
    }
    streams_->on(e);
}

// The label says where to: an address and a port.
void unit_streams::on_opened(const layer::opened& o) {
    ++count_->streams_begun;
    const std::string label(o.label.begin(), o.label.end());
    const auto to = link::parse_endpoint(label);
    if (o.kind == layer::stream_kind::octets && to && may_reach(rules_, *to))
        return streams_->connect(o.stream, *to, connect_patience);
    ++count_->streams_not_allowed;
    if (to)
        spdlog::warn("audit: '{}' asked for a stream to {}: refused, [tunnel] services does not name it", unit_,
                     link::text_of(*to));
    driver_->use([&](layer::session& s) { s.reset(o.stream, layer::reset_not_allowed); });
}

void unit_streams::on_handover(const layer::handover& h) {
    if (h.how == layer::handover_end::failed)
        return;
    const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(h.ended - h.began);
    if (h.kind == layer::handover_kind::first)
        return;
    ++handovers_;
    again_ += h.sent_again;
    ++count_->stream_handovers;
    count_->stream_octets_again += h.sent_again;
    last_ = fmt::format("{}, {}, {} ms", layer::text_of(h.kind), layer::text_of(h.why), took.count());
    spdlog::info("streams of '{}' moved: {}, {} octets sent again", unit_, last_, h.sent_again);
}

streams_info unit_streams::describe() const {
    const auto& c = streams_->count();
    return {links_, streams_->size(), c.begun, c.to_session, c.from_session, handovers_, again_, last_};
}

} // namespace tandem::session
