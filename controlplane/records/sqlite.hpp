// SPDX-License-Identifier: Apache-2.0
// A thin RAII layer over SQLite: connection, statement with bind and columns. Private to this room.
// Owner thread: io_context. A statement that fails throws `sqlite_error`; database.cpp turns it into a sentence or a
// log line.
#pragma once

#include <cstdint>
#include <span>
#include <sqlite3.h>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace tandem::records {

class sqlite_error : public std::runtime_error {
public:
    explicit sqlite_error(sqlite3* db) : std::runtime_error(sqlite3_errmsg(db)) {}
};

class connection {
public:
    connection() = default;
    ~connection() { sqlite3_close(db_); }
    connection(const connection&) = delete;
    connection& operator=(const connection&) = delete;
    [[nodiscard]] bool open(const std::string& path) {
        return sqlite3_open_v2(path.c_str(), &db_, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, nullptr) == SQLITE_OK;
    }
    void run(const char* sql) {
        if (sqlite3_exec(db_, sql, nullptr, nullptr, nullptr) != SQLITE_OK)
            throw sqlite_error(db_);
    }
    [[nodiscard]] sqlite3* get() const noexcept { return db_; }

private:
    sqlite3* db_ = nullptr;
};

class statement {
public:
    statement(connection& db, std::string_view sql) : db_(db.get()) {
        if (sqlite3_prepare_v2(db_, sql.data(), static_cast<int>(sql.size()), &stmt_, nullptr) != SQLITE_OK)
            throw sqlite_error(db_);
    }
    ~statement() { sqlite3_finalize(stmt_); }
    statement(const statement&) = delete;
    statement& operator=(const statement&) = delete;

    statement& bind(std::string_view text) {
        sqlite3_bind_text(stmt_, ++bound_, text.data(), static_cast<int>(text.size()), SQLITE_TRANSIENT);
        return *this;
    }
    statement& bind(std::int64_t number) {
        sqlite3_bind_int64(stmt_, ++bound_, number);
        return *this;
    }
    statement& bind(std::span<const std::uint8_t> bytes) {
        if (bytes.empty())
            sqlite3_bind_null(stmt_, ++bound_);
        else
            sqlite3_bind_blob(stmt_, ++bound_, bytes.data(), static_cast<int>(bytes.size()), SQLITE_TRANSIENT);
        return *this;
    }
    // True while there is a row.
    bool step() {
        const int result = sqlite3_step(stmt_);
        if (result != SQLITE_ROW && result != SQLITE_DONE)
            throw sqlite_error(db_);
        return result == SQLITE_ROW;
    }
    [[nodiscard]] std::string text(int column) const {
        const auto* bytes = sqlite3_column_text(stmt_, column);
        return bytes == nullptr ? std::string()
                                : std::string(reinterpret_cast<const char*>(bytes),
                                              static_cast<std::size_t>(sqlite3_column_bytes(stmt_, column)));
    }
    [[nodiscard]] std::int64_t number(int column) const { return sqlite3_column_int64(stmt_, column); }
    [[nodiscard]] std::span<const std::uint8_t> bytes(int column) const {
        return {static_cast<const std::uint8_t*>(sqlite3_column_blob(stmt_, column)),
                static_cast<std::size_t>(sqlite3_column_bytes(stmt_, column))};
    }

private:
    sqlite3* db_;
    sqlite3_stmt* stmt_ = nullptr;
    int bound_ = 0;
};

} // namespace tandem::records
