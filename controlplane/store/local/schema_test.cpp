// SPDX-License-Identifier: Apache-2.0
// A file of an earlier program is brought up in place, with what goes on in it.
#include "controlplane/store/local/store_fixture.hpp"

namespace tandem::store {
namespace {

// What schema 1's program wrote: its tables and its JSON.
constexpr const char* file_of_1 = R"(
PRAGMA journal_mode = WAL;
CREATE TABLE unit (id TEXT PRIMARY KEY, psk BLOB, comment TEXT NOT NULL, created INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE session (unit TEXT PRIMARY KEY, tsid INTEGER NOT NULL, inner TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE call (id TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE media (id INTEGER PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE record (n INTEGER PRIMARY KEY, ended INTEGER NOT NULL, call_id TEXT NOT NULL, body TEXT NOT NULL);
CREATE INDEX record_ended ON record(ended);
CREATE TABLE fact (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO unit VALUES('alice', NULL, 'first floor', 1700000000);
INSERT INTO session VALUES('alice', 77, '10.64.0.2');
INSERT INTO fact VALUES('generation', 42);
INSERT INTO call VALUES('goes on', '{"x":1}');
INSERT INTO media SELECT 5, json_object('answered', 1790000000000, 'call_id', 'goes on', 'callee', 'bob', 'caller', 'alice',
  'forward', json('[true,true]'), 'id', 5, 'index', 0, 'installed', json('true'), 'kind', 'audio', 'legs', json_array(json(leg), json(leg)),
  'level', 'high', 'opened', 1789999990000, 'rekey_failures', 0, 'rekeys', 3)
  FROM (SELECT '{"address_index":0,"epoch":4,"hint":null,"interface":"access","ipv6":false,"kind":"unit","local_rtcp":["192.0.2.1",20003],
    "local_rtp":["192.0.2.1",20002],"mux":false,"outer":"192.0.2.1","port":20002,"remote_rtcp":null,"remote_rtp":null,
    "suite":"AEAD_AES_256_GCM","tsid":77,"unit":"alice","unroutable":false}' AS leg);
INSERT INTO record SELECT value, 1790000000 + value, CASE WHEN value < 3 THEN 'two lines' ELSE 'one' END, json_object('answered', 1790000000000,
  'call_id', CASE WHEN value < 3 THEN 'two lines' ELSE 'one' END, 'callee', 'bob', 'caller', 'alice', 'cause', 'hung up', 'ended', 1790000060000 + value,
  'id', value, 'index', value % 2, 'kind', 'audio', 'legs', json_array(json(leg), json(leg)), 'level', 'standard', 'opened', 1789999990000,
  'rekey_failures', 0, 'rekeys', 1)
  FROM json_each('[1,2,3]'), (SELECT '{"auth_failures":0,"bytes":100,"kind":"unit","lost":0,"packets":10,"replays":0,"suite":"AEAD_AES_128_GCM",
    "unit":"alice"}' AS leg);
PRAGMA user_version = 1;
)";

struct schema_test : calls_fixture {
    void old_file(const char* more = "") const {
        connection raw;
        ASSERT_TRUE(raw.open(file()));
        raw.run(file_of_1);
        raw.run(more);
    }
};

TEST_F(schema_test, AFileOfSchema1IsBroughtUp) {
    old_file();
    open();
    EXPECT_EQ(number("PRAGMA user_version"), schema_version);
    EXPECT_EQ(db->units().at(0).comment, "first floor");
    EXPECT_EQ(db->sessions().load().at(0).id, 77u);
    EXPECT_EQ(db->media().generation(), 42u);
    ASSERT_EQ(db->calls().load_all().size(), 1u);
    const auto media = db->media().load();
    ASSERT_EQ(media.size(), 1u);
    EXPECT_EQ(media[0].level.name, "high");
    EXPECT_EQ(media[0].legs[0].epoch, 4u);
    auto found = records();
    ASSERT_EQ(found.size(), 2u) << "a call of two lines is one record";
    EXPECT_EQ(found[0].call_id, "one");
    EXPECT_EQ(found[1].media.size(), 2u);
    EXPECT_EQ(found[1].duration(), 60002ms);
    EXPECT_EQ(found[1].instance, "gw-1");
    // The call that went on under the old program ends under this one.
    db->calls().end({"goes on", "alice", "bob", "hung up", {at(0)}, {at(60)}});
    db->media().record(over(5, "goes on", 0, 60));
    found = records({.call_id = "goes on"});
    ASSERT_EQ(found.size(), 1u);
    EXPECT_EQ(found[0].media.size(), 1u);
    open();
    EXPECT_EQ(records().size(), 3u) << "once";
}

TEST_F(schema_test, AStepThatFailsLeavesTheOldFile) {
    old_file("CREATE TABLE rule (x INTEGER)"); // in the way
    const auto opened = try_open();
    ASSERT_FALSE(opened);
    EXPECT_NE(opened.error().find("cannot be used"), std::string::npos) << opened.error();
    EXPECT_EQ(number("PRAGMA user_version"), 1);
    EXPECT_EQ(number("SELECT count(*) FROM record"), 3);
    EXPECT_EQ(number("SELECT count(*) FROM call"), 1);
    by_another("DROP TABLE rule");
    open();
    EXPECT_EQ(records().size(), 2u);
}

} // namespace
} // namespace tandem::store
