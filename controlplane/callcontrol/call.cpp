// SPDX-License-Identifier: Apache-2.0
// Offer and answer on one media line (RFC 3264, RFC 4568 section 5, RFC 5761 section 5). Pure but for the kernel's RNG.
#include "controlplane/callcontrol/call.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

#include <openssl/rand.h>

namespace tandem::callcontrol {

namespace {

using media::leg_kind;

tl::unexpected<reason> refuse(reason why) {
    return tl::unexpected(std::move(why));
}

// What we offer: AEAD first, then by how many phones know them.
constexpr std::array offered_suites{api::suite::aead_aes_256_gcm,        api::suite::aead_aes_128_gcm,
                                    api::suite::aes_cm_128_hmac_sha1_80, api::suite::aes_cm_128_hmac_sha1_32,
                                    api::suite::aes_256_cm_hmac_sha1_80, api::suite::aes_256_cm_hmac_sha1_32};
constexpr std::uint32_t our_mki = 1; // one master key a line

std::optional<protocol::secret> make_key(api::suite suite) {
    const auto& row = api::info(suite);
    protocol::secret key;
    const auto bytes = key.resize(static_cast<std::size_t>(row.key_length) + row.salt_length);
    if (RAND_priv_bytes(bytes.data(), static_cast<int>(bytes.size())) != 1)
        return {};
    return key;
}

std::uint16_t next_port(std::uint16_t port) noexcept {
    return static_cast<std::uint16_t>(port == 65'535 ? port : port + 1);
}

// Where the peer receives, and whether that can be believed.
void read_remote(const sdp::media& from, const request& r, leg& into) {
    into.held = from.held_by_address();
    into.direction = from.direction;
    into.profile = from.profile;
    into.learn = false;
    into.rtp.reset();
    into.rtcp.reset();
    into.source = {.how = r.learning, .strict = r.strict_source, .signalled = {}, .received_from = r.received_from};
    if (into.held)
        return;
    auto address = from.address;
    if (into.where.kind == leg_kind::core && r.received_from && r.received_from->is_v6() == into.where.ipv6 &&
        (r.sip_source_address || (is_private(address) && !is_private(*r.received_from)))) {
        into.source.signalled = std::exchange(address, *r.received_from);
        into.learn = true; // the port behind a NAT is not the one in the SDP
    }
    if (into.where.kind == leg_kind::core && is_local_only(address))
        into.learn = true;
    into.rtp = media::endpoint{address, from.port};
    // One of another family cannot be reached from this leg's port.
    const bool reachable = from.rtcp_address && from.rtcp_address->is_v6() == address.is_v6();
    into.rtcp =
        media::endpoint{reachable ? *from.rtcp_address : address, from.rtcp_port.value_or(next_port(from.port))};
}

// The first of the peer's lines that we can do (its order is its preference, RFC 4568 7.1.2).
const sdp::crypto* choose(const std::vector<sdp::crypto>& lines) {
    const auto found = std::find_if(lines.begin(), lines.end(), [](const auto& line) { return line.usable(); });
    return found == lines.end() ? nullptr : &*found;
}

// Why none of them: each line by its tag and what is wrong with it.
std::string why_none(const std::vector<sdp::crypto>& lines) {
    std::string out;
    for (const auto& line : lines)
        out += (out.empty() ? "" : "; ") + std::to_string(line.tag) + " " + line.suite_name.substr(0, 40) + " " +
               line.refused;
    return out.empty() ? "there is none" : out;
}

// The offerer's leg: its keys, and ours in the answer. Our key stays while the suite stays (no needless change of key).
outcome<void> take_offered_keys(const sdp::media& from, leg& into) {
    if (!from.profile.secure) {
        into.keys = {};
        return {};
    }
    const auto* chosen = choose(from.cryptos);
    if (chosen == nullptr)
        return refuse(from.profile.dtls || from.fingerprint
                          ? "DTLS-SRTP is not supported: offer RTP/AVP, or RTP/SAVP with a=crypto"
                          : "No a=crypto line with a supported suite (AEAD_AES_256_GCM, AEAD_AES_128_GCM, "
                            "AES_256_CM_HMAC_SHA1_80 or _32, AES_CM_128_HMAC_SHA1_80 or _32) in RTP/SAVP offer: " +
                                why_none(from.cryptos));
    if (into.keys.suite != chosen->suite || into.keys.send.empty()) {
        auto key = make_key(*chosen->suite);
        if (!key)
            return refuse("No random bytes for an SDES key");
        into.keys.send = std::move(*key);
    }
    into.keys.suite = chosen->suite;
    into.keys.tag = chosen->tag;
    into.keys.receive = chosen->key.copy();
    into.keys.mki_length = chosen->mki_length;
    into.keys.receive_mki = chosen->mki;
    into.keys.send_mki = chosen->mki_length != 0 ? our_mki : 0;
    return {};
}

// What was offered before stays good where several may still answer (forks that the proxy does not tell apart); each
// was offered keys of its own, told apart by their tags.
void keep_offered(const call& c, leg& into) {
    constexpr std::size_t most_earlier = 32;
    auto& kept = into.earlier;
    if (!c.opening)
        kept.clear();
    else
        std::move(into.offered.begin(), into.offered.end(), std::back_inserter(kept));
    if (kept.size() > most_earlier)
        kept.erase(kept.begin(), kept.end() - most_earlier);
    into.offered.clear();
}

// The other leg: which transport and keys we offer there.
outcome<void> prepare_offer(const call& c, const sdp::media& from, const request& r, bool fresh, leg& into) {
    keep_offered(c, into);
    if (into.where.kind == leg_kind::unit) {
        into.profile = {.rtp = true}; // the secondary protects it
        return {};
    }
    if (r.transport)
        into.profile = *r.transport;
    else if (fresh || !c.answered)
        into.profile = from.profile; // else as negotiated with this side before
    if (r.transport && into.profile.dtls)
        return refuse("DTLS-SRTP is not supported: use transport-protocol RTP/SAVP or RTP/AVP");
    into.profile.dtls = false;
    if (!into.profile.secure)
        return {};
    std::uint32_t tag = into.earlier.empty() ? 1 : into.earlier.back().tag + 1;
    if (!fresh && into.keys.suite && !into.keys.send.empty()) { // as agreed before, same key
        into.offered.push_back(
            {into.keys.tag, *into.keys.suite, into.keys.send, into.keys.mki_length, into.keys.send_mki});
        return {};
    }
    for (const auto suite : offered_suites) {
        if (r.sdes_off || !r.sdes_suites.test(static_cast<std::size_t>(suite)))
            continue;
        auto key = make_key(suite);
        if (!key)
            return refuse("No random bytes for an SDES key");
        into.offered.push_back({tag++, suite, std::move(*key), 0, 0});
    }
    if (into.offered.empty())
        return refuse("RTP/SAVP is to be offered, but the SDES flags leave no suite: remove them or use RTP/AVP");
    return {};
}

// Keys are never saved, so those of an offer that was open when we were started again are gone. Without them either leg
// would go on in clear.
constexpr const char* keys_are_gone =
    "The SDES keys of this offer are gone: the gateway was restarted before its answer. Offer again";

// The answerer's leg: which of our lines it took.
outcome<void> take_answered_keys(const sdp::media& from, leg& into) {
    if (into.offered.empty() && into.profile.secure)
        return refuse(keys_are_gone);
    if (into.offered.empty() && !from.profile.secure) {
        into.keys = {};
        return {};
    }
    if (into.offered.empty() && into.earlier.empty())
        return refuse("Answer is " + from.proto + " where plain RTP was offered");
    if (!from.profile.secure)
        return refuse("Answer is " + from.proto + " where RTP/SAVP was offered: it would be in clear");
    const auto* chosen = choose(from.cryptos);
    if (chosen == nullptr)
        return refuse("Answer has no usable a=crypto line: " + why_none(from.cryptos));
    const sdp::crypto_line* ours = nullptr;
    for (const auto* some : {&into.earlier, &into.offered})
        for (const auto& line : *some)
            if (line.tag == chosen->tag && line.suite == *chosen->suite)
                ours = &line;
    if (ours == nullptr)
        return refuse("Answer's a=crypto:" + std::to_string(chosen->tag) + " " + chosen->suite_name +
                      " is none of those offered");
    if (chosen->mki_length != ours->mki_length)
        return refuse(
            "Answer's a=crypto:" + std::to_string(chosen->tag) +
            (ours->mki_length == 0 ? " has an MKI where none was offered" : " lacks the MKI that was offered"));
    into.keys.tag = ours->tag;
    into.keys.suite = ours->suite;
    into.keys.send = ours->key;
    into.keys.mki_length = ours->mki_length;
    into.keys.send_mki = ours->mki;
    into.keys.receive_mki = chosen->mki;
    into.keys.receive = chosen->key.copy();
    return {};
}

media::leg_request leg_wish(const leg& from, bool complete) {
    media::leg_request out;
    out.kind = from.where.kind;
    out.unit = from.where.unit;
    out.interface = from.where.interface;
    out.ipv6 = from.where.ipv6;
    if (!complete)
        return out;
    out.rtcp_mux = from.mux;
    out.remote_rtp = from.rtp;
    out.remote_rtcp = from.mux ? from.rtp : from.rtcp;
    out.remote_unroutable = from.learn;
    out.source = from.source;
    if (from.where.kind == leg_kind::core && from.keys.suite && !from.keys.send.empty() && !from.keys.receive.empty())
        out.srtp = media::sdes{*from.keys.suite,     from.keys.receive,     from.keys.send,
                               from.keys.mki_length, from.keys.receive_mki, from.keys.send_mki};
    return out;
}

} // namespace

bool is_private(const asio::ip::address& address) {
    if (address.is_v6())
        return (address.to_v6().to_bytes()[0] & 0xfe) == 0xfc;
    const auto ip = address.to_v4().to_uint();
    return ip >> 24 == 10 || ip >> 20 == 0xac1 || ip >> 16 == 0xc0a8 || ip >> 22 == 0x191; // 100.64.0.0/10
}

bool is_local_only(const asio::ip::address& address) {
    return address.is_loopback() ||
           (address.is_v6() ? address.to_v6().is_link_local() : address.to_v4().to_uint() >> 16 == 0xa9fe);
}

std::optional<side> call::side_of(const std::string& tag) const {
    for (const side s : {0U, 1U})
        if (std::find(tags[s].begin(), tags[s].end(), tag) != tags[s].end())
            return s;
    return {};
}

void call::learn_tag(side s, const std::string& tag) {
    constexpr std::size_t most_tags = 32; // forks of one call
    auto& known = tags[s];
    if (tag.empty() || (!known.empty() && known.back() == tag))
        return;
    std::erase(known, tag);
    if (known.size() >= most_tags)
        known.erase(known.begin());
    known.push_back(tag);
}

std::vector<media::media_id> call::media() const {
    std::vector<media::media_id> out;
    for (const auto* some : {&lines, reoffered ? &*reoffered : &lines})
        for (const auto& line : *some)
            if (line.id != 0 && std::find(out.begin(), out.end(), line.id) == out.end())
                out.push_back(line.id);
    return out;
}

outcome<void> can_carry(const sdp::session& offer) {
    const sdp::media* other = nullptr;
    bool any = false;
    for (const auto& line : offer.m_lines) {
        if (line.rejected())
            continue;
        if (line.profile.rtp)
            any = true;
        else if (other == nullptr)
            other = &line;
    }
    if (!any && other != nullptr && other->kind == "image")
        return refuse("Fax by T.38 (m=image " + other->proto +
                      ") is not carried: answer 488, and the fax goes on in the audio of the call");
    if (!any && other != nullptr)
        return refuse("m=" + other->kind + " " + other->proto +
                      " is not carried, and there is nothing else: only RTP is");
    return {};
}

outcome<line_plan> take_offer(const call& c, media_line& line, const sdp::media& from, side sender,
                              const place& from_where, const place& to_where, const request& r) {
    line_plan plan;
    line.kind = from.kind;
    if (from.rejected() || !from.profile.rtp) {
        plan.reject = true;
        return plan;
    }
    line.clock_rate = sdp::clock_rate(from);
    line.retransmissions = sdp::retransmissions(from);
    auto& near = line.legs[sender];
    auto& far = line.legs[other(sender)];
    plan.reopen = line.id == 0 || near.where != from_where || far.where != to_where;
    const bool fresh = line.id == 0 || !line.answered || c.opening; // never the key of who was asked before
    if (line.id == 0) // a new media begins at rollover counter 0: an old key would protect the same indices again
        near.keys = {}, far.keys = {}, far.offered.clear(), far.earlier.clear();
    near.where = from_where;
    far.where = to_where;
    if (near.where.kind == leg_kind::unit && from.profile.secure)
        return refuse("Phone behind unit \"" + near.where.unit + "\" offers " + from.proto +
                      ": its media is protected by the secondary tunnel, set it to RTP/AVP");
    read_remote(from, r, near);
    near.mux_offered = from.rtcp_mux;
    near.mux = from.rtcp_mux && near.mux; // decided by the answer
    far.mux_offered = (from.rtcp_mux && !r.mux.demux && !r.mux.remove) || r.mux.offer || r.mux.require;
    if (auto fine = take_offered_keys(from, near); !fine)
        return refuse(std::move(fine.error()));
    if (auto fine = prepare_offer(c, from, r, fresh, far); !fine)
        return refuse(std::move(fine.error()));
    return plan;
}

outcome<bool> take_answer(const call& c, media_line& line, const sdp::media& from, side sender, const request& r) {
    if (from.rejected() || !from.profile.rtp || line.id == 0)
        return false;
    auto& near = line.legs[sender];
    auto& far = line.legs[other(sender)];
    if (near.where.kind == leg_kind::unit && from.profile.secure)
        return refuse("Phone behind unit \"" + near.where.unit + "\" answers " + from.proto +
                      ": its media is protected by the secondary tunnel, set it to RTP/AVP");
    if (far.keys.suite && (far.keys.send.empty() || far.keys.receive.empty()))
        return refuse(keys_are_gone);
    if (auto fine = take_answered_keys(from, near); !fine)
        return refuse(std::move(fine.error()));
    line.clock_rate = sdp::clock_rate(from); // of what was chosen
    line.retransmissions = sdp::retransmissions(from);
    read_remote(from, r, near);
    near.mux = near.mux_offered && from.rtcp_mux;
    far.mux = far.mux_offered && !c.refuse_mux && (near.mux || c.accept_mux);
    return true;
}

namespace {

// Between clear core legs media can pass before the answer: nothing is to be agreed on but where the answerer is.
bool goes_early(const call& c, const media_line& line) {
    const auto &near = line.legs[c.offerer], &far = line.legs[other(c.offerer)];
    return !c.answered && near.where.kind == leg_kind::core && far.where.kind == leg_kind::core && near.rtp &&
           !near.keys.suite && !near.profile.secure && far.offered.empty() && !far.profile.secure;
}

} // namespace

media::media_request relay_request(const call& c, const media_line& line, bool complete) {
    media::media_request out;
    out.call_id = c.call_id;
    out.branch = c.branch;
    out.index = line.index;
    out.kind = line.kind;
    out.caller = c.caller;
    out.callee = c.callee;
    out.caller_domain = c.caller_domain;
    out.callee_domain = c.callee_domain;
    out.wish = c.wish;
    out.dialled = c.dialled;
    const auto unit_of = [&](side s) {
        const auto& where = line.legs[s].where;
        return where.kind == leg_kind::unit ? where.unit : std::string();
    };
    out.caller_unit = unit_of(c.caller_side());
    out.callee_unit = unit_of(other(c.caller_side()));
    out.clock_rate = line.clock_rate;
    out.retransmissions = line.retransmissions;
    out.running = c.answered;
    for (const side s : {0U, 1U}) {
        out.legs[s] = leg_wish(line.legs[s], complete);
        out.forward[s] = !line.legs[s].held && sdp::receives(line.legs[s].direction);
    }
    if (!complete && goes_early(c, line)) {
        out.early = true;
        out.legs[c.offerer] = leg_wish(line.legs[c.offerer], true);
        out.legs[other(c.offerer)].remote_unroutable = true;
    }
    return out;
}

sdp::media_rewrite rewrite_for_offer(const media_line& line, side to) {
    const auto& local = line.local[to];
    const auto& leg = line.legs[to];
    sdp::media_rewrite out;
    out.address = local.rtp.address;
    out.port = local.rtp.port;
    // The port for those who do not take mux (RFC 5761 5.1.1).
    out.rtcp_port = local.rtcp.port;
    out.rtcp_mux = leg.mux_offered;
    out.profile = leg.profile;
    out.cryptos = leg.offered;
    return out;
}

sdp::media_rewrite rewrite_for_answer(const media_line& line, side to) {
    const auto& local = line.local[to];
    const auto& leg = line.legs[to];
    sdp::media_rewrite out;
    out.address = local.rtp.address;
    out.port = local.rtp.port;
    out.rtcp_port = leg.mux ? local.rtp.port : local.rtcp.port;
    out.rtcp_mux = leg.mux;
    out.profile = leg.profile;
    if (leg.keys.suite)
        out.cryptos.push_back({leg.keys.tag, *leg.keys.suite, leg.keys.send, leg.keys.mki_length, leg.keys.send_mki});
    return out;
}

sdp::rewrite_options rewrite_options_of(const request& r) {
    sdp::rewrite_options out;
    out.replace_origin = r.replace_origin;
    out.replace_username = r.replace_username;
    out.replace_session_name = r.replace_session_name;
    out.zero_address = r.replace_zero_address;
    out.rtcp_attribute = r.rtcp_attribute;
    out.full_rtcp_attribute = r.full_rtcp_attribute;
    out.strip_extmap = r.strip_extmap;
    out.key_lifetime = r.sdes_lifetime;
    return out;
}

} // namespace tandem::callcontrol
