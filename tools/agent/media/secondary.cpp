// SPDX-License-Identifier: Apache-2.0
// One secondary's keys and packets. Design section 7; RFC 3711; RFC 5761.
#include "tools/agent/media/secondary.hpp"

#include <algorithm>

#include <openssl/rand.h>

namespace tandem::agent {

namespace {

// In front of the SRTP work: room for the inner headers that unprotect() builds in place.
constexpr std::size_t head_room = 48;

protocol::direction opposite(protocol::direction way) noexcept {
    return way == protocol::direction::to_gateway ? protocol::direction::to_unit : protocol::direction::to_gateway;
}

} // namespace

secondary::secondary(secondary_config config)
    : config_(std::move(config)), receiver_(config_.suite), out_(buffer_size), in_(head_room + buffer_size) {
    RAND_bytes(reinterpret_cast<unsigned char*>(&keepalive_ssrc_), sizeof keepalive_ssrc_);
}

tl::expected<secondary::pair_of_keys, secondary_error> secondary::keys(const secondary_config& config,
                                                                       const epoch_seeds& seeds) {
    pair_of_keys pair;
    if (config.use == key_use::seed_is_key) {
        if (seeds.seeds.size() != 2)
            return tl::unexpected(secondary_error::bad_seed);
        auto to_gateway = protocol::seed_as_keys(seeds.seeds[0], config.suite);
        auto to_unit = protocol::seed_as_keys(seeds.seeds[1], config.suite);
        if (!to_gateway || !to_unit)
            return tl::unexpected(secondary_error::bad_seed);
        pair.send = std::move(*to_gateway);
        pair.receive = std::move(*to_unit);
        if (config.sends == protocol::direction::to_unit)
            std::swap(pair.send, pair.receive);
        return pair;
    }
    if (seeds.seeds.size() != 1)
        return tl::unexpected(secondary_error::bad_seed);
    const auto derive = [&](protocol::direction way) {
        return protocol::derive_keys(seeds.seeds[0], {config.tsid, config.media, way, seeds.epoch, config.suite});
    };
    auto send = derive(config.sends), receive = derive(opposite(config.sends));
    if (!send || !receive)
        return tl::unexpected(secondary_error::bad_seed);
    pair.send = std::move(*send);
    pair.receive = std::move(*receive);
    return pair;
}

tl::expected<std::unique_ptr<secondary>, secondary_error> secondary::open(secondary_config config,
                                                                          const epoch_seeds& first) {
    if (config.suite == api::suite::clear)
        return tl::unexpected(secondary_error::bad_suite);
    auto pair = keys(config, first);
    if (!pair)
        return tl::unexpected(pair.error());
    std::unique_ptr<secondary> made(new secondary(std::move(config)));
    made->sender_ = srtp_sender::create(made->config_.suite, pair->send, first.epoch);
    if (!made->sender_ || !made->receiver_.install(pair->receive, first.epoch))
        return tl::unexpected(secondary_error::internal);
    made->newest_ = first.epoch;
    return made;
}

tl::expected<void, secondary_error> secondary::prepare(const epoch_seeds& next) {
    auto pair = keys(config_, next);
    if (!pair)
        return tl::unexpected(pair.error());
    if (next.epoch == newest_ && receiver_.holds(pair->receive, next.epoch))
        return {}; // our answer was lost: say yes again
    if (next.epoch != newest_ + 1)
        return tl::unexpected(secondary_error::bad_epoch);
    if (!receiver_.install(pair->receive, next.epoch))
        return tl::unexpected(secondary_error::internal);
    newest_ = next.epoch;
    prepared_ = std::move(pair->send);
    return {};
}

bool secondary::switch_to_prepared() {
    if (prepared_.empty() || !sender_)
        return false;
    if (sender_->rekey(prepared_, newest_))
        counters.rekeys++;
    prepared_.clear();
    return true;
}

void secondary::wipe() noexcept {
    sender_.reset();
    receiver_.clear();
    prepared_.clear();
    protocol::wipe(out_.data(), out_.size());
    protocol::wipe(in_.data(), in_.size());
}

tl::expected<protocol::secret, secondary_error> secondary::send_key(const secondary_config& config,
                                                                    const epoch_seeds& seeds) {
    if (config.suite == api::suite::clear)
        return tl::unexpected(secondary_error::bad_suite);
    auto pair = keys(config, seeds);
    if (!pair)
        return tl::unexpected(pair.error());
    return std::move(pair->send);
}

void secondary::move(const secondary_config& config) {
    config_ = config;
}

std::span<const std::uint8_t> secondary::protect(packet_class what, std::span<const std::uint8_t> payload,
                                                 clock::time_point now) {
    if (payload.size() + max_trailer > out_.size()) {
        counters.too_big++;
        return {};
    }
    std::copy(payload.begin(), payload.end(), out_.begin());
    const auto length = sender_ ? sender_->protect(what, out_, payload.size()) : tl::unexpected(srtp_error::internal);
    if (!length) {
        counters.not_protected++;
        return {};
    }
    counters.sent++;
    counters.sent_bytes += payload.size();
    if (what == packet_class::rtcp)
        counters.sent_rtcp++;
    last_sent_ = now;
    return std::span(out_).first(*length);
}

std::span<const std::uint8_t> secondary::keepalive(clock::time_point now) {
    const auto ssrc = keepalive_ssrc_;
    const std::array<std::uint8_t, 8> report{0x80,
                                             201,
                                             0,
                                             1, // length in words - 1: no report block
                                             static_cast<std::uint8_t>(ssrc >> 24),
                                             static_cast<std::uint8_t>(ssrc >> 16),
                                             static_cast<std::uint8_t>(ssrc >> 8),
                                             static_cast<std::uint8_t>(ssrc)};
    std::copy(report.begin(), report.end(), out_.begin());
    if (!sender_)
        return {};
    const auto length = sender_->protect(packet_class::rtcp, out_, report.size());
    if (!length)
        return {};
    counters.keepalives++;
    last_sent_ = now;
    return std::span(out_).first(*length);
}

std::span<const std::uint8_t> secondary::unprotect(std::span<const std::uint8_t> datagram) {
    if (datagram.size() + head_room > in_.size()) {
        counters.malformed++;
        return {};
    }
    const auto what = looks_like_rtcp(datagram) ? packet_class::rtcp : packet_class::rtp;
    const auto& from = what == packet_class::rtcp ? config_.inner_rtcp : config_.inner_media;
    const auto& to = what == packet_class::rtcp ? config_.phone_rtcp : config_.phone_media;
    // The payload stands where the headers will end in front of it.
    const std::size_t head = udp_overhead(is_ipv4(to.ip));
    const auto work = std::span(in_).subspan(head);
    std::copy(datagram.begin(), datagram.end(), work.begin());
    const auto length = receiver_.unprotect(what, work, datagram.size());
    if (!length) {
        switch (length.error()) {
        case srtp_error::auth:
            counters.auth_failures++;
            break;
        case srtp_error::replay:
            counters.replays++;
            break;
        case srtp_error::unknown_epoch:
            counters.unknown_epoch++;
            break;
        default:
            counters.malformed++;
        }
        return {};
    }
    const std::size_t total = build_udp(from, to, work.first(*length), in_);
    if (total == 0) {
        counters.malformed++;
        return {};
    }
    counters.received++;
    counters.received_bytes += *length;
    if (what == packet_class::rtcp)
        counters.received_rtcp++;
    return std::span(in_).first(total);
}

} // namespace tandem::agent
