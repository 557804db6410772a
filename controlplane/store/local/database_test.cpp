// SPDX-License-Identifier: Apache-2.0
// The store: what is written is read back by another process's life, keys never lie there in clear, words where it
// fails.
#include "controlplane/store/local/database.hpp"

#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

namespace tandem::store {
namespace {

struct store_test : testing::Test {
    store_test() {
        char name[] = "/tmp/tandem-store-XXXXXX";
        dir = ::mkdtemp(name);
        open();
    }
    ~store_test() override { std::filesystem::remove_all(dir); }
    void open() {
        db.reset();
        auto keys = identity::sealer::open(dir + "/master.key");
        ASSERT_TRUE(keys) << keys.error();
        auto made = database::open(dir + "/t.db", std::move(*keys));
        ASSERT_TRUE(made) << made.error();
        db = std::move(*made);
    }
    [[nodiscard]] std::string all_bytes() const {
        std::string bytes;
        for (const auto& file : std::filesystem::directory_iterator(dir)) {
            if (file.path().filename() == "master.key")
                continue;
            std::ifstream in(file.path(), std::ios::binary);
            bytes.append(std::istreambuf_iterator<char>(in), {});
        }
        return bytes;
    }
    std::string dir;
    std::unique_ptr<database> db;
};

const std::vector<std::uint8_t> psk{'v', 'e', 'r', 'y', '-', 's', 'e', 'c', 'r', 'e', 't', '-', 'k', 'e', 'y', '!'};

TEST_F(store_test, Rim04_UnitsSurviveAndTheirKeysAreSealed) {
    ASSERT_TRUE(db->add_unit("alice", psk, "first floor"));
    ASSERT_TRUE(db->add_unit("certonly", {}, ""));
    open();
    const auto units = db->units();
    ASSERT_EQ(units.size(), 2u);
    EXPECT_EQ(units[0].id, "alice");
    EXPECT_EQ(units[0].comment, "first floor");
    EXPECT_TRUE(units[0].has_psk);
    EXPECT_FALSE(units[1].has_psk);
    const auto key = db->identities().psk("alice");
    ASSERT_TRUE(key);
    EXPECT_TRUE(std::ranges::equal(key->view(), psk));
    EXPECT_TRUE(db->identities().known("certonly"));
    EXPECT_FALSE(db->identities().psk("certonly"));
    EXPECT_FALSE(db->identities().known("bob"));
    EXPECT_EQ(all_bytes().find("very-secret-key!"), std::string::npos) << "the key lies in clear";
    EXPECT_TRUE(db->remove_unit("alice"));
    EXPECT_FALSE(db->remove_unit("alice"));
    EXPECT_FALSE(db->identities().psk("alice"));
}

TEST_F(store_test, TheKindOfCredentialIsTheUnits) {
    const std::vector<std::uint8_t> key(32, 5), other(32, 6), cut(31, 5);
    ASSERT_TRUE(db->add_unit("alice", psk, ""));
    ASSERT_TRUE(db->add_unit("dave", {}, ""));
    ASSERT_TRUE(db->add_unit("erin", {}, "", key));
    EXPECT_FALSE(db->add_unit("both", psk, "", key));
    EXPECT_FALSE(db->add_unit("short", {}, "", cut));
    open();
    EXPECT_FALSE(db->identities().by_certificate("alice", key)) << "she has a key";
    EXPECT_FALSE(db->identities().by_certificate("nobody", key));
    EXPECT_TRUE(db->identities().by_certificate("dave", key) && db->identities().by_certificate("dave", other));
    EXPECT_TRUE(db->identities().by_certificate("erin", key));
    EXPECT_FALSE(db->identities().by_certificate("erin", other));
}

TEST_F(store_test, ARemovedUnitComesBackWithANewKeyAlone) {
    const std::vector<std::uint8_t> key(32, 5), old(32, 6);
    ASSERT_TRUE(db->add_unit("dave", {}, ""));
    ASSERT_TRUE(db->remove_unit("dave"));
    open();
    const auto again = db->add_unit("dave", {}, "");
    ASSERT_FALSE(again);
    EXPECT_NE(again.error().find("spki"), std::string::npos) << again.error();
    ASSERT_TRUE(db->add_unit("dave", {}, "", key));
    EXPECT_TRUE(db->identities().by_certificate("dave", key));
    EXPECT_FALSE(db->identities().by_certificate("dave", old));
    ASSERT_TRUE(db->remove_unit("dave"));
    EXPECT_TRUE(db->add_unit("dave", psk, "")) << "a pre-shared key is new by itself";
}

TEST_F(store_test, BadUnitsAreRefusedWithWords) {
    const std::vector<std::uint8_t> shorty(15, 1), lengthy(65, 1);
    EXPECT_FALSE(db->add_unit("", psk, ""));
    EXPECT_FALSE(db->add_unit("a b", psk, ""));
    EXPECT_FALSE(db->add_unit("alice", shorty, ""));
    EXPECT_FALSE(db->add_unit("alice", lengthy, ""));
    ASSERT_TRUE(db->add_unit("alice", psk, ""));
    const auto twice = db->add_unit("alice", psk, "");
    ASSERT_FALSE(twice);
    EXPECT_NE(twice.error().find("there already"), std::string::npos);
}

TEST_F(store_test, SealedKeyMovedToAnotherRowDoesNotOpen) {
    ASSERT_TRUE(db->add_unit("alice", psk, ""));
    ASSERT_TRUE(db->add_unit("mallory", {}, ""));
    db.reset();
    sqlite3* raw = nullptr;
    ASSERT_EQ(sqlite3_open((dir + "/t.db").c_str(), &raw), SQLITE_OK);
    ASSERT_EQ(sqlite3_exec(raw, "UPDATE unit SET psk = (SELECT psk FROM unit WHERE id='alice') WHERE id='mallory'",
                           nullptr, nullptr, nullptr),
              SQLITE_OK);
    sqlite3_close(raw);
    open();
    EXPECT_FALSE(db->identities().psk("mallory"));
    EXPECT_TRUE(db->identities().psk("alice"));
}

TEST_F(store_test, SessionsSurvive) {
    db->sessions().save(
        {"alice", 0xfedcba9876543210, {asio::ip::make_address("10.64.0.2"), asio::ip::make_address("fd64::2")}});
    db->sessions().save({"carol", 1, {}});
    db->sessions().forget("carol");
    open();
    const auto rows = db->sessions().load();
    ASSERT_EQ(rows.size(), 1u);
    EXPECT_EQ(rows[0].id, 0xfedcba9876543210);
    ASSERT_EQ(rows[0].inner.size(), 2u);
    EXPECT_EQ(rows[0].inner[1].to_string(), "fd64::2");
}

TEST_F(store_test, ANameIsOneUnitsAndNobodysIdCode) {
    ASSERT_TRUE(db->add_unit("pbx", {}, ""));
    ASSERT_TRUE(db->add_unit("alice", {}, ""));
    ASSERT_TRUE(db->add_unit_name("pbx", "+46701"));
    ASSERT_TRUE(db->add_unit_name("pbx", "+46702"));
    ASSERT_TRUE(db->add_unit_name("pbx", "+46702")) << "again: it is there";
    EXPECT_FALSE(db->add_unit_name("alice", "+46701")) << "another's name";
    EXPECT_FALSE(db->add_unit_name("alice", "pbx")) << "another's id code";
    EXPECT_FALSE(db->add_unit_name("alice", "a b"));
    EXPECT_FALSE(db->add_unit_name("nobody", "x"));
    EXPECT_FALSE(db->add_unit("+46701", {}, "")) << "an id code that is another's name";
    open();
    EXPECT_EQ(db->unit_names("pbx"), (std::vector<std::string>{"+46701", "+46702"}));
    EXPECT_EQ(db->all_unit_names(),
              (std::vector<std::pair<std::string, std::string>>{{"pbx", "+46701"}, {"pbx", "+46702"}}));
    EXPECT_EQ(db->owner_of_name("pbx"), "pbx");
    EXPECT_EQ(db->owner_of_name("+46702"), "pbx");
    EXPECT_EQ(db->owner_of_name("nobody"), "");
    EXPECT_TRUE(db->remove_unit_name("pbx", "+46702"));
    EXPECT_FALSE(db->remove_unit_name("pbx", "+46702"));
    EXPECT_TRUE(db->remove_unit("pbx"));
    EXPECT_TRUE(db->add_unit_name("alice", "+46701")) << "a unit's names go with it";
}

TEST_F(store_test, CallsSurvive) {
    db->calls().put("a@b", R"({"x":1})");
    db->calls().put("a@b", R"({"x":2})");
    db->calls().put("c", "{}");
    db->calls().erase("c");
    open();
    const auto rows = db->calls().load_all();
    ASSERT_EQ(rows.size(), 1u);
    EXPECT_EQ(rows[0].second, R"({"x":2})");
}

TEST_F(store_test, MediaJournalSurvivesWholly) {
    media::media_row row;
    row.id = 77;
    row.call_id = "c\xff"; // not UTF-8: must not throw
    row.kind = "audio";
    row.level.name = "high";
    row.forward = {true, false};
    row.installed = true;
    row.rekeys = 12;
    row.opened.wall = std::chrono::system_clock::time_point(std::chrono::milliseconds(1700000000123));
    row.legs[0].kind = media::leg_kind::unit;
    row.legs[0].unit = "alice";
    row.legs[0].tsid = 0xfedcba9876543210;
    row.legs[0].outer = asio::ip::make_address("192.0.2.1");
    row.legs[0].port = 20002;
    row.legs[0].suite = api::suite::aead_aes_256_gcm;
    row.legs[0].epoch = 13;
    row.legs[0].hint = media::endpoint{asio::ip::make_address("203.0.113.5"), 5555};
    row.legs[1].outer = asio::ip::make_address("2001:db8::1");
    row.legs[1].remote_rtp = media::endpoint{asio::ip::make_address("2001:db8::7"), 7000};
    row.legs[1].address_index = 3;
    db->media().put(row);
    db->media().set_generation(0xffffffffffffffff);
    open();
    const auto rows = db->media().load();
    ASSERT_EQ(rows.size(), 1u);
    EXPECT_EQ(rows[0].id, 77u);
    EXPECT_EQ(rows[0].forward, row.forward);
    EXPECT_EQ(rows[0].opened, row.opened);
    EXPECT_EQ(rows[0].legs[0].tsid, row.legs[0].tsid);
    EXPECT_EQ(rows[0].legs[0].hint, row.legs[0].hint);
    EXPECT_EQ(rows[0].legs[0].suite, row.legs[0].suite);
    EXPECT_EQ(rows[0].legs[0].epoch, 13u);
    EXPECT_EQ(rows[0].legs[1].remote_rtp, row.legs[1].remote_rtp);
    EXPECT_EQ(rows[0].legs[1].address_index, 3u);
    EXPECT_EQ(db->media().generation(), 0xffffffffffffffff);
    db->media().erase(77);
    EXPECT_TRUE(db->media().load().empty());
}

TEST_F(store_test, NewerSchemaAndUnreadablePathAreSaid) {
    db.reset();
    sqlite3* raw = nullptr;
    ASSERT_EQ(sqlite3_open((dir + "/t.db").c_str(), &raw), SQLITE_OK);
    sqlite3_exec(raw, "PRAGMA user_version = 999", nullptr, nullptr, nullptr);
    sqlite3_close(raw);
    auto newer = database::open(dir + "/t.db", std::move(*identity::sealer::open(dir + "/master.key")));
    ASSERT_FALSE(newer);
    EXPECT_NE(newer.error().find("schema 999"), std::string::npos) << newer.error();
    auto nowhere = database::open("/proc/nowhere/t.db", std::move(*identity::sealer::open(dir + "/master.key")));
    ASSERT_FALSE(nowhere);
    EXPECT_NE(nowhere.error().find("cannot be opened"), std::string::npos) << nowhere.error();
}

TEST_F(store_test, FileIsItsOwnersOnly) {
    struct stat info {};
    ASSERT_EQ(::stat((dir + "/t.db").c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0600u);
}

} // namespace
} // namespace tandem::store
