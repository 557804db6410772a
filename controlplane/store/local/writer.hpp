// SPDX-License-Identifier: Apache-2.0
// Writes of calls, media, sessions and records, in order. A change (what must happen together) is some operations, the
// last one marked. It is durable in the log at once (write_log.hpp) and goes into the database a moment later, many
// changes in one transaction. What SQLite refuses waits, in the log, and is tried again; what the log has no room for
// waits in memory alone, and no new call is taken meanwhile (`no_room`). Private to this room. Owner thread:
// io_context.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <tl/expected.hpp>

#include "controlplane/store/local/operation.hpp"
#include "controlplane/store/local/sqlite.hpp"
#include "controlplane/store/local/write_log.hpp"

namespace tandem::store {

class writer {
public:
    explicit writer(connection& db);

    // The log in front, and what it holds of an earlier process: that goes into the database, or waits where SQLite
    // takes no writes. The error is a sentence.
    [[nodiscard]] tl::expected<void, std::string> open_log(const std::string& path, std::size_t size);
    void fit_log() { log_.fit(); } // tries for the size that it was to have
    // From now on changes go into the log at once and into the database when `due` is asked for; `soon` asks for it.
    void put_off(std::function<void()> soon) { soon_ = std::move(soon); }
    void put_off_no_more() { soon_ = nullptr; }

    // Adds to the change that is being made; `last` ends it. Nothing is durable before flush().
    void add(operation op);
    // Makes everything durable: in the log, or in the database. What neither takes stays in memory.
    void flush();
    // Some of what waits goes into the database; true while there is more that it may take. `again`: although it
    // refused, and without waiting for a lock.
    bool due(bool again = false);
    // All of it: before the database is read.
    void settle(bool again = false) {
        while (due(again)) {
        }
    }

    [[nodiscard]] std::size_t waiting() const noexcept { return pending_.size(); }
    [[nodiscard]] const std::deque<operation>& pending() const noexcept { return pending_; }
    [[nodiscard]] const std::string& trouble() const noexcept { return trouble_; } // of the last attempt
    [[nodiscard]] const write_log& log_file() const noexcept { return log_; }
    // Where SQLite takes no writes: whether the log has not room enough for one more call beside the ends of so many
    // that are up. A sentence.
    [[nodiscard]] std::optional<std::string> no_room(std::size_t calls) const;
    // Whether there is room for what may be left out.
    [[nodiscard]] bool roomy() const noexcept { return trouble_.empty() || log_.room() > log_.size() / 2; }

    std::uint64_t failures = 0, retried = 0, lost = 0, records = 0;
    std::size_t most_waiting = 200'000;
    std::function<void(const protocol::profile&)> on_profile; // after the commit
    std::function<void(bool to_ship)> on_record;

private:
    bool log();
    void perform(const operation& op);
    void make_record(const operation& op);
    [[nodiscard]] std::size_t batch_end() const;
    [[nodiscard]] bool transact(std::size_t end, bool again);
    void refused(const sqlite_error& error);

    connection& db_;
    write_log log_;
    std::function<void()> soon_;
    std::deque<operation> pending_;
    std::size_t logged_ = 0;                  // of these, from the front
    std::uint64_t numbers_ = 0;               // of changes, so far
    std::uint64_t in_database_ = 0;           // the last of these that is there
    std::vector<protocol::profile> profiles_; // changed by the transaction at work
    std::vector<bool> made_;                  // records likewise: to ship or not
    std::string trouble_;
    bool dropping_ = false;  // the rest of a change that did not fit
    bool log_short_ = false; // it took not all of the last changes

    statement begin_, commit_, call_put_, call_body_, call_ended_, call_gone_, media_put_, media_body_, media_gone_,
        media_over_, over_gone_, generation_, session_put_, session_gone_, applied_, record_, profile_read_,
        profile_write_;
};

} // namespace tandem::store
