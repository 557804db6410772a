// SPDX-License-Identifier: Apache-2.0
// The requests of one call as Kamailio's module rtpengine sends them (keys, their order and the SDP of a real call,
// taken from a socket), with numbers that differ from call to call; and what the load must know of a reply. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tandem::ngload {

enum class step : std::uint8_t { offer, answer, remove };

struct phones {
    std::string caller = "198.51.100.10", callee = "198.51.100.10"; // where their media are
    bool srtp = false;     // the gateway offers SDES to the callee (transport-protocol RTP/SAVP)
    bool metadata = false; // caller and callee, as packaging/kamailio/kamailio.cfg adds them
};

// The dictionary, without cookie. `crypto`: of the SDP that the callee was offered, its line for the suite, in an
// answer.
[[nodiscard]] std::string request_of(step what, std::uint64_t call, const phones& who, std::string_view crypto);

inline constexpr std::string_view offered_suite = "AES_CM_128_HMAC_SHA1_80";

struct verdict {
    bool ok = false;
    std::string crypto; // tag of the offered a=crypto line of offered_suite, where it is asked for
    std::string reason; // why not
};
[[nodiscard]] verdict read_reply(step what, std::string_view body, const phones& who);

} // namespace tandem::ngload
