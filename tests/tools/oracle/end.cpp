// SPDX-License-Identifier: Apache-2.0
#include "tests/tools/oracle/end.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <utility>

#include <fmt/format.h>

namespace tandem::oracle {

namespace {

constexpr std::chrono::milliseconds interval{20};
constexpr unsigned rtcp_every = 8; // packets
constexpr std::chrono::milliseconds sdes_grace{400};
// A SEED's answer that a fault parts from the change is followed by the old epoch until the gateway is whole again.
constexpr std::chrono::seconds unit_grace{20};
constexpr std::uint64_t beyond_window = 256; // behind this many nothing may be accepted
constexpr std::size_t reflected = 64;

} // namespace

address make_address(const std::string& ip, std::uint16_t port) {
    address out;
    if (ip.find(':') != std::string::npos) {
        auto* a = reinterpret_cast<sockaddr_in6*>(&out.storage);
        a->sin6_family = AF_INET6;
        a->sin6_port = htons(port);
        out.length = sizeof *a;
        if (inet_pton(AF_INET6, ip.c_str(), &a->sin6_addr) == 1)
            return out;
    } else {
        auto* a = reinterpret_cast<sockaddr_in*>(&out.storage);
        a->sin_family = AF_INET;
        a->sin_port = htons(port);
        out.length = sizeof *a;
        if (inet_pton(AF_INET, ip.c_str(), &a->sin_addr) == 1)
            return out;
    }
    throw std::runtime_error("not an address: " + ip);
}

std::uint16_t port_of(const address& a) noexcept {
    return ntohs(a.storage.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6*>(&a.storage)->sin6_port
                                                 : reinterpret_cast<const sockaddr_in*>(&a.storage)->sin_port);
}

int open_socket(const std::string& space, const address& local) {
    const int home = space.empty() ? -1 : open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (const int there = space.empty() ? -1 : open(space.c_str(), O_RDONLY | O_CLOEXEC); there >= 0) {
        if (setns(there, CLONE_NEWNET) != 0)
            throw std::runtime_error(space + ": " + std::strerror(errno));
        close(there);
    } else if (!space.empty()) {
        throw std::runtime_error(space + ": no such namespace");
    }
    const int fd = socket(local.storage.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (home >= 0) {
        if (setns(home, CLONE_NEWNET) != 0)
            std::abort();
        close(home);
    }
    const int big = 1 << 20;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &big, sizeof big);
    if (bind(fd, local.raw(), local.length) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

namespace {

std::uint16_t bound_port(int fd) {
    address at;
    at.length = sizeof at.storage;
    getsockname(fd, reinterpret_cast<sockaddr*>(&at.storage), &at.length);
    return port_of(at);
}

} // namespace

end::end(settings s, ledger& book)
    : ears(book, wrong, s.unit ? unit_grace : sdes_grace), settings_(std::move(s)), book_(book), ssrc_(settings_.ssrc),
      next_(settings_.first) {}

end::~end() {
    for (const int fd : sockets())
        close(fd);
}

void end::place(const std::string& ip) {
    for (const int fd : left_)
        close(fd);
    left_.clear();
    for (const int fd : {rtp_, rtcp_})
        if (fd >= 0)
            left_.push_back(fd);
    rtp_ = rtcp_ = -1;
    for (int tries = 0; rtcp_ < 0 && tries < 200; ++tries) {
        rtp_ = open_socket(settings_.space, make_address(ip, 0));
        if (rtp_ < 0)
            throw std::runtime_error(ip + ": " + std::strerror(errno));
        port_ = bound_port(rtp_);
        if (port_ % 2 == 0)
            rtcp_ = open_socket(settings_.space, make_address(ip, static_cast<std::uint16_t>(port_ + 1)));
        if (rtcp_ < 0)
            close(std::exchange(rtp_, -1));
    }
    if (rtcp_ < 0)
        throw std::runtime_error(ip + ": no two ports in a row");
}

void end::place_unit() {
    for (const int fd : left_)
        close(fd);
    left_.clear();
    if (rtp_ >= 0)
        left_.push_back(rtp_);
    rtp_ = open_socket(settings_.space, make_address("0.0.0.0", 0));
    port_ = bound_port(rtp_);
}

std::vector<int> end::sockets() const {
    auto out = left_;
    for (const int fd : {rtp_, rtcp_})
        if (fd >= 0)
            out.push_back(fd);
    return out;
}

void end::send_under(std::optional<srtp_key> key, roc_choice roc) {
    if (key)
        check_key(*key);
    if (key && (!key_ || key_->material != key->material))
        follows_ = key_ && roc == roc_choice::keep ? key_->material : "";
    if (key && std::ranges::find(send_keys, key->material) == send_keys.end())
        send_keys.push_back(key->material);
    key_ = std::move(key);
}

void end::restart(std::uint32_t ssrc, std::uint64_t first) {
    if (key_ && ssrc == ssrc_)
        throw std::runtime_error("indices of one SSRC under one key would come again");
    ssrc_ = ssrc;
    next_ = first;
}

void end::tick(moment now) {
    if (!sending_ || to_rtp_.length == 0 || rtp_ < 0)
        return;
    if (due_ == moment{} || now - due_ > 10 * interval)
        due_ = now;
    if (now < due_)
        return;
    due_ += interval;
    ++sent;
    send(make_rtp(ssrc_, static_cast<std::uint16_t>(next_), static_cast<std::uint32_t>(next_ * 160),
                  {settings_.number, ++numbers_}));
    ++next_;
    if (numbers_ % rtcp_every == 0)
        send(make_rtcp(ssrc_, {settings_.number, ++numbers_}));
}

void end::send(bytes plain) {
    const auto head = *read_head(plain);
    const auto number = numbers_;
    std::uint64_t index = 0;
    if (key_ && !protect(plain, head, index))
        return;
    transmit(plain, head.rtcp, -1);
    record_.push_back({std::move(plain), key_ ? key_->material : "", number, index, head.ssrc, head.rtcp});
}

end::outgoing& end::stream_of(std::uint32_t ssrc) {
    auto& out = streams_[key_->material][ssrc];
    if (out.stream)
        return out;
    out.base = next_ >> 16;
    if (const auto before = streams_.find(follows_); before != streams_.end())
        if (const auto same = before->second.find(ssrc); same != before->second.end())
            out.base = same->second.base;
    out.stream = std::make_unique<srtp_stream>(*key_, ssrc, static_cast<std::uint32_t>((next_ >> 16) - out.base));
    return out;
}

bool end::protect(bytes& packet, const packet_head& head, std::uint64_t& index) {
    auto& out = stream_of(head.ssrc);
    index = next_ - (out.base << 16);
    if (!out.stream->protect(packet, head.rtcp)) {
        wrong.add("the test cannot protect its packet", fmt::format("index {}", index));
        return false;
    }
    if (head.rtcp)
        index = srtcp_index(packet, key_->suite);
    if (!book_.use(key_->material, head.ssrc, head.rtcp, index))
        wrong.add("an index twice under one key", fmt::format("sent by the test itself, index {}", index));
    if (key_->mki)
        put_mki(packet, key_->suite, head.rtcp, *key_->mki);
    return true;
}

void end::transmit(const bytes& wire, bool rtcp, int socket) const {
    const bool apart = rtcp && rtcp_ >= 0 && port_of(to_rtcp_) != port_of(to_rtp_);
    const auto& to = apart ? to_rtcp_ : to_rtp_;
    const int from = socket >= 0 ? socket : apart ? rtcp_ : rtp_;
    (void)sendto(from, wire.data(), wire.size(), 0, to.raw(), to.length); // what is lost is lost
}

void end::receive(moment now) {
    bytes wire;
    for (const int fd : sockets())
        for (;;) {
            wire.resize(2048);
            const auto got = recv(fd, wire.data(), wire.size(), 0);
            if (got <= 0)
                break;
            wire.resize(static_cast<std::size_t>(got));
            take(wire, now);
        }
}

void end::take(const bytes& wire, moment now) {
    came_.push_back(wire);
    if (came_.size() > reflected)
        came_.pop_front();
    if (const auto plain = ears.take(wire, now))
        hear(*plain);
}

void end::look_again(moment now, std::chrono::milliseconds patience) {
    for (const auto& plain : ears.waited(now, patience))
        hear(plain);
}

void end::hear(const bytes& plain) {
    const auto who = read_identity(plain);
    const auto head = read_head(plain);
    if (!who) {
        if (!head || !head->rtcp) // an agent's keepalive is RTCP without a name
            wrong.add("a payload that nobody sent", fmt::format("{} bytes", plain.size()));
        return;
    }
    if (far_ == nullptr || who->end != far_->settings_.number) {
        wrong.add("a packet of another call", fmt::format("of end {}", who->end));
        return;
    }
    if (!delivered_.insert(who->number).second)
        wrong.add("a packet delivered twice",
                  fmt::format("{} {} of end {}, {} numbers behind the newest", head->rtcp ? "RTCP" : "RTP", who->number,
                              who->end, static_cast<std::int64_t>(newest_heard - who->number)));
    ++heard;
    newest_heard = std::max(newest_heard, who->number);
}

// SRTP that was delivered, or that lies so far behind what was that no window reaches it.
std::vector<const end::recorded*> end::refusable() const {
    std::map<std::pair<std::string_view, std::uint32_t>, std::uint64_t> newest;
    for (const auto& one : record_)
        if (!one.key.empty() && !one.rtcp && far_->delivered(one.number)) {
            auto& index = newest[{one.key, one.ssrc}];
            index = std::max(index, one.index);
        }
    std::vector<const recorded*> out;
    for (const auto& one : record_) {
        if (one.key.empty())
            continue;
        const auto known = newest.find({one.key, one.ssrc});
        const bool behind = !one.rtcp && known != newest.end() && one.index + beyond_window < known->second;
        if (behind || far_->delivered(one.number))
            out.push_back(&one);
    }
    return out;
}

unsigned end::inject(std::mt19937& chance, unsigned count, int socket) {
    if (!key_ || far_ == nullptr || to_rtp_.length == 0)
        return 0;
    const auto from = refusable();
    unsigned done = 0;
    for (; !from.empty() && done < count; ++done) {
        const auto& one = *from[chance() % from.size()];
        transmit(one.wire, one.rtcp, socket);
    }
    injected += done;
    return done;
}

unsigned end::reflect(std::mt19937& chance, unsigned count) {
    if (!key_ || to_rtp_.length == 0 || came_.empty())
        return 0;
    for (unsigned i = 0; i < count; ++i) {
        const auto& wire = came_[chance() % came_.size()];
        const auto head = read_head(wire);
        transmit(wire, head && head->rtcp, -1);
    }
    injected += count;
    return count;
}

} // namespace tandem::oracle
