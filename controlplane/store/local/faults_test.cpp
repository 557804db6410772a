// SPDX-License-Identifier: Apache-2.0
// A disk that refuses: SQLite's own file layer with faults put in, at each write and each sync in turn, once and for
// ever. The database stays whole, what was refused is said, kept and written when the disk is well; a process that dies
// meanwhile leaves each call with at most one record and a profile that agrees with the records.
#include <algorithm>
#include <cstring>
#include <fstream>

#include "controlplane/store/local/store_fixture.hpp"

namespace tandem::store {
namespace {

struct plan {
    int countdown = -1; // operations until the fault; below 0: none
    bool for_ever = false;
    int code = SQLITE_IOERR_WRITE;
    int faults = 0;
    bool syncs_only = false;
    bool no_shm = false; // nothing is there beside the file, but for one who only reads
    bool strikes(bool sync = false) {
        if (countdown < 0 || (syncs_only && !sync) || countdown-- > 0)
            return false;
        ++faults;
        if (for_ever)
            countdown = 0;
        return true;
    }
};
plan next; // NOLINT: the file layer has no place for a pointer

struct faulty_file {
    sqlite3_file base;
    bool read_only;
    sqlite3_file* real() { return reinterpret_cast<sqlite3_file*>(this + 1); }
};
faulty_file* of(sqlite3_file* file) {
    return reinterpret_cast<faulty_file*>(file);
}

sqlite3_io_methods methods_of() {
    sqlite3_io_methods m{};
    m.iVersion = 2;
    m.xClose = [](sqlite3_file* f) { return of(f)->real()->pMethods->xClose(of(f)->real()); };
    m.xRead = [](sqlite3_file* f, void* to, int n, sqlite3_int64 at) {
        return of(f)->real()->pMethods->xRead(of(f)->real(), to, n, at);
    };
    m.xWrite = [](sqlite3_file* f, const void* from, int n, sqlite3_int64 at) {
        if (next.strikes()) { // torn: half of it gets there
            of(f)->real()->pMethods->xWrite(of(f)->real(), from, n / 2, at);
            return next.code;
        }
        return of(f)->real()->pMethods->xWrite(of(f)->real(), from, n, at);
    };
    m.xTruncate = [](sqlite3_file* f, sqlite3_int64 n) { return of(f)->real()->pMethods->xTruncate(of(f)->real(), n); };
    m.xSync = [](sqlite3_file* f, int flags) {
        return next.strikes(true) ? SQLITE_IOERR_FSYNC : of(f)->real()->pMethods->xSync(of(f)->real(), flags);
    };
    m.xFileSize = [](sqlite3_file* f, sqlite3_int64* n) {
        return of(f)->real()->pMethods->xFileSize(of(f)->real(), n);
    };
    m.xLock = [](sqlite3_file* f, int n) { return of(f)->real()->pMethods->xLock(of(f)->real(), n); };
    m.xUnlock = [](sqlite3_file* f, int n) { return of(f)->real()->pMethods->xUnlock(of(f)->real(), n); };
    m.xCheckReservedLock = [](sqlite3_file* f, int* n) {
        return of(f)->real()->pMethods->xCheckReservedLock(of(f)->real(), n);
    };
    m.xFileControl = [](sqlite3_file* f, int op, void* arg) {
        return of(f)->real()->pMethods->xFileControl(of(f)->real(), op, arg);
    };
    m.xSectorSize = [](sqlite3_file* f) { return of(f)->real()->pMethods->xSectorSize(of(f)->real()); };
    m.xDeviceCharacteristics = [](sqlite3_file* f) {
        return of(f)->real()->pMethods->xDeviceCharacteristics(of(f)->real());
    };
    m.xShmMap = [](sqlite3_file* f, int page, int size, int extend, void volatile** to) {
        if (next.no_shm && !of(f)->read_only)
            return SQLITE_IOERR_SHMSIZE;
        return of(f)->real()->pMethods->xShmMap(of(f)->real(), page, size, extend, to);
    };
    m.xShmLock = [](sqlite3_file* f, int offset, int n, int flags) {
        return of(f)->real()->pMethods->xShmLock(of(f)->real(), offset, n, flags);
    };
    m.xShmBarrier = [](sqlite3_file* f) { of(f)->real()->pMethods->xShmBarrier(of(f)->real()); };
    m.xShmUnmap = [](sqlite3_file* f, int remove) { return of(f)->real()->pMethods->xShmUnmap(of(f)->real(), remove); };
    return m;
}

// The system's own file layer, but for the faults; the default one as long as it lives.
struct faulty_layer {
    faulty_layer() {
        next = {};
        real = sqlite3_vfs_find(nullptr);
        layer = *real;
        layer.pNext = nullptr;
        layer.zName = "faulty";
        layer.szOsFile = real->szOsFile + static_cast<int>(sizeof(faulty_file));
        layer.pAppData = real;
        layer.xOpen = [](sqlite3_vfs* self, const char* name, sqlite3_file* file, int flags, int* got) {
            static const auto methods = methods_of();
            auto* base = static_cast<sqlite3_vfs*>(self->pAppData);
            file->pMethods = nullptr;
            of(file)->read_only = (flags & SQLITE_OPEN_READONLY) != 0;
            const int result = base->xOpen(base, name, of(file)->real(), flags, got);
            if (of(file)->real()->pMethods != nullptr)
                file->pMethods = &methods;
            return result;
        };
        sqlite3_vfs_register(&layer, 1);
    }
    ~faulty_layer() {
        sqlite3_vfs_unregister(&layer);
        sqlite3_vfs_register(real, 1);
    }
    sqlite3_vfs* real;
    sqlite3_vfs layer{};
};

struct faults_test : calls_fixture {
    ~faults_test() override {
        next = {};
        db.reset();
    }
    faulty_layer layer;

    // Ten calls: in the end one record each, and the profile agrees.
    void calls() {
        for (std::uint32_t n = 1; n <= 10; ++n)
            whole_call(n, "c" + std::to_string(n), 0, 60);
    }
    void more_calls(std::uint32_t first, std::uint32_t last) {
        for (auto n = first; n <= last; ++n) {
            whole_call(n, "c" + std::to_string(n), 0, 60);
            db->calls().flush();
            io.restart();
            io.run_for(1ms);
        }
    }
    static void full_disk_at(int write) { next = {write, true, SQLITE_FULL, 0}; }
    void kill_and_start(bool no_shm) {
        keep_files();
        const auto fault = std::exchange(next, plan{});
        as_killed();
        std::ofstream(file() + "-shm").close(); // it can be made on a full disk, and holds nothing
        next = fault;
        next.no_shm = no_shm;
        next.countdown = 0;
        open();
    }
    void expect_whole(std::int64_t expected) const {
        connection other;
        ASSERT_TRUE(other.open(file()));
        auto check = once(other, "PRAGMA integrity_check");
        ASSERT_TRUE(check.step());
        EXPECT_EQ(check.text(0), "ok");
        EXPECT_EQ(number("SELECT count(*) FROM record"), expected);
        EXPECT_EQ(number("SELECT count(DISTINCT call_id) FROM record"), expected);
        EXPECT_EQ(number("SELECT coalesce(sum(json_extract(body, '$.total')), 0) FROM profile"), expected);
    }
};

TEST_F(faults_test, EachWriteRefusedOnceIsWrittenLater) {
    int struck = 0;
    for (int at = 0; at < 400; at += at < 60 ? 1 : 7) {
        remove_files();
        open();
        next = {at, false, at % 2 == 0 ? SQLITE_IOERR_WRITE : SQLITE_FULL, 0};
        calls();
        struck += next.faults;
        EXPECT_EQ(db->failures() > 0, next.faults > 0) << "said";
        next = {};
        db.reset(); // the rest is written at the latest here
        expect_whole(10);
        if (HasFailure())
            FAIL() << "fault at write " << at;
    }
    EXPECT_GT(struck, 60);
}

TEST_F(faults_test, ACheckpointThatFailsIsSaidAndLosesNothing) {
    open();
    std::uint32_t n = 0;
    const auto more = [&](std::uint32_t calls) {
        for (const auto until = n + calls; n < until;) {
            ++n;
            whole_call(n, "c" + std::to_string(n), 0, 60);
        }
    };
    for (int at = 0; at < 6; ++at) { // syncs are made by checkpoints: of the WAL first, then of the file
        next = {at, at == 5, 0, 0, true};
        while (next.faults == 0 && n < 10'000)
            more(1);
        if (at < 5)
            next = {};
    }
    EXPECT_GT(db->failures(), 0u);
    EXPECT_NE(db->trouble(), "");
    next = {};
    more(300);
    EXPECT_EQ(db->trouble(), "");
    db.reset();
    expect_whole(n);
}

TEST_F(faults_test, ADiskThatIsFullForEverIsSaidAndCallsGoOn) {
    open();
    calls();
    next = {0, true, SQLITE_FULL, 0};
    for (std::uint32_t n = 11; n <= 20; ++n)
        whole_call(n, "c" + std::to_string(n), 0, 60);
    EXPECT_NE(db->trouble().find("make room"), std::string::npos) << db->trouble();
    EXPECT_GT(db->failures(), 0u);
    EXPECT_GT(db->count().waiting, 0u);
    EXPECT_EQ(db->count().lost, 0u);
    next = {};
    whole_call(21, "c21", 0, 60);
    EXPECT_EQ(db->trouble(), "");
    EXPECT_EQ(db->count().waiting, 0u);
    EXPECT_GT(db->count().retried, 0u);
    db.reset();
    expect_whole(21);
}

TEST_F(faults_test, AFullDiskAndAKilledProcessAndTheLogHasItAll) {
    open();
    db->start(io);
    next = {0, true, SQLITE_FULL, 0};
    calls();
    io.run_for(100ms);
    EXPECT_FALSE(db->trouble().empty());
    keep_files();
    next = {};
    as_killed();
    open();
    expect_whole(10);
}

// Killed at any point of a disk that fills up, started while it is still full, killed again, and there is room again:
// each call is there, those that go on go on, and none is there twice.
TEST_F(faults_test, AStartOnAFullDiskGoesOnAndLosesNothing) {
    for (int at = 0; at < 120; at += at < 20 ? 1 : 9)
        for (const bool shared_memory : {false, true}) { // whether not even SQLite's -shm file has room
            remove_files();
            open();
            db->start(io);
            calls();
            full_disk_at(at);
            more_calls(11, 20);
            db->media().put(media(30, "goes on", 5));
            db->calls().put("goes on", R"({"its":"body"})");
            db->sessions().save({"alice", 7, {asio::ip::make_address("10.64.0.9")}});
            kill_and_start(shared_memory);
            db->start(io);
            EXPECT_NE(db->trouble().find("wait on disk"), std::string::npos) << db->trouble();
            ASSERT_EQ(db->calls().load_all().size(), 1u);
            EXPECT_EQ(db->calls().load_all()[0].second, R"({"its":"body"})");
            ASSERT_EQ(db->media().load().size(), 1u);
            ASSERT_EQ(db->sessions().load().size(), 1u);
            EXPECT_EQ(db->sessions().load()[0].id, 7u);
            more_calls(21, 24);
            kill_and_start(shared_memory);
            db->start(io);
            db->calls().end(ended("goes on", 60));
            db->media().record(over(30, "goes on", 5, 60));
            db->calls().flush();
            EXPECT_FALSE(db->no_room(0)) << *db->no_room(0);
            next = {};
            io.restart();
            for (int n = 0; n < 100 && !db->trouble().empty(); ++n)
                io.run_for(50ms);
            EXPECT_EQ(db->trouble(), "");
            EXPECT_EQ(records().size(), 25u);
            db->stop();
            db.reset();
            expect_whole(25);
            EXPECT_EQ(number("SELECT count(*) FROM call") + number("SELECT count(*) FROM media"), 0);
            if (HasFailure())
                FAIL() << "full at write " << at << (shared_memory ? ", no -shm" : "");
        }
}

TEST_F(faults_test, AnotherProgramsLockDelaysNothingForLong) {
    open();
    db->start(io);
    {
        connection other;
        ASSERT_TRUE(other.open(file()));
        other.run("BEGIN IMMEDIATE");
        calls();
        io.run_for(100ms);
        EXPECT_NE(db->trouble().find("another program"), std::string::npos) << db->trouble();
        other.run("ROLLBACK");
    }
    io.restart();
    for (int n = 0; n < 100 && !db->trouble().empty(); ++n)
        io.run_for(50ms);
    EXPECT_EQ(db->trouble(), "");
    EXPECT_EQ(records().size(), 10u);
    db->stop();
    expect_whole(10);
}

TEST_F(faults_test, ADiskThatFailsForEverAtEachPointLeavesAWholeFile) {
    for (int at = 0; at < 90; at += 3) {
        remove_files();
        open();
        next = {at, true, SQLITE_IOERR_WRITE, 0};
        calls();
        EXPECT_FALSE(db->trouble().empty()) << at;
        keep_files();
        next = {};
        db.reset();
        expect_whole(10); // it was well at the end
        as_killed();
        std::filesystem::remove(file() + "-changes"); // somebody took it for a log of the program
        open();
        const auto have = number("SELECT count(*) FROM record");
        EXPECT_LT(have, 10);
        expect_whole(have);
        if (HasFailure())
            FAIL() << "fault at write " << at;
    }
}

} // namespace
} // namespace tandem::store
