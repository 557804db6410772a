// SPDX-License-Identifier: Apache-2.0
// The ops socket's verbs. No key ever leaves; `unit add` carries one in, wiped here. Owner thread: io_context.
#include "controlplane/app/ops_verbs.hpp"

#include <algorithm>
#include <charconv>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "controlplane/app/ops_protocol.hpp"
#include "controlplane/protocol/secret.hpp"
#include "dataplane/api/edge_maps.h"

namespace tandem::control {

namespace {

using nlohmann::json;

tl::unexpected<verb_error> usage(std::string text) {
    return tl::unexpected(verb_error{true, std::move(text)});
}
tl::unexpected<verb_error> failed(std::string text) {
    return tl::unexpected(verb_error{false, std::move(text)});
}

// The argument's text; empty where it is absent or something else.
std::string text_arg(const json& args, const char* name) {
    const auto found = args.find(name);
    return found != args.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::optional<std::uint64_t> number_arg(const json& args, const char* name) {
    const auto found = args.find(name);
    if (found == args.end())
        return std::nullopt;
    if (found->is_number_unsigned())
        return found->get<std::uint64_t>();
    if (!found->is_string())
        return std::nullopt;
    const auto& text = found->get_ref<const std::string&>();
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc{} && end == text.data() + text.size() && !text.empty() ? std::optional(value)
                                                                                     : std::nullopt;
}

// Hex to bytes; nothing where it is no hex of whole bytes or longer than a secret holds.
std::optional<protocol::secret> from_hex(const std::string& text) {
    if (text.size() % 2 != 0 || text.size() / 2 > protocol::secret::capacity)
        return std::nullopt;
    protocol::secret out;
    const auto bytes = out.resize(text.size() / 2);
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        const auto [end, error] = std::from_chars(text.data() + 2 * i, text.data() + 2 * i + 2, bytes[i], 16);
        if (error != std::errc{} || end != text.data() + 2 * i + 2)
            return std::nullopt;
    }
    return out;
}

json level_json(const policy::level& level, const std::string& default_level) {
    return {{"name", level.name},
            {"suite", api::info(level.suite).name},
            {"seed_bytes", level.seed_length()},
            {"rekey_s", std::chrono::duration<double>(level.rekey).count()},
            {"overlap_s", std::chrono::duration<double>(level.overlap).count()},
            {"seed_is_key", level.seed_is_key},
            {"default", level.name == default_level}};
}

template <class Endpoint>
std::string endpoint_text(const Endpoint& where) {
    return to_text({where.address(), where.port()});
}

} // namespace

asio::awaitable<json> verbs::answer(json request) {
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
        auto result = co_await run(text_arg(request, "verb"), std::move(args));
        if (!result)
            co_return refuse(result.error().usage, result.error().text);
        co_return json{{"ok", true}, {"result", std::move(*result)}};
    } catch (const std::exception& error) {
        spdlog::error("ops request failed: {}", error.what());
        co_return refuse(false, "failed inside: see the control plane's log");
    }
}

asio::awaitable<verb_result> verbs::run(std::string verb, json args) {
    if (verb == "version")
        co_return version();
    if (verb == "status")
        co_return status();
    if (verb == "unit add")
        co_return unit_add(args);
    if (verb == "unit list")
        co_return unit_list();
    if (verb == "unit show")
        co_return unit_show(args);
    if (verb == "unit remove")
        co_return unit_remove(args);
    if (verb == "session list")
        co_return session_list();
    if (verb == "session show")
        co_return session_show(args);
    if (verb == "session drop")
        co_return session_drop(args);
    if (verb == "media list")
        co_return media_list(args);
    if (verb == "media show")
        co_return media_show(args);
    if (verb == "media rekey")
        co_return co_await media_rekey(std::move(args));
    if (verb == "call list")
        co_return call_list();
    if (verb == "counters")
        co_return counters();
    if (verb == "drops")
        co_return drops();
    if (verb == "port")
        co_return co_await port();
    co_return usage(
        fmt::format("unknown verb \"{}\"; known: version, status, unit add|list|show|remove, session list|show|drop, "
                    "media list|show|rekey, call list, counters, drops, port",
                    verb));
}

verb_result verbs::version() const {
    return json{{"version", TANDEM_VERSION},
                {"ops_protocol", ops::protocol_version},
                {"contract_version", api::contract_version}};
}

verb_result verbs::status() {
    const auto now = std::chrono::system_clock::now();
    const auto& settings = rooms_.settings;
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
    std::size_t up = 0, active = 0;
    const auto sessions = rooms_.sessions.all();
    for (const auto& session : sessions)
        up += session.up ? 1 : 0;
    const auto media = rooms_.relay.all();
    std::size_t flows = 0;
    for (const auto& one : media) {
        active += one.active ? 1 : 0;
        for (const auto& leg : one.legs) // a unit leg muxes on its secondary
            flows += !one.active ? 0 : leg.kind == media::leg_kind::unit || leg.local.rtp == leg.local.rtcp ? 1 : 2;
    }
    if (rooms_.dataplane.connected())
        dataplane["flows"] = flows; // HELLO's number is from when it was said
    if (rooms_.dataplane.connected() && rooms_.stats.is_open()) {
        const auto* now_there = rooms_.stats.header();
        dataplane["flows"] = __atomic_load_n(&now_there->flows, __ATOMIC_RELAXED); // others' flows too
        dataplane["keys"] = __atomic_load_n(&now_there->keys, __ATOMIC_RELAXED);
        dataplane["flow_bytes"] = now_there->flow_bytes;
    }
    json tunnel = json::array(), ng = json::array(), levels = json::array();
    for (const auto& where : rooms_.sessions.listening())
        tunnel.push_back(endpoint_text(where));
    for (const auto& where : rooms_.calls.endpoints())
        ng.push_back(endpoint_text(where));
    for (const auto& level : settings.levels.rows())
        levels.push_back(level_json(level, settings.default_level));
    return json{{"version", TANDEM_VERSION},
                {"instance", settings.instance},
                {"pid", ::getpid()},
                {"started", time_text(started_)},
                {"uptime_s", std::chrono::duration<double>(now - started_).count()},
                {"run_dir", settings.run_dir},
                {"database", settings.database},
                {"database_failures", rooms_.store.failures()},
                {"tunnel_listen", tunnel},
                {"ng_listen", ng},
                {"dataplane", dataplane},
                {"units", rooms_.store.unit_count()},
                {"sessions", {{"total", sessions.size()}, {"up", up}}},
                {"calls", rooms_.calls.calls().size()},
                {"media", {{"total", media.size()}, {"active", active}}},
                {"ports",
                 {{"first", settings.media.first_port},
                  {"last", settings.media.last_port},
                  {"free", rooms_.relay.free_ports()}}},
                {"levels", levels}};
}

// --- units -----------------------------------------------------------------------------------------------------------

json verbs::unit_json(const records::unit& unit) const {
    const auto session = rooms_.sessions.by_unit(unit.id);
    return {{"id", unit.id},
            {"comment", unit.comment},
            {"created", time_text(std::chrono::system_clock::from_time_t(unit.created))},
            {"has_psk", unit.has_psk},
            {"session", session ? to_json(*session) : json()}};
}

verb_result verbs::unit_add(json& args) {
    const auto id = text_arg(args, "id");
    if (id.empty())
        return usage("unit add needs the unit's id: {\"id\": \"alice\"}");
    std::optional<protocol::secret> psk = protocol::secret();
    if (const auto found = args.find("psk"); found != args.end() && found->is_string()) {
        auto& text = found->get_ref<std::string&>();
        psk = from_hex(text);
        protocol::wipe(text.data(), text.size());
    }
    if (!psk)
        return usage("psk must be hex digits, 16 to 64 bytes");
    if (auto added = rooms_.store.add_unit(id, psk->view(), text_arg(args, "comment")); !added)
        return failed(added.error());
    spdlog::info("unit {} added", id);
    return unit_show(args);
}

verb_result verbs::unit_list() {
    json units = json::array();
    for (const auto& unit : rooms_.store.units())
        units.push_back(unit_json(unit));
    return json{{"units", units}};
}

verb_result verbs::unit_show(const json& args) {
    const auto id = text_arg(args, "id");
    if (id.empty())
        return usage("name the unit: {\"id\": \"alice\"}");
    const auto unit = rooms_.store.find_unit(id);
    if (!unit)
        return failed(fmt::format("there is no unit {}: see `tandemctl unit list`", id));
    return unit_json(*unit);
}

verb_result verbs::unit_remove(const json& args) {
    const auto id = text_arg(args, "id");
    if (id.empty())
        return usage("name the unit: {\"id\": \"alice\"}");
    const bool had_session = rooms_.sessions.by_unit(id).has_value();
    if (!rooms_.store.remove_unit(id))
        return failed(fmt::format("there is no unit {}: see `tandemctl unit list`", id));
    rooms_.sessions.forget(id);
    spdlog::info("unit {} removed", id);
    return json{{"id", id}, {"session_dropped", had_session}};
}

// --- sessions --------------------------------------------------------------------------------------------------------

tl::expected<session::session_info, verb_error> verbs::find_session(const json& args) const {
    if (const auto unit = text_arg(args, "unit"); !unit.empty()) {
        if (auto session = rooms_.sessions.by_unit(unit))
            return *session;
        return failed(fmt::format("unit {} has no session: see `tandemctl session list`", unit));
    }
    const auto text = text_arg(args, "tsid");
    session::tsid id = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id, 16);
    if (text.empty() || error != std::errc{} || end != text.data() + text.size())
        return usage("name the session by its unit or by its tsid (16 hex digits)");
    if (auto session = rooms_.sessions.by_tsid(id))
        return *session;
    return failed(fmt::format("there is no session {}: see `tandemctl session list`", text));
}

verb_result verbs::session_list() const {
    json sessions = json::array();
    for (const auto& session : rooms_.sessions.all())
        sessions.push_back(to_json(session));
    return json{{"sessions", sessions}};
}

verb_result verbs::session_show(const json& args) const {
    const auto session = find_session(args);
    if (!session)
        return tl::unexpected(session.error());
    return to_json(*session);
}

verb_result verbs::session_drop(const json& args) {
    const auto session = find_session(args);
    if (!session)
        return tl::unexpected(session.error());
    const auto reason = text_arg(args, "reason");
    rooms_.sessions.drop(session->id, reason.empty() ? "dropped by the operator" : reason);
    return json{{"tsid", tsid_text(session->id)}, {"unit", session->unit}};
}

// --- media and calls -------------------------------------------------------------------------------------------------

verb_result verbs::media_list(const json& args) const {
    const auto call = text_arg(args, "call_id");
    json media = json::array();
    for (const auto& one : rooms_.relay.all())
        if (call.empty() || one.call_id == call)
            media.push_back(to_json(one));
    return json{{"media", media}};
}

verb_result verbs::media_show(const json& args) const {
    const auto id = number_arg(args, "id");
    if (!id)
        return usage("name the media by its id, a number: see `tandemctl media list`");
    const auto media = *id <= 0xffffffff ? rooms_.relay.info(static_cast<media::media_id>(*id)) : std::nullopt;
    if (!media)
        return failed(fmt::format("there is no media {}: see `tandemctl media list`", *id));
    return to_json(*media);
}

asio::awaitable<verb_result> verbs::media_rekey(json args) {
    const auto id = number_arg(args, "id");
    if (!id || *id > 0xffffffff)
        co_return usage("name the media by its id, a number: see `tandemctl media list`");
    const auto done = co_await rooms_.relay.rekey(static_cast<media::media_id>(*id));
    if (!done)
        co_return failed(done.error().text);
    json epochs = json::array();
    for (const auto& epoch : *done)
        epochs.push_back(epoch ? json(*epoch) : json());
    co_return json{{"id", *id}, {"epochs", epochs}};
}

verb_result verbs::call_list() const {
    json calls = json::array();
    for (const auto& call : rooms_.calls.calls()) {
        std::string level;
        bool active = false;
        for (const auto id : call.media)
            if (const auto media = rooms_.relay.info(id)) {
                active |= media->active;
                if (level.empty())
                    level = media->level;
            }
        calls.push_back(
            {{"call_id", call.call_id},
             {"caller", call.caller},
             {"callee", call.callee},
             {"level", level},
             {"seconds", std::chrono::duration<double>(std::chrono::system_clock::now() - call.created).count()},
             {"active", active},
             {"media", call.media}});
    }
    return json{{"calls", calls}};
}

// --- counters --------------------------------------------------------------------------------------------------------

verb_result verbs::counters() const {
    if (!rooms_.stats.is_open())
        return failed(rooms_.dataplane.connected()
                          ? "the data plane's statistics segment could not be mapped: see the log"
                          : rooms_.dataplane.trouble());
    json rows = json::array();
    std::size_t at = 0;
    const auto add = [&](const char* name, const char* unit, const char* text) {
        json per_worker = json::array();
        for (std::size_t w = 0; w < rooms_.stats.workers(); ++w)
            per_worker.push_back(rooms_.stats.worker(w)->counters[at]);
        rows.push_back({{"name", name},
                        {"unit", unit},
                        {"text", text},
                        {"total", rooms_.stats.counter(static_cast<api::counter>(at))},
                        {"per_worker", per_worker}});
        ++at;
    };
#define X(name, unit, text) add(#name, unit, text);
#include "dataplane/api/counters.def"
#undef X
    json control = json::array();
    const auto count = [&](const char* name, std::uint64_t value) {
        control.push_back({{"name", name}, {"total", value}});
    };
    const auto& media = rooms_.relay.count();
    count("media_opened", media.opened);
    count("media_installed", media.installed);
    count("media_ended", media.ended);
    count("media_timeouts", media.timeouts);
    count("media_open_failures", media.open_failures);
    count("media_opens", media.media_opens);
    count("media_open_refused", media.media_open_failures);
    count("seeds_sent", media.seeds_sent);
    count("rekeys", media.rekeys);
    count("rekey_failures", media.rekey_failures);
    count("media_taken_over", media.taken_over);
    count("media_reinstalled", media.reinstalled);
    count("foreign_flows", media.foreign_flows);
    const auto& ng = rooms_.calls.count();
    count("ng_datagrams", ng.datagrams);
    count("ng_malformed", ng.malformed);
    count("ng_retransmissions", ng.retransmissions);
    count("ng_errors", ng.errors);
    count("calls_created", ng.calls_created);
    count("calls_ended", ng.calls_ended);
    count("calls_recovered", ng.calls_recovered);
    rooms_.sessions.count().for_each([&](std::string_view name, std::string_view text, std::uint64_t value) {
        control.push_back({{"name", name}, {"text", text}, {"total", value}});
    });
    return json{{"workers", rooms_.stats.workers()}, {"counters", rows}, {"control", control}};
}

verb_result verbs::drops() const {
    if (!rooms_.stats.is_open())
        return failed(rooms_.dataplane.connected()
                          ? "the data plane's statistics segment could not be mapped: see the log"
                          : rooms_.dataplane.trouble());
    json rows = json::array();
    for (std::size_t i = 1; i < api::drop_count; ++i)
        if (const auto reason = static_cast<api::drop>(i); reason != api::drop::edge_end)
            rows.push_back({{"reason", api::info(reason).name},
                            {"text", api::info(reason).text},
                            {"packets", rooms_.stats.drops(reason)}});
    const auto& edge = rooms_.stats.header()->edge;
    return json{{"drops", rows},
                {"edge",
                 {{{"verdict", "to_worker"}, {"packets", edge[TANDEM_EDGE_TO_WORKER]}},
                  {{"verdict", "to_kernel"}, {"packets", edge[TANDEM_EDGE_TO_KERNEL]}},
                  {{"verdict", "handshake"}, {"packets", edge[TANDEM_EDGE_HANDSHAKE]}}}}};
}

asio::awaitable<verb_result> verbs::port() {
    const auto ports = co_await rooms_.dataplane.port_list();
    if (!ports)
        co_return failed(ports.error().text);
    json rows = json::array();
    for (const auto& port : *ports)
        rows.push_back({{"name", std::string(port.name, strnlen(port.name, sizeof(port.name)))},
                        {"ifindex", port.ifindex},
                        {"mtu", port.mtu},
                        {"mac", fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", port.mac[0], port.mac[1],
                                            port.mac[2], port.mac[3], port.mac[4], port.mac[5])},
                        {"xdp_mode", std::string(port.xdp_mode, strnlen(port.xdp_mode, sizeof(port.xdp_mode)))},
                        {"queues", port.queues}});
    co_return json{{"ports", rows}};
}

} // namespace tandem::control
