// SPDX-License-Identifier: Apache-2.0
// Verbs about call records and alarms. Owner thread: io_context.
#include <algorithm>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "controlplane/app/verb_tools.hpp"
#include "controlplane/store/record_text.hpp"

namespace tandem::control {

using nlohmann::json;

namespace {

tl::expected<store::record_query, std::string> read_query(const json& args) {
    store::record_query what;
    what.party = text_arg(args, "party");
    what.call_id = text_arg(args, "call_id");
    for (const auto& [name, to] : {std::pair{"since", &what.since}, {"until", &what.until}}) {
        *to = args.contains(name) ? time_arg(args, name) : std::nullopt;
        if (args.contains(name) && !*to)
            return tl::unexpected(
                fmt::format("{} must be a time in UTC such as 2026-11-21 or 2026-11-21T18:00:00", name));
    }
    return what;
}

} // namespace

// `record list` and `record export` differ in how many they give, and in the shape: "csv" gives lines of CSV.
asio::awaitable<verb_result> verbs::record_list(json args, std::size_t usual, std::size_t most) {
    auto what = read_query(args);
    if (!what)
        co_return usage(what.error());
    what->limit = std::min<std::uint64_t>(number_arg(args, "limit").value_or(usual), most);
    const bool csv = text_arg(args, "format") == "csv";
    const auto found = co_await rooms_.archive.find(std::move(*what));
    if (!found)
        co_return failed(found.error());
    json rows = json::array();
    for (const auto& record : *found)
        rows.push_back(
            csv ? json{{"id", record.id},
                       {"ended",
                        std::chrono::duration_cast<std::chrono::milliseconds>(record.ended.time_since_epoch()).count()},
                       {"line", store::csv_row(record)}}
                : record_json(record));
    json out{{"records", std::move(rows)}, {"waiting", rooms_.archive.waiting()}};
    if (csv)
        out["header"] = store::csv_header();
    const auto store = rooms_.store_state();
    if (store.value("kind", "") == "postgresql" && !store.value("connected", true))
        out["note"] = "the shared store is away: only this gateway's own records that are still here are shown";
    co_return out;
}

asio::awaitable<verb_result> verbs::record_show(json args) {
    const auto id = text_arg(args, "id");
    if (id.empty())
        co_return usage("name the record by its id: see `tandemctl record list`");
    const auto found = co_await rooms_.archive.show(id);
    if (!found)
        co_return failed(found.error());
    if (!*found)
        co_return failed(fmt::format("there is no record {}: see `tandemctl record list`", id));
    co_return record_json(**found);
}

verb_result verbs::clock_accept(const std::string& who) {
    const auto doubt = rooms_.store.clock_doubt();
    rooms_.store.accept_clock();
    rooms_.alarms.clear(alarms::clock);
    spdlog::info("the clock is right, says {}", who);
    return json{{"was_doubted", !doubt.empty()}, {"doubt", doubt}};
}

verb_result verbs::alarm_list() const {
    return json{{"alarms", alarms_json(rooms_.alarms)}};
}

} // namespace tandem::control
