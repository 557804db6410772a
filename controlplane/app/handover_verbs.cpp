// SPDX-License-Identifier: Apache-2.0
// Verbs about units' moves between networks. Owner thread: io_context.
#include <fmt/format.h>

#include "controlplane/app/verb_tools.hpp"

namespace tandem::control {

using nlohmann::json;

namespace {

constexpr std::uint64_t usual = 100;

json handover_json(const session::handover& h) {
    json streams;
    if (h.streams)
        streams = {{"kind", text_of(h.streams->kind)},
                   {"took_ms", h.streams->took.count()},
                   {"sent_again_bytes", h.streams->octets_again}};
    return {{"number", h.number},
            {"time", exact_time_text(h.at.wall)},
            {"unit", h.unit},
            {"tsid", tsid_text(h.session)},
            {"from", link::text_of(h.from)},
            {"to", link::text_of(h.to)},
            {"without_ms", h.without.count()},
            {"ended", h.ended},
            {"streams", std::move(streams)}};
}

} // namespace

verb_result verbs::handover_list(const json& args) const {
    const auto count = number_arg(args, "limit").value_or(usual);
    json rows = json::array();
    for (const auto* h : rooms_.sessions.moves().list(text_arg(args, "unit"), count))
        rows.push_back(handover_json(*h));
    return json{{"handovers", std::move(rows)}};
}

verb_result verbs::handover_show(const json& args) const {
    const auto number = number_arg(args, "number");
    if (!number)
        return usage(R"(name the handover: {"number": 17})");
    const auto* const h = rooms_.sessions.moves().find(*number);
    if (h == nullptr)
        return failed(fmt::format(
            "handover {} is not known, or not any more: the last {} are kept, see `tandemctl handover list`", *number,
            session::handovers::most));
    return handover_json(*h);
}

verb_result verbs::handover_stats() const {
    const auto& all = rooms_.sessions.moves();
    const auto& t = all.total();
    return json{{"moves", t.moves},
                {"after_loss", t.after_loss},
                {"longest_without_ms", t.longest_without.count()},
                {"streams_soft", t.streams_soft},
                {"streams_hard", t.streams_hard},
                {"longest_streams_ms", t.longest_streams.count()},
                {"sent_again_bytes", t.octets_again},
                {"kept", all.kept()}};
}

} // namespace tandem::control
