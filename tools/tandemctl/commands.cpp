// SPDX-License-Identifier: Apache-2.0
// What each verb shows. A view is data: columns over the ops socket's results (controlplane/app/README.md).
#include "tools/tandemctl/commands.hpp"

#include <cstdio>
#include <fmt/core.h>
#include <functional>
#include <map>
#include <unistd.h>
#include <vector>

#include "controlplane/app/ops_protocol.hpp"
#include "dataplane/api/drops.hpp"
#include "tools/tandemctl/display.hpp"
#include "tools/tandemctl/observer_link.hpp"
#include "tools/tandemctl/policy_commands.hpp"
#include "tools/tandemctl/psk_file.hpp"
#include "tools/tandemctl/stats_view.hpp"

namespace tandem::ctl {
namespace {

using columns = std::vector<column>;

const columns status_fields{{"version", "version"},
                            {"instance", "instance"},
                            {"pid", "pid"},
                            {"uptime", "uptime_s", form::duration},
                            {"database", "database"},
                            {"tunnel", "tunnel_listen"},
                            {"ng", "ng_listen"},
                            {"units", "units"},
                            {"sessions", "sessions/total"},
                            {"sessions up", "sessions/up"},
                            {"calls", "calls"},
                            {"  most", "max_calls"},
                            {"memory, bytes", "memory/used"},
                            {"  limit", "memory/limit"},
                            {"media", "media/total"},
                            {"media active", "media/active"},
                            {"store", "store/kind"},
                            {"  connected", "store/connected", form::yes_no},
                            {"  trouble", "store/trouble"},
                            {"  rules", "store/rules"},
                            {"  profiles", "store/profiles"},
                            {"  records waiting", "store/records_waiting"},
                            {"free pairs of ports", "ports/free"},
                            {"data plane", "dataplane/connected"},
                            {"  trouble", "dataplane/trouble"},
                            {"  forwards", "dataplane/health/well", form::yes_no},
                            {"  why not", "dataplane/health/trouble"},
                            {"  uptime", "dataplane/uptime_s", form::duration},
                            {"  restarts", "dataplane/restarts"},
                            {"  last gap, ms", "dataplane/last_gap_ms"},
                            {"  workers", "dataplane/workers"},
                            {"  flows", "dataplane/flows"},
                            {"  flows, most", "dataplane/max_flows"},
                            {"  keys", "dataplane/keys"},
                            {"  bytes a flow", "dataplane/flow_bytes"}};
const columns address_columns{{"ADDRESS", "name"}, {"INDEX", "index", form::number}, {"IP", "ip"}};
const columns level_columns{{"LEVEL", "name"},
                            {"SUITE", "suite"},
                            {"SEED B", "seed_bytes", form::number},
                            {"REKEY s", "rekey_s", form::number},
                            {"OVERLAP s", "overlap_s", form::number},
                            {"DEFAULT", "default", form::yes_no}};
const columns unit_columns{{"UNIT", "id"},
                           {"PSK", "has_psk", form::yes_no},
                           {"UP", "session/up", form::yes_no},
                           {"INNER", "session/inner"},
                           {"CREATED", "created"},
                           {"COMMENT", "comment"}};
const columns unit_fields{{"unit", "id"},
                          {"pre-shared key", "has_psk", form::yes_no},
                          {"created", "created"},
                          {"comment", "comment"},
                          {"names", "names"},
                          {"session", "session/tsid"},
                          {"up", "session/up", form::yes_no},
                          {"inner", "session/inner"},
                          {"outer", "session/outer"}};
const columns session_columns{{"TSID", "tsid"},
                              {"UNIT", "unit"},
                              {"UP", "up", form::yes_no},
                              {"INNER", "inner"},
                              {"OUTER", "outer"},
                              {"PORT", "outer_port", form::number},
                              {"VIA", "transport"},
                              {"CIPHER", "cipher"},
                              {"AGE", "age_s", form::duration},
                              {"RX", "rx_bytes", form::bytes},
                              {"TX", "tx_bytes", form::bytes}};
const columns session_fields{{"tsid", "tsid"},
                             {"unit", "unit"},
                             {"up", "up", form::yes_no},
                             {"inner", "inner"},
                             {"inner gateway", "inner_gateway"},
                             {"outer", "outer"},
                             {"outer port", "outer_port"},
                             {"transport", "transport"},
                             {"cipher", "cipher"},
                             {"lifetime", "lifetime_s", form::duration},
                             {"since", "since"},
                             {"reconnects", "reconnects"},
                             {"received", "rx_bytes", form::bytes},
                             {"  packets", "rx_packets"},
                             {"sent", "tx_bytes", form::bytes},
                             {"  packets", "tx_packets"},
                             {"streams", "streams/streams"},
                             {"  begun", "streams/begun"},
                             {"  received", "streams/from_unit_bytes", form::bytes},
                             {"  sent", "streams/to_unit_bytes", form::bytes},
                             {"  handovers", "streams/handovers"},
                             {"  last", "streams/last_handover"},
                             {"  sent again", "streams/sent_again_bytes", form::bytes}};
const columns handover_columns{{"NUMBER", "number", form::number},
                               {"TIME", "time"},
                               {"UNIT", "unit"},
                               {"FROM", "from"},
                               {"TO", "to"},
                               {"WITHOUT ms", "without_ms", form::number},
                               {"STREAMS", "streams/kind"},
                               {"TOOK ms", "streams/took_ms", form::number},
                               {"SENT AGAIN", "streams/sent_again_bytes", form::bytes}};
const columns handover_fields{{"handover", "number"},
                              {"time", "time"},
                              {"unit", "unit"},
                              {"tsid", "tsid"},
                              {"from", "from"},
                              {"to", "to"},
                              {"without a primary, ms", "without_ms"},
                              {"  the one before ended", "ended"},
                              {"streams", "streams/kind"},
                              {"  took, ms", "streams/took_ms"},
                              {"  sent again", "streams/sent_again_bytes", form::bytes}};
const columns handover_totals{{"moves", "moves"},
                              {"  after a loss", "after_loss"},
                              {"  longest without a primary, ms", "longest_without_ms"},
                              {"streams, soft", "streams_soft"},
                              {"streams, hard", "streams_hard"},
                              {"  longest, ms", "longest_streams_ms"},
                              {"  sent again", "sent_again_bytes", form::bytes},
                              {"kept", "kept"}};
const columns media_columns{{"ID", "id", form::number},
                            {"CALLER", "caller"},
                            {"CALLEE", "callee"},
                            {"KIND", "kind"},
                            {"LEVEL", "level"},
                            {"DECIDED BY", "decided_by"},
                            {"ACTIVE", "active", form::yes_no},
                            {"TIME", "seconds", form::duration},
                            {"REKEYS", "rekeys", form::number},
                            {"LEG 0", "legs/0/suite"},
                            {"EPOCH", "legs/0/epoch", form::number},
                            {"RX", "legs/0/received/packets", form::number},
                            {"LOST", "legs/0/received/lost", form::number},
                            {"LEG 1", "legs/1/suite"},
                            {"EPOCH", "legs/1/epoch", form::number},
                            {"RX", "legs/1/received/packets", form::number},
                            {"LOST", "legs/1/received/lost", form::number}};
const columns media_fields{{"media", "id"},
                           {"call-id", "call_id"},
                           {"line", "index"},
                           {"kind", "kind"},
                           {"caller", "caller"},
                           {"callee", "callee"},
                           {"level", "level"},
                           {"decided by", "decided_by"},
                           {"seed, bytes", "seed_bytes"},
                           {"keys by", "key_source"},
                           {"path", "path"},
                           {"mode", "mode"},
                           {"active", "active", form::yes_no},
                           {"time", "seconds", form::duration},
                           {"re-key every", "interval_s", form::duration},
                           {"re-keys", "rekeys"},
                           {"re-keys failed", "rekey_failures"}};
const columns call_columns{{"CALL-ID", "call_id"},
                           {"CALLER", "caller"},
                           {"CALLEE", "callee"},
                           {"LEVEL", "level"},
                           {"DECIDED BY", "decided_by"},
                           {"ACTIVE", "active", form::yes_no},
                           {"TIME", "seconds", form::duration},
                           {"MEDIA", "media"}};
const columns call_fields{{"call-id", "call_id"},
                          {"caller", "caller"},
                          {"callee", "callee"},
                          {"level", "level"},
                          {"decided by", "decided_by"},
                          {"active", "active", form::yes_no},
                          {"time", "seconds", form::duration}};
const columns leg_columns{{"LEG", "kind"},
                          {"UNIT", "unit"},
                          {"LOCAL RTP", "local_rtp"},
                          {"REMOTE", "remote"},
                          {"LEARNED BY", "source_rule"},
                          {"SINCE", "source_seconds", form::duration},
                          {"SUITE", "suite"},
                          {"EPOCH", "epoch", form::number},
                          {"RX", "received/packets", form::number},
                          {"FORWARDED", "received/sent_on", form::number},
                          {"LOST", "received/lost", form::number},
                          {"AUTH FAIL", "received/auth_failures", form::number},
                          {"REPLAYS", "received/replays", form::number},
                          {"WRONG SOURCE", "received/wrong_source", form::number},
                          {"JITTER ms", "received/jitter_ms", form::number},
                          {"SILENT", "received/seconds_since_packet", form::duration}};
const columns why_columns{
    {"RULE", "rule"}, {"SAID", "level"}, {"DECIDED", "decided", form::yes_no}, {"BECAUSE", "text"}};
const columns port_columns{
    {"PORT", "name"},    {"INDEX", "ifindex", form::number}, {"MTU", "mtu", form::number}, {"MAC", "mac"},
    {"XDP", "xdp_mode"}, {"QUEUES", "queues", form::number}};
const columns drop_columns{{"PACKETS", "packets", form::number}, {"REASON", "reason"}, {"MEANING", "text"}};
const columns verdict_columns{{"PACKETS", "packets", form::number}, {"EDGE VERDICT", "verdict"}};
const columns counter_columns{
    {"TOTAL", "total", form::number}, {"COUNTER", "name"}, {"UNIT", "unit"}, {"WHAT", "text"}};
const columns rate_columns{
    {"TOTAL", "total", form::number}, {"PER SECOND", "rate", form::number}, {"COUNTER", "name"}, {"WHAT", "text"}};

view list_of(const char* key, const columns& c, const char* empty) {
    return [key, &c, empty](const json& r) { return table(r.value(key, json::array()), c, empty); };
}

const std::map<std::string, view, std::less<>> views{
    {"status",
     [](const json& r) {
         return fields(r, status_fields) + "\n" +
                table(r.value(json::json_pointer("/dataplane/addresses"), json::array()), address_columns,
                      "no data plane, no addresses") +
                "\n" + policy_views().at("alarm list")(r) + "\n" +
                table(r.value("levels", json::array()), level_columns, "no levels");
     }},
    {"unit list", list_of("units", unit_columns, "no units; `tandemctl unit add ID --psk-file FILE` enrols one")},
    {"unit show", [](const json& r) { return fields(r, unit_fields); }},
    {"unit remove",
     [](const json& r) {
         return fmt::format("unit {} removed{}\n", cell(r.value("id", json()), form::text),
                            r.value("session_dropped", false) ? ", its session ended" : "");
     }},
    {"unit name list",
     [](const json& r) {
         std::string names;
         for (const auto& name : r.value("names", json::array()))
             names += cell(name, form::text) + "\n";
         return names.empty() ? "no names beside its id code\n" : names;
     }},
    {"unit name add",
     [](const json& r) {
         return fmt::format("{} is a name of unit {}\n", cell(r.value("name", json()), form::text),
                            cell(r.value("id", json()), form::text));
     }},
    {"unit name remove",
     [](const json& r) {
         return fmt::format("{} is no longer a name of unit {}\n", cell(r.value("name", json()), form::text),
                            cell(r.value("id", json()), form::text));
     }},
    {"session list", list_of("sessions", session_columns, "no sessions")},
    {"session show", [](const json& r) { return fields(r, session_fields); }},
    {"handover list", list_of("handovers", handover_columns, "no handovers")},
    {"handover show", [](const json& r) { return fields(r, handover_fields); }},
    {"handover stats", [](const json& r) { return fields(r, handover_totals); }},
    {"session drop",
     [](const json& r) {
         return fmt::format("session {} of unit {} ended\n", r.value("tsid", ""),
                            cell(r.value("unit", json()), form::text));
     }},
    {"media list", list_of("media", media_columns, "no media")},
    {"media show",
     [](const json& r) {
         return fields(r, media_fields) + "\n" + table(r.value("legs", json::array()), leg_columns, "no legs") + "\n" +
                table(r.value("why", json::array()), why_columns, "no rule was asked");
     }},
    {"media rekey",
     [](const json& r) {
         return fmt::format("media {} re-keyed, epochs {}\n", r.value("id", std::uint64_t{0}),
                            cell(r.value("epochs", json()), form::text));
     }},
    {"call list", list_of("calls", call_columns, "no calls")},
    {"call show",
     [](const json& r) {
         std::string text = fields(r, call_fields);
         for (const auto& media : r.value("media", json::array()))
             text +=
                 "\n" + fields(media, media_fields) + table(media.value("legs", json::array()), leg_columns, "no legs");
         return text;
     }},
    {"call drop",
     [](const json& r) { return fmt::format("call {} ended\n", cell(r.value("call_id", json()), form::text)); }},
    {"port", list_of("ports", port_columns, "no ports: the data plane is not connected")},
    {"counters", list_of("counters", counter_columns, "no counters")},
};

void print(const settings& s, const json& r, const view& as) {
    const int indent = s.watch ? -1 : 2; // a line a look
    const auto text = s.as_json ? r.dump(indent, ' ', false, json::error_handler_t::replace) + "\n" : as(r);
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
}

// Reasons that happened; all of them where none did would only be noise.
std::string drops_view(const json& r) {
    json happened = json::array();
    for (const auto& row : r["drops"])
        if (row.value("packets", 0ULL) != 0)
            happened.push_back(row);
    return table(happened, drop_columns, "nothing was dropped") + "\n" +
           table(r["edge"], verdict_columns, "no XDP edge");
}

const columns own_columns{{"CONTROL PLANE", "name"}, {"TOTAL", "total", form::number}};
const columns stranger_columns{{"CALL-ID", "call_id"},
                               {"MEDIA", "media", form::number},
                               {"LEG", "leg", form::number},
                               {"EXPECTED", "remote"},
                               {"LEARNED BY", "source_rule"},
                               {"LEARNING", "learning"},
                               {"PACKETS", "packets", form::number}};

// The legs that somebody else sent to, by the control plane's list of media.
json strangers(const json& media) {
    json out = json::array();
    for (const auto& one : media)
        for (std::size_t i = 0; i < one["legs"].size(); ++i) {
            const auto& leg = one["legs"][i];
            if (const auto packets = leg["received"].value("wrong_source", 0ULL); packets != 0)
                out.push_back({{"call_id", one["call_id"]},
                               {"media", one["id"]},
                               {"leg", i},
                               {"remote", leg.value("remote", json())},
                               {"source_rule", leg.value("source_rule", json())},
                               {"learning", leg.value("learning", json())},
                               {"packets", packets}});
        }
    return out;
}

// Adds "rate" to each counter.
void add_rates(json& now, const json& before, double seconds) {
    for (std::size_t i = 0; i < now["counters"].size(); ++i) {
        auto& row = now["counters"][i];
        const auto then =
            before.is_null() ? row["total"].get<std::uint64_t>() : before["counters"][i]["total"].get<std::uint64_t>();
        const auto difference = row["total"].get<std::uint64_t>() - then;
        row["rate"] = static_cast<std::uint64_t>(static_cast<double>(difference) / seconds);
    }
}

std::string watch_view(const json& r) {
    const auto silent = r.value("heartbeat_age_s", 0.0);
    return (silent > 3 ? fmt::format("the data plane is silent for {}\n", cell(silent, form::duration))
                       : std::string()) +
           table(r["counters"], rate_columns, "no counters");
}

} // namespace

std::string instance_of(const settings& s) {
    if (!s.instance.empty())
        return s.instance;
    const auto status = ops_client(s.run_dir, std::chrono::seconds(2)).request("status", json::object());
    return status && status->contains("instance") ? status->value("instance", "main") : "main";
}

result<void> repeat(const settings& s, const std::function<result<void>()>& look) {
    if (!s.watch)
        return look();
    end_by_signal();
    const bool screen = !s.as_json && isatty(STDOUT_FILENO) == 1;
    for (unsigned round = 0; !signalled() && (s.rounds == 0 || round < s.rounds); ++round) {
        if (round > 0)
            usleep(static_cast<useconds_t>(s.interval_s * 1e6)); // a signal ends it
        if (screen)
            fmt::print("\033[H\033[2J");
        if (auto done = look(); !done)
            return done;
    }
    return {};
}

result<void> show(const settings& s, const std::string& verb, const json& arguments) {
    return repeat(s, [&]() -> result<void> {
        const auto answer = ops_client(s.run_dir, s.patience).request(verb, arguments);
        if (!answer)
            return tl::unexpected(answer.error());
        const auto here = views.find(verb);
        print(s, *answer, here != views.end() ? here->second : policy_views().at(verb));
        return {};
    });
}

result<void> unit_add(const settings& s, const unit_options& o) {
    if (o.psk_file.empty() == !o.certificate)
        return tl::unexpected(error{failure::usage, "give --psk-file FILE (made where it does not exist), or "
                                                    "--certificate for a unit that has only a certificate"});
    json plain{{"id", o.id}};
    if (!o.comment.empty())
        plain["comment"] = o.comment;
    if (!o.spki.empty())
        plain["spki"] = o.spki;
    psk key;
    if (!o.certificate) {
        auto read = read_or_make_psk(o.psk_file);
        if (!read)
            return tl::unexpected(read.error());
        key = std::move(*read);
    }
    // Written by hand so that the key lies in one buffer only, which is wiped.
    std::string line;
    const auto arguments = plain.dump(-1, ' ', false, json::error_handler_t::replace);
    line.reserve(arguments.size() + 512);
    line += fmt::format(R"({{"version":{},"verb":"unit add","args":)", ops::protocol_version);
    line.append(arguments, 0, arguments.size() - 1);
    if (!key.hex.empty()) {
        line += R"(,"psk":")";
        line += key.hex;
        line += '"';
    }
    line += "}}\n";
    wipe(key.hex);
    const auto answer = ops_client(s.run_dir).send_line(line);
    wipe(line);
    if (!answer) {
        if (key.made)
            unlink(o.psk_file.c_str()); // it belongs to no unit
        return tl::unexpected(answer.error());
    }
    print(s, *answer, [&](const json&) {
        return o.certificate ? fmt::format("unit {} added; it authenticates by certificate\n", o.id)
                             : fmt::format("unit {} added; its key is {} {}\n", o.id, key.made ? "new, in" : "that of",
                                           o.psk_file);
    });
    return {};
}

namespace {

result<void> drops_now(const settings& s, const stats_view& segment, const std::string& reason) {
    auto all = segment.drops();
    if (reason.empty()) {
        print(s, all, drops_view);
        return {};
    }
    json chosen;
    for (const auto& row : all["drops"])
        if (row["reason"] == reason)
            chosen["drops"] = json::array({row});
    if (chosen.is_null())
        return tl::unexpected(
            error{failure::usage, fmt::format("{} is no drop reason; `tandemctl drops` lists them", reason)});
    if (reason == api::info(api::drop::wrong_source).name) {
        const auto media = ops_client(s.run_dir, s.patience).request("media list", json::object());
        if (!media)
            return tl::unexpected(media.error());
        chosen["calls"] = strangers((*media)["media"]);
    }
    print(s, chosen, [](const json& r) {
        return table(r["drops"], drop_columns, "") +
               (r.contains("calls") ? "\n" + table(r["calls"], stranger_columns, "no packet of a call that is up")
                                    : std::string());
    });
    return {};
}

} // namespace

result<void> drops(const settings& s, const std::string& reason) {
    const auto segment = stats_view::open(stats_view::path_of(instance_of(s)));
    if (!segment)
        return tl::unexpected(segment.error());
    return repeat(s, [&] { return drops_now(s, *segment, reason); });
}

result<void> counters(const settings& s) {
    const auto segment = stats_view::open(stats_view::path_of(instance_of(s)));
    if (!segment)
        return tl::unexpected(segment.error());
    json before;
    return repeat(s, [&]() -> result<void> {
        auto now = segment->counters();
        // The control plane's own, where it answers; the workers' do not need it.
        if (const auto own = ops_client(s.run_dir, std::chrono::seconds(2)).request("counters", json::object());
            own && own->contains("control"))
            now["control"] = (*own)["control"];
        if (s.watch)
            add_rates(now, before, s.interval_s);
        print(s, now, [&](const json& r) {
            json happened = json::array();
            for (const auto& row : r.value("control", json::array()))
                if (row.value("total", 0ULL) != 0)
                    happened.push_back(row);
            return (s.watch ? watch_view(r) : views.at("counters")(r)) +
                   (r.contains("control") ? "\n" + table(happened, own_columns, "nothing was counted") : std::string());
        });
        before = std::move(now);
        return {};
    });
}

result<void> version(const settings& s) {
    json r{{"tandemctl", TANDEM_VERSION}, {"ops_protocol", ops::protocol_version}};
    const auto answer = ops_client(s.run_dir, std::chrono::seconds(2)).request("version", json::object());
    r["controlplane"] = answer ? *answer : json();
    print(s, r, [](const json& v) {
        static const columns c{{"tandemctl", "tandemctl"},
                               {"control plane", "controlplane/version"},
                               {"ops protocol", "ops_protocol"},
                               {"data-plane contract", "controlplane/contract_version"}};
        return fields(v, c);
    });
    return {};
}

} // namespace tandem::ctl
