// SPDX-License-Identifier: Apache-2.0
// For this room's tests: a database in a directory of its own, opened again as another process would, rows of calls,
// a second connection as the sqlite3 shell has it, coroutines run to their end.
#pragma once

#include <array>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/io_context.hpp>
#include <filesystem>
#include <gtest/gtest.h>
#include <optional>
#include <unistd.h>

#include "controlplane/store/local/database.hpp"
#include "controlplane/store/local/rule_store.hpp"
#include "controlplane/store/local/sqlite.hpp"

namespace tandem::store {

using namespace std::chrono_literals;
using moment = std::chrono::system_clock::time_point;

inline moment at(std::int64_t seconds) {
    return moment(std::chrono::seconds(1'790'000'000 + seconds));
}

struct calls_fixture : testing::Test {
    calls_fixture() {
        char name[] = "/tmp/tandem-records-XXXXXX";
        dir = ::mkdtemp(name);
        options.instance = "gw-1";
    }
    ~calls_fixture() override {
        db.reset();
        std::filesystem::remove_all(dir);
    }
    [[nodiscard]] std::string file() const { return dir + "/t.db"; }
    tl::expected<void, std::string> try_open() {
        db.reset();
        auto keys = identity::sealer::open(dir + "/master.key");
        if (!keys)
            return tl::unexpected(keys.error());
        auto made = database::open(file(), std::move(*keys), options);
        if (!made)
            return tl::unexpected(made.error());
        db = std::move(*made);
        return {};
    }
    void open() {
        const auto opened = try_open();
        ASSERT_TRUE(opened) << opened.error();
    }

    template <class Value>
    Value wait(asio::awaitable<Value> work) {
        std::optional<Value> result;
        asio::co_spawn(
            io, [&]() -> asio::awaitable<void> { result = co_await std::move(work); }, asio::detached);
        io.restart();
        while (!result)
            io.run_one();
        return std::move(*result);
    }
    std::vector<call_record> records(record_query what = {}) {
        auto found = wait(db->records().find(std::move(what)));
        EXPECT_TRUE(found) << found.error();
        return found.value_or(std::vector<call_record>());
    }
    // As the sqlite3 shell.
    void by_another(const char* sql) const {
        connection other;
        ASSERT_TRUE(other.open(file()));
        sqlite3_busy_timeout(other.get(), 2000);
        ASSERT_NO_THROW(other.run(sql));
    }
    [[nodiscard]] std::int64_t number(const char* sql) const {
        connection other;
        EXPECT_TRUE(other.open(file()));
        auto row = once(other, sql);
        return row.step() ? row.number(0) : -1;
    }

    static media::media_row media(std::uint32_t id, const std::string& call_id, std::int64_t answered = -1,
                                  std::uint32_t index = 0) {
        media::media_row row;
        row.id = id;
        row.call_id = call_id;
        row.index = index;
        row.kind = "audio";
        row.caller = "+46701";
        row.callee = "+46702";
        row.opened.wall = at(0);
        if (answered >= 0)
            row.answered.wall = at(answered);
        for (auto& leg : row.legs)
            leg.outer = asio::ip::make_address("192.0.2.1");
        return row;
    }
    static media::media_record over(std::uint32_t id, const std::string& call_id, std::int64_t answered,
                                    std::int64_t ended, std::uint32_t index = 0) {
        media::media_record row;
        row.id = id;
        row.call_id = call_id;
        row.index = index;
        row.caller = "+46701";
        row.callee = "+46702";
        row.level.name = "high";
        row.decided_by = "default";
        row.why = {{"default", "high", "nothing is known", true}};
        row.cause = "its media ended";
        row.opened.wall = at(0);
        if (answered >= 0)
            row.answered.wall = at(answered);
        row.ended.wall = at(ended);
        row.legs[0].packets = id;
        return row;
    }
    static callcontrol::ended_call ended(const std::string& call_id, std::int64_t when, std::string cause = "hung up") {
        return {call_id, "+46701", "+46702", std::move(cause), {at(0)}, {at(when)}};
    }
    // From offer to end; answered < 0: never.
    void whole_call(std::uint32_t id, const std::string& call_id, std::int64_t answered, std::int64_t until,
                    const std::string& cause = "hung up") {
        db->media().put(media(id, call_id));
        db->calls().put(call_id, "{}");
        if (answered >= 0)
            db->media().put(media(id, call_id, answered));
        db->calls().end(ended(call_id, until, cause));
        db->media().record(over(id, call_id, answered, until));
    }

    void past_call(const std::string& id, moment when) {
        db->calls().put(id, "{}");
        db->calls().end({id, "+46701", "+46702", "hung up", {when}, {when}});
    }

    // The files as kill -9 leaves them now, for as_killed().
    static constexpr std::array files{"", "-wal", "-changes"};
    void keep_files() const {
        std::filesystem::create_directories(dir + "/killed");
        for (const char* end : files)
            std::filesystem::copy_file(file() + end, dir + "/killed/t.db" + end,
                                       std::filesystem::copy_options::overwrite_existing);
    }
    void remove_files() {
        db.reset();
        for (const char* end : {"", "-wal", "-shm", "-log", "-changes"})
            std::filesystem::remove(file() + end);
    }
    void as_killed() {
        remove_files();
        for (const char* end : files)
            std::filesystem::copy_file(dir + "/killed/t.db" + end, file() + end);
    }

    std::string dir;
    database_options options;
    asio::io_context io;
    std::unique_ptr<database> db;
};

} // namespace tandem::store
