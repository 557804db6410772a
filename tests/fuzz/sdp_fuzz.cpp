// SPDX-License-Identifier: Apache-2.0
// fuzz: dep_callcontrol_pure
// SDP from phones: no crash; what we rewrite can be read again, has as many media lines, and carries no ICE and no
// foreign keys.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "controlplane/callcontrol/sdp_rewrite.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace tandem::callcontrol;
    const auto parsed = sdp::parse({reinterpret_cast<const char*>(data), size});
    if (!parsed)
        return 0;
    std::vector<sdp::media_rewrite> to(parsed->m_lines.size());
    for (std::size_t i = 0; i < to.size(); ++i) {
        to[i].reject = !parsed->m_lines[i].profile.rtp;
        to[i].address = asio::ip::make_address(i % 2 == 0 ? "192.0.2.1" : "2001:db8::1");
        to[i].port = static_cast<std::uint16_t>(20'000 + 2 * i);
        to[i].rtcp_port = static_cast<std::uint16_t>(to[i].port + 1);
        to[i].profile = {.rtp = true};
    }
    const auto out = sdp::rewrite(*parsed, to, {.replace_origin = true});
    const auto again = sdp::parse(out);
    if (!again || again->m_lines.size() != parsed->m_lines.size())
        std::abort();
    for (std::size_t i = 0; i < to.size(); ++i) {
        const auto& media = again->m_lines[i];
        if (!media.cryptos.empty() || media.fingerprint)
            std::abort();
        if (to[i].reject != media.rejected() && !parsed->m_lines[i].rejected())
            std::abort();
        for (const auto& line : media.lines)
            if (line.type == 'a' && sdp::split_attribute(line.text).name == "candidate")
                std::abort();
    }
    return 0;
}
