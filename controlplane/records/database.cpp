// SPDX-License-Identifier: Apache-2.0
// SQLite store: schema, units, and the stores of other rooms as adapters over one connection. Owner thread: io_context.
#include "controlplane/records/database.hpp"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include "controlplane/records/rows.hpp"
#include "controlplane/records/sqlite.hpp"

namespace tandem::records {

namespace {

constexpr const char* schema = R"(
CREATE TABLE IF NOT EXISTS unit (id TEXT PRIMARY KEY, psk BLOB, comment TEXT NOT NULL, created INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS session (unit TEXT PRIMARY KEY, tsid INTEGER NOT NULL, inner TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS call (id TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS media (id INTEGER PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS record (n INTEGER PRIMARY KEY, ended INTEGER NOT NULL, call_id TEXT NOT NULL, body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS record_ended ON record(ended);
CREATE TABLE IF NOT EXISTS fact (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
)";

bool valid_id(const std::string& id) {
    return !id.empty() && id.size() <= 64 && std::ranges::all_of(id, [](char c) {
        return std::isalnum(static_cast<unsigned char>(c)) != 0 || std::strchr("._-+@:", c) != nullptr;
    });
}

std::string psk_context(std::string_view id) {
    return fmt::format("psk:{}", id);
}

} // namespace

// One place where a refused statement is counted and said: the caller goes on without.
struct store_base {
    connection& db;
    std::uint64_t& failures;
    template <class Work>
    auto guarded(const char* what, Work&& work) -> decltype(work()) {
        try {
            return work();
        } catch (const sqlite_error& error) {
            ++failures;
            spdlog::error("database: {} failed: {}; is the disk full or the file read-only?", what, error.what());
            return decltype(work())();
        }
    }
};

struct identity_rows final : identity::psk_store, store_base {
    identity_rows(connection& c, std::uint64_t& f, identity::sealer& k) : store_base{c, f}, keys(k) {}
    std::optional<protocol::secret> psk(std::string_view id_code) override {
        return guarded("reading a unit", [&]() -> std::optional<protocol::secret> {
            statement query(db, "SELECT psk FROM unit WHERE id = ?");
            if (!query.bind(id_code).step() || query.bytes(0).empty())
                return std::nullopt;
            auto key = keys.unseal(query.bytes(0), psk_context(id_code));
            if (!key)
                spdlog::error("the key of unit {} does not open: is master_key_file the one that sealed it?", id_code);
            return key;
        });
    }
    bool known(std::string_view id_code) override {
        return guarded("reading a unit", [&] {
            statement query(db, "SELECT 1 FROM unit WHERE id = ?");
            return query.bind(id_code).step();
        });
    }
    identity::sealer& keys;
};

struct session_rows final : session::session_store, store_base {
    session_rows(connection& c, std::uint64_t& f) : store_base{c, f} {}
    std::vector<session::stored_session> load() override {
        return guarded("reading sessions", [&] {
            std::vector<session::stored_session> rows;
            statement query(db, "SELECT unit, tsid, inner FROM session");
            while (query.step()) {
                session::stored_session row{query.text(0), static_cast<session::tsid>(query.number(1)), {}};
                const auto list = query.text(2);
                for (std::size_t at = 0; at < list.size();) {
                    const auto end = std::min(list.find(' ', at), list.size());
                    asio::error_code bad;
                    const auto address = asio::ip::make_address(list.substr(at, end - at), bad);
                    if (!bad)
                        row.inner.push_back(address);
                    at = end + 1;
                }
                rows.push_back(std::move(row));
            }
            return rows;
        });
    }
    void save(const session::stored_session& row) override {
        guarded("saving a session", [&] {
            std::string inner;
            for (const auto& address : row.inner)
                inner += (inner.empty() ? "" : " ") + address.to_string();
            statement write(db, "INSERT OR REPLACE INTO session(unit, tsid, inner) VALUES(?, ?, ?)");
            write.bind(row.unit).bind(static_cast<std::int64_t>(row.id)).bind(inner).step();
        });
    }
    void forget(const std::string& unit) override {
        guarded("forgetting a session", [&] { statement(db, "DELETE FROM session WHERE unit = ?").bind(unit).step(); });
    }
};

struct call_rows final : callcontrol::call_store, store_base {
    call_rows(connection& c, std::uint64_t& f) : store_base{c, f} {}
    void put(const std::string& call_id, const std::string& json) override {
        guarded("saving a call", [&] {
            statement(db, "INSERT OR REPLACE INTO call(id, body) VALUES(?, ?)").bind(call_id).bind(json).step();
        });
    }
    void end(const callcontrol::ended_call& call) override { erase(call.call_id); }
    void erase(const std::string& call_id) override {
        guarded("erasing a call", [&] { statement(db, "DELETE FROM call WHERE id = ?").bind(call_id).step(); });
    }
    std::vector<std::pair<std::string, std::string>> load_all() override {
        return guarded("reading calls", [&] {
            std::vector<std::pair<std::string, std::string>> rows;
            statement query(db, "SELECT id, body FROM call");
            while (query.step())
                rows.emplace_back(query.text(0), query.text(1));
            return rows;
        });
    }
};

struct media_rows final : media::journal, store_base {
    media_rows(connection& c, std::uint64_t& f) : store_base{c, f} {}
    void put(const media::media_row& row) override {
        guarded("saving a media", [&] {
            statement(db, "INSERT OR REPLACE INTO media(id, body) VALUES(?, ?)")
                .bind(std::int64_t{row.id})
                .bind(to_json(row))
                .step();
        });
    }
    void erase(media::media_id id) override {
        guarded("erasing a media",
                [&] { statement(db, "DELETE FROM media WHERE id = ?").bind(std::int64_t{id}).step(); });
    }
    std::vector<media::media_row> load() override {
        return guarded("reading media", [&] {
            std::vector<media::media_row> rows;
            statement query(db, "SELECT body FROM media");
            while (query.step()) {
                if (auto row = media_row_from_json(query.text(0)))
                    rows.push_back(std::move(*row));
                else
                    spdlog::warn("database: a media row cannot be read and is left out");
            }
            return rows;
        });
    }
    void record(const media::media_record& ended) override {
        guarded("writing a record", [&] {
            const auto when = std::chrono::duration_cast<std::chrono::seconds>(ended.ended.time_since_epoch()).count();
            statement(db, "INSERT INTO record(ended, call_id, body) VALUES(?, ?, ?)")
                .bind(std::int64_t{when})
                .bind(ended.call_id)
                .bind(to_json(ended))
                .step();
        });
    }
    void set_generation(std::uint64_t generation) override {
        guarded("saving the generation", [&] {
            statement(db, "INSERT OR REPLACE INTO fact(name, value) VALUES('generation', ?)")
                .bind(static_cast<std::int64_t>(generation))
                .step();
        });
    }
    std::uint64_t generation() override {
        return guarded("reading the generation", [&]() -> std::uint64_t {
            statement query(db, "SELECT value FROM fact WHERE name = 'generation'");
            return query.step() ? static_cast<std::uint64_t>(query.number(0)) : 0;
        });
    }
};

struct database::impl : store_base {
    explicit impl(identity::sealer k)
        : store_base{link, failed}, keys(std::move(k)), identities(link, failed, keys), sessions(link, failed),
          calls(link, failed), media(link, failed) {}
    connection link;
    std::uint64_t failed = 0;
    identity::sealer keys;
    identity_rows identities;
    session_rows sessions;
    call_rows calls;
    media_rows media;
};

database::database(std::unique_ptr<impl> made) : impl_(std::move(made)) {}
database::~database() = default;

identity::psk_store& database::identities() noexcept {
    return impl_->identities;
}
session::session_store& database::sessions() noexcept {
    return impl_->sessions;
}
callcontrol::call_store& database::calls() noexcept {
    return impl_->calls;
}
media::journal& database::media() noexcept {
    return impl_->media;
}
std::uint64_t database::failures() const noexcept {
    return impl_->failed;
}

tl::expected<std::unique_ptr<database>, std::string> database::open(const std::string& path, identity::sealer keys,
                                                                    database_options /*options*/) {
    const auto parent = std::filesystem::path(path).parent_path();
    std::error_code ignored;
    if (!parent.empty())
        std::filesystem::create_directories(parent, ignored);
    const auto before = ::umask(0077);
    auto made = std::make_unique<impl>(std::move(keys));
    const bool opened = made->link.open(path);
    ::umask(before);
    if (!opened)
        return tl::unexpected(
            fmt::format("database {} cannot be opened ({}): check `database` in controlplane.toml and the "
                        "directory's owner",
                        path, sqlite3_errmsg(made->link.get())));
    try {
        sqlite3_busy_timeout(made->link.get(), 2000);
        // A process killed at any point loses nothing; a power cut may lose the last moments, never consistency.
        made->link.run("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA secure_delete = ON;");
        int version = 0;
        {
            statement query(made->link, "PRAGMA user_version");
            version = query.step() ? static_cast<int>(query.number(0)) : 0;
        }
        if (version > 1)
            return tl::unexpected(fmt::format(
                "database {} has schema {}, this program knows {}: run a newer tandem-controlplane", path, version, 1));
        made->link.run("BEGIN IMMEDIATE");
        made->link.run(schema);
        made->link.run(fmt::format("PRAGMA user_version = {}", 1).c_str());
        made->link.run("COMMIT");
    } catch (const sqlite_error& error) {
        return tl::unexpected(fmt::format("database {} cannot be used: {}", path, error.what()));
    }
    ::chmod(path.c_str(), 0600);
    return std::unique_ptr<database>(new database(std::move(made)));
}

tl::expected<void, std::string> database::add_unit(const std::string& id, std::span<const std::uint8_t> psk,
                                                   const std::string& comment) {
    if (!valid_id(id))
        return tl::unexpected(std::string("a unit's id has 1 to 64 letters, digits or . _ - + @ :"));
    if (!psk.empty() && (psk.size() < 16 || psk.size() > 64))
        return tl::unexpected(fmt::format("a pre-shared key has 16 to 64 bytes, not {}", psk.size()));
    if (comment.size() > 200)
        return tl::unexpected(std::string("a comment has at most 200 bytes"));
    if (find_unit(id))
        return tl::unexpected(fmt::format("unit {} is there already: remove it first, or choose another id", id));
    std::vector<std::uint8_t> sealed;
    if (!psk.empty()) {
        sealed = impl_->keys.seal(psk, psk_context(id));
        if (sealed.empty())
            return tl::unexpected(std::string("the key could not be sealed (OpenSSL failed)"));
    }
    const auto now =
        std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
    const bool done = impl_->guarded("adding a unit", [&] {
        statement(impl_->link, "INSERT INTO unit(id, psk, comment, created) VALUES(?, ?, ?, ?)")
            .bind(id)
            .bind(std::span<const std::uint8_t>(sealed))
            .bind(comment)
            .bind(std::int64_t{now})
            .step();
        return true;
    });
    if (!done)
        return tl::unexpected(std::string("the unit could not be written: see the log"));
    return {};
}

bool database::remove_unit(const std::string& id) {
    return impl_->guarded("removing a unit", [&] {
        statement(impl_->link, "DELETE FROM unit WHERE id = ?").bind(id).step();
        const bool removed = sqlite3_changes(impl_->link.get()) == 1;
        statement(impl_->link, "DELETE FROM session WHERE unit = ?").bind(id).step();
        return removed;
    });
}

std::vector<unit> database::units() {
    return impl_->guarded("reading units", [&] {
        std::vector<unit> rows;
        statement query(impl_->link, "SELECT id, comment, created, psk IS NOT NULL FROM unit ORDER BY id");
        while (query.step())
            rows.push_back({query.text(0), query.text(1), query.number(2), query.number(3) != 0});
        return rows;
    });
}

std::optional<unit> database::find_unit(const std::string& id) {
    return impl_->guarded("reading a unit", [&]() -> std::optional<unit> {
        statement query(impl_->link, "SELECT id, comment, created, psk IS NOT NULL FROM unit WHERE id = ?");
        if (!query.bind(id).step())
            return std::nullopt;
        return unit{query.text(0), query.text(1), query.number(2), query.number(3) != 0};
    });
}

std::size_t database::unit_count() {
    return impl_->guarded("counting units", [&] {
        statement query(impl_->link, "SELECT count(*) FROM unit");
        return query.step() ? static_cast<std::size_t>(query.number(0)) : std::size_t{0};
    });
}

std::vector<media::media_record> database::ended(std::size_t limit) {
    return impl_->guarded("reading records", [&] {
        std::vector<media::media_record> rows;
        statement query(impl_->link, "SELECT body FROM record ORDER BY n DESC LIMIT ?");
        query.bind(static_cast<std::int64_t>(limit));
        while (query.step())
            if (auto row = media_record_from_json(query.text(0)))
                rows.push_back(std::move(*row));
        return rows;
    });
}

} // namespace tandem::records
