// SPDX-License-Identifier: Apache-2.0
// One ng request: "cookie SP bencoded-dictionary" -> what we honour of it, and what we do not; spaces, hyphens and
// underscores in names are the same. Pure; any thread.
#pragma once

#include <array>
#include <asio/ip/address.hpp>
#include <bitset>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "controlplane/callcontrol/bencode.hpp"
#include "controlplane/callcontrol/sdp.hpp"
#include "controlplane/media/types.hpp"

namespace tandem::callcontrol {

enum class command : std::uint8_t { ping, offer, answer, remove, query, list };

// rtcp-mux: what is said to the other side and accepted of this one.
struct mux_flags {
    bool offer = false;   // offer it even where it was not offered
    bool require = false; // the same, and the other side must take it
    bool demux = false;   // do not pass it on, but accept it here
    bool accept = false;  // accept it here whatever the other side says
    bool reject = false;  // refuse it here
    bool remove = false;  // do not pass it on
};

struct request {
    command what = command::ping;
    std::string call_id, from_tag, to_tag, via_branch;
    std::string sdp;
    tl::expected<sdp::session, std::string> said = tl::unexpected(std::string()); // what it says; of offer and answer
    std::string caller, callee;                                                   // metadata "caller=alice;callee=bob"
    bool callee_offers = false;                          // metadata "offerer=callee": an offer in a 200
    std::string caller_domain, callee_domain;            // metadata caller-domain, callee-domain
    std::string wish;                                    // metadata level: the caller's, a level's name
    std::string dialled;                                 // metadata dialled: as dialled, a level prefix included
    unsigned metadata_ignored = 0;                       // values of these four that no such value can be
    std::optional<std::array<std::string, 2>> direction; // logical interfaces: towards this side, towards the other
    std::optional<sdp::transport> transport;             // transport-protocol
    mux_flags mux;
    std::optional<bool> ipv6;                       // address family towards the other side
    std::optional<asio::ip::address> received_from; // SIP packet's source
    bool sip_source_address = false;                // use it instead of the SDP's address
    std::optional<media::learning> learning;        // of where this side's media come from
    bool strict_source = false;                     // likewise: the port counts, too
    bool replace_origin = false, replace_username = false, replace_session_name = false;
    bool replace_version = false;                            // o= counts what we wrote, up by one where it differs
    bool replace_zero_address = false;                       // hold by c=0.0.0.0 goes on as a direction
    bool rtcp_attribute = true, full_rtcp_attribute = false; // a=rtcp in what we write; with the address
    bool strip_extmap = false;
    bool loop_protect = false; // an SDP of ours that comes again goes on as it is
    bool fatal = false;        // delete of what is not there is an error
    bool sdes_off = false;
    bool sdes_lifetime = false;    // in our a=crypto lines
    bool knows_load_limit = false; // supports: the proxy takes `result = load limit` for a word to ask another node
    std::bitset<api::suite_table.size()> sdes_suites = ~std::bitset<api::suite_table.size()>(); // may be offered
    std::uint32_t limit = 32;                                                                   // list
    // What we do not do, as it was asked: "flag X", "key Y", "key Y=Z". Cut and made printable; no more than 16.
    std::vector<std::string> ignored;
};

struct datagram {
    std::string_view cookie;
    std::string_view payload;
};

// Nothing where there is no cookie: no reply is possible then.
[[nodiscard]] std::optional<datagram> split(std::string_view bytes) noexcept;

// The request, or the error-reason in rtpengine's words.
[[nodiscard]] tl::expected<request, std::string> read_request(std::string_view payload);

} // namespace tandem::callcontrol
