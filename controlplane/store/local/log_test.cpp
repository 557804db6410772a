// SPDX-License-Identifier: Apache-2.0
// The log in front of SQLite: its size is taken at once, its room is used again, what is damaged is left out, what an
// earlier program left is taken over; and when it is full, no call is taken that could be lost.
#include <csignal>
#include <cstring>
#include <fstream>
#include <map>
#include <random>
#include <sys/resource.h>
#include <sys/stat.h>

#include "controlplane/store/local/operation.hpp"
#include "controlplane/store/local/store_fixture.hpp"
#include "controlplane/store/local/write_log.hpp"

namespace tandem::store {
namespace {

struct log_test : calls_fixture {
    static constexpr std::size_t small = 64U << 10;
    [[nodiscard]] std::string path() const { return dir + "/log"; }
    void fresh(std::size_t size = small) {
        log.emplace();
        const auto opened = log->open(path(), 42, size);
        ASSERT_TRUE(opened) << opened.error();
    }
    // As another process reads it.
    std::map<std::uint64_t, std::string> reread(std::uint64_t after, std::uint64_t of = 42) {
        std::map<std::uint64_t, std::string> found;
        write_log other;
        EXPECT_TRUE(other.open(path(), of, small));
        missing = other.read(after, [&](std::uint64_t number, std::string_view change) { found[number] = change; });
        return found;
    }
    void damage(std::size_t offset, std::string_view bytes) const {
        std::fstream file(path(), std::ios::in | std::ios::out | std::ios::binary);
        file.seekp(static_cast<std::streamoff>(offset));
        file << bytes;
    }
    [[nodiscard]] std::size_t offset_of(std::string_view bytes) const {
        std::ifstream file(path(), std::ios::binary);
        const std::string all((std::istreambuf_iterator<char>(file)), {});
        return all.find(bytes);
    }
    std::optional<write_log> log;
    std::size_t missing = 0;
};

TEST_F(log_test, ItsWholeSizeIsTakenFromTheDiskWhenItIsMade) {
    fresh(1U << 20);
    log->fit();
    EXPECT_EQ(log->size(), 1U << 20);
    struct stat about {};
    ASSERT_EQ(::stat(path().c_str(), &about), 0);
    EXPECT_GE(about.st_blocks * 512, 1 << 20) << "no hole";
    EXPECT_EQ(about.st_mode & 0777, 0600u);
}

// Written, taken by the database, written again: the ring goes round many times, and whenever the process dies, what is
// not in the database is there.
TEST_F(log_test, RoomIsUsedAgainAndNothingIsEverMissing) {
    fresh();
    log->fit();
    std::mt19937 random(1); // NOLINT: the same run each time
    std::uint64_t number = 0, done = 0;
    std::map<std::uint64_t, std::string> kept;
    std::size_t refused = 0;
    for (int turn = 0; turn < 2000; ++turn) {
        const auto batch = 1 + random() % 4;
        std::vector<std::pair<std::uint64_t, std::string>> added;
        for (std::size_t i = 0; i < batch; ++i) {
            added.emplace_back(number + 1 + i, std::string(random() % 6000, static_cast<char>('a' + random() % 26)));
            log->add(added.back().first, added.back().second);
        }
        const auto written = log->write();
        ASSERT_LE(written, batch);
        for (std::size_t i = 0; i < written; ++i)
            kept.insert(added[i]);
        number += written;
        refused += written < batch ? 1 : 0;
        if (written < batch || random() % 3 == 0) {
            done = written < batch && random() % 2 == 0 ? number : done + (number - done) / 2;
            log->done(done);
            std::erase_if(kept, [&](const auto& one) { return one.first <= done; });
        }
        if (turn % 10 == 0) {
            ASSERT_EQ(reread(done), kept) << turn;
            ASSERT_EQ(missing, 0u);
        }
    }
    EXPECT_GT(refused, 20u) << "it was full now and then";
    EXPECT_GT(number, 1000u);
}

TEST_F(log_test, ALogThatIsFoundGoesOnBehindWhatIsInIt) {
    fresh();
    log->fit();
    for (std::uint64_t n = 1; n <= 30; ++n) {
        log->add(n, std::string(1500, 'x'));
        ASSERT_EQ(log->write(), 1u);
        log->done(n > 8 ? n - 8 : 0);
    }
    fresh();
    std::size_t found = 0;
    EXPECT_EQ(log->read(22, [&](std::uint64_t, std::string_view) { ++found; }), 0u);
    EXPECT_EQ(found, 8u);
    log->fit();
    std::uint64_t n = 30;
    for (; n < 100; ++n) {
        log->add(n + 1, std::string(1500, 'y'));
        if (log->write() == 0)
            break;
    }
    EXPECT_EQ(log->fault(), ENOSPC);
    EXPECT_EQ(reread(22).size(), 8 + (n - 30)) << "none was written over";
    log->done(n);
    log->add(n + 1, "z");
    EXPECT_EQ(log->write(), 1u) << "there is room again";
}

TEST_F(log_test, WhatIsDamagedIsLeftOutAndTheRestGoesOn) {
    fresh();
    log->fit();
    const auto text = [](std::uint64_t n) { return "change number " + std::to_string(n) + std::string(100, '.'); };
    for (std::uint64_t n = 1; n <= 9; ++n)
        log->add(n, text(n));
    ASSERT_EQ(log->write(), 9u);
    damage(offset_of("change number 3"), "CHANGE");
    damage(offset_of("change number 6") - 20, std::string(12, '\xff')); // its length and its number
    const auto found = reread(0);
    EXPECT_EQ(found.size(), 7u);
    EXPECT_EQ(missing, 2u);
    EXPECT_FALSE(found.contains(3) || found.contains(6));
    EXPECT_EQ(found.at(9), text(9));
    ASSERT_EQ(::truncate(path().c_str(), static_cast<off_t>(offset_of("change number 8") + 10)), 0);
    EXPECT_EQ(reread(0).size(), 5u) << "cut off";
    EXPECT_TRUE(reread(0, 43).empty()) << "another database's";
}

TEST_F(log_test, ANewerProgramsLogIsRefusedWithWords) {
    fresh();
    log->fit();
    damage(0, "tandem changes 2\n");
    write_log other;
    const auto opened = other.open(path(), 42, small);
    ASSERT_FALSE(opened);
    EXPECT_NE(opened.error().find("newer"), std::string::npos) << opened.error();
}

TEST_F(log_test, WhatIsOnlyInTheLogIsInTheDatabaseOfTheNextProcess) {
    open();
    db->start(io);
    whole_call(1, "c", 0, 60);
    db->media().put(media(2, "goes on"));
    db->calls().put("goes on", "{}");
    db->sessions().save({"alice", 7, {}});
    db->calls().flush();
    EXPECT_EQ(number("SELECT count(*) FROM record"), 0) << "a moment later";
    keep_files();
    as_killed();
    open();
    EXPECT_EQ(records().size(), 1u);
    EXPECT_EQ(db->calls().load_all().size(), 1u);
    EXPECT_EQ(db->sessions().load().size(), 1u);
    EXPECT_EQ(number("SELECT json_extract(body, '$.total') FROM profile"), 1);
    open();
    EXPECT_EQ(records().size(), 1u) << "once";
}

TEST_F(log_test, TheLogOfAnotherDatabaseIsNotRead) {
    open();
    db->start(io);
    whole_call(1, "c", 0, 60);
    db->calls().flush();
    std::filesystem::copy_file(file() + "-changes", dir + "/other");
    remove_files();
    open();
    db.reset();
    std::filesystem::copy_file(dir + "/other", file() + "-changes", std::filesystem::copy_options::overwrite_existing);
    open();
    EXPECT_TRUE(records().empty());
}

// FILE-log of the program before: length, number, hash, bytes, one behind the other.
TEST_F(log_test, AnEarlierProgramsLogIsTakenOver) {
    open();
    const auto of = static_cast<std::uint64_t>(number("SELECT value FROM fact WHERE name = 'log'"));
    auto last = static_cast<std::uint64_t>(number("SELECT coalesce(max(value), 0) FROM fact WHERE name = 'applied'"));
    db.reset();
    std::ofstream old(file() + "-log", std::ios::binary);
    for (const std::string name : {"one", "two", "three"}) {
        std::string bytes;
        append(bytes, {.kind = what::call_put,
                       .key = static_cast<std::int64_t>(++last),
                       .name = name,
                       .extra = name,
                       .body = "{}"});
        for (const std::uint64_t word : {std::uint64_t{bytes.size()}, last, log_hash(of ^ last, bytes)})
            old.write(reinterpret_cast<const char*>(&word), sizeof word);
        old << bytes;
    }
    old << "cut off";
    old.close();
    open();
    EXPECT_EQ(db->calls().load_all().size(), 3u);
    EXPECT_FALSE(std::filesystem::exists(file() + "-log"));
    open();
    EXPECT_EQ(db->calls().load_all().size(), 3u);
}

// What stands in the logs of programs before this one.
TEST(log_hashes, AreThoseOfEarlierPrograms) {
    EXPECT_EQ(log_hash(7, ""), 0x538454127b096493U);
    EXPECT_EQ(log_hash(7, "a"), 0x02683f6e027ceb5fU);
    EXPECT_EQ(log_hash(7, "12345678"), 0x80c0682e014e360cU);
    EXPECT_EQ(log_hash(7, "what the program before has written"), 0x863d43b4d3191697U);
}

// No file may grow beyond so many bytes: a disk that has not more.
struct disk_limit {
    explicit disk_limit(rlim_t bytes) {
        ::getrlimit(RLIMIT_FSIZE, &before);
        const rlimit now{bytes, before.rlim_max};
        ::setrlimit(RLIMIT_FSIZE, &now);
        ::signal(SIGXFSZ, SIG_IGN);
    }
    ~disk_limit() { ::setrlimit(RLIMIT_FSIZE, &before); }
    rlimit before{};
};

TEST_F(log_test, AFirstStartWithoutRoomForItSaysWhatItNeeds) {
    const disk_limit disk(1U << 20);
    options.log_bytes = 3U << 20;
    const auto opened = try_open();
    ASSERT_FALSE(opened);
    EXPECT_NE(opened.error().find("log_mib"), std::string::npos) << opened.error();
    EXPECT_FALSE(std::filesystem::exists(file()));
    options.log_bytes = small;
    open();
    whole_call(1, "c", 0, 60);
    options.log_bytes = 3U << 20;
    open(); // there are calls and records: it goes on with what it has, and says so
    EXPECT_NE(db->trouble().find("-changes"), std::string::npos) << db->trouble();
    EXPECT_EQ(records().size(), 1u);
    options.log_bytes = 512U << 10;
    open();
    EXPECT_EQ(db->trouble(), "") << "an operator lowered it";
}

// SQLite takes nothing (here: another program's lock): calls go on until the log has only room for the ends of those
// that are up; then no further one is to begin, and their ends find it.
TEST_F(log_test, WhenItIsFullNoCallIsToBeginAndThoseThatAreUpEndInIt) {
    options.log_bytes = 512U << 10;
    open();
    db->start(io);
    connection other;
    ASSERT_TRUE(other.open(file()));
    other.run("BEGIN IMMEDIATE");
    std::uint32_t up = 0;
    while (up < 1000 && !db->no_room(up)) {
        ++up;
        db->media().put(media(up, "c" + std::to_string(up), 1));
        db->calls().put("c" + std::to_string(up), "{}");
        db->calls().flush();
        io.restart();
        io.run_for(std::chrono::milliseconds(up == 1 ? 200 : 0)); // it learns of the lock
    }
    EXPECT_GT(up, 20u);
    EXPECT_LT(up, 1000u);
    EXPECT_NE(db->no_room(up)->find("its log is full"), std::string::npos);
    for (std::uint32_t n = 1; n <= up; ++n) {
        db->calls().end(ended("c" + std::to_string(n), 60));
        db->media().record(over(n, "c" + std::to_string(n), 1, 60));
        db->calls().flush();
    }
    keep_files();
    other.run("ROLLBACK");
    as_killed();
    open();
    EXPECT_EQ(number("SELECT count(*) FROM record"), up);
    EXPECT_FALSE(db->no_room(1000)) << "SQLite takes what comes";
}

} // namespace
} // namespace tandem::store
