// SPDX-License-Identifier: Apache-2.0
// Writes one side's SDP for the other side: our addresses and ports, the transport and keys that this leg has, nothing
// of ICE or DTLS (we speak neither). All other lines pass unchanged and in order. Pure; any thread.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "controlplane/callcontrol/sdp.hpp"

namespace tandem::callcontrol::sdp {

struct media_rewrite {
    bool reject = false;       // port 0, nothing else changed
    asio::ip::address address; // ours on this leg
    std::uint16_t port = 0;
    std::uint16_t rtcp_port = 0;
    bool rtcp_mux = false;
    transport profile;
    std::vector<crypto_line> cryptos;
};

struct rewrite_options {
    bool replace_origin = false;
    bool replace_username = false;
    bool replace_session_name = false;
    bool zero_address = false; // c=0.0.0.0 is not shown: the direction says it
    bool rtcp_attribute = true, full_rtcp_attribute = false;
    bool strip_extmap = false;
    std::optional<std::uint64_t> version{}; // in o=; nothing: as it came
    std::string mark{};                     // a=tandem:..., that we wrote it; empty: none
    asio::ip::address shown{};              // ours, where no stream is anchored; unspecified: not known
    bool key_lifetime = false;              // |2^31 behind each key
};

// The version in o=; 1 where there is none.
[[nodiscard]] std::uint64_t version_of(const session&) noexcept;

// One entry per m= line, same order. The result holds keys where cryptos are given: wipe it when sent.
[[nodiscard]] std::string rewrite(const session&, const std::vector<media_rewrite>&, const rewrite_options&);

} // namespace tandem::callcontrol::sdp
