// SPDX-License-Identifier: Apache-2.0
// Requests and replies of one call: dictionaries with SDP as Kamailio passes it on. Pure.
#include "bench/ng/request.hpp"

#include <fmt/format.h>

#include "controlplane/callcontrol/bencode.hpp"

namespace tandem::ngload {

namespace {

using callcontrol::bencode::dict;
using callcontrol::bencode::list;

std::string sdp_of(const std::string& address, unsigned port, std::uint64_t session, std::string_view crypto) {
    const std::string secured =
        crypto.empty()
            ? ""
            : fmt::format("a=crypto:{} {} inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj\r\n", crypto, offered_suite);
    return fmt::format("v=0\r\no=- {0} {1} IN IP4 {2}\r\ns=-\r\nc=IN IP4 {2}\r\nt=0 0\r\na=tool:baresip 1.0.0\r\n"
                       "m=audio {3} RTP/{4} 8 0 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\n"
                       "a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n{5}a=sendrecv\r\na=label:1\r\n"
                       "a=rtcp-rsize\r\na=ssrc:{0} cname:sip:alice@10.64.0.1\r\na=minptime:20\r\na=ptime:20\r\n",
                       session, session ^ 0x5a5a5a5a, address, port, crypto.empty() ? "AVP" : "SAVP", secured);
}

// Numbers of ten million subscribers, so that policy with many rules finds some of them.
std::string metadata_of(std::uint64_t call) {
    return fmt::format("caller=+4670{0:07};callee=+4680{1:07};caller-domain=10.64.0.1;callee-domain=10.64.0.1;"
                       "dialled=+4680{1:07}",
                       call * 7919 % 10000000, call * 104729 % 10000000);
}

} // namespace

std::string request_of(step what, std::uint64_t call, const phones& who, std::string_view crypto) {
    const auto port = static_cast<unsigned>(10000 + 2 * (call % 25000));
    const bool offer = what == step::offer;
    dict out{{"supports", list{"load limit"}}};
    if (what != step::remove) {
        const auto& address = offer ? who.caller : who.callee;
        out.emplace_back("sdp", sdp_of(address, port, 3476658566 + call % 500000000, offer ? "" : crypto));
        out.emplace_back("ICE", "remove");
        if (who.srtp) {
            out.emplace_back("DTLS", "off");
            out.emplace_back("transport-protocol", offer ? "RTP/SAVP" : "RTP/AVP");
        }
        if (who.metadata && offer)
            out.emplace_back("metadata", metadata_of(call));
        out.emplace_back("replace", list{"origin"});
    }
    out.emplace_back("call-id", fmt::format("{:016x}", call * 0x9e3779b97f4a7c15ULL)); // odd: each call its own
    out.emplace_back("received-from", list{"IP4", what == step::answer ? who.callee : who.caller});
    out.emplace_back("from-tag", fmt::format("{:015x}a", call));
    if (what == step::answer)
        out.emplace_back("to-tag", fmt::format("{:015x}b", call));
    out.emplace_back("command", offer ? "offer" : what == step::answer ? "answer" : "delete");
    return callcontrol::bencode::print(out);
}

verdict read_reply(step what, std::string_view body, const phones& who) {
    const auto reply = callcontrol::bencode::parse(body);
    if (!reply)
        return {false, {}, "reply is no bencode"};
    const auto& said = reply->what;
    if (said.text_of("result") != "ok") {
        const auto reason = said.text_of("error-reason"); // a load limit has a message
        return {false, {}, std::string(reason.empty() ? said.text_of("message") : reason)};
    }
    if (said.find("warning") != nullptr)
        return {false, {}, std::string(said.text_of("warning"))};
    if (what == step::remove)
        return {true, {}, {}};
    const auto sdp = said.text_of("sdp");
    if (sdp.find("m=audio ") == std::string_view::npos || sdp.find("m=audio 0 ") != std::string_view::npos)
        return {false, {}, "the reply's SDP has no media"};
    if (what != step::offer || !who.srtp)
        return {true, {}, {}};
    const auto suite = sdp.find(offered_suite);
    const auto line = suite == std::string_view::npos ? suite : sdp.rfind("a=crypto:", suite);
    if (line == std::string_view::npos)
        return {false, {}, fmt::format("the offered SDP has no {}", offered_suite)};
    const auto tag = sdp.substr(line + 9);
    return {true, std::string(tag.substr(0, tag.find(' '))), {}};
}

} // namespace tandem::ngload
