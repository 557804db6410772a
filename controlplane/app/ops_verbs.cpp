// SPDX-License-Identifier: Apache-2.0
// The ops socket's verbs: which there are, `version` and `status`; the others are in *_verbs.cpp by subject. No key
// ever leaves. Owner thread: io_context.
#include "controlplane/app/ops_verbs.hpp"

#include <algorithm>
#include <cstring>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "controlplane/app/ops_protocol.hpp"
#include "controlplane/app/verb_tools.hpp"

namespace tandem::control {

namespace {

using nlohmann::json;

constexpr std::size_t usual_records = 100, most_records = 10'000;

template <class Endpoint>
std::string endpoint_text(const Endpoint& where) {
    return to_text({where.address(), where.port()});
}

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

// Verbs that wait for nobody.
std::optional<verb_result> verbs::run_at_once(const std::string& verb, json& args, const std::string& who) {
    using at_once = std::function<verb_result(verbs&, json&, const std::string&)>;
    static const std::map<std::string, at_once, std::less<>> known{
        {"version", [](verbs& v, json&, const std::string&) { return v.version(); }},
        {"status", [](verbs& v, json&, const std::string&) { return v.status(); }},
        {"unit add", [](verbs& v, json& a, const std::string&) { return v.unit_add(a); }},
        {"unit list", [](verbs& v, json&, const std::string&) { return v.unit_list(); }},
        {"unit show", [](verbs& v, json& a, const std::string&) { return v.unit_show(a); }},
        {"unit remove", [](verbs& v, json& a, const std::string&) { return v.unit_remove(a); }},
        {"unit name list", [](verbs& v, json& a, const std::string&) { return v.unit_name_list(a); }},
        {"unit name add", [](verbs& v, json& a, const std::string&) { return v.unit_name_add(a); }},
        {"unit name remove", [](verbs& v, json& a, const std::string&) { return v.unit_name_remove(a); }},
        {"session list", [](verbs& v, json&, const std::string&) { return v.session_list(); }},
        {"session show", [](verbs& v, json& a, const std::string&) { return v.session_show(a); }},
        {"session drop", [](verbs& v, json& a, const std::string&) { return v.session_drop(a); }},
        {"media list", [](verbs& v, json& a, const std::string&) { return v.media_list(a); }},
        {"media show", [](verbs& v, json& a, const std::string&) { return v.media_show(a); }},
        {"call list", [](verbs& v, json&, const std::string&) { return v.call_list(); }},
        {"counters", [](verbs& v, json&, const std::string&) { return v.counters(); }},
        {"drops", [](verbs& v, json&, const std::string&) { return v.drops(); }},
        {"level list", [](verbs& v, json&, const std::string&) { return v.level_list(); }},
        {"level reload", [](verbs& v, json&, const std::string& w) { return v.level_reload(w); }},
        {"level check", [](verbs& v, json& a, const std::string&) { return v.level_check(a); }},
        {"level set", [](verbs& v, json& a, const std::string& w) { return v.level_set(a, w); }},
        {"policy list", [](verbs& v, json& a, const std::string&) { return v.policy_list(a); }},
        {"policy show", [](verbs& v, json& a, const std::string&) { return v.policy_show(a); }},
        {"policy export", [](verbs& v, json& a, const std::string&) { return v.policy_export(a); }},
        {"policy profile", [](verbs& v, json& a, const std::string&) { return v.policy_profile(a); }},
        {"clock accept", [](verbs& v, json&, const std::string& who) { return v.clock_accept(who); }},
        {"alarm list", [](verbs& v, json&, const std::string&) { return v.alarm_list(); }},
    };
    const auto found = known.find(verb);
    return found == known.end() ? std::nullopt : std::optional(found->second(*this, args, who));
}

asio::awaitable<verb_result> verbs::run(std::string verb, json args, std::string who) {
    if (auto done = run_at_once(verb, args, who))
        co_return std::move(*done);
    if (verb == "media rekey")
        co_return co_await media_rekey(std::move(args));
    if (verb == "port")
        co_return co_await port();
    if (verb == "policy set")
        co_return co_await policy_set(std::move(args), std::move(who));
    if (verb == "policy unset")
        co_return co_await policy_unset(std::move(args), std::move(who));
    if (verb == "policy import")
        co_return co_await policy_import(std::move(args), std::move(who));
    if (verb == "policy log")
        co_return co_await policy_log(std::move(args));
    if (verb == "policy explain")
        co_return co_await policy_explain(std::move(args));
    if (verb == "policy forget")
        co_return co_await policy_forget(std::move(args), std::move(who));
    if (verb == "record list")
        co_return co_await record_list(std::move(args), usual_records, most_records);
    if (verb == "record export")
        co_return co_await record_list(std::move(args), most_records, most_records);
    if (verb == "record show")
        co_return co_await record_show(std::move(args));
    co_return usage(
        fmt::format("unknown verb \"{}\"; known: version, status, unit add|list|show|remove, unit name "
                    "add|list|remove, session list|show|drop, "
                    "media list|show|rekey, call list, counters, drops, port, level list|reload|check|set, policy "
                    "list|show|set|unset|import|export|explain|log|profile|forget, record list|show|export, alarm "
                    "list, clock accept",
                    verb));
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
        tunnel.push_back(endpoint_text(where));
    for (const auto& where : rooms_.calls.endpoints())
        ng.push_back(endpoint_text(where));
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
