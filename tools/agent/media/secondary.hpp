// SPDX-License-Identifier: Apache-2.0
// One secondary: the media of one call between the phone behind the agent and the gateway, RTP and RTCP.
//
// Inner UDP payload <-> SRTP datagram, with epochs, counters and the times that keepalives need. No socket and no TUN
// in here: two of these back to back are a test. Keys are derived here (controlplane/protocol/seed_keys.hpp) and wiped
// with it. Owner: the agent's only thread.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <tl/expected.hpp>

#include "controlplane/protocol/secret.hpp"
#include "controlplane/protocol/seed_keys.hpp"
#include "controlplane/protocol/types.hpp"
#include "tools/agent/device/packet.hpp"
#include "tools/agent/media/srtp.hpp"

namespace tandem::agent {

using clock = std::chrono::steady_clock;

using protocol::key_use;

struct secondary_config {
    std::uint32_t media = 0;
    std::uint64_t tsid = 0;
    api::suite suite{};
    agent::key_use use = key_use::derive;
    std::string level;
    std::chrono::milliseconds overlap{2000};
    endpoint gateway_media;               // outer
    std::optional<endpoint> gateway_rtcp; // outer; none = muxed on gateway_media
    endpoint inner_media, inner_rtcp;     // the gateway as the phone sees it
    endpoint phone_media, phone_rtcp;     // the phone
    // Which end this is. The unit's is the default; the other one exists for tests.
    protocol::direction sends = protocol::direction::to_gateway;
};

// The seeds of one epoch: one, or two where the seed is the key (unit -> gateway first).
struct epoch_seeds {
    std::uint32_t epoch = 0;
    std::vector<protocol::secret> seeds;
};

enum class secondary_error { bad_suite, bad_seed, bad_epoch, internal };

struct secondary_counters {
    std::uint64_t sent = 0, sent_bytes = 0, received = 0, received_bytes = 0; // RTP and RTCP of the phone
    std::uint64_t sent_rtcp = 0, received_rtcp = 0;                           // of these
    std::uint64_t keepalives = 0;
    std::uint64_t auth_failures = 0, replays = 0, unknown_epoch = 0, malformed = 0;
    std::uint64_t not_protected = 0;  // from the phone, dropped: not RTP, too many SSRCs, key limit
    std::uint64_t wrong_source = 0;   // to an inner media address, but not from this call's phone: dropped
    std::uint64_t fragments = 0;      // from the phone, dropped
    std::uint64_t too_big = 0;        // would not fit the outer path
    std::uint64_t send_failures = 0;  // the outer socket refused
    std::uint64_t phone_failures = 0; // TUN refused
    std::uint64_t rekeys = 0;
};

class secondary {
public:
    static constexpr std::chrono::seconds keepalive_after{15};
    // Until something came from the gateway: the first one, on which it latches, may have been lost.
    static constexpr std::chrono::milliseconds keepalive_unheard{500};
    static constexpr std::uint64_t keepalives_unheard = 6;
    static constexpr std::size_t buffer_size = 65536 + max_trailer;

    [[nodiscard]] static tl::expected<std::unique_ptr<secondary>, secondary_error> open(secondary_config config,
                                                                                        const epoch_seeds& first);

    // A re-key in two steps, so that the answer can go out between them: receive under it; then send under it.
    // An epoch that is not the next one is bad_epoch, except the current one repeated with the same seed.
    [[nodiscard]] tl::expected<void, secondary_error> prepare(const epoch_seeds& next);
    bool switch_to_prepared(); // false where nothing was prepared
    // Called when the overlap is over: epochs below this one are forgotten.
    void retire_below(std::uint32_t epoch) noexcept { receiver_.retire_below(epoch); }

    // Phone -> gateway. The datagram to send, valid until the next call; nothing = dropped and counted.
    [[nodiscard]] std::span<const std::uint8_t> protect(packet_class what, std::span<const std::uint8_t> payload,
                                                        clock::time_point now);
    // Gateway -> phone. The whole inner IP packet, valid until the next call; nothing = dropped and counted.
    [[nodiscard]] std::span<const std::uint8_t> unprotect(std::span<const std::uint8_t> datagram);
    // An empty RTCP receiver report, protected: opens NATs and lets the gateway latch before the phone speaks.
    [[nodiscard]] std::span<const std::uint8_t> keepalive(clock::time_point now);
    [[nodiscard]] clock::time_point next_keepalive() const noexcept {
        const bool unheard = counters.received == 0 && counters.keepalives < keepalives_unheard;
        return last_sent_ + (unheard ? clock::duration(keepalive_unheard) : clock::duration(keepalive_after));
    }
    [[nodiscard]] bool keepalive_due(clock::time_point now) const noexcept { return now >= next_keepalive(); }
    // Where what goes, out of doors.
    [[nodiscard]] const endpoint& destination(packet_class what) const noexcept {
        return what == packet_class::rtcp && config_.gateway_rtcp ? *config_.gateway_rtcp : config_.gateway_media;
    }

    // The key that these seeds give for what is sent: tells an epoch's seed from another's.
    [[nodiscard]] static tl::expected<protocol::secret, secondary_error> send_key(const secondary_config& config,
                                                                                  const epoch_seeds& seeds);
    void move(const secondary_config& config); // takes over the addresses; keys, indices and windows go on
    // What was received: under the newest epoch at all; under older ones, counted.
    [[nodiscard]] bool newest_heard() const noexcept { return receiver_.heard(newest_); }
    [[nodiscard]] std::uint64_t older_heard() const noexcept { return receiver_.heard_below(newest_); }

    [[nodiscard]] const secondary_config& config() const noexcept { return config_; }
    [[nodiscard]] std::uint32_t receive_epoch() const noexcept { return newest_; }
    [[nodiscard]] std::uint32_t send_epoch() const noexcept { return sender_ ? sender_->epoch() : 0; }
    [[nodiscard]] std::size_t epochs_held() const noexcept { return receiver_.epochs(); }

    // Every key goes now, whoever still holds this object. Nothing can be protected or unprotected afterwards.
    void wipe() noexcept;

    secondary_counters counters;

private:
    struct pair_of_keys {
        protocol::secret send, receive;
    };
    explicit secondary(secondary_config config);
    [[nodiscard]] static tl::expected<pair_of_keys, secondary_error> keys(const secondary_config& config,
                                                                          const epoch_seeds& seeds);

    secondary_config config_;
    std::unique_ptr<srtp_sender> sender_;
    srtp_receiver receiver_;
    std::uint32_t newest_ = 0;  // of what we receive
    protocol::secret prepared_; // send key of newest_, until switch_to_prepared()
    std::uint32_t keepalive_ssrc_ = 0;
    clock::time_point last_sent_{};
    std::vector<std::uint8_t> out_, in_; // scratch: towards the gateway, towards the phone
};

} // namespace tandem::agent
