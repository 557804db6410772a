// SPDX-License-Identifier: Apache-2.0
// Reading, shipping and deleting call records (archive.hpp). A search over many rows gives the thread back between
// slices: calls do not wait for it. Owner thread: io_context.
#include "controlplane/store/local/archive.hpp"

#include <asio/post.hpp>
#include <asio/this_coro.hpp>
#include <asio/use_awaitable.hpp>
#include <fmt/format.h>
#include <limits>
#include <spdlog/spdlog.h>

#include "controlplane/protocol/address_name.hpp"
#include "controlplane/store/local/units.hpp"
#include "controlplane/store/record_text.hpp"
#include "controlplane/store/rows.hpp"

namespace tandem::store {

namespace {

constexpr std::int64_t slice = 500; // rows looked at in one go: 1 or 2 ms

std::string cannot_read(const sqlite_error& error) {
    return fmt::format("the records cannot be read: {}", error.what());
}

// "0046701234567" is "+46 70 123 45 67".
bool same_party(std::string_view one, std::string_view asked) {
    if (one == asked)
        return true;
    const auto a = protocol::parse_address_name(one), b = protocol::parse_address_name(asked);
    return a && b && *a == *b;
}

} // namespace

record_rows::record_rows(connection& db, std::uint64_t& failures, bool to_ship)
    : db_(db), failures_(failures), to_ship_(to_ship),
      newest_(db, "SELECT n, ended, id, call_id, caller, callee, body FROM record WHERE ended >= ?1 AND"
                  " (ended, n) < (?2, ?3) ORDER BY ended DESC, n DESC LIMIT ?4"),
      by_id_(db, "SELECT body FROM record WHERE id = ?"),
      unshipped_(db, "SELECT body FROM record WHERE shipped = 0 ORDER BY n LIMIT ?"),
      shipped_(db, "UPDATE record SET shipped = ?2 WHERE id = ?1 AND shipped = 0"),
      oldest_(db, "SELECT n, ended FROM record ORDER BY n LIMIT ?"),
      expired_(db, "DELETE FROM record WHERE n <= ? AND shipped IS NOT 0"),
      long_shipped_(db, "DELETE FROM record WHERE n IN (SELECT n FROM record WHERE shipped > 0 AND shipped < ?1"
                        " LIMIT ?2)") {}

bool record_rows::read_some(const record_query& what, place& at, std::vector<call_record>& found) {
    const auto since = what.since ? in_ms(*what.since) : std::numeric_limits<std::int64_t>::min();
    auto row = newest_.begin();
    row.bind(since).bind(at.ended).bind(at.n).bind(slice);
    for (std::int64_t looked_at = 0; found.size() < what.limit; ++looked_at) {
        if (!row.step())
            return looked_at == slice;
        at = {row.number(1), row.number(0)};
        if (!what.party.empty() && !same_party(row.view(4), what.party) && !same_party(row.view(5), what.party))
            continue;
        if (!what.call_id.empty() && row.view(3) != what.call_id)
            continue;
        if (auto record = call_record_from_json(row.view(6)))
            found.push_back(std::move(*record));
        else
            spdlog::warn("database: record {} cannot be read and is left out", row.view(2));
    }
    return false;
}

asio::awaitable<outcome<std::vector<call_record>>> record_rows::find(record_query what) {
    std::vector<call_record> found;
    before_reading();
    auto at = what.until ? place{in_ms(*what.until), std::numeric_limits<std::int64_t>::max()}
                         : place{std::numeric_limits<std::int64_t>::max(), 0};
    const auto executor = co_await asio::this_coro::executor;
    bool more = true;
    while (more) {
        try {
            more = read_some(what, at, found);
        } catch (const sqlite_error& error) {
            ++failures_;
            co_return tl::unexpected(cannot_read(error));
        }
        if (more)
            co_await asio::post(executor, asio::use_awaitable);
    }
    co_return found;
}

asio::awaitable<outcome<std::optional<call_record>>> record_rows::show(std::string id) {
    before_reading();
    try {
        auto row = by_id_.begin();
        if (!row.bind(id).step())
            co_return std::optional<call_record>();
        auto record = call_record_from_json(row.view(0));
        if (!record)
            co_return tl::unexpected(fmt::format("record {} cannot be read: another program wrote to it", id));
        co_return record;
    } catch (const sqlite_error& error) {
        ++failures_;
        co_return tl::unexpected(cannot_read(error));
    }
}

void record_rows::count_waiting() {
    auto row = once(db_, "SELECT count(*) FROM record WHERE shipped = 0");
    waiting_ = to_ship_ && row.step() ? static_cast<std::size_t>(row.number(0)) : 0;
}

std::vector<call_record> record_rows::unshipped(std::size_t limit) {
    std::vector<call_record> found;
    if (!to_ship_)
        return found;
    try {
        auto row = unshipped_.begin();
        row.bind(static_cast<std::int64_t>(limit));
        while (row.step()) {
            if (auto record = call_record_from_json(row.view(0)))
                found.push_back(std::move(*record));
            else
                spdlog::warn("database: a record that waits for the shared store cannot be read");
        }
    } catch (const sqlite_error& error) {
        said(failures_, "reading records that wait", error);
    }
    return found;
}

void record_rows::mark_shipped(std::span<const std::string> ids) {
    try {
        db_.run("BEGIN IMMEDIATE");
        std::size_t gone = 0;
        for (const auto& id : ids) {
            shipped_.begin().bind(id).bind(in_ms(std::chrono::system_clock::now())).step();
            gone += static_cast<std::size_t>(sqlite3_changes(db_.get()));
        }
        db_.run("COMMIT");
        waiting_ -= std::min(waiting_, gone);
    } catch (const sqlite_error& error) { // shipped again, taken once
        said(failures_, "marking shipped records", error);
        if (sqlite3_get_autocommit(db_.get()) == 0)
            sqlite3_exec(db_.get(), "ROLLBACK", nullptr, nullptr, nullptr);
    }
}

std::optional<std::chrono::system_clock::time_point> record_rows::newest() {
    auto row = once(db_, "SELECT ended FROM record ORDER BY n DESC LIMIT 1");
    return row.step() ? std::optional(from_ms(row.number(0))) : std::nullopt;
}

// In the order in which they were written, up to the first that is not old: one that a wrong clock dated back does not
// go before its time.
std::size_t record_rows::expire_ended(std::chrono::system_clock::time_point limit, std::size_t at_most) {
    try {
        std::int64_t last = 0;
        {
            auto row = oldest_.begin();
            row.bind(static_cast<std::int64_t>(at_most));
            while (row.step() && row.number(1) < in_ms(limit))
                last = row.number(0);
        }
        if (last == 0)
            return 0;
        expired_.begin().bind(last).step();
        return static_cast<std::size_t>(sqlite3_changes(db_.get()));
    } catch (const sqlite_error& error) {
        said(failures_, "deleting old records", error);
        return 0;
    }
}

std::size_t record_rows::expire_shipped(std::chrono::system_clock::time_point limit, std::size_t at_most) {
    try {
        long_shipped_.begin().bind(in_ms(limit)).bind(static_cast<std::int64_t>(at_most)).step();
        return static_cast<std::size_t>(sqlite3_changes(db_.get()));
    } catch (const sqlite_error& error) {
        said(failures_, "deleting shipped records", error);
        return 0;
    }
}

} // namespace tandem::store
