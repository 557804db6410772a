// SPDX-License-Identifier: Apache-2.0
// A thin RAII layer over SQLite: connection, statements that are prepared once and kept, a cursor over one that is at
// work, a transaction. Private to this room. What fails throws `sqlite_error`; the room's public faces turn it into a
// sentence or keep the write for later. Owner thread: the connection's.
#pragma once

#include <cstdint>
#include <set>
#include <span>
#include <sqlite3.h>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace tandem::store {

class sqlite_error : public std::runtime_error {
public:
    explicit sqlite_error(sqlite3* db) : std::runtime_error(sqlite3_errmsg(db)), code_(sqlite3_errcode(db)) {}
    [[nodiscard]] bool busy() const noexcept { return code_ == SQLITE_BUSY || code_ == SQLITE_LOCKED; }
    [[nodiscard]] bool full() const noexcept { return code_ == SQLITE_FULL; }

private:
    int code_;
};

class connection {
public:
    // to_read: a file on a disk that takes no writes, what SQLite needs beside it is kept in memory. frozen: likewise,
    // where even its WAL is missing.
    enum class way { to_write, to_read, frozen };

    connection() = default;
    ~connection() { close(); }
    connection(const connection&) = delete;
    connection& operator=(const connection&) = delete;
    [[nodiscard]] bool open(const std::string& path, way how = way::to_write) {
        const int flags = how == way::to_write ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY;
        const auto name = how == way::to_write
                              ? path
                              : "file:" + escaped(path) + (how == way::to_read ? "?readonly_shm=1" : "?immutable=1");
        close();
        ++opened_;
        how_ = how;
        return sqlite3_open_v2(name.c_str(), &db_, flags | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX, nullptr) == SQLITE_OK;
    }
    [[nodiscard]] bool writable() const noexcept { return how_ == way::to_write; }
    [[nodiscard]] unsigned opened() const noexcept { return opened_; } // how many times
    void close() {
        for (auto** one : kept_) // else it would live on, with its locks
            sqlite3_finalize(std::exchange(*one, nullptr));
        kept_.clear();
        sqlite3_close_v2(std::exchange(db_, nullptr));
    }
    // A statement that goes with the connection, at the latest.
    void keep(sqlite3_stmt** one) { kept_.insert(one); }
    void let_go(sqlite3_stmt** one) {
        if (kept_.erase(one) > 0)
            sqlite3_finalize(*one);
    }
    void run(const char* sql) {
        if (sqlite3_exec(db_, sql, nullptr, nullptr, nullptr) != SQLITE_OK)
            throw sqlite_error(db_);
    }
    [[nodiscard]] sqlite3* get() const noexcept { return db_; }

private:
    static std::string escaped(const std::string& path) { // for a URI
        std::string text;
        for (const char c : path) {
            if (c == '%' || c == '?' || c == '#')
                text += c == '%' ? "%25" : c == '?' ? "%3f" : "%23";
            else
                text += c;
        }
        return text;
    }
    sqlite3* db_ = nullptr;
    std::set<sqlite3_stmt**> kept_;
    unsigned opened_ = 0;
    way how_ = way::to_write;
};

// A statement at work: bind, step, read. Gives the statement back when it goes, so that no read stays open.
class cursor {
public:
    cursor(sqlite3* db, sqlite3_stmt* prepared, bool keep) : db_(db), stmt_(prepared), keep_(keep) {}
    ~cursor() {
        if (keep_)
            sqlite3_reset(stmt_);
        else
            sqlite3_finalize(stmt_);
    }
    cursor(const cursor&) = delete;
    cursor& operator=(const cursor&) = delete;

    cursor& bind(std::string_view text) {
        return ok(sqlite3_bind_text(stmt_, ++bound_, text.data(), static_cast<int>(text.size()), SQLITE_TRANSIENT));
    }
    cursor& bind(std::int64_t number) { return ok(sqlite3_bind_int64(stmt_, ++bound_, number)); }
    cursor& bind_null() { return ok(sqlite3_bind_null(stmt_, ++bound_)); }
    cursor& bind(std::span<const std::uint8_t> bytes) {
        if (bytes.empty())
            return bind_null();
        return ok(sqlite3_bind_blob(stmt_, ++bound_, bytes.data(), static_cast<int>(bytes.size()), SQLITE_TRANSIENT));
    }
    // True while there is a row.
    bool step() {
        const int result = sqlite3_step(stmt_);
        if (result != SQLITE_ROW && result != SQLITE_DONE)
            throw sqlite_error(db_);
        return result == SQLITE_ROW;
    }
    [[nodiscard]] bool null(int column) const { return sqlite3_column_type(stmt_, column) == SQLITE_NULL; }
    [[nodiscard]] std::string_view view(int column) const { // until the next step
        const auto* bytes = sqlite3_column_text(stmt_, column);
        return bytes == nullptr ? std::string_view()
                                : std::string_view(reinterpret_cast<const char*>(bytes),
                                                   static_cast<std::size_t>(sqlite3_column_bytes(stmt_, column)));
    }
    [[nodiscard]] std::string text(int column) const { return std::string(view(column)); }
    [[nodiscard]] std::int64_t number(int column) const { return sqlite3_column_int64(stmt_, column); }
    [[nodiscard]] std::span<const std::uint8_t> bytes(int column) const {
        return {static_cast<const std::uint8_t*>(sqlite3_column_blob(stmt_, column)),
                static_cast<std::size_t>(sqlite3_column_bytes(stmt_, column))};
    }

private:
    cursor& ok(int result) {
        if (result != SQLITE_OK)
            throw sqlite_error(db_);
        return *this;
    }
    sqlite3* db_;
    sqlite3_stmt* stmt_;
    bool keep_;
    int bound_ = 0;
};

inline sqlite3_stmt* prepare(connection& db, std::string_view sql, unsigned flags) {
    sqlite3_stmt* made = nullptr;
    if (sqlite3_prepare_v3(db.get(), sql.data(), static_cast<int>(sql.size()), flags, &made, nullptr) != SQLITE_OK)
        throw sqlite_error(db.get());
    return made;
}

// For what is asked seldom.
inline cursor once(connection& db, std::string_view sql) {
    return {db.get(), prepare(db, sql, 0), false};
}

// Prepared at first use and kept, as long as the connection is not opened again. `sql` is a literal.
class statement {
public:
    statement(connection& db, const char* sql) : db_(db), sql_(sql) {}
    ~statement() { db_.let_go(&stmt_); }
    statement(const statement&) = delete;
    statement& operator=(const statement&) = delete;
    [[nodiscard]] cursor begin() {
        if (stmt_ == nullptr) {
            stmt_ = prepare(db_, sql_, SQLITE_PREPARE_PERSISTENT);
            db_.keep(&stmt_);
        }
        return {db_.get(), stmt_, true};
    }

private:
    connection& db_;
    const char* sql_;
    sqlite3_stmt* stmt_ = nullptr;
};

// Rolled back unless committed. SQLite may have rolled back by itself (disk full, I/O error).
class transaction {
public:
    transaction(connection& db, statement& begin, statement& commit) : db_(db), commit_(commit) {
        begin.begin().step();
    }
    ~transaction() {
        if (!done_ && sqlite3_get_autocommit(db_.get()) == 0)
            sqlite3_exec(db_.get(), "ROLLBACK", nullptr, nullptr, nullptr);
    }
    transaction(const transaction&) = delete;
    transaction& operator=(const transaction&) = delete;
    void commit() {
        commit_.begin().step();
        done_ = true;
    }

private:
    connection& db_;
    statement& commit_;
    bool done_ = false;
};

} // namespace tandem::store
