// SPDX-License-Identifier: Apache-2.0
// Transactions over what waits (writer.hpp). Owner thread: io_context.
#include "controlplane/records/writer.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "controlplane/records/record_text.hpp"
#include "controlplane/records/rows.hpp"

namespace tandem::records {

namespace {

constexpr std::size_t most_in_one = 500; // operations a transaction, whole changes: some milliseconds
constexpr int write_patience_ms = 50;    // for another program's lock
constexpr std::int64_t ship_bit = 1 << 8;

// --- a change as bytes, of this machine for this machine ---

void append(std::string& to, std::int64_t number) {
    std::array<char, sizeof number> bytes{};
    std::memcpy(bytes.data(), &number, sizeof number);
    to.append(bytes.data(), bytes.size());
}
void append(std::string& to, const std::string& text) {
    append(to, static_cast<std::int64_t>(text.size()));
    to += text;
}
void append(std::string& to, const operation& op) {
    append(to, static_cast<std::int64_t>(op.kind) | (op.done && op.done->to_ship ? ship_bit : 0));
    append(to, op.key);
    append(to, op.call);
    append(to, op.name);
    append(to, op.extra);
    append(to, op.body);
}

std::int64_t take_number(std::string_view& from) {
    std::int64_t number = 0;
    if (from.size() < sizeof number) {
        from = {};
        return 0;
    }
    std::memcpy(&number, from.data(), sizeof number);
    from.remove_prefix(sizeof number);
    return number;
}
std::string take_text(std::string_view& from) {
    const auto size = std::min(static_cast<std::size_t>(take_number(from)), from.size());
    const std::string text(from.substr(0, size));
    from.remove_prefix(size);
    return text;
}

std::vector<operation> operations_of(std::string_view change) {
    std::vector<operation> all;
    while (!change.empty()) {
        auto& op = all.emplace_back();
        const auto kind = take_number(change);
        op.kind = static_cast<what>(kind & ~ship_bit);
        op.key = take_number(change);
        op.call = take_number(change);
        op.name = take_text(change);
        op.extra = take_text(change);
        op.body = take_text(change);
        if (op.kind != what::record_made)
            continue;
        op.done = std::make_unique<finished>();
        if (auto record = call_record_from_json(op.body))
            *op.done = finished_of(std::move(*record), (kind & ship_bit) != 0);
    }
    if (!all.empty())
        all.back().last = true;
    return all;
}

} // namespace

finished finished_of(call_record record, bool to_ship) {
    finished done;
    done.pair = pair_of(record);
    done.call = past_call_of(record);
    done.to_ship = to_ship;
    record.media.clear();
    record.why.clear();
    done.record = std::move(record);
    return done;
}

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
      applied_(db, "INSERT OR REPLACE INTO fact(name, value) VALUES('applied', ?)"),
      record_(db, "INSERT INTO record(id, ended, call_id, caller, callee, shipped, body) VALUES(?, ?, ?, ?, ?, ?, ?)"
                  " ON CONFLICT(id) DO NOTHING"),
      profile_read_(db, "SELECT body FROM profile WHERE a = ? AND b = ?"),
      profile_write_(db, "INSERT INTO profile(a, b, body, revision) VALUES(?1, ?2, ?3, 1)"
                         " ON CONFLICT(a, b) DO UPDATE SET body = ?3, revision = revision + 1") {}

tl::expected<void, std::string> writer::open_log(const std::string& path) {
    const auto fact = [this](std::string_view name) {
        auto row = once(db_, "SELECT value FROM fact WHERE name = ?");
        return row.bind(name).step() ? static_cast<std::uint64_t>(row.number(0)) : 0;
    };
    once(db_, "INSERT OR IGNORE INTO fact(name, value) VALUES('log', random())").step();
    const auto applied = fact("applied");
    if (auto opened = log_.open(path, fact("log")); !opened)
        return opened;
    numbers_ = applied;
    std::size_t changes = 0;
    log_.read([&](std::uint64_t number, std::string_view change) {
        if (number <= applied)
            return;
        numbers_ = number;
        ++changes;
        for (auto& op : operations_of(change)) {
            op.number = number;
            pending_.push_back(std::move(op));
        }
    });
    logged_ = pending_.size();
    settle();
    if (!pending_.empty())
        return tl::unexpected(fmt::format("the changes in {} do not go into the database: {}", path, trouble_));
    log_.empty();
    if (changes > 0)
        spdlog::info("database: {} changes of the last process were still in {} and are in the database now", changes,
                     path);
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
    if (soon_ && log()) {
        soon_();
        return;
    }
    if (trouble_.empty() || !soon_) // else the timer tries
        settle(!trouble_.empty());
}

// What is complete and not in the log yet. False where the disk takes nothing.
bool writer::log() {
    if (!log_.is_open())
        return false;
    std::string change;
    std::size_t complete = logged_;
    for (std::size_t i = logged_; i < pending_.size(); ++i) {
        append(change, pending_[i]);
        if (!pending_[i].last)
            continue;
        log_.add(pending_[i].number, change);
        change.clear();
        complete = i + 1;
    }
    if (complete == logged_)
        return true;
    if (!log_.write()) {
        ++failures;
        spdlog::error("database: the log in front of it takes no writes: {}", std::strerror(log_.fault()));
        return false;
    }
    logged_ = complete;
    return true;
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
        if (logged_ > 0)
            applied_.begin().bind(static_cast<std::int64_t>(pending_[end - 1].number)).step();
        work.commit();
        return true;
    } catch (const sqlite_error& error) {
        refused(error);
        return false;
    }
}

bool writer::due(bool again) {
    const auto end = batch_end();
    if (end == 0 || (!trouble_.empty() && !again) || !transact(end, again))
        return false;
    pending_.erase(pending_.begin(), pending_.begin() + static_cast<std::ptrdiff_t>(end));
    logged_ -= std::min(logged_, end);
    if (logged_ == 0)
        log_.restart();
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
    const char* remedy = error.busy()   ? "another program holds its lock: end that program's transaction"
                         : error.full() ? "make room on the disk"
                                        : "see that the disk is well and the file can be written";
    trouble_ = fmt::format("the database takes no writes ({}): {}; calls go on, {} writes wait, {} of them in "
                           "memory alone",
                           error.what(), remedy, pending_.size(), pending_.size() - logged_);
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
