// SPDX-License-Identifier: Apache-2.0
// JSON of journal rows. Times are milliseconds since 1970. Reading is lenient in what a row of an earlier program did
// not have. Pure.
#include "controlplane/records/rows.hpp"

#include <nlohmann/json.hpp>

#include "controlplane/protocol/kept_text.hpp"
#include "controlplane/records/record_text.hpp"

namespace tandem::records {

namespace {

using nlohmann::json;

void write(json_out& to, const char* name, const media::endpoint& where) {
    to.key(name).open('[').value(where.address.to_string()).value(where.port).close(']');
}
void write(json_out& to, const char* name, const std::optional<media::endpoint>& where) {
    if (where)
        write(to, name, *where);
    else
        to.key(name).null();
}
media::endpoint endpoint_from(const json& value) {
    return {asio::ip::make_address(value.at(0).get<std::string>()), value.at(1).get<std::uint16_t>()};
}
std::optional<media::endpoint> optional_from(const json& value) {
    return value.is_null() ? std::nullopt : std::optional(endpoint_from(value));
}
api::suite suite_from(const json& value) {
    const auto* suite = api::find_suite(std::string_view(value.get_ref<const std::string&>()));
    return suite != nullptr ? suite->id : api::suite::clear;
}
std::chrono::milliseconds span_from(const json& value) {
    return std::chrono::milliseconds(value.get<std::int64_t>());
}

// Younger than the rows of earlier programs.
void write(json_out& to, const media::source_wish& source) {
    to.field("learning", media::name_of(source.how.value_or(media::learning::once))).field("strict", source.strict);
    for (const auto& [name, where] :
         {std::pair{"signalled", &source.signalled}, {"received_from", &source.received_from}})
        if (*where)
            to.field(name, (*where)->to_string());
}

media::source_wish source_from(const json& value) {
    media::source_wish source;
    source.how = media::learning_of(value.value("learning", "once")).value_or(media::learning::once);
    source.strict = value.value("strict", false);
    for (const auto& [name, where] :
         {std::pair{"signalled", &source.signalled}, {"received_from", &source.received_from}})
        if (value.contains(name))
            *where = asio::ip::make_address(value.at(name).get<std::string>());
    return source;
}

void write(json_out& to, const media::leg_row& leg) {
    to.open('{').field("kind", leg.kind == media::leg_kind::unit ? "unit" : "core").field("unit", leg.unit);
    to.field("tsid", leg.tsid)
        .field("second", leg.second)
        .field("interface", leg.interface)
        .field("address_index", leg.address_index);
    to.field("outer", leg.outer.to_string()).field("port", leg.port);
    write(to, "local_rtp", leg.local_rtp);
    write(to, "local_rtcp", leg.local_rtcp);
    to.field("ipv6", leg.ipv6).field("mux", leg.mux).field("unroutable", leg.unroutable);
    write(to, "remote_rtp", leg.remote_rtp);
    write(to, "remote_rtcp", leg.remote_rtcp);
    write(to, "hint", leg.hint);
    write(to, leg.source);
    to.field("suite", std::string_view(api::info(leg.suite).name)).field("epoch", leg.epoch).close('}');
}

media::leg_row leg_from(const json& value) {
    media::leg_row leg;
    leg.kind = value.at("kind") == "unit" ? media::leg_kind::unit : media::leg_kind::core;
    leg.unit = value.at("unit");
    leg.tsid = value.at("tsid");
    leg.second = value.value("second", false);
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
    leg.source = source_from(value);
    leg.suite = suite_from(value.at("suite"));
    leg.epoch = value.at("epoch");
    return leg;
}

void write(json_out& to, const policy::level& level) {
    to.open('{').field("name", level.name).field("suite", std::string_view(api::info(level.suite).name));
    to.field("seed_bytes", level.seed_bytes).field("rekey_ms", level.rekey.count());
    to.field("overlap_ms", level.overlap.count()).field("seed_is_key", level.seed_is_key);
    to.field("key_source", name_of(level.keys)).field("path", name_of(level.path)).close('}');
}

policy::level level_from(const json& value) {
    policy::level level;
    if (value.is_string()) { // an earlier program kept the name alone
        level.name = value;
        level.seed_bytes = 0; // its values are the level's of that name, as they are now
        return level;
    }
    level.name = value.at("name");
    level.suite = suite_from(value.at("suite"));
    level.seed_bytes = value.at("seed_bytes");
    level.rekey = span_from(value.at("rekey_ms"));
    level.overlap = span_from(value.at("overlap_ms"));
    level.seed_is_key = value.at("seed_is_key");
    level.keys = policy::key_source_of(value.at("key_source").get_ref<const std::string&>()).value_or(level.keys);
    level.path = policy::path_choice_of(value.at("path").get_ref<const std::string&>()).value_or(level.path);
    return level;
}

// What a live media and a finished one have in common.
template <class Row>
void write_call(json_out& to, const Row& row, const std::string& call_id) {
    to.field("id", row.id).field("call_id", call_id).field("index", row.index).field("kind", row.kind);
    to.field("caller", row.caller).field("callee", row.callee);
    to.field("opened", in_ms(row.opened.wall)).field("answered", in_ms(row.answered.wall));
    to.field("rekeys", row.rekeys).field("rekey_failures", row.rekey_failures);
    to.field("seeds_made", row.seeds_made).field("seeds_from_units", row.seeds_from_units);
}
template <class Row>
void write_reason(json_out& to, const Row& row) {
    to.field("decided_by", row.decided_by).key("why");
    write(to, row.why);
}
template <class Row>
Row call_from(const json& value) {
    Row row;
    row.id = value.at("id");
    row.call_id = protocol::text_kept(value.at("call_id").get_ref<const std::string&>());
    row.index = value.at("index");
    row.kind = value.at("kind");
    row.caller = value.at("caller");
    row.callee = value.at("callee");
    row.opened.wall = from_ms(value.at("opened"));
    row.answered.wall = from_ms(value.at("answered"));
    row.rekeys = value.at("rekeys");
    row.rekey_failures = value.at("rekey_failures");
    row.seeds_made = value.value("seeds_made", 0U);
    row.seeds_from_units = value.value("seeds_from_units", 0U);
    row.decided_by = value.value("decided_by", "");
    if (const auto why = value.find("why"); why != value.end())
        row.why = why_from(*why);
    return row;
}

template <class Row, class Parse>
std::optional<Row> parsed(std::string_view text, Parse&& parse) {
    try {
        return parse(json::parse(text));
    } catch (const std::exception&) {
        return std::nullopt; // written by another version, or damaged: the row is of no use
    }
}

media::media_record::side side_from(const json& leg) {
    media::media_record::side side;
    side.kind = leg.at("kind");
    side.unit = leg.at("unit");
    side.suite = leg.at("suite");
    side.packets = leg.at("packets");
    side.bytes = leg.at("bytes");
    side.lost = leg.at("lost");
    side.auth_failures = leg.at("auth_failures");
    side.replays = leg.at("replays");
    side.reports = leg.value("reports", std::uint64_t{0});
    side.reported_lost = leg.value("reported_lost", std::uint64_t{0});
    side.jitter_ms = leg.value("jitter_ms", 0.0);
    side.max_jitter_ms = leg.value("max_jitter_ms", 0.0);
    return side;
}

} // namespace

void write(json_out& to, const std::vector<policy::step>& why) {
    to.open('[');
    for (const auto& step : why)
        to.open('{')
            .field("rule", step.rule)
            .field("level", step.level)
            .field("text", step.text)
            .field("decided", step.decided)
            .close('}');
    to.close(']');
}

std::vector<policy::step> why_from(const json& value) {
    std::vector<policy::step> why;
    for (const auto& step : value)
        why.push_back({step.at("rule"), step.at("level"), step.at("text"), step.at("decided")});
    return why;
}

void write_uptimes(json_out& to, moments of) {
    std::uint32_t boot = 0;
    for (const auto* one : of)
        boot = std::max(boot, one->boot); // all of one start, or none
    to.key("up").open('[').value(boot);
    for (const auto* one : of)
        to.value(one->boot == boot ? one->up.count() : 0);
    to.close(']');
}

void read_uptimes(const json& row, std::initializer_list<protocol::moment*> into) {
    const auto up = row.find("up");
    if (up == row.end() || up->size() != into.size() + 1)
        return;
    std::size_t at = 0;
    for (auto* one : into) {
        one->boot = up->at(0);
        one->up = span_from(up->at(++at));
    }
}

void write(json_out& to, const media::media_record& row, content what) {
    to.open('{');
    write_call(to, row, what == content::kept ? protocol::kept_text(row.call_id) : row.call_id);
    if (what != content::public_without_reason)
        write_reason(to, row);
    if (what == content::kept)
        write_uptimes(to, {&row.opened, &row.answered, &row.ended});
    to.field("level", row.level).field("cause", row.cause).field("ended", in_ms(row.ended.wall));
    to.field("seed_bytes", row.seed_bytes).field("key_source", name_of(row.keys)).field("interval_s", row.interval_s);
    to.key("legs").open('[');
    for (const auto& leg : row.legs) {
        to.open('{').field("kind", leg.kind).field("unit", leg.unit).field("suite", leg.suite);
        to.field("packets", leg.packets).field("bytes", leg.bytes).field("lost", leg.lost);
        to.field("auth_failures", leg.auth_failures).field("replays", leg.replays);
        to.field("reports", leg.reports).field("reported_lost", leg.reported_lost);
        to.field("jitter_ms", leg.jitter_ms).field("max_jitter_ms", leg.max_jitter_ms).close('}');
    }
    to.close(']').close('}');
}

media::media_record media_record_from(const json& value) {
    auto row = call_from<media::media_record>(value);
    row.level = value.at("level");
    row.cause = value.at("cause");
    row.ended.wall = from_ms(value.at("ended"));
    read_uptimes(value, {&row.opened, &row.answered, &row.ended});
    row.seed_bytes = value.value("seed_bytes", std::size_t{0});
    row.keys = policy::key_source_of(value.value("key_source", "gateway")).value_or(policy::key_source::gateway);
    row.interval_s = value.value("interval_s", 0.0);
    row.legs = {side_from(value.at("legs").at(0)), side_from(value.at("legs").at(1))};
    return row;
}

std::string to_json(const media::media_row& row) {
    json_out to;
    to.open('{');
    write_call(to, row, protocol::kept_text(row.call_id));
    write_reason(to, row);
    write_uptimes(to, {&row.opened, &row.answered});
    to.field("branch", row.branch);
    to.field("caller_domain", row.caller_domain).field("callee_domain", row.callee_domain).key("level");
    write(to, row.level);
    to.field("clock_rate", row.clock_rate).field("installed", row.installed);
    to.key("retransmissions").list(row.retransmissions);
    to.key("forward").open('[').value(row.forward[0]).value(row.forward[1]).close(']').key("legs").open('[');
    write(to, row.legs[0]);
    write(to, row.legs[1]);
    to.close(']').close('}');
    return to.take();
}

std::optional<media::media_row> media_row_from_json(std::string_view text) {
    return parsed<media::media_row>(text, [](const json& value) {
        auto row = call_from<media::media_row>(value);
        read_uptimes(value, {&row.opened, &row.answered});
        row.branch = value.value("branch", 0U);
        row.caller_domain = value.value("caller_domain", "");
        row.callee_domain = value.value("callee_domain", "");
        row.level = level_from(value.at("level"));
        row.clock_rate = value.value("clock_rate", 8000U);
        row.retransmissions = value.value("retransmissions", row.retransmissions);
        row.forward = value.at("forward");
        row.installed = value.at("installed");
        row.legs = {leg_from(value.at("legs").at(0)), leg_from(value.at("legs").at(1))};
        return row;
    });
}

std::string to_json(const media::media_record& row) {
    json_out to;
    write(to, row, content::kept);
    return to.take();
}

std::optional<media::media_record> media_record_from_json(std::string_view text) {
    return parsed<media::media_record>(text, [](const json& value) { return media_record_from(value); });
}

} // namespace tandem::records
