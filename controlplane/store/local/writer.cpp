// SPDX-License-Identifier: Apache-2.0
// Transactions over what waits (writer.hpp). Owner thread: io_context.
#include "controlplane/store/local/writer.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "controlplane/store/local/old_log.hpp"
#include "controlplane/store/record_text.hpp"
#include "controlplane/store/rows.hpp"

namespace tandem::store {

namespace {

constexpr std::size_t most_in_one = 500; // operations a transaction, whole changes: some milliseconds
constexpr int write_patience_ms = 50;    // for another program's lock
// What a call's set-up and its end take in the log, generously: several media, long reasons.
constexpr std::size_t bytes_of_a_call = 32U << 10, bytes_of_an_end = 4U << 10;

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
      session_put_(db, "INSERT OR REPLACE INTO session(unit, tsid, inner) VALUES(?, ?, ?)"),
      session_gone_(db, "DELETE FROM session WHERE unit = ?"),
      applied_(db, "INSERT OR REPLACE INTO fact(name, value) VALUES('applied', ?)"),
      record_(db, "INSERT INTO record(id, ended, call_id, caller, callee, shipped, body) VALUES(?, ?, ?, ?, ?, ?, ?)"
                  " ON CONFLICT(id) DO NOTHING"),
      profile_read_(db, "SELECT body FROM profile WHERE a = ? AND b = ?"),
      profile_write_(db, "INSERT INTO profile(a, b, body, revision) VALUES(?1, ?2, ?3, 1)"
                         " ON CONFLICT(a, b) DO UPDATE SET body = ?3, revision = revision + 1") {}

tl::expected<void, std::string> writer::open_log(const std::string& path, std::size_t size) {
    const auto fact = [this](std::string_view name) -> std::optional<std::uint64_t> {
        auto row = once(db_, "SELECT value FROM fact WHERE name = ?");
        return row.bind(name).step() ? std::optional(static_cast<std::uint64_t>(row.number(0))) : std::nullopt;
    };
    if (!fact("log"))
        once(db_, "INSERT OR IGNORE INTO fact(name, value) VALUES('log', random())").step();
    const auto of = fact("log").value_or(0);
    const auto applied = fact("applied").value_or(0);
    const auto file = path + "-changes";
    if (auto opened = log_.open(file, of, size); !opened)
        return opened;
    numbers_ = in_database_ = applied;
    const auto take = [this](std::uint64_t number, std::string_view change) {
        numbers_ = std::max(numbers_, number);
        for (auto& op : operations_of(change)) {
            op.number = number;
            pending_.push_back(std::move(op));
        }
        if (trouble_.empty() && pending_.size() >= most_in_one)
            settle(); // they need no memory while SQLite takes them
    };
    const auto old = path + "-log";
    read_old_log(old, of, applied, take);
    settle();
    if (pending_.empty() && ::unlink(old.c_str()) == 0)
        spdlog::info("database: {} of an earlier program is in the database now", old);
    const auto missing = log_.read(std::max(applied, numbers_), take);
    logged_ = pending_.size();
    log_.done(in_database_);
    settle();
    if (trouble_.empty())
        (void)transact(0, false); // whether it takes writes is known from the start
    if (numbers_ > applied)
        spdlog::info("database: {} changes of the last process were in its log; {} writes of them wait",
                     numbers_ - applied, pending_.size());
    if (missing > 0) {
        lost += missing;
        spdlog::error("database: {} changes in {} were damaged and are lost; the others are there", missing, file);
    }
    log_.fit();
    return {};
}

void writer::add(operation op) {
    const bool first = pending_.empty() || pending_.back().last;
    if (dropping_ || (first && pending_.size() >= most_waiting)) {
        dropping_ = !op.last;
        lost += op.last ? 1 : 0;
        return;
    }
    if (first)
        ++numbers_;
    op.number = numbers_;
    pending_.push_back(std::move(op));
}

void writer::flush() {
    const bool put_off = soon_ != nullptr;
    if (!put_off)
        settle(!trouble_.empty());
    if (!pending_.empty() && log()) {
        if (put_off)
            soon_();
    } else if (put_off && trouble_.empty()) { // else the timer tries
        settle();
    }
}

// What is complete and not in the log yet. False where that has not room for all of it.
bool writer::log() {
    std::string change;
    std::vector<std::size_t> ends;
    for (std::size_t i = logged_; i < pending_.size(); ++i) {
        append(change, pending_[i]);
        if (!pending_[i].last)
            continue;
        log_.add(pending_[i].number, change);
        change.clear();
        ends.push_back(i + 1);
    }
    if (ends.empty())
        return !log_short_;
    const auto written = log_.write();
    if (written > 0)
        logged_ = ends[written - 1];
    const bool before = std::exchange(log_short_, written < ends.size());
    if (!log_short_)
        return true;
    if (log_.fault() != ENOSPC)
        ++failures;
    if (!before && (log_.fault() != ENOSPC || !trouble_.empty()))
        spdlog::error("database: the log in front of it takes no more: {}", std::strerror(log_.fault()));
    return false;
}

std::optional<std::string> writer::no_room(std::size_t calls) const {
    if (trouble_.empty())
        return std::nullopt;
    if (!log_short_ && log_.room() >= bytes_of_a_call + calls * bytes_of_an_end)
        return std::nullopt;
    return "the database takes no writes and its log is full: make room on the disk; running calls go on";
}

std::size_t writer::batch_end() const {
    std::size_t end = 0;
    for (std::size_t i = 0; i < pending_.size() && (end == 0 || i < most_in_one); ++i)
        if (pending_[i].last)
            end = i + 1;
    return end;
}

bool writer::transact(std::size_t end, bool again) {
    try {
        profiles_.clear();
        made_.clear();
        sqlite3_busy_timeout(db_.get(), again ? 0 : write_patience_ms);
        transaction work(db_, begin_, commit_);
        for (std::size_t i = 0; i < end; ++i)
            perform(pending_[i]);
        const auto number = end > 0 ? pending_[end - 1].number : in_database_;
        applied_.begin().bind(static_cast<std::int64_t>(number)).step();
        work.commit();
        in_database_ = number;
        return true;
    } catch (const sqlite_error& error) {
        refused(error);
        return false;
    }
}

bool writer::due(bool again) {
    const auto end = batch_end();
    if ((end == 0 && trouble_.empty()) || (!trouble_.empty() && !again) || !transact(end, again))
        return false;
    log_.done(in_database_);
    pending_.erase(pending_.begin(), pending_.begin() + static_cast<std::ptrdiff_t>(end));
    logged_ -= std::min(logged_, end);
    if (!trouble_.empty()) {
        retried += end;
        trouble_.clear();
        spdlog::info("database: it takes writes again");
    }
    records += made_.size();
    for (const auto& profile : std::exchange(profiles_, {}))
        if (on_profile)
            on_profile(profile);
    for (const bool to_ship : std::exchange(made_, {}))
        if (on_record)
            on_record(to_ship);
    return batch_end() != 0;
}

void writer::refused(const sqlite_error& error) {
    ++failures;
    const bool new_trouble = trouble_.empty();
    const char* remedy = error.busy() ? "another program holds its lock: end that program's transaction"
                         : error.full() || !db_.writable() ? "make room on the disk"
                                                           : "see that the disk is well and the file can be written";
    const auto used = log_.size() == 0 ? 100 : 100 - 100 * log_.room() / log_.size();
    trouble_ = fmt::format("the database takes no writes ({}): {}; calls go on, {} writes wait on disk in its log ({} "
                           "% of {} MiB is used), {} in memory alone",
                           error.what(), remedy, logged_, used, log_.size() >> 20, pending_.size() - logged_);
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
    case what::session_put:
        session_put_.begin().bind(op.name).bind(op.key).bind(op.body).step();
        break;
    case what::session_gone:
        session_gone_.begin().bind(op.name).step();
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

} // namespace tandem::store
