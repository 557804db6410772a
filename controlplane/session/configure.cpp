// SPDX-License-Identifier: Apache-2.0
// What units ask: CONFIG (new session, resume, renewal), KEEPALIVE, RELEASE, SERVICE. ORA-04 to ORA-16, RIM-03.
// Owner thread: the io_context's.
#include <algorithm>

#include <spdlog/spdlog.h>

#include "controlplane/protocol/address_asio.hpp"
#include "controlplane/session/manager_impl.hpp"

namespace tandem::session {

using protocol::exchange;
using protocol::message;
using protocol::status;
using protocol::tlv;

void manager::impl::on_connection(std::shared_ptr<tunnel::connection> connection) {
    auto link = std::make_shared<channel>(io_.get_executor(), std::move(connection), count);
    newcomers_.push_back({link, clock::now()});
    const auto weak = std::weak_ptr(link);
    link->start({
        .on_request =
            [this, weak](const message& request) {
                if (const auto self = weak.lock())
                    on_request(self, nullptr, request);
            },
        .on_packet = [this](auto) { ++count->not_configured; },
        .on_closed =
            [this, weak](std::string_view) {
                newcomers_.remove_if([&](const newcomer& n) { return n.link == weak.lock(); });
            },
    });
}

void manager::impl::on_request(const std::shared_ptr<channel>& link, session* of, const message& request) {
    switch (request.what()) {
    case exchange::config:
        return configure(link, request); // the channel lets it through only where there is no session yet
    case exchange::keepalive:
        return link->answer(request.response(status::ok));
    case exchange::service:
        ++count->service_unavailable;
        return link->answer(request.response(status::service_unavailable));
    case exchange::release:
        link->answer(request.response(status::ok));
        ++count->sessions_released;
        return end(*of, "released by the unit");
    case exchange::media_open:
    case exchange::media_close:
    case exchange::seed:
    case exchange::contact:
    case exchange::seed_make:
        break;
    }
    refuse(*link, request, status::not_permitted, "only the gateway sends this request");
}

void manager::impl::refuse(channel& link, const message& request, status code, std::string_view reason) {
    switch (code) {
    case status::unknown_unit:
        ++count->unknown_unit;
        break;
    case status::no_resources:
        ++count->no_resources;
        break;
    default:
        ++count->not_permitted;
        break;
    }
    link.answer(request.response(code, reason));
}

void manager::impl::configure(const std::shared_ptr<channel>& link, const message& request) {
    const std::string unit(*request.get<tlv::id_code>());
    if (unit != link->link().peer().id_code || !units_.known(unit)) {
        spdlog::warn("audit: '{}' at {} asked for a session of '{}': refused", link->link().peer().id_code,
                     link->link().remote().address.to_string(), unit);
        refuse(*link, request, status::unknown_unit);
        return link->link().finish("id code is not the authenticated one");
    }
    session* s = session_for(unit, request);
    if (s == nullptr) {
        refuse(*link, request, status::no_resources, "the gateway has no inner address left; try another gateway");
        return link->link().finish("no inner address left");
    }
    auto lifetime = settings.lifetime;
    if (const auto wish = request.get<tlv::lifetime_s>(); wish && *wish > 0)
        lifetime = std::min(lifetime, std::chrono::seconds(*wish));
    adopt(*s, link, lifetime);
    answer_config(*s, request);
    if (owner_.on_up)
        owner_.on_up(info(*s));
}

session* manager::impl::resumed(const std::string& unit, tsid wanted) {
    session* s = find(wanted);
    if (s == nullptr)
        ++count->resume_unknown;
    else if (s->unit != unit)
        ++count->resume_foreign;
    else
        return s;
    return nullptr;
}

session* manager::impl::session_for(const std::string& unit, const message& request) {
    if (const auto wanted = request.get<tlv::resume_tsid>())
        if (session* s = resumed(unit, *wanted); s != nullptr) {
            ++count->sessions_resumed;
            ++s->info.reconnects;
            return s;
        }
    // A unit that does not resume has lost its keys (restarted): what it had before is over.
    if (session* old = find_unit(unit); old != nullptr)
        end(*old, "the unit began anew");
    auto inner = pool_.of(unit);
    if (!inner)
        return nullptr;
    session& s = insert(new_tsid(), unit, std::move(*inner));
    ++count->sessions_new;
    store_.save({unit, s.id, s.inner});
    return &s;
}

// Another address than before, or one again after there was none. A renewal is no move, nor is the first one.
void manager::impl::note_move(const session& s, const link::endpoint& to) {
    const link::endpoint from{s.info.outer, s.info.outer_port};
    if (from.port == 0 || (s.primary && from.address == to.address))
        return;
    handover h{.at = protocol::moment::now(), .session = s.id, .unit = s.unit, .from = from, .to = to};
    if (!s.primary) {
        h.without = std::chrono::duration_cast<std::chrono::milliseconds>(clock::now() - s.down_since);
        h.ended = s.lost_by;
    }
    moves->primary_moved(std::move(h));
}

// The newcomer is the session's primary from now on. One that it had before takes no new requests of ours but is heard
// for a moment: packets and responses that the unit sent before it knew of the new one are not lost.
void manager::impl::adopt(session& s, const std::shared_ptr<channel>& link, std::chrono::seconds lifetime) {
    newcomers_.remove_if([&](const newcomer& n) { return n.link == link; });
    note_move(s, link->link().remote());
    if (s.primary) {
        ++count->connections_replaced;
        if (s.old)
            s.old->abandon("replaced by the unit's new connection");
        s.old = std::move(s.primary);
    }
    s.primary = link;
    s.up_since = clock::now();
    s.info.outer = link->link().remote().address;
    s.info.outer_port = link->link().remote().port;
    s.info.cipher = link->link().cipher();
    s.info.lifetime = lifetime;
    const bool first = s.control == nullptr;
    s.control = link->join(s.control);
    if (first)
        s.control->keepalive(settings.keepalive);
    const auto weak = std::weak_ptr(link);
    const auto id = s.id;
    // By TSID, not by pointer: a callback may end the session.
    link->rebind({
        .on_request =
            [this, weak, id](const message& request) {
                if (const auto self = weak.lock())
                    if (session* of = find(id); of != nullptr && (of->primary == self || of->old == self))
                        on_request(self, of, request);
            },
        .on_packet =
            [this, id](std::span<const std::uint8_t> packet) {
                if (session* of = find(id); of != nullptr)
                    from_unit(*of, packet);
            },
        .on_closed =
            [this, weak, id](std::string_view reason) {
                session* of = find(id);
                const auto self = weak.lock();
                if (of != nullptr && of->old == self)
                    of->old.reset();
                else if (of != nullptr && of->primary == self)
                    lost(*of, reason);
            },
    });
    spdlog::info("session of '{}' up from {} port {} ({}), lifetime {} s", s.unit, s.info.outer.to_string(),
                 s.info.outer_port, s.info.cipher, lifetime.count());
}

// By the new primary, too; the unit's end moves them. Where it or this end has lost them they begin anew.
std::optional<std::uint8_t> manager::impl::carry_streams(session& s, const message& request) {
    const auto asked = request.get<tlv::streams>();
    if (!asked || settings.services.empty())
        return std::nullopt;
    const bool go_on = *asked == 1 && s.streams;
    if (!go_on) {
        if (s.streams)
            s.streams->stop();
        s.streams = unit_streams::begin(*s.primary, s.id, s.unit, streams_common_);
    }
    if (!s.streams)
        return std::nullopt;
    s.streams->carried_by(*s.primary);
    return go_on ? 1 : 0;
}

void manager::impl::answer_config(session& s, const message& request) {
    auto answer = request.response(status::ok);
    answer.set_tsid(s.id);
    for (const auto& address : s.inner) {
        answer.add<tlv::inner_address>(protocol::to_wire(address));
        answer.add<tlv::inner_prefix>(static_cast<std::uint8_t>(pool_.prefix_length(address)));
    }
    for (const auto& address : pool_.gateway())
        answer.add<tlv::inner_gateway>(protocol::to_wire(address));
    answer.add<tlv::keepalive_ms>(static_cast<std::uint32_t>(settings.keepalive.count()));
    answer.add<tlv::lifetime_s>(static_cast<std::uint32_t>(s.info.lifetime.count()));
    answer.add<tlv::mtu>(settings.mtu);
    for (const auto& server : settings.servers)
        answer.add<tlv::server>(server);
    if (const auto streams = carry_streams(s, request))
        answer.add<tlv::streams>(*streams);
    s.primary->answer(answer);
}

} // namespace tandem::session
