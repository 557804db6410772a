// SPDX-License-Identifier: Apache-2.0
// Calls as JSON for the store: enough to go on with delete, query and re-offers after a restart. Never a key. Written
// twice a call, so front to back; read at a start only.
#include <nlohmann/json.hpp>

#include "controlplane/callcontrol/call.hpp"
#include "controlplane/protocol/address_text.hpp"
#include "controlplane/protocol/json_out.hpp"
#include "controlplane/protocol/kept_text.hpp"

namespace tandem::callcontrol {

namespace {

using nlohmann::json;

constexpr int format_version = 1;

using protocol::json_out;

void write(json_out& to, std::string_view name, const std::optional<media::endpoint>& e) {
    to.key(name);
    if (!e) {
        to.null();
        return;
    }
    to.open('{').field("address", protocol::address_text(e->address)).field("port", e->port).close('}');
}

std::optional<media::endpoint> to_endpoint(const json& from) {
    if (from.is_null())
        return {};
    return media::endpoint{asio::ip::make_address(from.at("address").get<std::string>()),
                           from.at("port").get<std::uint16_t>()};
}

std::int64_t microseconds(std::chrono::system_clock::time_point when) {
    return std::chrono::duration_cast<std::chrono::microseconds>(when.time_since_epoch()).count();
}

std::chrono::system_clock::time_point time_point(const json& from) {
    return std::chrono::system_clock::time_point(std::chrono::microseconds(from.get<std::int64_t>()));
}

void write(json_out& to, const leg& l) {
    to.open('{')
        .field("unit", l.where.kind == media::leg_kind::unit)
        .field("id_code", l.where.unit)
        .field("interface", l.where.interface)
        .field("ipv6", l.where.ipv6);
    write(to, "rtp", l.rtp);
    write(to, "rtcp", l.rtcp);
    if (l.source.how)
        to.field("learning", media::name_of(*l.source.how));
    for (const auto& [name, where] :
         {std::pair{"signalled", &l.source.signalled}, {"received_from", &l.source.received_from}})
        if (*where)
            to.field(name, protocol::address_text(**where));
    to.field("learn", l.learn)
        .field("strict", l.source.strict)
        .field("mux", l.mux)
        .field("mux_offered", l.mux_offered)
        .field("direction", static_cast<int>(l.direction))
        .field("held", l.held)
        .field("profile", l.profile.rtp ? sdp::name(l.profile) : std::string_view())
        .field("suite", l.keys.suite ? api::info(*l.keys.suite).name : std::string_view())
        .field("tag", l.keys.tag)
        .close('}');
}

leg to_leg(const json& from) {
    leg l;
    l.where.kind = from.at("unit").get<bool>() ? media::leg_kind::unit : media::leg_kind::core;
    l.where.unit = from.at("id_code").get<std::string>();
    l.where.interface = from.at("interface").get<std::string>();
    l.where.ipv6 = from.at("ipv6").get<bool>();
    l.rtp = to_endpoint(from.at("rtp"));
    l.rtcp = to_endpoint(from.at("rtcp"));
    l.learn = from.at("learn").get<bool>();
    l.source.how = media::learning_of(from.value("learning", "")); // these four are younger than the format
    l.source.strict = from.value("strict", false);
    for (const auto& [name, where] :
         {std::pair{"signalled", &l.source.signalled}, {"received_from", &l.source.received_from}})
        if (from.contains(name))
            *where = asio::ip::make_address(from.at(name).get<std::string>());
    l.mux = from.at("mux").get<bool>();
    l.mux_offered = from.at("mux_offered").get<bool>();
    l.direction = static_cast<sdp::way>(from.at("direction").get<int>() & 3);
    l.held = from.at("held").get<bool>();
    l.profile = sdp::parse_transport(from.at("profile").get<std::string>());
    const auto suite = from.at("suite").get<std::string>();
    if (const auto* row = api::find_suite(std::string_view(suite)); row != nullptr)
        l.keys.suite = row->id;
    l.keys.tag = from.at("tag").get<std::uint32_t>();
    return l;
}

void write(json_out& to, const media_line& m) {
    to.open('{')
        .field("index", m.index)
        .field("kind", m.kind)
        .field("id", m.id)
        .field("answered", m.answered)
        .field("clock_rate", m.clock_rate)
        .key("retransmissions")
        .list(m.retransmissions)
        .key("local")
        .open('[');
    for (const auto& one : m.local) {
        to.open('{');
        write(to, "rtp", one.rtp);
        write(to, "rtcp", one.rtcp);
        to.close('}');
    }
    to.close(']').key("legs").open('[');
    for (const auto& l : m.legs)
        write(to, l);
    to.close(']').close('}');
}

using protocol::kept_text;
using protocol::text_kept;

template <class Texts>
void write_texts(json_out& to, const Texts& texts) {
    to.open('[');
    for (const auto& text : texts)
        to.value(kept_text(text));
    to.close(']');
}

template <class Texts>
void read_texts(const json& from, Texts& into) {
    into = from.get<Texts>();
    for (auto& text : into)
        text = text_kept(text);
}

media_line to_line(const json& from) {
    media_line m;
    m.index = from.at("index").get<std::uint32_t>();
    m.kind = from.at("kind").get<std::string>();
    m.id = from.at("id").get<media::media_id>();
    m.answered = from.at("answered").get<bool>();
    m.clock_rate = from.value("clock_rate", m.clock_rate);
    m.retransmissions = from.value("retransmissions", m.retransmissions);
    for (const side s : {0U, 1U}) {
        const auto& local = from.at("local").at(s);
        m.local[s] = {to_endpoint(local.at("rtp")).value_or(media::endpoint{}),
                      to_endpoint(local.at("rtcp")).value_or(media::endpoint{})};
        m.legs[s] = to_leg(from.at("legs").at(s));
    }
    return m;
}

void write(json_out& to, const std::vector<media_line>& lines) {
    to.open('[');
    for (const auto& line : lines)
        write(to, line);
    to.close(']');
}

std::vector<media_line> to_lines(const json& from) {
    std::vector<media_line> out;
    for (const auto& line : from)
        out.push_back(to_line(line));
    return out;
}

// Open: the caller closes the brace.
void write(json_out& to, const call& c) {
    to.open('{').field("version", format_version).field("call_id", kept_text(c.call_id)).key("tags").open('[');
    for (const auto& tags : c.tags)
        write_texts(to, tags);
    to.close(']')
        .field("branch", c.branch)
        .field("via_branch", kept_text(c.via_branch))
        .field("source", c.source ? protocol::address_text(*c.source) : std::string())
        .field("ringing", c.ringing)
        .field("settled", c.settled)
        .field("opening", c.opening)
        .field("caller", kept_text(c.caller))
        .field("callee", kept_text(c.callee))
        .field("caller_domain", c.caller_domain)
        .field("callee_domain", c.callee_domain)
        .field("wish", c.wish)
        .field("dialled", c.dialled)
        .field("callee_offered", c.callee_offered)
        .field("created_us", microseconds(c.created.wall))
        .field("created_up", c.created.up.count())
        .field("boot", c.created.boot)
        .field("last_signal_us", microseconds(c.last_signal))
        .key("interfaces");
    write_texts(to, c.interfaces);
    to.field("offerer", c.offerer)
        .field("answered", c.answered)
        .field("accept_mux", c.accept_mux)
        .field("refuse_mux", c.refuse_mux)
        .key("versions")
        .open('[');
    for (const auto& one : c.versions)
        to.value(one.number ? std::to_string(*one.number) : std::string());
    to.close(']').key("lines");
    write(to, c.lines);
    if (c.reoffered) {
        to.key("reoffered");
        write(to, *c.reoffered);
    }
}

// What is younger than the format has a default.
call to_call(const json& from) {
    call c;
    c.call_id = text_kept(from.at("call_id").get<std::string>());
    for (const side s : {0U, 1U})
        read_texts(from.at("tags").at(s), c.tags[s]);
    c.branch = from.value("branch", 0U);
    c.via_branch = text_kept(from.value("via_branch", ""));
    if (const auto source = from.value("source", ""); !source.empty())
        c.source = asio::ip::make_address(source);
    c.ringing = from.value("ringing", 0U);
    c.settled = from.value("settled", 0U);
    c.opening = from.value("opening", false);
    c.caller = text_kept(from.at("caller").get<std::string>());
    c.callee = text_kept(from.at("callee").get<std::string>());
    c.caller_domain = from.value("caller_domain", "");
    c.callee_domain = from.value("callee_domain", "");
    c.wish = from.value("wish", "");
    c.dialled = from.value("dialled", "");
    c.callee_offered = from.at("callee_offered").get<bool>();
    c.created.wall = time_point(from.at("created_us"));
    c.created.up = std::chrono::milliseconds(from.value("created_up", std::int64_t{0}));
    c.created.boot = from.value("boot", 0U);
    c.last_signal = time_point(from.at("last_signal_us"));
    read_texts(from.at("interfaces"), c.interfaces);
    c.offerer = from.at("offerer").get<unsigned>() & 1;
    c.answered = from.at("answered").get<bool>();
    c.accept_mux = from.at("accept_mux").get<bool>();
    c.refuse_mux = from.at("refuse_mux").get<bool>();
    if (const auto kept = from.find("versions"); kept != from.end())
        for (const side s : {0U, 1U})
            if (const auto text = kept->at(s).get<std::string>(); !text.empty())
                c.versions[s].number = std::stoull(text);
    c.lines = to_lines(from.at("lines"));
    if (const auto wanted = from.find("reoffered"); wanted != from.end())
        c.reoffered = to_lines(*wanted);
    return c;
}

} // namespace

// The first branch, and the others within it: a call that did not fork is one object.
std::string save(const std::vector<call>& branches) {
    json_out to;
    for (std::size_t i = 0; i < branches.size(); ++i) {
        if (i == 1)
            to.key("branches").open('[');
        write(to, branches[i]);
        if (i > 0)
            to.close('}');
    }
    if (branches.size() > 1)
        to.close(']');
    return to.close('}').take();
}

std::optional<std::vector<call>> load(std::string_view text) {
    try {
        const auto from = json::parse(text);
        if (from.at("version").get<int>() != format_version)
            return {};
        std::vector<call> branches{to_call(from)};
        if (const auto others = from.find("branches"); others != from.end())
            for (const auto& one : *others)
                branches.push_back(to_call(one));
        return branches;
    } catch (const std::exception&) { // nlohmann and asio report by exception; outside this function there is none
        return {};
    }
}

} // namespace tandem::callcontrol
