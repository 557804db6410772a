// SPDX-License-Identifier: Apache-2.0
// Calls as JSON for the store: enough to go on with delete, query and re-offers after a restart. Never a key.
#include <nlohmann/json.hpp>

#include "controlplane/callcontrol/call.hpp"

namespace tandem::callcontrol {

namespace {

using nlohmann::json;

constexpr int format_version = 1;

json from_endpoint(const std::optional<media::endpoint>& e) {
    return e ? json{{"address", e->address.to_string()}, {"port", e->port}} : json();
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

json from_leg(const leg& l) {
    return {{"unit", l.where.kind == media::leg_kind::unit},
            {"id_code", l.where.unit},
            {"interface", l.where.interface},
            {"ipv6", l.where.ipv6},
            {"rtp", from_endpoint(l.rtp)},
            {"rtcp", from_endpoint(l.rtcp)},
            {"learn", l.learn},
            {"mux", l.mux},
            {"mux_offered", l.mux_offered},
            {"direction", static_cast<int>(l.direction)},
            {"held", l.held},
            {"profile", l.profile.rtp ? std::string(sdp::name(l.profile)) : std::string()},
            {"suite", l.keys.suite ? std::string(api::info(*l.keys.suite).name) : std::string()},
            {"tag", l.keys.tag}};
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

json from_line(const media_line& m) {
    json local = json::array();
    for (const auto& one : m.local)
        local.push_back({{"rtp", from_endpoint(one.rtp)}, {"rtcp", from_endpoint(one.rtcp)}});
    return {{"index", m.index},
            {"kind", m.kind},
            {"id", m.id},
            {"answered", m.answered},
            {"clock_rate", m.clock_rate},
            {"local", std::move(local)},
            {"legs", json::array({from_leg(m.legs[0]), from_leg(m.legs[1])})}};
}

media_line to_line(const json& from) {
    media_line m;
    m.index = from.at("index").get<std::uint32_t>();
    m.kind = from.at("kind").get<std::string>();
    m.id = from.at("id").get<media::media_id>();
    m.answered = from.at("answered").get<bool>();
    m.clock_rate = from.value("clock_rate", m.clock_rate);
    for (const side s : {0U, 1U}) {
        const auto& local = from.at("local").at(s);
        m.local[s] = {to_endpoint(local.at("rtp")).value_or(media::endpoint{}),
                      to_endpoint(local.at("rtcp")).value_or(media::endpoint{})};
        m.legs[s] = to_leg(from.at("legs").at(s));
    }
    return m;
}

} // namespace

std::string save(const call& c) {
    json lines = json::array();
    for (const auto& line : c.lines)
        lines.push_back(from_line(line));
    const json out{{"version", format_version},
                   {"call_id", c.call_id},
                   {"tags", c.tags},
                   {"caller", c.caller},
                   {"callee", c.callee},
                   {"caller_domain", c.caller_domain},
                   {"callee_domain", c.callee_domain},
                   {"wish", c.wish},
                   {"dialled", c.dialled},
                   {"callee_offered", c.callee_offered},
                   {"created_us", microseconds(c.created)},
                   {"last_signal_us", microseconds(c.last_signal)},
                   {"interfaces", c.interfaces},
                   {"offerer", c.offerer},
                   {"answered", c.answered},
                   {"accept_mux", c.accept_mux},
                   {"refuse_mux", c.refuse_mux},
                   {"lines", std::move(lines)}};
    return out.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::optional<call> load(std::string_view text) {
    try {
        const auto from = json::parse(text);
        if (from.at("version").get<int>() != format_version)
            return {};
        call c;
        c.call_id = from.at("call_id").get<std::string>();
        c.tags = from.at("tags").get<decltype(c.tags)>();
        c.caller = from.at("caller").get<std::string>();
        c.callee = from.at("callee").get<std::string>();
        c.caller_domain = from.value("caller_domain", ""); // younger than the format
        c.callee_domain = from.value("callee_domain", "");
        c.wish = from.value("wish", "");
        c.dialled = from.value("dialled", "");
        c.callee_offered = from.at("callee_offered").get<bool>();
        c.created = time_point(from.at("created_us"));
        c.last_signal = time_point(from.at("last_signal_us"));
        c.interfaces = from.at("interfaces").get<decltype(c.interfaces)>();
        c.offerer = from.at("offerer").get<unsigned>() & 1;
        c.answered = from.at("answered").get<bool>();
        c.accept_mux = from.at("accept_mux").get<bool>();
        c.refuse_mux = from.at("refuse_mux").get<bool>();
        for (const auto& line : from.at("lines"))
            c.lines.push_back(to_line(line));
        return c;
    } catch (const std::exception&) { // nlohmann and asio report by exception; outside this function there is none
        return {};
    }
}

} // namespace tandem::callcontrol
