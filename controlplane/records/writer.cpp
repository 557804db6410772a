// SPDX-License-Identifier: Apache-2.0
// Transactions over what waits (writer.hpp). Owner thread: io_context.
#include "controlplane/records/writer.hpp"

#include <algorithm>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "controlplane/records/record_text.hpp"
#include "controlplane/records/rows.hpp"

namespace tandem::records {

namespace {

constexpr std::size_t most_in_one = 2000; // operations a transaction, whole changes
constexpr int patience_ms = 50;           // for another program's lock

} // namespace

writer::writer(connection& db)
    : db_(db), begin_(db, "BEGIN IMMEDIATE"), commit_(db, "COMMIT"),
      call_put_(db, "INSERT INTO call(n, id, record, body) VALUES(?1, ?2, ?3, ?4)"
                    " ON CONFLICT(n) DO UPDATE SET body = ?4"),
      call_body_(db, "UPDATE call SET body = ?2 WHERE n = ?1"),
      call_ended_(db, "UPDATE call SET ended = ?2 WHERE n = ?1"), call_gone_(db, "DELETE FROM call WHERE n = ?"),
      media_put_(db, "INSERT OR REPLACE INTO media(id, call, body) VALUES(?, ?, ?)"),
      media_body_(db, "UPDATE media SET body = ?2 WHERE id = ?1"), media_gone_(db, "DELETE FROM media WHERE id = ?"),
      media_over_(db, "INSERT OR REPLACE INTO media_over(n, call, body) VALUES(?, ?, ?)"),
      over_gone_(db, "DELETE FROM media_over WHERE call = ?"),
      generation_(db, "INSERT OR REPLACE INTO fact(name, value) VALUES('generation', ?)"),
      record_(db, "INSERT INTO record(id, ended, call_id, caller, callee, shipped, body) VALUES(?, ?, ?, ?, ?, ?, ?)"
                  " ON CONFLICT(id) DO NOTHING"),
      profile_read_(db, "SELECT body FROM profile WHERE a = ? AND b = ?"),
      profile_write_(db, "INSERT INTO profile(a, b, body, revision) VALUES(?1, ?2, ?3, 1)"
                         " ON CONFLICT(a, b) DO UPDATE SET body = ?3, revision = revision + 1") {}

void writer::add(operation op) {
    const bool first = pending_.empty() || pending_.back().last;
    if (dropping_ || (first && pending_.size() >= most_waiting)) {
        dropping_ = !op.last;
        lost += op.last ? 1 : 0;
        return;
    }
    pending_.push_back(std::move(op));
}

std::size_t writer::batch_end() const {
    std::size_t end = 0;
    for (std::size_t i = 0; i < pending_.size() && (end == 0 || i < most_in_one); ++i)
        if (pending_[i].last)
            end = i + 1;
    return end;
}

bool writer::flush(bool again) {
    if (!trouble_.empty() && timed && !again)
        return false;
    while (const auto end = batch_end()) {
        try {
            profiles_.clear();
            made_.clear();
            sqlite3_busy_timeout(db_.get(), again ? 0 : patience_ms);
            transaction work(db_, begin_, commit_);
            for (std::size_t i = 0; i < end; ++i)
                perform(pending_[i]);
            work.commit();
        } catch (const sqlite_error& error) {
            refused(error);
            return false;
        }
        pending_.erase(pending_.begin(), pending_.begin() + static_cast<std::ptrdiff_t>(end));
        if (!trouble_.empty()) {
            retried += end;
            trouble_.clear();
            spdlog::info("database: it takes writes again; what waited is written");
        }
        records += made_.size();
        for (const auto& profile : std::exchange(profiles_, {}))
            if (on_profile)
                on_profile(profile);
        for (const bool to_ship : std::exchange(made_, {}))
            if (on_record)
                on_record(to_ship);
    }
    return pending_.empty();
}

void writer::refused(const sqlite_error& error) {
    ++failures;
    const bool new_trouble = trouble_.empty();
    const char* remedy = error.busy()   ? "another program holds its lock: end that program's transaction"
                         : error.full() ? "make room on the disk"
                                        : "see that the disk is well and the file can be written";
    trouble_ = fmt::format("the database takes no writes ({}): {}; calls go on, {} writes wait in memory", error.what(),
                           remedy, pending_.size());
    if (lost != 0)
        trouble_ += fmt::format(", {} are lost", lost);
    if (new_trouble)
        spdlog::error("database: {}", trouble_);
}

void writer::perform(const operation& op) {
    switch (op.kind) {
    case what::call_put:
        call_put_.begin().bind(op.key).bind(op.name).bind(op.extra).bind(op.body).step();
        break;
    case what::call_body:
        call_body_.begin().bind(op.key).bind(op.body).step();
        break;
    case what::call_ended:
        call_ended_.begin().bind(op.key).bind(op.body).step();
        break;
    case what::call_gone:
        call_gone_.begin().bind(op.key).step();
        break;
    case what::media_put:
        media_put_.begin().bind(op.key).bind(op.call).bind(op.body).step();
        break;
    case what::media_body:
        media_body_.begin().bind(op.key).bind(op.body).step();
        break;
    case what::media_gone:
        media_gone_.begin().bind(op.key).step();
        break;
    case what::media_over:
        media_over_.begin().bind(op.key).bind(op.call).bind(op.body).step();
        break;
    case what::over_gone:
        over_gone_.begin().bind(op.call).step();
        break;
    case what::generation:
        generation_.begin().bind(op.key).step();
        break;
    case what::record_made:
        make_record(op);
        break;
    }
}

// The record and what the pair's profile learns of it: the profile only where the record is new.
void writer::make_record(const operation& op) {
    const auto& r = op.done->record;
    {
        auto row = record_.begin();
        row.bind(r.id).bind(in_ms(r.ended)).bind(r.call_id).bind(r.caller).bind(r.callee);
        if (op.done->to_ship)
            row.bind(std::int64_t{0});
        else
            row.bind_null();
        row.bind(op.body).step();
    }
    if (sqlite3_changes(db_.get()) == 0)
        return;
    made_.push_back(op.done->to_ship);
    if (!op.done->pair || op.done->to_ship) // the shared store keeps the profiles where there is one
        return;
    protocol::profile profile;
    std::tie(profile.a, profile.b) = *op.done->pair;
    {
        auto row = profile_read_.begin();
        if (row.bind(profile.a).bind(profile.b).step() && !profile_from_json(row.view(0), profile))
            spdlog::warn("database: the profile of {} and {} cannot be read and begins anew", profile.a, profile.b);
    }
    profile.add(op.done->call);
    profile_write_.begin().bind(profile.a).bind(profile.b).bind(to_json(profile)).step();
    profiles_.push_back(std::move(profile));
}

} // namespace tandem::records
