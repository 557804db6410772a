// SPDX-License-Identifier: Apache-2.0
// JSON of journal rows. Times are milliseconds since 1970. Pure.
#include "controlplane/records/rows.hpp"

#include <nlohmann/json.hpp>

namespace tandem::records {

namespace {

using nlohmann::json;
using std::chrono::system_clock;

std::int64_t ms(system_clock::time_point when) {
    return std::chrono::duration_cast<std::chrono::milliseconds>(when.time_since_epoch()).count();
}
system_clock::time_point from_ms(std::int64_t value) {
    return system_clock::time_point(std::chrono::milliseconds(value));
}

json endpoint_json(const media::endpoint& where) {
    return json::array({where.address.to_string(), where.port});
}
media::endpoint endpoint_from(const json& value) {
    return {asio::ip::make_address(value.at(0).get<std::string>()), value.at(1).get<std::uint16_t>()};
}
json optional_json(const std::optional<media::endpoint>& where) {
    return where ? endpoint_json(*where) : json();
}
std::optional<media::endpoint> optional_from(const json& value) {
    return value.is_null() ? std::nullopt : std::optional(endpoint_from(value));
}

json leg_json(const media::leg_row& leg) {
    return {{"kind", leg.kind == media::leg_kind::unit ? "unit" : "core"},
            {"unit", leg.unit},
            {"tsid", leg.tsid},
            {"interface", leg.interface},
            {"address_index", leg.address_index},
            {"outer", leg.outer.to_string()},
            {"port", leg.port},
            {"local_rtp", endpoint_json(leg.local_rtp)},
            {"local_rtcp", endpoint_json(leg.local_rtcp)},
            {"ipv6", leg.ipv6},
            {"mux", leg.mux},
            {"unroutable", leg.unroutable},
            {"remote_rtp", optional_json(leg.remote_rtp)},
            {"remote_rtcp", optional_json(leg.remote_rtcp)},
            {"hint", optional_json(leg.hint)},
            {"suite", api::info(leg.suite).name},
            {"epoch", leg.epoch}};
}

media::leg_row leg_from(const json& value) {
    media::leg_row leg;
    leg.kind = value.at("kind") == "unit" ? media::leg_kind::unit : media::leg_kind::core;
    leg.unit = value.at("unit");
    leg.tsid = value.at("tsid");
    leg.interface = value.at("interface");
    leg.address_index = value.at("address_index");
    leg.outer = asio::ip::make_address(value.at("outer").get<std::string>());
    leg.port = value.at("port");
    leg.local_rtp = endpoint_from(value.at("local_rtp"));
    leg.local_rtcp = endpoint_from(value.at("local_rtcp"));
    leg.ipv6 = value.at("ipv6");
    leg.mux = value.at("mux");
    leg.unroutable = value.at("unroutable");
    leg.remote_rtp = optional_from(value.at("remote_rtp"));
    leg.remote_rtcp = optional_from(value.at("remote_rtcp"));
    leg.hint = optional_from(value.at("hint"));
    const auto* suite = api::find_suite(std::string_view(value.at("suite").get_ref<const std::string&>()));
    leg.suite = suite != nullptr ? suite->id : api::suite::clear;
    leg.epoch = value.at("epoch");
    return leg;
}

// What a live media and a finished one have in common.
template <class Row>
Row call_from(const json& value) {
    Row row;
    row.id = value.at("id");
    row.call_id = value.at("call_id");
    row.index = value.at("index");
    row.kind = value.at("kind");
    row.caller = value.at("caller");
    row.callee = value.at("callee");
    row.opened = from_ms(value.at("opened"));
    row.answered = from_ms(value.at("answered"));
    row.rekeys = value.at("rekeys");
    row.rekey_failures = value.at("rekey_failures");
    return row;
}

template <class Row, class Parse>
std::optional<Row> parsed(const std::string& text, Parse&& parse) {
    try {
        return parse(json::parse(text));
    } catch (const std::exception&) {
        return std::nullopt; // written by another version, or damaged: the row is of no use
    }
}

} // namespace

std::string to_json(const media::media_row& row) {
    return json{{"id", row.id},
                {"call_id", row.call_id},
                {"index", row.index},
                {"kind", row.kind},
                {"caller", row.caller},
                {"callee", row.callee},
                {"level", row.level.name},
                {"forward", row.forward},
                {"installed", row.installed},
                {"opened", ms(row.opened)},
                {"answered", ms(row.answered)},
                {"rekeys", row.rekeys},
                {"rekey_failures", row.rekey_failures},
                {"legs", json::array({leg_json(row.legs[0]), leg_json(row.legs[1])})}}
        .dump(-1, ' ', false, json::error_handler_t::replace);
}

std::optional<media::media_row> media_row_from_json(const std::string& text) {
    return parsed<media::media_row>(text, [](const json& value) {
        auto row = call_from<media::media_row>(value);
        row.level.name = value.at("level");
        row.forward = value.at("forward");
        row.installed = value.at("installed");
        row.legs = {leg_from(value.at("legs").at(0)), leg_from(value.at("legs").at(1))};
        return row;
    });
}

std::string to_json(const media::media_record& row) {
    json legs = json::array();
    for (const auto& leg : row.legs)
        legs.push_back({{"kind", leg.kind},
                        {"unit", leg.unit},
                        {"suite", leg.suite},
                        {"packets", leg.packets},
                        {"bytes", leg.bytes},
                        {"lost", leg.lost},
                        {"auth_failures", leg.auth_failures},
                        {"replays", leg.replays}});
    return json{{"id", row.id},
                {"call_id", row.call_id},
                {"index", row.index},
                {"kind", row.kind},
                {"caller", row.caller},
                {"callee", row.callee},
                {"level", row.level},
                {"cause", row.cause},
                {"opened", ms(row.opened)},
                {"answered", ms(row.answered)},
                {"ended", ms(row.ended)},
                {"rekeys", row.rekeys},
                {"rekey_failures", row.rekey_failures},
                {"legs", legs}}
        .dump(-1, ' ', false, json::error_handler_t::replace);
}

std::optional<media::media_record> media_record_from_json(const std::string& text) {
    return parsed<media::media_record>(text, [](const json& value) {
        auto row = call_from<media::media_record>(value);
        row.level = value.at("level");
        row.cause = value.at("cause");
        row.ended = from_ms(value.at("ended"));
        for (std::size_t i = 0; i < 2; ++i) {
            const auto& leg = value.at("legs").at(i);
            row.legs[i] = {leg.at("kind"),  leg.at("unit"), leg.at("suite"),         leg.at("packets"),
                           leg.at("bytes"), leg.at("lost"), leg.at("auth_failures"), leg.at("replays")};
        }
        return row;
    });
}

} // namespace tandem::records
