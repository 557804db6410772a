// SPDX-License-Identifier: Apache-2.0
// ng replies: the keys and their nesting are those of rtpengine 10.5's `query`. Pure.
#include "controlplane/callcontrol/ng_reply.hpp"

#include <algorithm>

#include "controlplane/callcontrol/branches.hpp"
#include "controlplane/protocol/address_text.hpp"

namespace tandem::callcontrol {

namespace {

using bencode::dict;
using bencode::value;
using bencode::writer;
using std::chrono::duration_cast;

std::int64_t seconds(std::chrono::system_clock::time_point when) {
    return duration_cast<std::chrono::seconds>(when.time_since_epoch()).count();
}

std::string_view family(const media::endpoint& e) {
    return e.address.is_v6() ? "IPv6" : "IPv4";
}

void write(writer& to, std::string_view name, const std::optional<media::endpoint>& e) {
    to.key(name).open_dict();
    if (e)
        to.field("family", family(*e)).field("address", protocol::address_text(e->address)).field("port", e->port);
    to.close();
}

struct totals {
    std::int64_t packets = 0, bytes = 0, errors = 0;
};

void write(writer& to, std::string_view name, const totals& t) {
    to.key(name).open_dict().field("packets", t.packets).field("bytes", t.bytes).field("errors", t.errors).close();
}

struct stream_view {
    std::string_view kind; // RTP or RTCP
    media::endpoint local;
    std::optional<media::endpoint> advertised, remote;
    std::int64_t last_packet = 0;
    totals count;
    bool filled = false, both = false; // RTCP comes here too
};

void write(writer& to, const stream_view& s) {
    to.open_dict();
    if (s.local.port != 0)
        to.field("local port", s.local.port)
            .field("local address", protocol::address_text(s.local.address))
            .field("family", family(s.local));
    write(to, "endpoint", s.remote);
    write(to, "advertised endpoint", s.advertised);
    to.field("last packet", s.last_packet).key("flags").open_list().text(s.kind);
    if (s.filled)
        to.text("filled");
    if (s.both)
        to.text("RTCP");
    to.close();
    write(to, "stats", s.count);
    to.close();
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
stream_view rtp_of(const call& c, const media_line& line, side s, const std::optional<media::media_info>& info) {
    const auto& leg = line.legs[s];
    stream_view rtp{"RTP",  line.local[s].rtp, advertised(line, s), leg.rtp, seconds(c.created.wall), {}, false,
                    leg.mux};
    if (info) {
        const auto& got = info->legs[s].received;
        rtp.count = {static_cast<std::int64_t>(got.packets), static_cast<std::int64_t>(got.bytes),
                     static_cast<std::int64_t>(got.auth_failures + got.replays + got.drops)};
        if (info->legs[s].remote && !leg.held)
            rtp.remote = info->legs[s].remote;
        if (got.seconds_since_packet >= 0)
            rtp.last_packet =
                seconds(std::chrono::system_clock::now()) - static_cast<std::int64_t>(got.seconds_since_packet);
    }
    if (leg.held)
        rtp.remote = rtp.advertised;
    rtp.filled = rtp.remote.has_value();
    return rtp;
}

void write_media(writer& to, const call& c, const media_line& line, side s,
                 const std::optional<media::media_info>& info, totals& sum) {
    const auto& leg = line.legs[s];
    const auto rtp = rtp_of(c, line, s, info);
    sum.packets += rtp.count.packets;
    sum.bytes += rtp.count.bytes;
    sum.errors += rtp.count.errors;
    to.open_dict()
        .field("index", std::int64_t{line.index} + 1)
        .field("type", line.kind)
        .field("protocol", leg.profile.rtp ? sdp::name(leg.profile) : std::string_view())
        .key("streams")
        .open_list();
    write(to, rtp);
    if (!leg.mux)
        write(to,
              stream_view{"RTCP", line.local[s].rtcp, leg.rtcp, leg.rtcp, rtp.last_packet, {}, leg.rtcp.has_value()});
    to.close().key("flags").open_list().text("initialized");
    if (sdp::sends(leg.direction))
        to.text("send");
    if (sdp::receives(leg.direction) && !leg.held)
        to.text("recv");
    if (leg.mux)
        to.text("rtcp-mux");
    if (leg.profile.secure)
        to.text("SDES");
    to.close().close();
}

void write_peers(writer& to, std::string_view name, const call& c, side s) {
    to.key(name).open_list();
    for (const auto& tag : c.tags[other(s)])
        to.open_dict().field("tag", tag).field("type", "offer/answer").close();
    to.close();
}

} // namespace

value ok_reply() {
    return dict{{"result", "ok"}};
}

value error_reply(std::string why) {
    dict out;
    out.emplace_back("result", "error");
    out.emplace_back("error-reason", std::move(why));
    return out;
}

value refusal_reply(const refusal& no, bool knows_load_limit) {
    if (!knows_load_limit && no.what != refusal::want::load)
        return error_reply(no.what == refusal::want::ports ? "Ran out of ports" : "Parallel session limit reached");
    dict out;
    out.emplace_back("result", "load limit");
    out.emplace_back("message", no.cause);
    return out;
}

void warn_of(value& reply, const std::vector<std::string>& ignored) {
    if (ignored.empty() || reply.text_of("result") != "ok" || reply.find("warning") != nullptr)
        return;
    std::string text = "Not supported, ignored: ";
    for (const auto& one : ignored)
        text += (&one == &ignored.front() ? "" : ", ") + one;
    reply.add("warning", std::move(text));
}

namespace {

// The tags of one branch; those that an earlier one had are written already.
void write_tags(writer& tags, const call& c, const media::relay& relay, std::vector<std::string>& written,
                totals& sum) {
    std::vector<std::optional<media::media_info>> infos;
    for (const auto& line : c.lines)
        infos.push_back(line.id != 0 ? relay.info(line.id) : std::nullopt);
    for (const side s : {0U, 1U})
        for (std::size_t i = 0; i < c.tags[s].size(); ++i) {
            const auto& tag = c.tags[s][i];
            if (std::find(written.begin(), written.end(), tag) != written.end())
                continue;
            written.push_back(tag);
            const bool current = i + 1 == c.tags[s].size(); // the fork that the media belongs to
            tags.key(tag).open_dict().field("tag", tag).field("created", seconds(c.created.wall));
            write_peers(tags, "subscriptions", c, s);
            write_peers(tags, "subscribers", c, s);
            tags.key("medias").open_list();
            for (std::size_t n = 0; n < c.lines.size(); ++n)
                if (c.lines[n].id != 0 && current)
                    write_media(tags, c, c.lines[n], s, infos[n], sum);
            tags.close().close();
        }
}

} // namespace

void add_statistics(value& reply, const std::vector<call>& branches, const media::relay& relay) {
    const auto& main = chief(branches);
    const auto us = duration_cast<std::chrono::microseconds>(main.created.wall.time_since_epoch()).count();
    auto last_signal = main.last_signal;
    for (const auto& c : branches)
        last_signal = std::max(last_signal, c.last_signal);
    reply.add("created", us / 1'000'000);
    reply.add("created_us", us % 1'000'000);
    reply.add("last signal", seconds(last_signal));
    reply.add("SSRC", dict{});
    std::vector<std::string> written;
    totals sum;
    writer tags;
    tags.open_dict();
    write_tags(tags, main, relay, written, sum);
    for (const auto& c : branches)
        if (&c != &main)
            write_tags(tags, c, relay, written, sum);
    reply.add("tags", tags.close().take());
    writer all;
    all.open_dict();
    write(all, "RTP", sum);
    write(all, "RTCP", totals{});
    reply.add("totals", all.close().take());
}

} // namespace tandem::callcontrol
