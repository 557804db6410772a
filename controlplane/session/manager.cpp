// SPDX-License-Identifier: Apache-2.0
// Life of sessions: start and stop, tables, loss, linger and lifetime, inner packets. See manager.hpp,
// manager_impl.hpp.
#include "controlplane/session/manager.hpp"

#include <algorithm>
#include <utility>

#include <spdlog/spdlog.h>

#include "controlplane/protocol/address_asio.hpp"
#include "controlplane/protocol/inner_packet.hpp"
#include "controlplane/session/manager_impl.hpp"
#include "controlplane/session/tsid.hpp"

namespace tandem::session {
namespace {

std::unique_ptr<tunnel::inner_device> kernel_tun(asio::io_context& io, const config& c) {
    tunnel::tun_settings settings{.name = c.tun, .inner4 = {}, .inner6 = {}, .mtu = c.mtu};
    settings.guarded = c.nftables;
    settings.from = c.inner_from;
    settings.isolate = c.isolate;
    for (const auto& own : address_pool(c.inner4, c.inner6).gateway()) {
        if (own.is_v4())
            settings.inner4 = asio::ip::network_v4(own.to_v4(), c.inner4->prefix_length());
        else
            settings.inner6 = asio::ip::network_v6(own.to_v6(), c.inner6->prefix_length());
    }
    return tunnel::make_kernel_tun(io, std::move(settings));
}

bool multicast_or_link_local(const protocol::inner_addresses& a) {
    const auto& to = a.destination.bytes;
    const auto& from = a.source.bytes;
    const auto destination = protocol::from_wire(a.destination);
    return to[0] == 0xFF || (destination.is_v4() && destination.is_multicast()) ||
           (from[0] == 0xFE && (from[1] & 0xC0U) == 0x80) || a.source == protocol::ip_address{};
}

} // namespace

manager::impl::impl(manager& owner, asio::io_context& io, config c, identity::psk_store& units, session_store& store,
                    std::unique_ptr<tunnel::inner_device> inner)
    : settings(std::move(c)), owner_(owner), io_(io), units_(units), store_(store),
      inner_(inner ? std::move(inner) : kernel_tun(io, settings)), pool_(settings.inner4, settings.inner6),
      streams_common_(unit_streams::make_common(settings.services, count, moves)), sweep_timer_(io) {}

tl::expected<void, std::string> manager::impl::check() const {
    const auto wrong = [](const char* text) { return tl::unexpected(std::string(text)); };
    if (settings.listen.empty())
        return wrong("[tunnel] listen names no address: give at least one \"address:port\"");
    if (!settings.inner4 && !settings.inner6)
        return wrong("[tunnel] needs inner4 or inner6: the network of the units' inner addresses");
    if (pool_.capacity() == 0)
        return wrong("[tunnel] inner4 or inner6 is too small: it must hold the gateway and at least one unit");
    if (settings.inner6 && settings.mtu < 1280)
        return wrong("[tunnel] mtu must be at least 1280 where inner6 is given");
    if (settings.mtu < 576 || settings.mtu > 9000)
        return wrong("[tunnel] mtu must be 576 to 9000");
    if (settings.keepalive.count() < 10)
        return wrong("[tunnel] keepalive_ms must be at least 10");
    if (settings.lifetime.count() < 1 || settings.lifetime > std::chrono::hours(24 * 365))
        return wrong("[tunnel] lifetime_s must be 1 to 31536000");
    return {};
}

tl::expected<void, std::string> manager::impl::start() {
    if (auto ok = check(); !ok)
        return ok;
    auto context =
        protocol::make_server_context([this](std::string_view id) { return units_.psk(id); }, settings.certificates);
    if (!context)
        return tl::unexpected("[tunnel] " + context.error());
    load();
    if (auto ok = inner_->start([this](std::span<const std::uint8_t> packet) { to_unit(packet); }); !ok)
        return ok;
    listener = std::make_shared<tunnel::listener>(
        io_, std::move(*context),
        tunnel::limits{settings.first_byte, settings.handshake_timeout, settings.max_silent, settings.max_half_open,
                       settings.max_connections, settings.queue_bytes},
        count, [this](const protocol::peer_identity& peer) { return admitted(peer); },
        [this](std::shared_ptr<tunnel::connection> c) { on_connection(std::move(c)); });
    if (auto ok = listener->start(settings.listen); !ok) {
        inner_->stop();
        return ok;
    }
    running_ = true;
    arm_sweep();
    return {};
}

// The kind of credential is the unit's.
bool manager::impl::admitted(const protocol::peer_identity& peer) {
    return peer.by == protocol::credential::certificate ? units_.by_certificate(peer.id_code, peer.key)
                                                        : units_.known(peer.id_code);
}

bool manager::impl::was_revoked(channel& link) const {
    const auto& certificate = link.link().peer().certificate;
    return certificate && protocol::revoked(listener->tls(), certificate.get());
}

tl::expected<void, std::string> manager::impl::renew_trust(bool& stale) {
    if (!running_ || settings.certificates.empty())
        return {};
    if (auto done = protocol::renew_trust(listener->tls(), settings.certificates, &stale); !done)
        return tl::unexpected("[tunnel] " + done.error());
    std::vector<std::shared_ptr<channel>> late;
    for (const auto& n : newcomers_)
        if (was_revoked(*n.link))
            late.push_back(n.link);
    for (const auto& link : late)
        link->close("its certificate was revoked");
    std::vector<tsid> over;
    for (const auto& [id, s] : sessions)
        if (s->primary && was_revoked(*s->primary))
            over.push_back(id);
    for (const auto id : over) // a callback may end any session
        if (session* s = find(id); s != nullptr)
            drop(*s, "the unit's certificate was revoked");
    return {};
}

void manager::impl::stop() {
    if (!running_)
        return;
    running_ = false;
    sweep_timer_.cancel();
    listener->stop();
    for (auto& n : newcomers_)
        n.link->abandon("gateway stops");
    newcomers_.clear();
    for (auto& [id, s] : sessions)
        for (auto* link : {&s->primary, &s->old})
            if (const auto gone = std::move(*link); gone)
                gone->abandon("gateway stops");
    inner_->stop();
}

void manager::impl::load() {
    for (auto& row : store_.load()) {
        if (!units_.known(row.unit)) {
            store_.forget(row.unit);
            continue;
        }
        if (!pool_.restore(row.unit, row.inner)) {
            spdlog::warn("session of '{}': its inner address is not of the configured networks: it gets a new one",
                         row.unit);
            continue;
        }
        if (row.id == 0 || row.id == protocol::no_tsid || sessions.contains(row.id))
            continue;
        session& s = insert(row.id, row.unit, *pool_.of(row.unit));
        s.down_since = clock::now(); // its unit has as long as after any loss
        ++count->sessions_restored;
    }
}

session& manager::impl::insert(tsid id, const std::string& unit, std::vector<asio::ip::address> inner) {
    auto fresh = std::make_unique<session>();
    session& s = *fresh;
    s.id = id;
    s.unit = unit;
    s.inner = std::move(inner);
    s.info.since = protocol::moment::now();
    s.info.transport = "tls";
    sessions.emplace(id, std::move(fresh));
    by_unit_[unit] = &s;
    for (const auto& address : s.inner)
        by_inner_[protocol::to_wire(address)] = &s;
    return s;
}

tsid manager::impl::new_tsid() const {
    tsid id = random_tsid();
    while (sessions.contains(id))
        id = random_tsid();
    return id;
}

session* manager::impl::find(tsid id) const {
    const auto at = sessions.find(id);
    return at != sessions.end() ? at->second.get() : nullptr;
}
session* manager::impl::find_unit(const std::string& unit) const {
    const auto at = by_unit_.find(unit);
    return at != by_unit_.end() ? at->second : nullptr;
}
session* manager::impl::find_inner(const protocol::ip_address& address) const {
    const auto at = by_inner_.find(address);
    return at != by_inner_.end() ? at->second : nullptr;
}

session_info manager::impl::info(const session& s) const {
    session_info i = s.info;
    i.id = s.id;
    i.unit = s.unit;
    i.inner = s.inner;
    i.up = s.primary != nullptr;
    const auto gateway = pool_.gateway();
    i.inner_gateway = gateway.front();
    if (gateway.back().is_v6())
        i.inner_gateway_v6 = gateway.back();
    if (s.streams)
        i.streams = s.streams->describe();
    return i;
}

// The transport is gone; the session waits for its unit.
void manager::impl::lost(session& s, std::string_view reason) {
    spdlog::info("session of '{}' lost its primary: {}", s.unit, reason);
    s.primary.reset();
    if (const auto old = std::exchange(s.old, nullptr); old)
        old->abandon(reason);
    s.down_since = clock::now();
    s.lost_by = reason;
    if (owner_.on_down)
        owner_.on_down(info(s), false);
}

void manager::impl::end(session& s, std::string_view reason) {
    spdlog::info("session of '{}' is over: {}", s.unit, reason);
    for (auto* link : {&s.primary, &s.old})
        if (const auto gone = std::move(*link); gone)
            gone->abandon(reason);
    if (s.streams)
        s.streams->stop();
    const auto last = info(s);
    by_unit_.erase(s.unit);
    for (const auto& address : s.inner)
        by_inner_.erase(protocol::to_wire(address));
    store_.save({s.unit, 0, s.inner}); // the address stays the unit's
    sessions.erase(s.id);
    if (owner_.on_down)
        owner_.on_down(last, true);
}

void manager::impl::drop(session& s, const std::string& reason) {
    ++count->sessions_dropped;
    if (s.primary) {
        auto release = protocol::message::request(protocol::exchange::release);
        release.add<protocol::tlv::reason>(reason);
        s.primary->tell(std::move(release));
    }
    end(s, reason);
}

void manager::impl::forget(const std::string& unit) {
    if (session* s = find_unit(unit); s != nullptr)
        drop(*s, "this unit was removed from the gateway");
    for (auto at = newcomers_.begin(); at != newcomers_.end();) {
        auto& link = at->link;
        if (link->link().peer().id_code == unit) {
            link->abandon("unit removed");
            at = newcomers_.erase(at);
        } else {
            ++at;
        }
    }
    pool_.forget(unit);
    store_.forget(unit);
}

void manager::impl::from_unit(session& s, std::span<const std::uint8_t> packet) {
    const auto addresses = protocol::parse_inner(packet);
    if (!addresses || packet.size() > settings.mtu) {
        ++count->bad_inner;
        return;
    }
    if (multicast_or_link_local(*addresses)) {
        ++count->link_local;
        return;
    }
    if (find_inner(addresses->source) != &s) {
        ++count->spoofed;
        return;
    }
    if (settings.isolate && pool_.is_units(protocol::from_wire(addresses->destination))) {
        ++count->isolated;
        return;
    }
    ++count->packets_from_units;
    ++s.info.rx_packets;
    s.info.rx_bytes += packet.size();
    if (!inner_->write(packet))
        ++count->tun_full;
}

void manager::impl::to_unit(std::span<const std::uint8_t> packet) {
    const auto addresses = protocol::parse_inner(packet);
    if (!addresses) {
        ++count->bad_inner;
        return;
    }
    if (multicast_or_link_local(*addresses)) {
        ++count->link_local;
        return;
    }
    session* s = find_inner(addresses->destination);
    if (s == nullptr) {
        ++count->no_session;
        return;
    }
    if (settings.isolate && pool_.is_units(protocol::from_wire(addresses->source))) { // forwarded by the host
        ++count->isolated;
        return;
    }
    if (!s->primary) {
        ++count->unit_down;
        return;
    }
    ++count->packets_to_units;
    ++s->info.tx_packets;
    s->info.tx_bytes += packet.size();
    s->primary->link().send_packet(packet);
}

void manager::impl::arm_sweep() {
    using std::chrono::milliseconds;
    const auto shortest = std::min({settings.keepalive, settings.grace, settings.linger, settings.handshake_timeout});
    sweep_timer_.expires_after(std::clamp(shortest / 4, milliseconds(5), milliseconds(250)));
    sweep_timer_.async_wait([this, alive = std::weak_ptr(alive_)](std::error_code error) {
        if (error || alive.expired() || !running_)
            return;
        sweep();
        arm_sweep();
    });
}

void manager::impl::sweep() {
    const auto now = clock::now();
    std::vector<std::shared_ptr<channel>> late;
    for (const auto& n : newcomers_)
        if (now - n.since > settings.handshake_timeout)
            late.push_back(n.link);
    for (const auto& link : late) {
        ++count->config_timeouts;
        link->close("no CONFIG in time");
    }
    std::vector<tsid> ids;
    ids.reserve(sessions.size());
    for (const auto& [id, s] : sessions)
        ids.push_back(id);
    for (const auto id : ids) // a callback may end any session
        if (session* s = find(id); s != nullptr)
            sweep_session(*s, now);
}

void manager::impl::sweep_session(session& s, clock::time_point now) {
    if (!s.primary) {
        if (now - s.down_since > settings.linger) {
            ++count->sessions_expired;
            end(s, "the unit did not come back");
        }
        return;
    }
    if (now - s.up_since > s.info.lifetime + settings.grace) {
        ++count->lifetime_ended;
        const auto link = s.primary;     // closing resets the session's
        link->close("lifetime is over"); // the unit comes back and resumes; its calls go on
    }
}

// ---------------------------------------------------------------------------------------------------------------------

manager::manager(asio::io_context& io, config c, identity::psk_store& units, session_store& store)
    : manager(io, std::move(c), units, store, nullptr) {}
manager::manager(asio::io_context& io, config c, identity::psk_store& units, session_store& store,
                 std::unique_ptr<tunnel::inner_device> inner)
    : impl_(std::make_unique<impl>(*this, io, std::move(c), units, store, std::move(inner))) {}
manager::~manager() {
    impl_->stop();
}

tl::expected<void, std::string> manager::start() {
    return impl_->start();
}
void manager::stop() {
    impl_->stop();
}
tl::expected<void, std::string> manager::renew_trust(bool& stale) {
    return impl_->renew_trust(stale);
}
void manager::forget(const std::string& unit) {
    impl_->forget(unit);
}
std::string manager::guard() {
    return impl_->guard();
}
const counters& manager::count() const noexcept {
    return *impl_->count;
}
const handovers& manager::moves() const noexcept {
    return *impl_->moves;
}
const config& manager::settings() const noexcept {
    return impl_->settings;
}
std::vector<link::endpoint> manager::listening() const {
    return impl_->listener ? impl_->listener->endpoints() : std::vector<link::endpoint>{};
}

std::optional<session_info> manager::by_tsid(tsid id) const {
    const session* s = impl_->find(id);
    return s != nullptr ? std::optional(impl_->info(*s)) : std::nullopt;
}
std::optional<session_info> manager::by_unit(const std::string& id_code) const {
    const session* s = impl_->find_unit(id_code);
    return s != nullptr ? std::optional(impl_->info(*s)) : std::nullopt;
}
std::optional<session_info> manager::by_inner(const asio::ip::address& address) const {
    const session* s = impl_->find_inner(protocol::to_wire(address));
    return s != nullptr ? std::optional(impl_->info(*s)) : std::nullopt;
}
std::vector<session_info> manager::all() const {
    std::vector<session_info> result;
    result.reserve(impl_->sessions.size());
    for (const auto& [id, s] : impl_->sessions)
        result.push_back(impl_->info(*s));
    std::ranges::sort(result, {}, &session_info::unit);
    return result;
}

bool manager::drop(tsid id, const std::string& reason) {
    session* s = impl_->find(id);
    if (s == nullptr)
        return false;
    impl_->drop(*s, reason);
    return true;
}

asio::awaitable<tl::expected<protocol::message, request_error>> manager::request(tsid id, protocol::message message,
                                                                                 std::chrono::milliseconds timeout) {
    session* s = impl_->find(id);
    if (s == nullptr)
        co_return tl::unexpected(request_error::no_session);
    if (!s->primary)
        co_return tl::unexpected(request_error::not_up);
    const auto link = s->primary; // lives through the wait, whatever happens to the session
    co_return co_await link->request(std::move(message), timeout);
}

} // namespace tandem::session
