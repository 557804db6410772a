// SPDX-License-Identifier: Apache-2.0
// From a media's two legs to the data plane's flows (contract.hpp). Pure, so that every combination of legs is a test.
//
// A leg receives at its own address and port; what arrives there is sent on from the other leg's address and port to
// the other leg's peer. A leg that muxes RTP and RTCP has one flow, another has two (RTP at the even port, RTCP above
// it).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "controlplane/media/relay.hpp"
#include "dataplane/api/contract.hpp"

namespace tandem::media {

[[nodiscard]] bool same_place(const api::net_address& a, const api::net_address& b) noexcept;

// What the data plane needs to know of a leg.
struct leg_shape {
    std::uint32_t address_index = 0;
    std::uint16_t port = 0; // even
    bool mux = false;
    api::suite suite = api::suite::clear;
    std::uint8_t mki_length = 0;
    api::source_policy source = api::source_policy::signalled;
    bool strict_port = false;
    std::uint16_t window_ms = 0;
    std::optional<endpoint> signalled_rtp, signalled_rtcp; // clear: where its media come from, as signalled
    std::optional<asio::ip::address> received_from;        // clear: likewise
    std::optional<endpoint> remote_rtp;                    // where media towards this leg goes; none = not known yet
    std::optional<endpoint> remote_rtcp;

    [[nodiscard]] api::flow_id rtp() const noexcept { return api::make_flow_id(address_index, port); }
    [[nodiscard]] api::flow_id rtcp() const noexcept {
        return mux ? rtp() : api::make_flow_id(address_index, static_cast<std::uint16_t>(port + 1));
    }
};

struct plan_options {
    std::uint64_t tag = 0;
    std::array<bool, 2> forward{true, true}; // [i]: towards leg i
    std::uint16_t timeout_s = 60;
    std::uint8_t dscp = 46; // EF
    std::array<std::uint8_t, 3> retransmissions{};
};

// How many flows a media may ever need: RTCP comes to a port of its own wherever a peer says so.
[[nodiscard]] constexpr std::size_t flows_for(leg_kind a, leg_kind b) noexcept {
    return (a == leg_kind::unit ? 1u : 2u) + (b == leg_kind::unit ? 1u : 2u);
}

[[nodiscard]] std::vector<api::flow_config> plan_flows(const std::array<leg_shape, 2>& legs,
                                                       const plan_options& options);

// Same flows with the same crypto on both sides: a flow_update is enough to get from one plan to the other.
[[nodiscard]] bool same_structure(const std::vector<api::flow_config>& a,
                                  const std::vector<api::flow_config>& b) noexcept;

// What takes a data plane from `before` to `after` (same structure); empty where nothing changed. `anew`: whatever was
// learned of sources is learned again.
[[nodiscard]] std::vector<api::flow_update> plan_updates(const std::vector<api::flow_config>& before,
                                                         const std::vector<api::flow_config>& after, bool anew = false);

// The flows of a media that are in force, by the leg that they receive from; 0 = none.
struct flows_by_leg {
    std::array<api::flow_id, 2> rtp{}, rtcp{}; // the same where the leg muxes
};
[[nodiscard]] flows_by_leg by_leg(const std::array<leg_shape, 2>& legs) noexcept;

// All flows of `plan` as one group that takes the place of those in force. goes_on[i]: leg i's peer is the same, so
// what was heard from it and sent to it goes along; keys are the caller's to fill where they are fresh.
[[nodiscard]] std::vector<api::flow_replacement> plan_replacements(const flows_by_leg& before,
                                                                   const std::array<leg_shape, 2>& after,
                                                                   const std::vector<api::flow_config>& plan,
                                                                   std::array<bool, 2> goes_on);

// The leg whose port (or the one above it) is the flow's own.
[[nodiscard]] std::optional<std::size_t> leg_of(const std::array<leg_shape, 2>& legs, api::flow_id flow) noexcept;

// Flows whose in-side is leg `i`, and flows whose out-side goes towards leg `i`.
[[nodiscard]] std::vector<api::flow_id> flows_from(const std::array<leg_shape, 2>& legs, std::size_t i);
[[nodiscard]] inline std::vector<api::flow_id> flows_towards(const std::array<leg_shape, 2>& legs, std::size_t i) {
    return flows_from(legs, 1 - i);
}

} // namespace tandem::media
