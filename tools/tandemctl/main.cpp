// SPDX-License-Identifier: Apache-2.0
// tandemctl: the operator's tool. Speaks to the control plane's ops socket and reads the data plane's stats segment.
// Exit status: 0 done, 1 failed, 2 wrong usage, 3 unreachable. Never prints a key.
#include <cstdio>
#include <string>
#include <string_view>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <fmt/format.h>

#include "controlplane/app/near_name.hpp"
#include "tools/tandemctl/arguments.hpp"

namespace {

using namespace tandem::ctl;

// 16 hex digits are a TSID, anything else a unit's id code.
json session_of(const std::string& text) {
    const bool tsid = text.size() == 16 && text.find_first_not_of("0123456789abcdefABCDEF") == std::string::npos;
    return {{tsid ? "tsid" : "unit", text}};
}

void plain_verbs(CLI::App& app, arguments& a) {
    app.add_subcommand("status", "the gateway at a glance")->callback([&a] {
        a.chosen = [&a] { return show(a.common, "status", json::object()); };
    });
    app.add_subcommand("port", "network ports of the data plane")->callback([&a] {
        a.chosen = [&a] { return show(a.common, "port", json::object()); };
    });
    auto* dropped = app.add_subcommand("drops", "dropped packets by reason");
    dropped->add_option("reason", a.reason, "only this one; wrong_source: by call, too");
    dropped->callback([&a] { a.chosen = [&a] { return drops(a.common, a.reason); }; });
    auto* counting = app.add_subcommand("counters", "the workers' counters, from the stats segment");
    watchable(counting, a);
    counting->callback([&a] { a.chosen = [&a] { return counters(a.common); }; });
    app.add_subcommand("version", "of the tool and of what it reaches")->callback([&a] {
        a.chosen = [&a] { return version(a.common); };
    });
}

void of_whom(CLI::App* verb, tandem::ctl::whose& of) {
    auto* flow = verb->add_option("--flow", of.flow, "only packets that come to this local ADDRESS:PORT");
    auto* call =
        verb->add_option("--call", of.call, "only those of this call (its Call-ID; see `tandemctl call list`)");
    verb->add_option("--unit", of.unit, "only those of this unit's calls")->excludes(flow)->excludes(call);
    call->excludes(flow);
}

void sight_verbs(CLI::App& app, arguments& a) {
    auto* worker = app.add_subcommand("worker", "how each worker spends its time: busy share, cycles, bursts");
    watchable(worker, a);
    worker->callback([&a] { a.chosen = [&a] { return tandem::ctl::worker(a.common, a.common.watch); }; });

    auto* trace = app.add_subcommand("trace", "the next packets' way through the stages, with verdicts; no payload");
    trace->add_option("N", a.trace.packets, "packets")
        ->required()
        ->check(CLI::Range(1u, static_cast<unsigned>(tandem::api::max_trace_packets)));
    of_whom(trace, a.trace.of);
    trace->add_option("--seconds", a.trace.seconds, "end after so long")->check(CLI::PositiveNumber);
    trace->callback([&a] { a.chosen = [&a] { return tandem::ctl::trace(a.common, a.trace); }; });

    auto* capture = app.add_subcommand("capture", "packets into a pcapng file; payload only where it is ciphertext");
    auto& c = a.capture;
    capture->add_option("-w,--write", c.file, "the file; - is stdout")->required();
    of_whom(capture, c.of);
    capture->add_option("--port", c.port, "only this interface");
    capture->add_option("--direction", c.direction, "in, out or both")->check(CLI::IsMember({"in", "out", "both"}));
    capture->add_option("--drop", c.drop, "only packets dropped for this reason (see `tandemctl drops`)");
    capture->add_option("--count", c.packets, "end after so many packets");
    capture->add_option("--seconds", c.seconds, "end after so long");
    capture->add_option("--snaplen", c.snap_length, "bytes of a frame at most")
        ->check(CLI::Range(1u, static_cast<unsigned>(tandem::api::max_snap_length)));
    capture->add_flag("--plaintext", c.plaintext, "media in clear too: root only; written to the audit log");
    capture->callback([&a] { a.chosen = [&a] { return tandem::ctl::capture(a.common, a.capture); }; });
}

// Names under which a unit speaks beside its id code.
void unit_name_verbs(CLI::App& unit, arguments& a) {
    auto* name = unit.add_subcommand("name", "names that are a unit's own, beside its id code")->require_subcommand(1);
    auto* list = name->add_subcommand("list", "the names of a unit");
    list->add_option("ID", a.id, "id code")->required();
    list->callback([&a] { a.chosen = [&a] { return show(a.common, "unit name list", {{"id", a.id}}); }; });
    for (const auto* verb : {"add", "remove"}) {
        auto* one = name->add_subcommand(verb, std::string(verb) == "add" ? "the unit may speak as NAME" : "no longer");
        one->add_option("ID", a.id, "id code")->required();
        one->add_option("NAME", a.name, "as in From: a number or a name")->required();
        one->callback([&a, verb] {
            a.chosen = [&a, verb] {
                return show(a.common, std::string("unit name ") + verb, {{"id", a.id}, {"name", a.name}});
            };
        });
    }
}

void unit_verbs(CLI::App& app, arguments& a) {
    auto* unit = app.add_subcommand("unit", "enrolled units")->require_subcommand(1);
    auto* add = unit->add_subcommand("add", "enrols a unit");
    add->add_option("ID", a.unit.id, "id code")->required();
    add->add_option("--psk-file", a.unit.psk_file,
                    "file of its pre-shared key (hex); made with a new key where it does not exist");
    add->add_flag("--certificate", a.unit.certificate, "it authenticates by a certificate only");
    add->add_option("--spki", a.unit.spki, "SHA-256 (hex) of the public key that its certificate must have");
    add->add_option("--comment", a.unit.comment, "for people");
    add->callback([&a] { a.chosen = [&a] { return unit_add(a.common, a.unit); }; });
    unit->add_subcommand("list", "all units")->callback([&a] {
        a.chosen = [&a] { return show(a.common, "unit list", json::object()); };
    });
    for (const auto* verb : {"show", "remove"}) {
        auto* one =
            unit->add_subcommand(verb, std::string(verb) == "show" ? "one unit" : "ends its session and forgets it");
        one->add_option("ID", a.id, "id code")->required();
        one->callback([&a, verb] {
            a.chosen = [&a, verb] { return show(a.common, std::string("unit ") + verb, {{"id", a.id}}); };
        });
    }
    unit_name_verbs(*unit, a);
}

void session_verbs(CLI::App& app, arguments& a) {
    auto* session = app.add_subcommand("session", "units that are connected")->require_subcommand(1);
    session->add_subcommand("list", "all sessions")->callback([&a] {
        a.chosen = [&a] { return show(a.common, "session list", json::object()); };
    });
    auto* one = session->add_subcommand("show", "one session");
    one->add_option("TSID|UNIT", a.id, "its TSID (16 hex digits) or the unit's id code")->required();
    one->callback([&a] { a.chosen = [&a] { return show(a.common, "session show", session_of(a.id)); }; });
    auto* drop = session->add_subcommand("drop", "ends a session and its calls");
    drop->add_option("TSID|UNIT", a.id, "its TSID (16 hex digits) or the unit's id code")->required();
    drop->add_option("--reason", a.reason, "told to the unit");
    drop->callback([&a] {
        a.chosen = [&a] {
            auto which = session_of(a.id);
            if (!a.reason.empty())
                which["reason"] = a.reason;
            return show(a.common, "session drop", which);
        };
    });
}

void handover_verbs(CLI::App& app, arguments& a) {
    auto* handover = app.add_subcommand("handover", "moves of units between networks")->require_subcommand(1);
    auto* list = handover->add_subcommand("list", "the last ones, newest first");
    list->add_option("--unit", a.id, "of this one only: its id code");
    list->add_option("--limit", a.limit, "so many at most; 100 where nothing is said");
    list->callback([&a] {
        a.chosen = [&a] {
            json which = json::object();
            if (!a.id.empty())
                which["unit"] = a.id;
            if (a.limit != 0)
                which["limit"] = a.limit;
            return show(a.common, "handover list", which);
        };
    });
    auto* one = handover->add_subcommand("show", "one of them");
    one->add_option("NUMBER", a.media, "as `handover list` says it")->required();
    one->callback([&a] { a.chosen = [&a] { return show(a.common, "handover show", {{"number", a.media}}); }; });
    handover->add_subcommand("stats", "how many since the control plane's start, and the longest")->callback([&a] {
        a.chosen = [&a] { return show(a.common, "handover stats", json::object()); };
    });
}

void media_verbs(CLI::App& app, arguments& a) {
    auto* media = app.add_subcommand("media", "media of calls")->require_subcommand(1);
    auto* list = media->add_subcommand("list", "all media");
    list->add_option("--call-id", a.call_id, "of this call only");
    list->callback([&a] {
        a.chosen = [&a] {
            return show(a.common, "media list", a.call_id.empty() ? json::object() : json{{"call_id", a.call_id}});
        };
    });
    for (const auto* verb : {"show", "rekey"}) {
        auto* one = media->add_subcommand(verb, std::string(verb) == "show" ? "one media with both legs"
                                                                            : "gives it new keys now");
        one->add_option("ID", a.media, "its number")->required();
        one->callback([&a, verb] {
            a.chosen = [&a, verb] { return show(a.common, std::string("media ") + verb, {{"id", a.media}}); };
        });
    }
}

void call_verbs(CLI::App& app, arguments& a) {
    auto* call = app.add_subcommand("call", "calls")->require_subcommand(1);
    call->add_subcommand("list", "all calls")->callback([&a] {
        a.chosen = [&a] { return show(a.common, "call list", json::object()); };
    });
    for (const auto* verb : {"show", "drop"}) {
        auto* one = call->add_subcommand(verb, std::string(verb) == "show"
                                                   ? "one call with its media"
                                                   : "ends its media, as a delete by the SIP proxy does");
        one->add_option("CALL-ID", a.call_id, "as `call list` says it")->required();
        one->callback([&a, verb] {
            a.chosen = [&a, verb] { return show(a.common, std::string("call ") + verb, {{"call_id", a.call_id}}); };
        });
    }
    auto* alarm = app.add_subcommand("alarm", "what needs somebody now")->require_subcommand(1);
    alarm->add_subcommand("list", "alarms that stand")->callback([&a] {
        a.chosen = [&a] { return show(a.common, "alarm list", json::object()); };
    });
    auto* clock = app.add_subcommand("clock", "the gateway's clock")->require_subcommand(1);
    clock->add_subcommand("accept", "it is right, whatever alarm `clock` says: records go by their age again")
        ->callback([&a] { a.chosen = [&a] { return show(a.common, "clock accept", json::object()); }; });
}

// Every verb that only shows a table.
void watch_tables(CLI::App& at, arguments& a) {
    for (auto* one : at.get_subcommands([](const CLI::App*) { return true; })) {
        const auto name = one->get_name();
        if (name == "list" || name == "show" || name == "stats" || name == "status" || name == "port" ||
            name == "drops")
            watchable(one, a);
        else
            watch_tables(*one, a);
    }
}

// CLI11 says what is wrong; beside it belongs where, and what there is: of the deepest verb that was understood.
std::string usage_text(const CLI::App& app, const CLI::ParseError& e) {
    const CLI::App* at = &app;
    std::string words = "tandemctl", text = e.what();
    while (!at->get_subcommands().empty()) {
        at = at->get_subcommands().back();
        words += " " + at->get_name();
    }
    static constexpr std::string_view unread = "Could not convert: ";
    if (text.starts_with(unread))
        text = text.substr(unread.size()) + " is no number that fits";
    const auto verbs = at->get_subcommands([](const CLI::App*) { return true; });
    if (!verbs.empty()) {
        std::vector<std::string_view> names;
        for (const auto* verb : verbs)
            names.push_back(verb->get_name());
        const auto rest = app.remaining(); // what no verb took
        const auto meant = rest.empty() ? std::string_view() : tandem::ops::near_name(rest.front(), names);
        text =
            fmt::format("{}: {}", rest.empty() ? "a verb is missing" : fmt::format("there is no verb {}", rest.front()),
                        meant.empty() ? fmt::format("choose one of {}", fmt::join(names, ", "))
                                      : fmt::format("did you mean {}?", meant));
    }
    return fmt::format("{} (see {} --help)", text, words);
}

int report(const error& e, bool as_json) {
    static constexpr const char* names[] = {"ok", "failed", "usage", "unreachable"};
    const auto kind = static_cast<int>(e.kind);
    if (as_json)
        fmt::print(stderr, "{}\n",
                   json{{"code", names[kind]}, {"error", e.text}}.dump(-1, ' ', false, json::error_handler_t::replace));
    else
        fmt::print(stderr, "tandemctl: {}\n", e.text);
    return kind;
}

} // namespace

int main(int argc, char** argv) {
    // A key may pass through `unit add`.
    prctl(PR_SET_DUMPABLE, 0);
    const rlimit none{0, 0};
    setrlimit(RLIMIT_CORE, &none);

    arguments a;
    CLI::App app{"tandemctl: look at and steer a Tandem gateway"};
    app.set_version_flag("--version", "tandemctl " TANDEM_VERSION);
    app.footer("exit status: 0 done, 1 failed, 2 wrong usage, 3 unreachable");
    app.fallthrough();
    app.require_subcommand(1);
    app.add_option("--run-dir", a.common.run_dir, "the gateway's run_dir")->capture_default_str();
    app.add_option("--instance", a.common.instance, "the data plane's instance, for its stats segment");
    app.add_flag("--json", a.common.as_json, "print JSON");
    plain_verbs(app, a);
    sight_verbs(app, a);
    unit_verbs(app, a);
    session_verbs(app, a);
    handover_verbs(app, a);
    media_verbs(app, a);
    call_verbs(app, a);
    level_verbs(app, a);
    policy_verbs(app, a);
    record_verbs(app, a);
    watch_tables(app, a);
    sip_verbs(app, a);
    try {
        app.parse(argc, argv);
        const auto done = a.chosen();
        return done ? 0 : report(done.error(), a.common.as_json);
    } catch (const CLI::Success& e) { // --help
        return app.exit(e);
    } catch (const CLI::ParseError& e) {
        return report({failure::usage, usage_text(app, e)}, a.common.as_json);
    } catch (const std::exception& e) {
        return report({failure::failed, e.what()}, a.common.as_json);
    }
}
