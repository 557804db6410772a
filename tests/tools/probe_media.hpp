// SPDX-License-Identifier: Apache-2.0
// probe_unit's secondaries: keys from seeds, a 50 packets/s SRTP stream each, and libsrtp2's judgement of what returns.
// One thread.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/rand.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <fmt/core.h>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "controlplane/protocol/message.hpp"
#include "controlplane/protocol/seed_keys.hpp"
#include "tools/agent/media/srtp.hpp"

namespace tandem::probing {

using namespace tandem::protocol;

inline std::string hex(std::span<const std::uint8_t> bytes) {
    std::string out;
    for (const auto b : bytes)
        out += fmt::format("{:02x}", b);
    return out;
}

inline std::vector<std::uint8_t> from_hex(const std::string& text) {
    std::vector<std::uint8_t> out;
    for (std::size_t i = 0; i + 1 < text.size(); i += 2)
        out.push_back(static_cast<std::uint8_t>(std::stoul(text.substr(i, 2), nullptr, 16)));
    return out;
}

inline sockaddr_in to_sockaddr(const endpoint& e) {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(e.port);
    std::memcpy(&to.sin_addr, &e.address.bytes[12], 4);
    return to;
}

inline std::string text(const endpoint& e) {
    char out[INET_ADDRSTRLEN];
    inet_ntop(AF_INET, &e.address.bytes[12], out, sizeof(out));
    return fmt::format("{}:{}", out, e.port);
}

struct totals {
    std::uint64_t sent = 0, received = 0, refused = 0, seeds = 0, made = 0;
};

// What a unit's primary asks of one secondary.
class unit_media {
public:
    explicit unit_media(const message& open)
        : suite_(static_cast<api::suite>(*open.get<tlv::suite>())), gateway_(*open.get<tlv::gateway_media>()) {}
    virtual ~unit_media() = default;
    unit_media(const unit_media&) = delete;
    unit_media& operator=(const unit_media&) = delete;
    // One seed, or two where the seed is the key itself. The first epoch's come so, too.
    virtual bool rekey(const std::vector<secret>& seeds, std::uint32_t epoch) = 0;
    virtual void moved(const message& open) {
        gateway_ = *open.get<tlv::gateway_media>();
    } // MEDIA_OPEN under the same epoch
    virtual void send(totals& sum) = 0;
    virtual void receive(totals& sum) = 0;
    [[nodiscard]] virtual std::uint32_t sending() const noexcept = 0; // epoch
    [[nodiscard]] virtual std::uint16_t port() const = 0;

    [[nodiscard]] const endpoint& gateway() const noexcept { return gateway_; }
    [[nodiscard]] api::suite suite() const noexcept { return suite_; }
    [[nodiscard]] endpoint local() const {
        endpoint out;
        out.address.bytes[10] = out.address.bytes[11] = 0xFF;
        out.port = port();
        return out;
    }
    totals own;

protected:
    api::suite suite_;
    endpoint gateway_;
};

// Keys of one epoch, both directions, key || salt; nothing where the seeds do not fit.
struct unit_keys {
    secret up, down;
};
inline std::optional<unit_keys> keys_of(const std::vector<secret>& seeds, bool seed_is_key, std::uint64_t tsid,
                                        std::uint32_t media, std::uint32_t epoch, api::suite suite) {
    if (seeds.size() != (seed_is_key ? 2U : 1U))
        return std::nullopt;
    auto up = seed_is_key ? seed_as_keys(seeds[0], suite)
                          : derive_keys(seeds[0], {tsid, media, direction::to_gateway, epoch, suite});
    auto down = seed_is_key ? seed_as_keys(seeds[1], suite)
                            : derive_keys(seeds[0], {tsid, media, direction::to_unit, epoch, suite});
    if (!up || !down)
        return std::nullopt;
    return unit_keys{std::move(*up), std::move(*down)};
}

// A secondary with its socket and a 50 packets/s stream.
class probe_media : public unit_media {
public:
    probe_media(const message& open, std::uint64_t tsid, std::ostream* reveal, std::uint16_t sequence)
        : unit_media(open), id_(*open.get<tlv::media_id>()), tsid_(tsid),
          seed_is_key_(open.get<tlv::key_use>() == protocol::wire(protocol::key_use::seed_is_key)), receiver_(suite_),
          reveal_(reveal), sequence_(sequence) {
        socket_ = ::socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        sockaddr_in any{};
        any.sin_family = AF_INET;
        ::bind(socket_, reinterpret_cast<sockaddr*>(&any), sizeof(any));
        RAND_bytes(reinterpret_cast<unsigned char*>(&ssrc_), sizeof(ssrc_));
    }
    ~probe_media() override { ::close(socket_); }

    bool rekey(const std::vector<secret>& seeds, std::uint32_t epoch) override {
        const auto keys = keys_of(seeds, seed_is_key_, tsid_, id_, epoch, suite_);
        if (!keys)
            return false;
        if (sender_ && epoch == sender_->epoch())
            return true; // asked again, or the phone moved
        if (reveal_ != nullptr)
            *reveal_
                << fmt::format(
                       "{{\"media\":{},\"epoch\":{},\"suite\":\"{}\",\"seed\":\"{}\",\"up\":\"{}\",\"down\":\"{}\"}}\n",
                       id_, epoch, api::info(suite_).name, hex(seeds[0].view()), hex(keys->up.view()),
                       hex(keys->down.view()))
                << std::flush;
        if (!receiver_.install(keys->down, epoch))
            return false;
        if (!sender_)
            sender_ = agent::srtp_sender::create(suite_, keys->up, epoch);
        else if (!sender_->rekey(keys->up, epoch))
            return false;
        if (epoch > 1)
            receiver_.retire_below(epoch - 1);
        return sender_ != nullptr;
    }

    void send(totals& sum) override {
        if (!sender_)
            return;
        std::uint8_t packet[12 + 160 + agent::max_trailer] = {0x80, 0};
        store_be(std::span(packet).subspan(2, 2), sequence_++);
        store_be(std::span(packet).subspan(4, 4), timestamp_ += 160);
        store_be(std::span(packet).subspan(8, 4), ssrc_);
        std::memset(packet + 12, 0xD5, 160);
        const auto length = sender_->protect(agent::packet_class::rtp, packet, 12 + 160);
        const auto to = to_sockaddr(gateway_);
        if (length && ::sendto(socket_, packet, *length, 0, reinterpret_cast<const sockaddr*>(&to), sizeof(to)) > 0)
            ++sum.sent, ++own.sent;
    }

    void receive(totals& sum) override {
        std::uint8_t packet[2048];
        for (ssize_t got; (got = ::recv(socket_, packet, sizeof(packet), 0)) > 0;) {
            const bool rtcp = got > 1 && packet[1] >= 192 && packet[1] <= 223;
            const auto ok = receiver_.unprotect(rtcp ? agent::packet_class::rtcp : agent::packet_class::rtp, packet,
                                                static_cast<std::size_t>(got));
            ++(ok ? sum.received : sum.refused);
            ++(ok ? own.received : own.refused);
        }
    }

    [[nodiscard]] std::uint32_t sending() const noexcept override { return sender_ ? sender_->epoch() : 0; }
    [[nodiscard]] std::uint16_t port() const override {
        sockaddr_in at{};
        socklen_t size = sizeof(at);
        ::getsockname(socket_, reinterpret_cast<sockaddr*>(&at), &size);
        return ntohs(at.sin_port);
    }

private:
    std::uint32_t id_;
    std::uint64_t tsid_;
    bool seed_is_key_;
    agent::srtp_receiver receiver_;
    std::unique_ptr<agent::srtp_sender> sender_;
    std::ostream* reveal_;
    int socket_ = -1;
    std::uint16_t sequence_;
    std::uint32_t timestamp_ = 0, ssrc_ = 0;
};

} // namespace tandem::probing
