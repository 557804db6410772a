// SPDX-License-Identifier: Apache-2.0
// JSON of journal rows. Times are milliseconds since 1970. Reading is lenient in what a row of an earlier program did
// not have. Pure.
#include "controlplane/store/rows.hpp"

#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "controlplane/protocol/address_text.hpp"
#include "controlplane/protocol/kept_text.hpp"
#include "controlplane/store/record_text.hpp"

namespace tandem::store {

namespace {

using nlohmann::json;

// --- facts: one overload per type, the names are the facts' own (media/facts.hpp) ---

void put(json_out& to, const auto& value) {
    to.value(value);
}
void put(json_out& to, const media::endpoint& where) {
    to.open('[').value(protocol::address_text(where.address)).value(where.port).close(']');
}
void put(json_out& to, media::leg_kind kind) {
    to.value(kind == media::leg_kind::unit ? "unit" : "core");
}
void put(json_out& to, api::suite suite) {
    to.value(std::string_view(api::info(suite).name));
}
void put(json_out& to, media::learning how) {
    to.value(media::name_of(how));
}
void put(json_out& to, const asio::ip::address& address) {
    to.value(protocol::address_text(address));
}
template <class T>
void put(json_out& to, const std::optional<T>& value) {
    if (value)
        put(to, *value);
    else
        to.null();
}
template <class T, std::size_t n>
void put(json_out& to, const std::array<T, n>& values) {
    to.list(values);
}

void get(const json& from, auto& value) {
    from.get_to(value);
}
void get(const json& from, media::endpoint& where) {
    where = {asio::ip::make_address(from.at(0).get<std::string>()), from.at(1).get<std::uint16_t>()};
}
void get(const json& from, media::leg_kind& kind) {
    kind = from == "unit" ? media::leg_kind::unit : media::leg_kind::core;
}
void get(const json& from, api::suite& suite) {
    const auto* known = api::find_suite(std::string_view(from.get_ref<const std::string&>()));
    suite = known != nullptr ? known->id : api::suite::clear;
}
void get(const json& from, media::learning& how) {
    how = media::learning_of(from.get_ref<const std::string&>()).value_or(media::learning::once);
}
void get(const json& from, asio::ip::address& address) {
    address = asio::ip::make_address(from.get<std::string>());
}
template <class T>
void get(const json& from, std::optional<T>& value) {
    if (from.is_null())
        value.reset();
    else
        get(from, value.emplace());
}

// What a row of an earlier program did not have stays as it is.
void get_known(const json& row, const char* name, auto& value) {
    if (const auto found = row.find(name); found != row.end())
        get(*found, value);
}

std::chrono::milliseconds span_from(const json& value) {
    return std::chrono::milliseconds(value.get<std::int64_t>());
}

void write(json_out& to, const media::leg_row& leg) {
    to.open('{');
    media::each_leg_fact(leg, [&](std::string_view name, const auto& value) { to.key(name), put(to, value); });
    to.field("outer", protocol::address_text(leg.outer)).field("port", leg.port).field("epoch", leg.epoch).close('}');
}

media::leg_row leg_from(const json& value) {
    media::leg_row leg;
    media::each_leg_fact(leg, [&](const char* name, auto& fact) { get_known(value, name, fact); });
    get(value.at("outer"), leg.outer);
    leg.port = value.at("port");
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
    get(value.at("suite"), level.suite);
    level.seed_bytes = value.at("seed_bytes");
    level.rekey = span_from(value.at("rekey_ms"));
    level.overlap = span_from(value.at("overlap_ms"));
    level.seed_is_key = value.at("seed_is_key");
    level.keys = policy::key_source_of(value.at("key_source").get_ref<const std::string&>()).value_or(level.keys);
    level.path = policy::path_choice_of(value.at("path").get_ref<const std::string&>()).value_or(level.path);
    return level;
}

void write(json_out& to, const media::facts& known, const std::string& call_id, media::fact_of where) {
    to.field("id", known.id).field("call_id", call_id);
    media::each_fact(known, [&](std::string_view name, const auto& value, media::fact_of of) {
        if (of <= where)
            to.key(name), put(to, value);
    });
    to.field("opened", in_ms(known.opened.wall)).field("answered", in_ms(known.answered.wall));
}
void write_reason(json_out& to, const media::facts& known) {
    to.field("decided_by", known.decided_by).key("why");
    write(to, known.why);
}
media::facts facts_from(const json& value) {
    media::facts known;
    known.id = value.at("id");
    known.call_id = protocol::text_kept(value.at("call_id").get_ref<const std::string&>());
    media::each_fact(known, [&](const char* name, auto& fact, media::fact_of) { get_known(value, name, fact); });
    known.opened.wall = from_ms(value.at("opened"));
    known.answered.wall = from_ms(value.at("answered"));
    get_known(value, "decided_by", known.decided_by);
    if (const auto why = value.find("why"); why != value.end())
        known.why = why_from(*why);
    return known;
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
    write(to, row, what == content::kept ? protocol::kept_text(row.call_id) : row.call_id, media::fact_of::record);
    if (what != content::public_without_reason)
        write_reason(to, row);
    if (what == content::kept)
        write_uptimes(to, {&row.opened, &row.answered, &row.ended});
    to.field("level", row.level.name).field("cause", row.cause).field("ended", in_ms(row.ended.wall));
    to.field("seed_bytes", row.level.seed_length()).field("key_source", name_of(row.level.keys));
    to.field("interval_s", row.interval_s());
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
    media::media_record row{facts_from(value), value.at("cause"), {}, {}};
    row.level.name = value.at("level");
    row.ended.wall = from_ms(value.at("ended"));
    read_uptimes(value, {&row.opened, &row.answered, &row.ended});
    get_known(value, "seed_bytes", row.level.seed_bytes);
    row.level.keys = policy::key_source_of(value.value("key_source", "gateway")).value_or(policy::key_source::gateway);
    row.level.rekey = std::chrono::milliseconds(std::llround(1000 * value.value("interval_s", 0.0)));
    row.legs = {side_from(value.at("legs").at(0)), side_from(value.at("legs").at(1))};
    return row;
}

std::string to_json(const media::media_row& row) {
    json_out to;
    to.open('{');
    write(to, row, protocol::kept_text(row.call_id), media::fact_of::row);
    write_reason(to, row);
    write_uptimes(to, {&row.opened, &row.answered});
    media::each_line_fact(row, [&](std::string_view name, const auto& value) { to.key(name), put(to, value); });
    to.field("installed", row.installed).key("level");
    write(to, row.level);
    to.key("legs").open('[');
    write(to, row.legs[0]);
    write(to, row.legs[1]);
    to.close(']');
    if (!row.opening.empty()) {
        to.key("opening").open('[');
        for (const auto& [tsid, number] : row.opening)
            to.open('[').value(tsid).value(number).close(']');
        to.close(']');
    }
    to.close('}');
    return to.take();
}

std::optional<media::media_row> media_row_from_json(std::string_view text) {
    return parsed<media::media_row>(text, [](const json& value) {
        media::media_row row{facts_from(value), {}, value.at("installed"), {}, {}};
        read_uptimes(value, {&row.opened, &row.answered});
        row.level = level_from(value.at("level"));
        media::each_line_fact(row, [&](const char* name, auto& fact) { get_known(value, name, fact); });
        get_known(value, "opening", row.opening);
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

} // namespace tandem::store
