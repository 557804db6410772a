// SPDX-License-Identifier: Apache-2.0
// One connection to PostgreSQL for a thread that may wait, but never for long: libpq without blocking, poll with
// time-outs, and an end at once when the program ends or another thread learnt that the server does not answer.
// Private to this room. Owner thread: the one that made it. What fails throws `pg_error`; the threads' loops
// (postgres.cpp) turn it into sentences.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <libpq-fe.h>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::store {

class pg_error : public std::runtime_error {
public:
    explicit pg_error(const std::string& text, std::string sqlstate = {})
        : std::runtime_error(text), state(std::move(sqlstate)) {}
    std::string state; // five characters where the server refused a statement, else empty: the connection is lost
    [[nodiscard]] bool lost() const noexcept { return state.empty(); }
};

struct pg_stopped {}; // thrown where the program ends

// What ends a wait early. Shared by the threads; any thread may call it.
class interrupt {
public:
    interrupt();
    ~interrupt();
    interrupt(const interrupt&) = delete;
    interrupt& operator=(const interrupt&) = delete;
    void stop() noexcept;
    [[nodiscard]] bool stopping() const noexcept { return stopping_.load(); }
    [[nodiscard]] int descriptor() const noexcept { return descriptor_; }
    // Sleeps; throws pg_stopped.
    void sleep(std::chrono::milliseconds time) const;

    std::atomic<bool> away{true};        // the watcher has no answer from the server
    std::atomic<unsigned> first_host{0}; // of several in conninfo, the one that is asked first
    std::atomic<std::uint64_t> life{0};  // counts the watcher's connections: an older one of the worker is of no use

private:
    int descriptor_;
    std::atomic<bool> stopping_{false};
};

class pg_result {
public:
    explicit pg_result(PGresult* taken) : result_(taken, PQclear) {}
    [[nodiscard]] int rows() const noexcept { return PQntuples(result_.get()); }
    [[nodiscard]] bool null(int row, int column) const noexcept { return PQgetisnull(result_.get(), row, column) != 0; }
    [[nodiscard]] std::string text(int row, int column) const {
        return {PQgetvalue(result_.get(), row, column),
                static_cast<std::size_t>(PQgetlength(result_.get(), row, column))};
    }
    [[nodiscard]] std::int64_t number(int row, int column) const;
    [[nodiscard]] std::size_t affected() const;
    [[nodiscard]] PGresult* get() const noexcept { return result_.get(); }

private:
    std::unique_ptr<PGresult, decltype(&PQclear)> result_;
};

struct notification {
    std::string channel, payload;
};

class pg_link {
public:
    using clock = std::chrono::steady_clock;
    // heeds_watcher: gives up as soon as interrupt.away is set.
    pg_link(interrupt& ends, bool heeds_watcher) : ends_(ends), heeds_(heeds_watcher) {}

    // Of several hosts the `first`th is tried first: libpq gives each all the time it wants, `limit` is for all.
    void connect(const std::string& conninfo, const std::string& name, std::chrono::milliseconds limit,
                 unsigned first = 0);
    void close() noexcept { link_.reset(); }
    [[nodiscard]] bool open() const noexcept { return link_ != nullptr; }
    // How long the server may be quiet while it owes something; each byte that comes begins anew.
    void patience(std::chrono::milliseconds quiet) noexcept { quiet_ = quiet; }

    // One statement with text parameters ($1...), or several without.
    pg_result run(const char* sql, std::initializer_list<std::string_view> parameters = {});
    pg_result run(const char* sql, const std::vector<std::string>& parameters);
    void script(const std::string& statements); // several, separated by ;
    // COPY ... TO STDOUT in text form; the columns are unescaped. No column may be null: coalesce.
    using copy_row = std::vector<std::string>;
    void copy_out(const char* sql, const std::function<void(copy_row&)>& row);
    // Waits until something is heard or the time is over.
    std::vector<notification> listen(std::chrono::milliseconds time);

private:
    std::unique_ptr<PGconn, decltype(&PQfinish)> link_{nullptr, PQfinish};
    interrupt& ends_;
    bool heeds_;
    std::chrono::milliseconds quiet_{5000};

    // True: the socket is ready for one of `events`; false: the time is over.
    bool ready(short events, clock::time_point until);
    void send_all(clock::time_point until);
    void await_result();
    pg_result last_result();
    pg_result send(const char* sql, int count, const char* const* values);
    [[noreturn]] void lose(const std::string& why);
    [[nodiscard]] std::string words() const;
};

// "a,b,c" beginning with the `by`th: "b,c,a". Empty where there is nothing to choose.
[[nodiscard]] std::string rotated(std::string_view list, unsigned by);

// libpq's words without its advice, which follows in further lines.
[[nodiscard]] std::string first_line(std::string_view text);

} // namespace tandem::store
