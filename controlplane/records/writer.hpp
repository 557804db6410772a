// SPDX-License-Identifier: Apache-2.0
// Writes of calls, media and records, in order, several in one transaction. A change (what must happen together) is
// some operations, the last one marked. What SQLite refuses stays in memory and is tried again: all operations say what
// is to be there afterwards, so doing one twice does no harm. Private to this room. Owner thread: io_context.
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

struct operation {
    what kind{};
    bool last = false; // of its change
    std::int64_t key = 0, call = 0;
    std::string name{}, extra{}, body{};
    std::unique_ptr<finished> done{};
};

class writer {
public:
    explicit writer(connection& db);

    // Adds to the change that is being made; `last` ends it. Nothing is written before flush().
    void add(operation op);
    // Everything, in as few transactions as sensible. False where something stays in memory. While SQLite refuses and a
    // timer asks again, only that tries (`again`), and without waiting for a lock: a call must not wait each time.
    bool flush(bool again = false);

    [[nodiscard]] std::size_t waiting() const noexcept { return pending_.size(); }
    [[nodiscard]] const std::string& trouble() const noexcept { return trouble_; }

    std::uint64_t failures = 0, retried = 0, lost = 0, records = 0;
    std::size_t most_waiting = 200'000;
    bool timed = false;                                       // a timer asks again
    std::function<void(const protocol::profile&)> on_profile; // after the commit
    std::function<void(bool to_ship)> on_record;

private:
    void perform(const operation& op);
    void make_record(const operation& op);
    std::size_t batch_end() const;
    void refused(const sqlite_error& error);

    connection& db_;
    std::deque<operation> pending_;
    std::vector<protocol::profile> profiles_; // changed by the transaction at work
    std::vector<bool> made_;                  // records likewise: to ship or not
    std::string trouble_;
    bool dropping_ = false; // the rest of a change that did not fit

    statement begin_, commit_, call_put_, call_body_, call_ended_, call_gone_, media_put_, media_body_, media_gone_,
        media_over_, over_gone_, generation_, record_, profile_read_, profile_write_;
};

} // namespace tandem::records
