// SPDX-License-Identifier: Apache-2.0
// tandemctl capture: packets as the data plane sees them, into a pcapng file.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fmt/core.h>
#include <optional>

#include "tools/tandemctl/observer_link.hpp"
#include "tools/tandemctl/pcapng.hpp"
#include "tools/tandemctl/sight.hpp"

namespace tandem::ctl {
namespace {

result<api::capture_request> request_of(const capture_options& o) {
    const auto usage = [](std::string text) { return tl::unexpected(error{failure::usage, std::move(text)}); };
    api::capture_request r{};
    if (o.port.size() >= sizeof r.port)
        return usage(fmt::format("{} is no interface name; `tandemctl port` lists them", o.port));
    o.port.copy(r.port, sizeof r.port - 1);
    r.direction = static_cast<std::uint8_t>(o.direction == "in"    ? api::capture_in
                                            : o.direction == "out" ? api::capture_out
                                                                   : api::capture_in | api::capture_out);
    if (!o.drop.empty()) {
        const auto* const end = api::drop_table.data() + api::drop_count;
        const auto* const row =
            std::find_if(api::drop_table.data() + 1, end, [&](const auto& d) { return d.name == o.drop; });
        const auto reason = static_cast<std::size_t>(row - api::drop_table.data());
        if (row == end)
            return usage(fmt::format("{} is no drop reason; `tandemctl drops` lists them", o.drop));
        if (api::by_edge(static_cast<api::drop>(reason)) || reason == static_cast<std::size_t>(api::drop::edge_end))
            return usage(
                fmt::format("{}: the XDP edge drops it before a worker sees it; `tandemctl drops` counts it", o.drop));
        r.drop = static_cast<api::drop>(reason);
    }
    r.packets = o.packets;
    r.seconds = o.seconds;
    r.snap_length = o.snap_length;
    r.plaintext = o.plaintext ? 1 : 0;
    return r;
}

std::string comment_of(const api::capture_record& r) {
    std::string text;
    if (r.reason != api::drop::none && static_cast<std::size_t>(r.reason) < api::drop_count)
        text = fmt::format("dropped: {} ({})", api::info(r.reason).name, api::info(r.reason).text);
    if (r.withheld != 0)
        text += fmt::format("{}payload withheld: not known to be ciphertext", text.empty() ? "" : "; ");
    return text;
}

struct totals {
    std::uint64_t packets = 0, withheld = 0, lost = 0;
    std::string ended = "stopped";
};

// One message's records; false where it is not what it says.
bool write_records(pcapng_writer& to, std::span<const std::byte> body, std::size_t ports, totals& sum) {
    while (!body.empty()) {
        api::capture_record r;
        if (body.size() < sizeof r)
            return false;
        std::memcpy(&r, body.data(), sizeof r);
        if (r.captured > body.size() || api::padded_capture(r.captured) > body.size() || r.port >= ports)
            return false;
        const auto comment = comment_of(r);
        to.write({r.time_ns, r.port, r.original, r.way == api::capture_way::out, comment,
                  body.subspan(sizeof r, r.captured)});
        body = body.subspan(api::padded_capture(r.captured));
        ++sum.packets;
        sum.withheld += r.withheld;
    }
    return true;
}

result<void> receive_all(observer_link& link, pcapng_writer& to, totals& sum) {
    while (!signalled()) {
        const auto got = link.receive(500);
        if (!got)
            return tl::unexpected(got.error());
        if (!*got)
            continue;
        if ((*got)->type == api::message_type::observe_end && (*got)->body.size() == sizeof(api::observe_end)) {
            api::observe_end end;
            std::memcpy(&end, (*got)->body.data(), sizeof end);
            sum.lost = end.lost;
            sum.ended = end.reason == api::observe_end_reason::complete ? "complete"
                        : end.reason == api::observe_end_reason::time   ? "time is over"
                                                                        : "the data plane ended";
            return {};
        }
        if (!write_records(to, (*got)->body, link.ports().size(), sum))
            return tl::unexpected(error{failure::failed, "the data plane's records are not understood; use the "
                                                         "tandemctl that came with it"});
        if (auto written = to.flush(); !written)
            return written;
    }
    return {};
}

} // namespace

result<void> capture(const settings& s, const capture_options& o) {
    auto what = request_of(o);
    if (!what)
        return tl::unexpected(what.error());
    const auto places = places_of(s, o.of);
    if (!places)
        return tl::unexpected(places.error());
    what->places = *places;
    end_by_signal();
    auto link = observer_link::start(s.run_dir, *what);
    if (!link)
        return tl::unexpected(link.error());
    auto file = pcapng_writer::create(o.file);
    if (!file)
        return tl::unexpected(file.error());
    for (const auto& port : link->ports())
        file->interface({port.name, strnlen(port.name, sizeof port.name)}, std::span<const std::uint8_t, 6>(port.mac),
                        what->snap_length);
    totals sum;
    auto done = receive_all(*link, *file, sum);
    const auto flushed = file->flush();
    if (!done)
        return done;
    if (!flushed)
        return flushed;
    std::FILE* const to = o.file == "-" ? stderr : stdout;
    if (s.as_json)
        fmt::print(to, "{}\n",
                   json{{"file", o.file},
                        {"packets", sum.packets},
                        {"withheld", sum.withheld},
                        {"lost", sum.lost},
                        {"ended", sum.ended}}
                       .dump());
    else
        fmt::print(to, "{} packets in {} ({}); payload withheld from {}; {} lost\n", sum.packets, o.file, sum.ended,
                   sum.withheld, sum.lost);
    return {};
}

} // namespace tandem::ctl
