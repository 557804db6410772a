// SPDX-License-Identifier: Apache-2.0
// From calls and media to one record each: what order, what is missing, what an earlier process left.

#include "controlplane/store/local/store_fixture.hpp"

namespace tandem::store {
namespace {

struct calls_test : calls_fixture {
    calls_test() { open(); }
    void expect_nothing_left() const {
        EXPECT_EQ(number("SELECT (SELECT count(*) FROM call) + (SELECT count(*) FROM media) + (SELECT count(*) FROM "
                         "media_over)"),
                  0);
    }
};

TEST_F(calls_test, OneRecordWithAllOfTheCall) {
    whole_call(7, "a@b", 10, 70);
    const auto found = records();
    ASSERT_EQ(found.size(), 1u);
    const auto& r = found[0];
    EXPECT_EQ(r.id.size(), 32u);
    EXPECT_EQ(r.instance, "gw-1");
    EXPECT_EQ(r.call_id, "a@b");
    EXPECT_EQ(r.caller, "+46701");
    EXPECT_EQ(r.callee, "+46702");
    EXPECT_EQ(r.started, at(0));
    EXPECT_EQ(r.answered, at(10));
    EXPECT_EQ(r.ended, at(70));
    EXPECT_EQ(r.duration(), 60s);
    EXPECT_EQ(r.level, "high");
    EXPECT_EQ(r.decided_by, "default");
    ASSERT_EQ(r.why.size(), 1u);
    EXPECT_EQ(r.cause, "hung up");
    ASSERT_EQ(r.media.size(), 1u);
    EXPECT_EQ(r.media[0].legs[0].packets, 7u);
    expect_nothing_left();
    const auto shown = wait(db->records().show(r.id));
    ASSERT_TRUE(shown && *shown);
    EXPECT_EQ((*shown)->call_id, "a@b");
    EXPECT_FALSE(*wait(db->records().show("00")));
}

TEST_F(calls_test, AnOfferThatPolicyDeniedIsRecordedAndNoCallOfThePair) {
    auto denied = over(9, "no", -1, 0);
    denied.level = {.name = "deny", .suite = {}, .seed_bytes = 0, .rekey = {}, .overlap = {}};
    denied.decided_by = "security database: callee";
    denied.cause = "Denied by policy: left the company";
    db->media().record(denied);
    open(); // another process
    const auto found = records();
    ASSERT_EQ(found.size(), 1u);
    EXPECT_EQ(found[0].call_id, "no");
    EXPECT_EQ(found[0].caller, "+46701");
    EXPECT_EQ(found[0].level, "deny");
    EXPECT_EQ(found[0].decided_by, denied.decided_by);
    EXPECT_EQ(found[0].cause, denied.cause);
    ASSERT_EQ(found[0].media.size(), 1u);
    EXPECT_EQ(found[0].media[0].why, denied.why);
    EXPECT_FALSE(found[0].was_answered());
    EXPECT_EQ(number("SELECT count(*) FROM profile"), 0);
    expect_nothing_left();
}

TEST_F(calls_test, MediaMayEndBeforeTheirCallAndOneByOne) {
    db->media().put(media(1, "c", 5, 0));
    db->media().put(media(2, "c", 6, 1));
    db->calls().put("c", "{}");
    db->media().record(over(2, "c", 6, 20, 1));
    db->media().record(over(1, "c", 5, 30, 0));
    EXPECT_TRUE(records().empty());
    open(); // another process
    EXPECT_TRUE(records().empty());
    db->calls().end(ended("c", 31));
    const auto found = records();
    ASSERT_EQ(found.size(), 1u);
    ASSERT_EQ(found[0].media.size(), 2u);
    EXPECT_EQ(found[0].media[0].id, 1u) << "by index";
    EXPECT_EQ(found[0].answered, at(5));
    expect_nothing_left();
}

TEST_F(calls_test, EndedWhileTheProcessWasDeadOrBeforeItsMediaWere) {
    db->media().put(media(1, "c", 5));
    db->calls().put("c", "{}");
    db->calls().end(ended("c", 31));
    open(); // died before the media were over
    EXPECT_TRUE(records().empty());
    EXPECT_TRUE(db->calls().load_all().empty()) << "it does not go on";
    ASSERT_EQ(db->media().load().size(), 1u);
    db->media().record(over(1, "c", 5, 40));
    ASSERT_EQ(records().size(), 1u);
    EXPECT_EQ(records()[0].cause, "hung up");
    EXPECT_EQ(records()[0].ended, at(31));
    expect_nothing_left();
}

TEST_F(calls_test, LeftHalfWayIsFinishedAtTheStart) {
    db->media().put(media(1, "c", 5));
    db->calls().put("c", "{}");
    db->calls().end(ended("c", 31));
    db.reset();
    // As if the process had died between two of a careless program's transactions.
    by_another("DELETE FROM media; INSERT INTO media_over(call, n, body) SELECT n, 1, '{\"damaged\":1}' FROM call");
    open();
    const auto found = records();
    ASSERT_EQ(found.size(), 1u);
    EXPECT_EQ(found[0].cause, "hung up");
    EXPECT_EQ(found[0].media.size(), 1u) << "the place of a media that cannot be read stays";
    expect_nothing_left();
    open();
    EXPECT_EQ(records().size(), 1u);
}

// RFC 3261 25.1: a Call-ID is a word of octets.
TEST_F(calls_test, ACallIdThatIsNoUtf8IsKeptByteForByte) {
    const std::string id("\xff\x80 \0x\xc3(", 7);
    auto row = media(1, id, 5);
    row.branch = 3;
    db->media().put(row);
    db->calls().put(id, "{}");
    for (int i = 0; i < 2; ++i) { // as it waits in the log, and out of the tables
        open();
        const auto calls = db->calls().load_all();
        ASSERT_EQ(calls.size(), 1u);
        EXPECT_EQ(calls[0].first, id);
        const auto rows = db->media().load();
        ASSERT_EQ(rows.size(), 1u);
        EXPECT_EQ(rows[0].call_id, id);
        EXPECT_EQ(rows[0].branch, 3u);
    }
    db->calls().end(ended(id, 90));
    db->media().record(over(1, id, 5, 91));
    ASSERT_EQ(records().size(), 1u);
    EXPECT_EQ(records()[0].media.size(), 1u);
    expect_nothing_left();
}

TEST_F(calls_test, SameCallIdAgainWhileTheFirstIsNotFinished) {
    db->media().put(media(1, "c", 5));
    db->calls().put("c", "first");
    db->calls().end(ended("c", 31, "first"));
    db->media().put(media(2, "c", 40));
    db->calls().put("c", "second");
    open();
    const auto rows = db->calls().load_all();
    ASSERT_EQ(rows.size(), 1u);
    EXPECT_EQ(rows[0].second, "second");
    db->media().record(over(1, "c", 5, 32));
    ASSERT_EQ(records().size(), 1u);
    EXPECT_EQ(records()[0].cause, "first");
    ASSERT_EQ(records()[0].media.size(), 1u);
    EXPECT_EQ(records()[0].media[0].id, 1u);
    db->calls().end(ended("c", 90, "second"));
    db->media().record(over(2, "c", 40, 91));
    ASSERT_EQ(records().size(), 2u);
    EXPECT_EQ(records()[0].cause, "second");
    EXPECT_EQ(records()[0].media[0].id, 2u);
    EXPECT_NE(records()[0].id, records()[1].id);
    expect_nothing_left();
}

TEST_F(calls_test, WithoutMediaAndNeverAnsweredAreRecordedToo) {
    db->calls().put("bare", "{}");
    db->calls().end(ended("bare", 3));
    whole_call(1, "rang", -1, 30, "ended before it was answered");
    const auto found = records();
    ASSERT_EQ(found.size(), 2u);
    for (const auto& r : found) {
        EXPECT_FALSE(r.was_answered());
        EXPECT_EQ(r.duration(), 0ms);
    }
    expect_nothing_left();
}

TEST_F(calls_test, RefusedOffersLeaveNothing) {
    db->media().put(media(1, "refused"));
    db->calls().end(ended("refused", 1)); // never put
    db->media().record(over(1, "refused", -1, 1));
    db->media().put(media(2, "erased"));
    db->calls().put("erased", "{}");
    db->calls().erase("erased");
    db->media().erase(2);
    db->calls().end(ended("unheard", 1));
    EXPECT_TRUE(records().empty());
    expect_nothing_left();
}

TEST_F(calls_test, MediaWhoseCallIsGoneAreRecordedWhereTheyWereAnswered) {
    db->media().put(media(1, "lost", 5));
    db->calls().put("lost", "unreadable");
    open();
    db->calls().erase("lost"); // call control cannot read it
    open();
    db->media().record(over(1, "lost", 5, 65));
    const auto found = records();
    ASSERT_EQ(found.size(), 1u);
    EXPECT_EQ(found[0].cause, "its media ended");
    EXPECT_EQ(found[0].duration(), 60s);
    EXPECT_EQ(found[0].caller, "+46701");
    expect_nothing_left();
}

TEST_F(calls_test, QueriesByTimePartyAndCall) {
    for (std::uint32_t n = 1; n <= 5; ++n)
        whole_call(n, "c" + std::to_string(n), 0, 100 * n);
    db->calls().put("x", "{}");
    db->calls().end({"x", "0046703", "+46702", "hung up", {at(0)}, {at(50)}});
    EXPECT_EQ(records().size(), 6u);
    EXPECT_EQ(records()[0].call_id, "c5") << "newest first";
    EXPECT_EQ(records({.limit = 2}).size(), 2u);
    EXPECT_EQ(records({.since = at(300)}).size(), 3u);
    EXPECT_EQ(records({.until = at(100)}).size(), 2u);
    EXPECT_EQ(records({.party = "+46 703"}).size(), 1u) << "however it is written";
    EXPECT_EQ(records({.party = "+46702"}).size(), 6u);
    EXPECT_EQ(records({.call_id = "c3"}).size(), 1u);
    EXPECT_TRUE(records({.party = "nobody"}).empty());
}

// The wall's clock is set while a call goes on: forward, far forward, back. Its record has the time that went by, says
// by how much the clock was set, and never ends before it began; the profile learns the time that went by.
TEST_F(calls_test, AClockThatIsSetDuringACallChangesNoDuration) {
    std::uint32_t id = 0;
    for (const auto set : {std::chrono::seconds(0), 3600s, 315'360'000s, -3600s, -1'700'000'000s}) {
        const auto name = "c" + std::to_string(++id);
        const protocol::moment start{at(0), 5000ms, 7}, answer{at(1), 6000ms, 7}, end{at(7) + set, 12'000ms, 7};
        auto row = media(id, name);
        row.opened = start;
        db->media().put(row);
        db->calls().put(name, "{}");
        row.answered = answer;
        db->media().put(row);
        if (id % 2 == 0)
            open(); // what the rows keep is enough
        auto last = over(id, name, 1, 7);
        last.opened = start;
        last.answered = answer;
        last.ended = end;
        db->calls().end({name, "+46701", "+46702", "hung up", start, end});
        if (id % 2 == 0)
            open();
        db->media().record(last);
        const auto found = records({.call_id = name});
        ASSERT_EQ(found.size(), 1u);
        EXPECT_EQ(found[0].duration(), 6s) << set.count();
        EXPECT_EQ(found[0].clock_set, set);
        EXPECT_EQ(found[0].started, at(0));
        EXPECT_EQ(found[0].answered, at(1));
        EXPECT_EQ(found[0].ended, at(7));
        EXPECT_EQ(found[0].media[0].ended.wall, at(7));
    }
    const auto learned =
        number("SELECT count(*) FROM profile, json_each(body, '$.calls') AS c WHERE c.value ->> 1 = 6000");
    EXPECT_EQ(learned, 5) << "calls of six seconds in the profile";
}

TEST_F(calls_test, OldRecordsGoAfterSomeDaysAndProfilesStay) {
    const auto now = std::chrono::system_clock::now();
    for (const int hours : {40 * 24, 11 * 24, 9 * 24, 1})
        past_call("h" + std::to_string(hours), now - std::chrono::hours(hours));
    options.keep_days = 10;
    open();
    db->start(io);
    io.poll();
    ASSERT_EQ(records().size(), 2u);
    EXPECT_EQ(records()[1].call_id, "h216");
    EXPECT_EQ(db->count().expired, 2u);
    EXPECT_EQ(db->clock_doubt(), "");
    EXPECT_EQ(number("SELECT json_extract(body, '$.total') FROM profile"), 4);
    db->stop();
}

// In the order in which they were written, whatever a wrong clock made of their dates.
TEST_F(calls_test, ARecordThatAWrongClockDatedBackIsKept) {
    const auto now = std::chrono::system_clock::now();
    past_call("old", now - std::chrono::hours(24 * 40));
    past_call("young", now - std::chrono::hours(2));
    past_call("of 1970", moment(std::chrono::hours(1)));
    past_call("youngest", now - std::chrono::hours(1));
    options.keep_days = 10;
    open();
    db->start(io);
    io.poll();
    EXPECT_EQ(number("SELECT count(*) FROM record WHERE call_id = 'old'"), 0);
    EXPECT_EQ(number("SELECT count(*) FROM record"), 3);
    db->stop();
}

// As by a start with a clock ten years ahead: the newest record says that it cannot be.
TEST_F(calls_test, NothingIsDeletedByAClockThatIsDoubted) {
    const auto now = std::chrono::system_clock::now();
    for (int n = 0; n < 38; ++n)
        past_call("c" + std::to_string(n), now - std::chrono::hours(24 * 3650) - std::chrono::hours(40 - n));
    options.keep_days = 1;
    for (int start = 0; start < 2; ++start) {
        open();
        db->start(io);
        io.poll();
        EXPECT_EQ(number("SELECT count(*) FROM record"), 38);
        EXPECT_NE(db->clock_doubt().find("clock accept"), std::string::npos);
        db->stop();
    }
    open();
    db->accept_clock(); // the machine was off for ten years
    db->start(io);
    io.poll();
    EXPECT_EQ(number("SELECT count(*) FROM record"), 0);
    EXPECT_EQ(db->clock_doubt(), "");
    db->stop();
}

TEST_F(calls_test, SharedRecordsWaitInTheSpoolUntilTheyAreShipped) {
    EXPECT_TRUE(db->spool().unshipped(10).empty());
    whole_call(1, "before", 0, 60);
    options.shared_records = true;
    open();
    EXPECT_EQ(db->spool().waiting(), 0u) << "records of the local store stay here";
    whole_call(2, "c2", 0, 60);
    whole_call(3, "c3", 0, 60);
    EXPECT_EQ(db->spool().waiting(), 2u);
    open();
    EXPECT_EQ(db->spool().waiting(), 2u);
    auto found = db->spool().unshipped(1);
    ASSERT_EQ(found.size(), 1u);
    EXPECT_EQ(found[0].call_id, "c2") << "oldest first";
    const std::vector<std::string> ids{found[0].id, "unknown"};
    db->spool().mark_shipped(ids);
    db->spool().mark_shipped(ids);
    EXPECT_EQ(db->spool().waiting(), 1u);
    EXPECT_EQ(db->spool().unshipped(10).size(), 1u);
    EXPECT_EQ(number("SELECT json_extract(body, '$.total') FROM profile"), 1) << "the shared store keeps the profiles";
}

TEST_F(calls_test, OneWriteATurnAndTheTablesSoonAfter) {
    db->start(io);
    whole_call(1, "c", 0, 60);
    io.run_for(60ms);
    EXPECT_EQ(number("SELECT count(*) FROM record"), 1);
    EXPECT_EQ(db->count().records, 1u);
    db->stop();
}

} // namespace
} // namespace tandem::store
