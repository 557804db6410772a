// SPDX-License-Identifier: Apache-2.0
// Secondaries and their sockets: the packets' way. What the gateway asks is in control.cpp.
#include "tools/agent/media/table.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>

#include <netinet/in.h>
#include <spdlog/spdlog.h>

#include "tools/agent/media/entry.hpp"

namespace tandem::agent {

namespace {

constexpr int datagrams_at_once = 64; // datagrams per wake-up, so that one media cannot starve the rest

socklen_t to_sockaddr(const endpoint& to, sockaddr_storage& out) noexcept {
    if (is_ipv4(to.ip)) {
        auto* four = reinterpret_cast<sockaddr_in*>(&out);
        *four = {};
        four->sin_family = AF_INET;
        four->sin_port = htons(to.port);
        std::copy_n(to.ip.begin() + 12, 4, reinterpret_cast<std::uint8_t*>(&four->sin_addr));
        return sizeof *four;
    }
    auto* six = reinterpret_cast<sockaddr_in6*>(&out);
    *six = {};
    six->sin6_family = AF_INET6;
    six->sin6_port = htons(to.port);
    std::copy_n(to.ip.begin(), 16, six->sin6_addr.s6_addr);
    return sizeof *six;
}

} // namespace

media_table::media_table(asio::io_context& io, packet_sink to_phone)
    : io_(io), to_phone_(std::move(to_phone)), scratch_(65536) {}

media_table::~media_table() {
    for (auto& [id, item] : media_)
        item->stop();
}

secondary* media_table::find(std::uint32_t media) noexcept {
    const auto found = media_.find(media);
    return found == media_.end() ? nullptr : found->second->tunnel.get();
}

void media_table::send(entry& item, packet_class what, std::span<const std::uint8_t> datagram,
                       std::uint8_t traffic_class) {
    if (datagram.empty())
        return;                                                         // dropped and counted already
    const auto dscp = static_cast<std::uint8_t>(traffic_class & 0xfcU); // ECN is between the ends of one path
    if (dscp != item.traffic_class) {
        const int value = dscp;
        const bool ipv4 = is_ipv4(item.tunnel->config().gateway_media.ip);
        ::setsockopt(item.socket->native_handle(), ipv4 ? IPPROTO_IP : IPPROTO_IPV6, ipv4 ? IP_TOS : IPV6_TCLASS,
                     &value, sizeof value);
        item.traffic_class = dscp;
    }
    sockaddr_storage address{};
    const socklen_t length = to_sockaddr(item.tunnel->destination(what), address);
    const ssize_t sent = ::sendto(item.socket->native_handle(), datagram.data(), datagram.size(), MSG_DONTWAIT,
                                  reinterpret_cast<const sockaddr*>(&address), length);
    if (sent >= 0)
        return;
    if (errno == EMSGSIZE)
        item.tunnel->counters.too_big++;
    else
        item.tunnel->counters.send_failures++;
}

bool media_table::belongs_to_dropped_fragment(const packet_view& view) const noexcept {
    return dropped_fragment_.set && view.fragment_id == dropped_fragment_.id &&
           view.source.ip == dropped_fragment_.source && view.destination.ip == dropped_fragment_.destination;
}

captured media_table::capture(std::span<const std::uint8_t> packet) {
    if (by_inner_.empty() && closed_inner_.empty())
        return captured::not_media;
    const packet_view view = parse_packet(packet);
    if (view.kind == packet_kind::later_fragment)
        return belongs_to_dropped_fragment(view) ? captured::media : captured::not_media;
    if (view.kind != packet_kind::udp && view.kind != packet_kind::first_fragment)
        return captured::not_media;
    const auto found = by_inner_.find(view.destination);
    if (found == by_inner_.end()) {
        if (!lately_closed(view.destination))
            return captured::not_media;
        after_close_++;
        return captured::media;
    }
    entry& item = *found->second;
    const secondary_config& config = item.tunnel->config();
    if (view.kind == packet_kind::first_fragment) {
        item.tunnel->counters.fragments++;
        dropped_fragment_ = {view.fragment_id, view.source.ip, view.destination.ip, true};
        return captured::media;
    }
    // Phones that send from another port than they receive on exist; another address is not this call's phone.
    if (view.source.ip != config.phone_media.ip && view.source.ip != config.phone_rtcp.ip) {
        item.tunnel->counters.wrong_source++;
        return captured::media;
    }
    const auto what = looks_like_rtcp(view.payload) ? packet_class::rtcp : packet_class::rtp;
    send(item, what, item.tunnel->protect(what, view.payload, clock::now()), view.traffic_class);
    return captured::media;
}

// Waits for datagrams from the gateway for as long as the media has this socket.
void media_table::receive(const entry_ptr& item, const socket_ptr& socket) {
    socket->async_wait(asio::ip::udp::socket::wait_read, [this, item, socket](const asio::error_code& error) {
        if (error || item->stopped)
            return;
        drain(*item, socket->native_handle());
        receive(item, socket);
    });
}

void media_table::drain(entry& item, int socket) {
    for (int i = 0; i < datagrams_at_once; i++) {
        const ssize_t got = ::recv(socket, scratch_.data(), scratch_.size(), MSG_DONTWAIT | MSG_TRUNC);
        if (got < 0)
            return;
        const auto length = std::min(static_cast<std::size_t>(got), scratch_.size());
        const auto packet = item.tunnel->unprotect(std::span(scratch_).first(length));
        if (packet.empty())
            continue;
        item.last_received = clock::now();
        if (!to_phone_(packet))
            item.tunnel->counters.phone_failures++;
    }
}

// One timer per media, at the earliest of: an epoch's end, a keepalive, the end of a socket that was left.
void media_table::arm(const entry_ptr& item) {
    auto next = item->tunnel->next_keepalive();
    if (!item->retirements.empty())
        next = std::min(next, item->retirements.front().when);
    if (item->left)
        next = std::min(next, item->left_until);
    item->timer.expires_at(next);
    item->timer.async_wait([this, item](const asio::error_code& error) {
        if (!error && !item->stopped)
            tick(item);
    });
}

// Old epochs go when their overlap is over; later where the gateway has not heard our answer to its SEED and goes on
// under the old one: without it this unit would be deaf until the SEED comes again.
void media_table::retire(entry& item, clock::time_point now) {
    while (!item.retirements.empty() && item.retirements.front().when <= now) {
        auto& next = item.retirements.front();
        const auto heard = item.tunnel->older_heard();
        if (!item.tunnel->newest_heard() && heard != std::exchange(next.heard, heard)) {
            next.when = now + item.overlap;
            return;
        }
        item.tunnel->retire_below(next.below);
        item.retirements.pop_front();
    }
}

void media_table::tick(const entry_ptr& item) {
    const auto now = clock::now();
    retire(*item, now);
    if (item->left && now >= item->left_until) {
        asio::error_code ignored;
        item->left->close(ignored);
        item->left.reset();
    }
    if (!primary_up_ && now - primary_lost_ > orphan_after && now - item->last_received > orphan_after) {
        remove(item->tunnel->config().media, "the gateway is gone", ending::fault);
        return;
    }
    if (item->tunnel->keepalive_due(now))
        send(*item, packet_class::rtcp, item->tunnel->keepalive(now), item->traffic_class);
    arm(item);
}

bool media_table::lately_closed(const endpoint& inner) const {
    const auto found = closed_inner_.find(inner);
    return found != closed_inner_.end() && found->second > clock::now();
}

void media_table::index(const entry_ptr& item) {
    closed_inner_.erase(item->tunnel->config().inner_media);
    closed_inner_.erase(item->tunnel->config().inner_rtcp);
    by_inner_[item->tunnel->config().inner_media] = item;
    by_inner_[item->tunnel->config().inner_rtcp] = item;
}

void media_table::unindex(const entry& item) {
    std::erase_if(by_inner_, [&item](const auto& pair) { return pair.second.get() == &item; });
}

// A call of several media (audio and video) counts once: as long as from its first media's begin to its last one's end.
void media_table::note_call(const entry& over, ending how) {
    if (over.peer.empty() || how == ending::goes_on)
        return;
    for (auto& [id, other] : media_)
        if (other->peer == over.peer) {
            other->call_began = std::min(other->call_began, over.call_began);
            return;
        }
    const auto length = std::chrono::duration_cast<std::chrono::milliseconds>(clock::now() - over.call_began);
    if (call_ended_)
        call_ended_(over.peer, length, how == ending::fault);
}

void media_table::remove(std::uint32_t media, const std::string& why, ending how) {
    const auto found = media_.find(media);
    if (found == media_.end())
        return;
    const entry_ptr item = found->second;
    const auto& counters = item->tunnel->counters;
    spdlog::info("media {} closed ({}): sent {}, received {}, authentication failures {}, replays {}, re-keys {}",
                 media, why, counters.sent, counters.received, counters.auth_failures, counters.replays,
                 counters.rekeys);
    media_.erase(found);
    unindex(*item);
    const auto now = clock::now();
    std::erase_if(closed_inner_, [now](const auto& closed) { return closed.second <= now; });
    for (const endpoint& inner : {item->tunnel->config().inner_media, item->tunnel->config().inner_rtcp})
        closed_inner_[inner] = now + remembered_after_close;
    item->stop();
    item->tunnel->wipe();
    if (how != ending::goes_on) // one that is opened anew may have its next seed already
        seeds_.forget(media);
    closed_++;
    note_call(*item, how);
}

void media_table::close_all(const std::string& why) {
    while (!media_.empty())
        remove(media_.begin()->first, why, ending::call);
    seeds_.clear();
}

void media_table::primary_is(bool up) {
    if (primary_up_ && !up)
        primary_lost_ = clock::now();
    primary_up_ = up;
}

} // namespace tandem::agent
