// SPDX-License-Identifier: Apache-2.0
// The ops socket's verbs: which there are, `version` and `status`; the others are in *_verbs.cpp by subject. No key
// ever leaves. Owner thread: io_context.
#include "controlplane/app/ops_verbs.hpp"

#include <algorithm>
#include <cstring>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "controlplane/app/near_name.hpp"
#include "controlplane/app/ops_protocol.hpp"
#include "controlplane/app/verb_table.hpp"
#include "controlplane/app/verb_tools.hpp"

namespace tandem::control {

namespace {

using nlohmann::json;

constexpr std::size_t usual_records = 100, most_records = 10'000;

} // namespace

asio::awaitable<json> verbs::answer(json request, std::string who) {
    const auto refuse = [](bool is_usage, std::string text) {
        return json{{"ok", false}, {"code", is_usage ? "usage" : "failed"}, {"error", std::move(text)}};
    };
    if (!request.is_object() || text_arg(request, "verb").empty())
        co_return refuse(true,
                         R"(a request is one JSON object per line, such as {"version":1,"verb":"status","args":{}})");
    if (request.value("version", json(0)) != ops::protocol_version)
        co_return refuse(
            true,
            fmt::format("this program speaks version {} of the ops protocol: use the tandemctl of the same version",
                        ops::protocol_version));
    auto args = request.contains("args") ? request["args"] : json::object();
    if (!args.is_object())
        co_return refuse(true, "args must be an object");
    try {
        auto result = co_await run(text_arg(request, "verb"), std::move(args), std::move(who));
        if (!result)
            co_return refuse(result.error().usage, result.error().text);
        co_return json{{"ok", true}, {"result", std::move(*result)}};
    } catch (const std::exception& error) {
        spdlog::error("ops request failed: {}", error.what());
        co_return refuse(false, "failed inside: see the control plane's log");
    }
}

// One row: what is told of a verb, and what runs it: at once, or after it waited for somebody.
struct verbs::entry : verb_row {
    using who = const std::string&;
    std::function<verb_result(verbs&, json&, who)> at_once{};
    std::function<asio::awaitable<verb_result>(verbs&, json, std::string)> later{};
};

const std::vector<verbs::entry>& verbs::table() {
    using who = entry::who;
    static constexpr std::string_view query = "party call_id since until limit:number format",
                                      rule = "address level keygen path comment";
    static const std::vector<entry> all{
        {{"help", "", "the verbs, their arguments and what they do"}, [](verbs& v, json&, who) { return v.help(); }},
        {{"version", "", "of the control plane and of the contract"}, [](verbs& v, json&, who) { return v.version(); }},
        {{"status", "", "the gateway at a glance"}, [](verbs& v, json&, who) { return v.status(); }},
        {{"unit add", "id psk comment spki", "enrols a unit"}, [](verbs& v, json& a, who) { return v.unit_add(a); }},
        {{"unit list", "", "all units"}, [](verbs& v, json&, who) { return v.unit_list(); }},
        {{"unit show", "id", "one unit"}, [](verbs& v, json& a, who) { return v.unit_show(a); }},
        {{"unit remove", "id", "ends its session and forgets it"},
         [](verbs& v, json& a, who) { return v.unit_remove(a); }},
        {{"unit name list", "id", "names that are its own, beside its id code"},
         [](verbs& v, json& a, who) { return v.unit_name_list(a); }},
        {{"unit name add", "id name", "the unit may speak as this"},
         [](verbs& v, json& a, who) { return v.unit_name_add(a); }},
        {{"unit name remove", "id name", "no longer"}, [](verbs& v, json& a, who) { return v.unit_name_remove(a); }},
        {{"session list", "", "units that are connected"}, [](verbs& v, json&, who) { return v.session_list(); }},
        {{"session show", "unit tsid", "one session"}, [](verbs& v, json& a, who) { return v.session_show(a); }},
        {{"session drop", "unit tsid reason", "ends it and its calls"},
         [](verbs& v, json& a, who) { return v.session_drop(a); }},
        {{"handover list", "unit limit:number", "units' last moves between networks, newest first"},
         [](verbs& v, json& a, who) { return v.handover_list(a); }},
        {{"handover show", "number:number", "one of them"}, [](verbs& v, json& a, who) { return v.handover_show(a); }},
        {{"handover stats", "", "how many since the start, and the longest"},
         [](verbs& v, json&, who) { return v.handover_stats(); }},
        {{"call list", "", "all calls"}, [](verbs& v, json&, who) { return v.call_list(); }},
        {{"call show", "call_id", "one call with its media"}, [](verbs& v, json& a, who) { return v.call_show(a); }},
        {{"call drop", "call_id", "ends its media, as a delete by the proxy does"},
         [](verbs& v, json& a, who w) { return v.call_drop(a, w); }},
        {{"media list", "call_id", "all media, or a call's"}, [](verbs& v, json& a, who) { return v.media_list(a); }},
        {{"media show", "id:number", "one media with both legs"},
         [](verbs& v, json& a, who) { return v.media_show(a); }},
        {{"media rekey", "id:number", "gives it new keys now"},
         {},
         [](verbs& v, json a, std::string) { return v.media_rekey(std::move(a)); }},
        {{"counters", "", "of the workers and of the control plane"},
         [](verbs& v, json&, who) { return v.counters(); }},
        {{"drops", "", "dropped packets by reason"}, [](verbs& v, json&, who) { return v.drops(); }},
        {{"port", "", "network ports of the data plane"}, {}, [](verbs& v, json, std::string) { return v.port(); }},
        {{"level list", "", "security levels"}, [](verbs& v, json&, who) { return v.level_list(); }},
        {{"level reload", "", "reads them from their file again"},
         [](verbs& v, json&, who w) { return v.level_reload(w); }},
        {{"level check", "text file", "whether a file of levels is right"},
         [](verbs& v, json& a, who) { return v.level_check(a); }},
        {{"level set", "name key value:any values:object", "sets keys of one in their file"},
         [](verbs& v, json& a, who w) { return v.level_set(a, w); }},
        {{"policy list", "prefix after limit:number", "the security database, a page"},
         [](verbs& v, json& a, who) { return v.policy_list(a); }},
        {{"policy show", "address", "a row of it"}, [](verbs& v, json& a, who) { return v.policy_show(a); }},
        {{"policy set", rule, "writes a row"},
         {},
         [](verbs& v, json a, std::string w) { return v.policy_set(std::move(a), std::move(w)); }},
        {{"policy unset", "address", "removes a row"},
         {},
         [](verbs& v, json a, std::string w) { return v.policy_unset(std::move(a), std::move(w)); }},
        {{"policy import", "csv file rules:list", "writes many rows, or none"},
         {},
         [](verbs& v, json a, std::string w) { return v.policy_import(std::move(a), std::move(w)); }},
        {{"policy export", "after limit:number", "the rows as CSV, a page"},
         [](verbs& v, json& a, who) { return v.policy_export(a); }},
        {{"policy explain", "caller caller_domain callee callee_domain wish dialled", "which level a call would get"},
         {},
         [](verbs& v, json a, std::string) { return v.policy_explain(std::move(a)); }},
        {{"policy log", "limit:number", "who changed what"},
         {},
         [](verbs& v, json a, std::string) { return v.policy_log(std::move(a)); }},
        {{"policy profile", "a b", "the history of a pair"},
         [](verbs& v, json& a, who) { return v.policy_profile(a); }},
        {{"policy forget", "a b all:flag", "forgets a pair's history, or all"},
         {},
         [](verbs& v, json a, std::string w) { return v.policy_forget(std::move(a), std::move(w)); }},
        {{"record list", query, "call records"},
         {},
         [](verbs& v, json a, std::string) { return v.record_list(std::move(a), usual_records, most_records); }},
        {{"record export", query, "many of them"},
         {},
         [](verbs& v, json a, std::string) { return v.record_list(std::move(a), most_records, most_records); }},
        {{"record show", "id", "one call record"},
         {},
         [](verbs& v, json a, std::string) { return v.record_show(std::move(a)); }},
        {{"alarm list", "", "what needs somebody now"}, [](verbs& v, json&, who) { return v.alarm_list(); }},
        {{"clock accept", "", "the clock is right: records go by their age again"},
         [](verbs& v, json&, who w) { return v.clock_accept(w); }},
    };
    return all;
}

asio::awaitable<verb_result> verbs::run(std::string verb, json args, std::string who) {
    const auto row = std::ranges::find(table(), std::string_view(verb), &entry::name);
    if (row == table().end()) {
        std::vector<std::string_view> names;
        for (const auto& one : table())
            names.push_back(one.name);
        const auto near = ops::near_name(verb, names);
        co_return usage(near.empty() ? fmt::format("unknown verb \"{}\"; known: {}", verb, fmt::join(names, ", "))
                                     : fmt::format("unknown verb \"{}\": did you mean \"{}\"?", verb, near));
    }
    if (auto wrong = wrong_argument(*row, args))
        co_return usage(std::move(*wrong));
    if (row->at_once)
        co_return row->at_once(*this, args, who);
    co_return co_await row->later(*this, std::move(args), std::move(who));
}

verb_result verbs::help() const {
    json all = json::array();
    for (const auto& row : table())
        all.push_back(to_json(row));
    return json{{"verbs", std::move(all)}};
}

verb_result verbs::version() const {
    return json{{"version", TANDEM_VERSION},
                {"ops_protocol", ops::protocol_version},
                {"contract_version", api::contract_version}};
}

json verbs::dataplane_status(const std::vector<media::media_info>& media) const {
    const auto now = std::chrono::system_clock::now();
    json dataplane{{"connected", rooms_.dataplane.connected()},
                   {"path", rooms_.dataplane.path()},
                   {"trouble", rooms_.dataplane.trouble()}};
    if (const auto& hello = rooms_.dataplane.hello()) {
        const auto started =
            std::chrono::system_clock::time_point(std::chrono::duration_cast<std::chrono::system_clock::duration>(
                std::chrono::nanoseconds(hello->reply.started_ns)));
        json addresses = json::array();
        for (const auto& address : hello->addresses)
            addresses.push_back({{"index", address.index}, {"name", address.name}, {"ip", address.ip.to_string()}});
        dataplane.update({{"generation", fmt::format("{:016x}", hello->reply.generation)},
                          {"started", time_text(started)},
                          {"uptime_s", std::chrono::duration<double>(now - started).count()},
                          {"restarts", hello->reply.restarts},
                          {"last_gap_ms", hello->reply.last_gap_ms},
                          {"flows", std::max<std::size_t>(hello->reply.flows, 0)},
                          {"max_flows", hello->reply.max_flows},
                          {"workers", rooms_.stats.workers()},
                          {"ready", rooms_.relay.ready()},
                          {"addresses", addresses}});
    }
    json parts = json::array();
    if (const auto& said = rooms_.health.last())
        for (const auto& part : said->parts)
            parts.push_back({{"name", std::string(part.name, strnlen(part.name, sizeof part.name))},
                             {"state", dataplane_client::text(part.state)},
                             {"age_ms", part.age_ms}});
    dataplane["health"] = {{"well", rooms_.health.well()}, {"trouble", rooms_.health.trouble()}, {"parts", parts}};
    std::size_t flows = 0;
    for (const auto& one : media)
        for (const auto& leg : one.legs) // a unit leg muxes on its secondary
            flows += !one.active ? 0 : leg.kind == media::leg_kind::unit || leg.local.rtp == leg.local.rtcp ? 1 : 2;
    if (rooms_.dataplane.connected())
        dataplane["flows"] = flows; // HELLO's number is from when it was said
    if (rooms_.dataplane.connected() && rooms_.stats.is_open()) {
        const auto* now_there = rooms_.stats.header();
        dataplane["flows"] = __atomic_load_n(&now_there->flows, __ATOMIC_RELAXED); // others' flows too
        dataplane["keys"] = __atomic_load_n(&now_there->keys, __ATOMIC_RELAXED);
        dataplane["flow_bytes"] = now_there->flow_bytes;
    }
    return dataplane;
}

// Set, or as many as the memory holds, about; null where neither is known.
json verbs::max_calls() const {
    const auto set = rooms_.settings.max_calls;
    if (rooms_.memory.look().limit == 0)
        return set != 0 ? json(set) : json();
    const auto held = rooms_.calls.size() + rooms_.memory.calls_more();
    return set != 0 ? std::min<std::uint64_t>(set, held) : held;
}

verb_result verbs::status() {
    const auto now = protocol::moment::now();
    const auto& settings = rooms_.settings;
    const auto memory = rooms_.memory.look();
    const auto sessions = rooms_.sessions.all();
    const auto up = std::count_if(sessions.begin(), sessions.end(), [](const auto& one) { return one.up; });
    const auto media = rooms_.relay.all();
    const auto active = std::count_if(media.begin(), media.end(), [](const auto& one) { return one.active; });
    json tunnel = json::array(), ng = json::array(), levels = json::array();
    for (const auto& where : rooms_.sessions.listening())
        tunnel.push_back(text_of(where));
    for (const auto& where : rooms_.calls.endpoints())
        ng.push_back(to_text({where.address(), where.port()}));
    const auto& policy = rooms_.policy.settings();
    for (const auto& level : policy.levels.rows())
        levels.push_back(to_json(level, policy.default_level));
    return json{{"version", TANDEM_VERSION},
                {"instance", settings.instance},
                {"pid", ::getpid()},
                {"started", time_text(started_.wall)},
                {"uptime_s", std::chrono::duration<double>(protocol::between(started_, now)).count()},
                {"run_dir", settings.run_dir},
                {"database", settings.database},
                {"database_failures", rooms_.store.failures()},
                {"tunnel_listen", tunnel},
                {"ng_listen", ng},
                {"dataplane", dataplane_status(media)},
                {"store", rooms_.store_state()},
                {"alarms", alarms_json(rooms_.alarms)},
                {"units", rooms_.store.unit_count()},
                {"sessions", {{"total", sessions.size()}, {"up", up}}},
                {"calls", rooms_.calls.size()},
                {"max_calls", max_calls()},
                {"memory", {{"limit", memory.limit}, {"used", memory.used}}},
                {"media", {{"total", media.size()}, {"active", active}}},
                {"ports",
                 {{"first", settings.media.first_port},
                  {"last", settings.media.last_port},
                  {"free", rooms_.relay.free_ports()}}},
                {"levels", levels}};
}

} // namespace tandem::control
