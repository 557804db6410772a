// SPDX-License-Identifier: Apache-2.0
// Schema steps. A step never changes once it was released: a new one is added.
#include "controlplane/store/local/schema.hpp"

#include <array>
#include <fmt/format.h>
#include <unordered_map>
#include <vector>

#include "controlplane/store/local/database.hpp"
#include "controlplane/store/record_text.hpp"
#include "controlplane/store/rows.hpp"

namespace tandem::store {

namespace {

constexpr const char* tables_1 = R"(
CREATE TABLE IF NOT EXISTS unit (id TEXT PRIMARY KEY, psk BLOB, comment TEXT NOT NULL, created INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS session (unit TEXT PRIMARY KEY, tsid INTEGER NOT NULL, inner TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS call (id TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS media (id INTEGER PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS record (n INTEGER PRIMARY KEY, ended INTEGER NOT NULL, call_id TEXT NOT NULL, body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS record_ended ON record(ended);
CREATE TABLE IF NOT EXISTS fact (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
)";

// call.n tells two calls of one Call-ID apart; media and ended media refer to it. record.shipped: NULL = stays here,
// 0 = waits for the shared store, else when it got there.
constexpr const char* calls_2 = R"(
CREATE TABLE call (n INTEGER PRIMARY KEY, id TEXT NOT NULL, record TEXT NOT NULL, body TEXT NOT NULL, ended TEXT);
CREATE TABLE media (id INTEGER PRIMARY KEY, call INTEGER NOT NULL, body TEXT NOT NULL);
CREATE TABLE media_over (call INTEGER NOT NULL, n INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (call, n)) WITHOUT ROWID;
CREATE TABLE record (n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, ended INTEGER NOT NULL, call_id TEXT NOT NULL,
                     caller TEXT NOT NULL, callee TEXT NOT NULL, shipped INTEGER, body TEXT NOT NULL);
CREATE INDEX record_ended ON record(ended);
CREATE INDEX record_shipped ON record(shipped) WHERE shipped IS NOT NULL;
)";

// `revision` is how a profile written by this program is told from one written by others: only ours counts it up.
constexpr const char* policy_2 = R"(
CREATE TABLE writer (one INTEGER PRIMARY KEY CHECK (one = 1), who TEXT);
INSERT INTO writer VALUES (1, NULL);
CREATE TABLE rule (
    address TEXT PRIMARY KEY NOT NULL, level TEXT NOT NULL,
    keygen TEXT CHECK (keygen IN ('gateway', 'device', 'both')), path TEXT CHECK (path IN ('either', 'wlan', 'wwan')),
    comment TEXT NOT NULL DEFAULT '') WITHOUT ROWID;
CREATE TABLE rule_change (
    n INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, who TEXT NOT NULL, removed INTEGER NOT NULL,
    address TEXT NOT NULL, level TEXT NOT NULL, keygen TEXT, path TEXT, comment TEXT NOT NULL);
CREATE TRIGGER rule_inserted AFTER INSERT ON rule BEGIN
    INSERT INTO rule_change(at, who, removed, address, level, keygen, path, comment)
    SELECT round((julianday('now') - 2440587.5) * 86400000), coalesce((SELECT who FROM writer), 'directly'), 0,
           NEW.address, NEW.level, NEW.keygen, NEW.path, NEW.comment;
END;
CREATE TRIGGER rule_deleted AFTER DELETE ON rule BEGIN
    INSERT INTO rule_change(at, who, removed, address, level, keygen, path, comment)
    SELECT round((julianday('now') - 2440587.5) * 86400000), coalesce((SELECT who FROM writer), 'directly'), 1,
           OLD.address, OLD.level, OLD.keygen, OLD.path, OLD.comment;
END;
CREATE TRIGGER rule_moved AFTER UPDATE ON rule WHEN OLD.address <> NEW.address BEGIN
    INSERT INTO rule_change(at, who, removed, address, level, keygen, path, comment)
    SELECT round((julianday('now') - 2440587.5) * 86400000), coalesce((SELECT who FROM writer), 'directly'), 1,
           OLD.address, OLD.level, OLD.keygen, OLD.path, OLD.comment;
    INSERT INTO rule_change(at, who, removed, address, level, keygen, path, comment)
    SELECT round((julianday('now') - 2440587.5) * 86400000), coalesce((SELECT who FROM writer), 'directly'), 0,
           NEW.address, NEW.level, NEW.keygen, NEW.path, NEW.comment;
END;
CREATE TRIGGER rule_updated AFTER UPDATE ON rule WHEN OLD.address = NEW.address AND (OLD.level <> NEW.level OR
    OLD.comment <> NEW.comment OR OLD.keygen IS NOT NEW.keygen OR OLD.path IS NOT NEW.path) BEGIN
    INSERT INTO rule_change(at, who, removed, address, level, keygen, path, comment)
    SELECT round((julianday('now') - 2440587.5) * 86400000), coalesce((SELECT who FROM writer), 'directly'), 0,
           NEW.address, NEW.level, NEW.keygen, NEW.path, NEW.comment;
END;
CREATE TABLE profile (a TEXT NOT NULL, b TEXT NOT NULL, body TEXT NOT NULL, revision INTEGER NOT NULL DEFAULT 0,
                      PRIMARY KEY (a, b)) WITHOUT ROWID;
CREATE TABLE profile_change (n INTEGER PRIMARY KEY AUTOINCREMENT, a TEXT NOT NULL, b TEXT NOT NULL);
CREATE TRIGGER profile_inserted AFTER INSERT ON profile WHEN NEW.revision = 0 BEGIN
    INSERT INTO profile_change(a, b) VALUES (NEW.a, NEW.b);
END;
CREATE TRIGGER profile_updated AFTER UPDATE ON profile WHEN NEW.revision = OLD.revision BEGIN
    INSERT INTO profile_change(a, b) VALUES (OLD.a, OLD.b);
    INSERT INTO profile_change(a, b) VALUES (NEW.a, NEW.b);
END;
CREATE TRIGGER profile_deleted AFTER DELETE ON profile BEGIN
    INSERT INTO profile_change(a, b) VALUES (OLD.a, OLD.b);
END;
)";

void step_1(connection& db, const std::string& /*instance*/) {
    db.run(tables_1);
}

// Live calls get their record's id, live media their call's number; a media whose call is gone a number of its own.
void calls_of_1(connection& db) {
    std::unordered_map<std::string, std::int64_t> numbers;
    std::int64_t last = 0;
    for (auto old = once(db, "SELECT id, body FROM call_1"); old.step();) {
        numbers[old.text(0)] = ++last;
        once(db, "INSERT INTO call(n, id, record, body) VALUES(?, ?, ?, ?)")
            .bind(last)
            .bind(old.view(0))
            .bind(new_record_id())
            .bind(old.view(1))
            .step();
    }
    for (auto old = once(db, "SELECT id, body FROM media_1"); old.step();) {
        const auto row = media_row_from_json(old.view(1));
        if (!row)
            continue; // of no use: nobody could read it before, either
        auto& number = numbers[row->call_id];
        if (number == 0)
            number = ++last;
        once(db, "INSERT INTO media(id, call, body) VALUES(?, ?, ?)")
            .bind(old.number(0))
            .bind(number)
            .bind(old.view(1))
            .step();
    }
}

// One row per ended media was kept: those of one call, written one after another, become its record.
void records_of_1(connection& db, const std::string& instance) {
    call_record call;
    const auto put = [&] {
        if (call.media.empty())
            return;
        call.id = new_record_id();
        call.instance = instance;
        once(db, "INSERT INTO record(id, ended, call_id, caller, callee, body) VALUES(?, ?, ?, ?, ?, ?)")
            .bind(call.id)
            .bind(in_ms(call.ended))
            .bind(call.call_id)
            .bind(call.caller)
            .bind(call.callee)
            .bind(to_json(call))
            .step();
        call = {};
    };
    for (auto old = once(db, "SELECT body FROM record_1 ORDER BY call_id, n"); old.step();) {
        auto media = media_record_from_json(old.view(0));
        if (!media)
            continue;
        const bool same = !call.media.empty() && call.call_id == media->call_id && media->opened.wall < call.ended &&
                          call.started <= media->ended.wall;
        if (!same) {
            put();
            call.call_id = media->call_id;
            call.caller = media->caller;
            call.callee = media->callee;
            call.level = media->level.name;
            call.started = media->opened.wall;
        }
        call.started = std::min(call.started, media->opened.wall);
        call.ended = std::max(call.ended, media->ended.wall);
        call.cause = media->cause;
        if (media->answered.was() && (!call.was_answered() || media->answered.wall < call.answered))
            call.answered = media->answered.wall;
        call.media.push_back(std::move(*media));
    }
    put();
}

void step_2(connection& db, const std::string& instance) {
    db.run(
        "ALTER TABLE call RENAME TO call_1; ALTER TABLE media RENAME TO media_1; ALTER TABLE record RENAME TO record_1;"
        "DROP INDEX record_ended;");
    db.run(calls_2);
    db.run(policy_2);
    calls_of_1(db);
    records_of_1(db, instance);
    db.run("DROP TABLE call_1; DROP TABLE media_1; DROP TABLE record_1;");
}

// unit.spki: the public key that the unit's certificate must have. unit_gone: removed ones of which there may still be
// certificates. unit_name: names under which a unit speaks beside its id code; a name is one unit's.
void step_3(connection& db, const std::string& /*instance*/) {
    db.run("ALTER TABLE unit ADD COLUMN spki BLOB; CREATE TABLE unit_gone (id TEXT PRIMARY KEY NOT NULL) WITHOUT ROWID;"
           "CREATE TABLE unit_name (name TEXT PRIMARY KEY, unit TEXT NOT NULL) WITHOUT ROWID;"
           "CREATE INDEX unit_name_unit ON unit_name(unit);");
}

constexpr std::array steps{step_1, step_2, step_3};
static_assert(steps.size() == schema_version);

} // namespace

int schema_of(connection& db) {
    auto query = once(db, "PRAGMA user_version");
    return query.step() ? static_cast<int>(query.number(0)) : 0;
}

tl::expected<void, std::string> bring_up(connection& db, const std::string& path, const std::string& instance) {
    if (schema_of(db) == schema_version)
        return {}; // nothing is written: the disk may be full
    for (;;) {
        db.run("BEGIN IMMEDIATE");
        const int version = schema_of(db);
        if (version >= schema_version || version < 0) {
            db.run("COMMIT");
            if (version == schema_version)
                return {};
            return tl::unexpected(
                fmt::format("database {} has schema {}, this program knows {}: run a newer tandem-controlplane", path,
                            version, schema_version));
        }
        steps[static_cast<std::size_t>(version)](db, instance);
        db.run(fmt::format("PRAGMA user_version = {}", version + 1).c_str());
        db.run("COMMIT");
    }
}

} // namespace tandem::store
