// SPDX-License-Identifier: Apache-2.0
// tandemctl trace N: the next packets' way through the stages, a few lines each, or an object a line with --json.
#include <array>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <fmt/core.h>

#include "tools/tandemctl/display.hpp"
#include "tools/tandemctl/observer_link.hpp"
#include "tools/tandemctl/sight.hpp"

namespace tandem::ctl {
namespace {

std::string stamp_text(std::uint64_t ns) {
    const auto seconds = static_cast<std::time_t>(ns / 1'000'000'000);
    std::tm utc{};
    gmtime_r(&seconds, &utc);
    return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z", utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday,
                       utc.tm_hour, utc.tm_min, utc.tm_sec, ns % 1'000'000'000);
}

std::string suite_text(api::suite s) {
    const auto* row = api::find_suite(static_cast<std::uint16_t>(s));
    return row != nullptr ? std::string(row->name) : fmt::format("suite {}", static_cast<unsigned>(s));
}

// What the stage said of a packet that got that far.
std::string verdict(const api::trace_record& r, api::stage stage) {
    if (stage > r.last)
        return {};
    if (stage == r.last && r.reason != api::drop::none)
        return static_cast<std::size_t>(r.reason) < api::drop_count ? std::string(api::info(r.reason).name) : "?";
    switch (stage) {
    case api::stage::receive:
        return "received";
    case api::stage::lookup:
        return (r.flags & api::trace_handed) != 0 ? "handed_over" : "flow_found";
    case api::stage::unprotect:
        if ((r.flags & api::trace_punted) != 0)
            return "punted";
        return r.in_suite == api::suite::clear ? "accepted" : "authenticated";
    case api::stage::protect:
        return r.out_suite == api::suite::clear ? "clear" : "protected";
    default:
        return "sent";
    }
}

json endpoint(const api::net_address& a) {
    return a.port != 0 ? json(address_text(a)) : json();
}

} // namespace

json trace_json(const api::trace_record& r, const std::string& port, const std::string& out_port) {
    const auto has = [&](api::trace_flags flag) { return (r.flags & flag) != 0; };
    json stages = json::object();
    for (std::size_t i = 0; i < stage_names.size(); ++i)
        if (auto said = verdict(r, static_cast<api::stage>(i)); !said.empty())
            stages[std::string(stage_names[i])] = said;
    json out{{"time", stamp_text(r.time_ns)},
             {"worker", r.worker},
             {"burst", r.burst},
             {"port", port},
             {"frame_bytes", r.in_length},
             {"payload_bytes", r.in_payload},
             {"source", endpoint(r.source)},
             {"destination", endpoint(r.destination)},
             {"stages", stages},
             {"dropped", r.reason == api::drop::none ? json() : json(verdict(r, r.last))}};
    if (r.flow != 0) {
        out["flow"] = r.flow;
        out["tag"] = r.tag;
        out["in_suite"] = suite_text(r.in_suite);
        out["out_suite"] = suite_text(r.out_suite);
    }
    if (has(api::trace_media)) {
        out["kind"] = has(api::trace_rtcp) ? "RTCP" : "RTP";
        out["ssrc"] = r.ssrc;
        if (!has(api::trace_rtcp))
            out["sequence"] = r.sequence;
    }
    if (has(api::trace_in_index))
        out["in"] = {{"index", r.in_index}, {"epoch", r.in_epoch}};
    out["latched"] = has(api::trace_latched);
    if (has(api::trace_out_index))
        out["out"] = {{"index", r.out_index}, {"epoch", r.out_epoch}};
    if (r.last == api::stage::send)
        out["sent"] = {{"port", out_port},
                       {"payload_bytes", r.out_payload},
                       {"source", endpoint(r.out_source)},
                       {"destination", endpoint(r.out_destination)}};
    return out;
}

std::string trace_text(const json& p) {
    std::string out = fmt::format("{}  worker {}, burst of {}\n", p["time"].get<std::string>(), p["worker"].dump(),
                                  p["burst"].dump());
    const auto line = [&](const char* stage, const std::string& more) {
        if (!p["stages"].contains(stage))
            return;
        const auto said = p["stages"][stage].get<std::string>();
        const bool ends = p["dropped"] == said;
        out += fmt::format("  {:<10} {}{}{}{}\n", stage, ends ? "DROPPED: " : "", said, more.empty() ? "" : "  ", more);
    };
    const auto index = [&](const char* way, const char* word) {
        return p.contains(way) ? fmt::format(", {} {}, epoch {}", word, p[way]["index"].dump(), p[way]["epoch"].dump())
                               : std::string();
    };
    line("receive",
         fmt::format("{}: {} bytes, {} -> {}, payload {}", p["port"].get<std::string>(), p["frame_bytes"].dump(),
                     cell(p["source"], form::text), cell(p["destination"], form::text), p["payload_bytes"].dump()));
    line("lookup", p.contains("flow") ? fmt::format("flow {} (tag {}): {} -> {}", p["flow"].dump(), p["tag"].dump(),
                                                    p["in_suite"].get<std::string>(), p["out_suite"].get<std::string>())
                                      : std::string());
    line("unprotect",
         p.contains("kind")
             ? fmt::format("{} SSRC 0x{:08x}{}{}{}", p["kind"].get<std::string>(), p["ssrc"].get<std::uint32_t>(),
                           p.contains("sequence") ? " sequence " + p["sequence"].dump() : "", index("in", "index"),
                           p["latched"].get<bool>() ? "; the leg is here now (latched)" : "")
             : std::string());
    line("protect", p.contains("out") ? index("out", "index").substr(2) : std::string());
    if (p.contains("sent"))
        line("send", fmt::format("{}: {} -> {}, payload {}", p["sent"]["port"].get<std::string>(),
                                 cell(p["sent"]["source"], form::text), cell(p["sent"]["destination"], form::text),
                                 p["sent"]["payload_bytes"].dump()));
    return out;
}

result<void> trace(const settings& s, const trace_options& o) {
    api::trace_request what{};
    what.packets = o.packets;
    const auto places = places_of(s, o.of);
    if (!places)
        return tl::unexpected(places.error());
    what.places = *places;
    end_by_signal();
    auto link = observer_link::start(s.run_dir, what);
    if (!link)
        return tl::unexpected(link.error());
    const auto until = std::chrono::steady_clock::now() + std::chrono::duration<double>(o.seconds);
    std::size_t seen = 0;
    while (!signalled() && (o.seconds <= 0 || std::chrono::steady_clock::now() < until)) {
        const auto got = link->receive(200);
        if (!got)
            return tl::unexpected(got.error());
        if (!*got)
            continue;
        if ((*got)->type == api::message_type::observe_end)
            return {};
        const auto body = (*got)->body;
        for (std::size_t at = 0; at + sizeof(api::trace_record) <= body.size(); at += sizeof(api::trace_record)) {
            api::trace_record r;
            std::memcpy(&r, body.data() + at, sizeof r);
            const json packet = trace_json(r, link->port_name(r.port), link->port_name(r.out_port));
            fmt::print("{}\n", s.as_json ? packet.dump() : trace_text(packet));
            ++seen;
        }
        std::fflush(stdout);
    }
    if (seen == 0 && !s.as_json)
        fmt::print("no such packet reached a worker; what the edge passes to the kernel or drops: `tandemctl drops`\n");
    return {};
}

} // namespace tandem::ctl
