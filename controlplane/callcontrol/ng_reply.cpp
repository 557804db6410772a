// SPDX-License-Identifier: Apache-2.0
// ng replies: the keys and their nesting are those of rtpengine 10.5's `query`. Pure.
#include "controlplane/callcontrol/ng_reply.hpp"

#include <algorithm>

namespace tandem::callcontrol {

namespace {

using bencode::dict;
using bencode::list;
using bencode::value;
using std::chrono::duration_cast;

std::int64_t seconds(std::chrono::system_clock::time_point when) {
    return duration_cast<std::chrono::seconds>(when.time_since_epoch()).count();
}

value endpoint(const std::optional<media::endpoint>& e) {
    if (!e)
        return value(dict{});
    return dict{
        {"family", e->address.is_v6() ? "IPv6" : "IPv4"}, {"address", e->address.to_string()}, {"port", e->port}};
}

struct totals {
    std::int64_t packets = 0, bytes = 0, errors = 0;
    [[nodiscard]] value print() const { return dict{{"packets", packets}, {"bytes", bytes}, {"errors", errors}}; }
};

struct stream_view {
    media::endpoint local;
    std::optional<media::endpoint> advertised, remote;
    std::int64_t last_packet;
    totals count;
    list flags;
};

value stream(const stream_view& s) {
    value out(dict{});
    if (s.local.port != 0) {
        out.add("local port", s.local.port);
        out.add("local address", s.local.address.to_string());
        out.add("family", s.local.address.is_v6() ? "IPv6" : "IPv4");
    }
    out.add("endpoint", endpoint(s.remote));
    out.add("advertised endpoint", endpoint(s.advertised));
    out.add("last packet", s.last_packet);
    out.add("flags", s.flags);
    out.add("stats", s.count.print());
    return out;
}

// What the SDP said; 0.0.0.0 while held that way.
std::optional<media::endpoint> advertised(const media_line& line, side s) {
    if (!line.legs[s].held)
        return line.legs[s].rtp;
    if (line.local[s].rtp.address.is_v6())
        return media::endpoint{asio::ip::address_v6::any(), 0};
    return media::endpoint{asio::ip::address_v4::any(), 0};
}

// The relay counts a leg's RTP and RTCP together: both stand with the RTP stream.
value media_of(const call& c, const media_line& line, side s, const std::optional<media::media_info>& info,
               totals& sum) {
    const auto& leg = line.legs[s];
    stream_view rtp{line.local[s].rtp, advertised(line, s), leg.rtp, seconds(c.created), {}, list{"RTP"}};
    if (info) {
        const auto& got = info->legs[s].received;
        rtp.count = {static_cast<std::int64_t>(got.packets), static_cast<std::int64_t>(got.bytes),
                     static_cast<std::int64_t>(got.auth_failures + got.replays + got.drops)};
        if (info->legs[s].remote && !leg.held)
            rtp.remote = info->legs[s].remote;
        if (got.seconds_since_packet >= 0)
            rtp.last_packet =
                seconds(std::chrono::system_clock::now()) - static_cast<std::int64_t>(got.seconds_since_packet);
        sum.packets += rtp.count.packets;
        sum.bytes += rtp.count.bytes;
        sum.errors += rtp.count.errors;
    }
    if (leg.held)
        rtp.remote = rtp.advertised;
    if (rtp.remote)
        rtp.flags.push_back("filled");
    list streams;
    if (leg.mux) {
        rtp.flags.push_back("RTCP");
        streams.push_back(stream(rtp));
    } else {
        stream_view rtcp{line.local[s].rtcp, leg.rtcp, leg.rtcp, rtp.last_packet, {}, list{"RTCP"}};
        if (leg.rtcp)
            rtcp.flags.push_back("filled");
        streams.push_back(stream(rtp));
        streams.push_back(stream(rtcp));
    }
    list flags{"initialized"};
    if (sdp::sends(leg.direction))
        flags.push_back("send");
    if (sdp::receives(leg.direction) && !leg.held)
        flags.push_back("recv");
    if (leg.mux)
        flags.push_back("rtcp-mux");
    if (leg.profile.secure)
        flags.push_back("SDES");
    value out(dict{{"index", line.index + 1},
                   {"type", line.kind},
                   {"protocol", leg.profile.rtp ? std::string(sdp::name(leg.profile)) : std::string()}});
    out.add("streams", std::move(streams));
    out.add("flags", std::move(flags));
    return out;
}

value peers(const call& c, side s) {
    list out;
    for (const auto& tag : c.tags[other(s)])
        out.push_back(dict{{"tag", tag}, {"type", "offer/answer"}});
    return out;
}

} // namespace

value ok_reply() {
    return dict{{"result", "ok"}};
}

value error_reply(std::string why) {
    return dict{{"result", "error"}, {"error-reason", std::move(why)}};
}

void add_statistics(value& reply, const call& c, const media::relay& relay) {
    const auto us = duration_cast<std::chrono::microseconds>(c.created.time_since_epoch()).count();
    reply.add("created", us / 1'000'000);
    reply.add("created_us", us % 1'000'000);
    reply.add("last signal", seconds(c.last_signal));
    reply.add("SSRC", dict{});
    totals sum;
    value tags(dict{});
    for (const side s : {0U, 1U})
        for (std::size_t i = 0; i < c.tags[s].size(); ++i) {
            const auto& tag = c.tags[s][i];
            const bool current = i + 1 == c.tags[s].size(); // the fork that the media belongs to
            list medias;
            for (const auto& line : c.lines)
                if (line.id != 0 && current)
                    medias.push_back(media_of(c, line, s, relay.info(line.id), sum));
            tags.add(tag, dict{{"tag", tag},
                               {"created", seconds(c.created)},
                               {"subscriptions", peers(c, s)},
                               {"subscribers", peers(c, s)},
                               {"medias", std::move(medias)}});
        }
    reply.add("tags", std::move(tags));
    reply.add("totals", dict{{"RTP", sum.print()}, {"RTCP", totals{}.print()}});
}

} // namespace tandem::callcontrol
