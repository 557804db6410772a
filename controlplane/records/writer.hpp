// SPDX-License-Identifier: Apache-2.0
// Writes of calls, media and records, in order. A change (what must happen together) is some operations, the last one
// marked. It is durable in the log at once (write_log.hpp) and goes into the database a moment later, many changes in
// one transaction. What SQLite refuses waits and is tried again: all operations say what is to be there afterwards, so
// doing one twice does no harm. Private to this room. Owner thread: io_context.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "controlplane/protocol/profile.hpp"
#include "controlplane/records/call_record.hpp"
#include "controlplane/records/sqlite.hpp"
#include "controlplane/records/write_log.hpp"

namespace tandem::records {

enum class what : std::uint8_t {
    call_put,    // key = its number, name = Call-ID, extra = record id, body
    call_body,   // key, body
    call_ended,  // key, body = how it ended
    call_gone,   // key
    media_put,   // key = media id, call, body
    media_body,  // key, body
    media_gone,  // key
    media_over,  // key = number, call, body: an ended media waits for its call
    over_gone,   // call: its ended media
    record_made, // body, done
    generation,  // key
};

struct finished {
    call_record record; // without its media: they are in body
    std::optional<std::pair<std::string, std::string>> pair;
    protocol::past_call call;
    bool to_ship = false;
};
[[nodiscard]] finished finished_of(call_record record, bool to_ship);

struct operation {
    what kind{};
    bool last = false; // of its change
    std::int64_t key = 0, call = 0;
    std::string name{}, extra{}, body{};
    std::unique_ptr<finished> done{};
    std::uint64_t number = 0; // of the change
};

class writer {
public:
    explicit writer(connection& db);

    // The log in front; what it holds of an earlier process goes into the database. The error is a sentence.
    [[nodiscard]] tl::expected<void, std::string> open_log(const std::string& path);
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
    [[nodiscard]] const std::string& trouble() const noexcept { return trouble_; } // of the last attempt

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
    std::vector<protocol::profile> profiles_; // changed by the transaction at work
    std::vector<bool> made_;                  // records likewise: to ship or not
    std::string trouble_;
    bool dropping_ = false; // the rest of a change that did not fit

    statement begin_, commit_, call_put_, call_body_, call_ended_, call_gone_, media_put_, media_body_, media_gone_,
        media_over_, over_gone_, generation_, applied_, record_, profile_read_, profile_write_;
};

} // namespace tandem::records
