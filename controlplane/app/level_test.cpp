// SPDX-License-Identifier: Apache-2.0
// Levels out of a file of their own: read at start, reloaded, refused whole, changed; alarms; where records live;
// times.
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <unistd.h>

#include "controlplane/app/level_file.hpp"
#include "controlplane/app/verb_tools.hpp"

namespace tandem::control {
namespace {

const std::string tunnel = "[tunnel]\nlisten = [\"192.0.2.1:4433\"]\ninner4 = \"10.64.0.0/16\"\n";
const std::string levels = R"(version = 1
default = "low" # for most
[levels.low]
suite = "AEAD_AES_128_GCM"
seed_bytes = 16
rekey_s = 60
[levels.top]
suite = "AEAD_AES_256_GCM"
seed_bytes = 32
rekey_s = 10
)";

class Levels : public testing::Test {
protected:
    Levels() {
        char name[] = "/tmp/tandem-levels-XXXXXX";
        dir_ = ::mkdtemp(name);
        write("levels.toml", levels);
        write("main.toml", "version = 1\nlevels = \"" + path("levels.toml") + "\"\n" + tunnel);
        auto read = load_config(path("main.toml"));
        EXPECT_TRUE(read) << read.error();
        if (read)
            settings_ = *read;
    }
    ~Levels() override { std::filesystem::remove_all(dir_); }
    [[nodiscard]] std::string path(const std::string& name) const { return dir_ + "/" + name; }
    void write(const std::string& name, const std::string& text) const { std::ofstream(path(name)) << text; }
    [[nodiscard]] std::string text(const std::string& name) const {
        std::ifstream file(path(name));
        return {std::istreambuf_iterator<char>(file), {}};
    }
    std::string dir_;
    config settings_;
};

TEST_F(Levels, OneFileOrTheOther) {
    EXPECT_EQ(settings_.policy.default_level, "low");
    EXPECT_EQ(settings_.levels_file, path("levels.toml"));
    const auto both = parse_config("version = 1\nlevels = \"x.toml\"\ndefault_level = \"a\"\n" + tunnel, "c.toml");
    ASSERT_FALSE(both);
    EXPECT_EQ(both.error().rfind("c.toml:", 0), 0u) << both.error();
    write("main.toml", "version = 1\nlevels = \"" + path("none.toml") + "\"\n" + tunnel);
    const auto missing = load_config(path("main.toml"));
    ASSERT_FALSE(missing);
    EXPECT_NE(missing.error().find("none.toml"), std::string::npos) << missing.error();
}

TEST_F(Levels, Rim15ReloadTakesAllOrNothingAndRaisesAnAlarm) {
    policy::engine engine(settings_.policy);
    alarm_board alarms;
    level_file file(settings_, engine, alarms);
    EXPECT_EQ(engine.by_name("top").rekey.count(), 10'000);
    write("levels.toml", levels + "overlap_s = 1\n[levels.broken]\nsuite = \"ROT13\"\n");
    const auto refused = file.reload("test");
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().rfind(path("levels.toml") + ":13:", 0), 0u) << refused.error();
    EXPECT_EQ(engine.by_name("top").rekey.count(), 10'000);
    ASSERT_EQ(alarms.standing().count(alarms::levels), 1u);
    auto better = levels;
    better.replace(better.find("rekey_s = 10"), 12, "rekey_s = 5");
    write("levels.toml", better);
    ASSERT_TRUE(file.reload("test"));
    EXPECT_EQ(engine.by_name("top").rekey.count(), 5'000);
    EXPECT_TRUE(alarms.standing().empty());
}

TEST_F(Levels, SetWritesTheFileAndKeepsItsComments) {
    policy::engine engine(settings_.policy);
    alarm_board alarms;
    level_file file(settings_, engine, alarms);
    // Each alone would be refused or fine; together they are fine whatever the order.
    const auto done = file.set("top", {{"rekey_s", "4"}, {"seed_bytes", "48"}, {"overlap_s", "1"}}, "test");
    ASSERT_TRUE(done) << done.error();
    EXPECT_EQ(engine.by_name("top").rekey.count(), 4'000);
    EXPECT_EQ(engine.by_name("top").seed_bytes, 48u);
    EXPECT_NE(text("levels.toml").find("# for most"), std::string::npos);
    const auto before = text("levels.toml");
    for (const auto& [key, value] : {std::pair{"rekey_s", "120"}, {"seed_bytes", "3"}, {"colour", "red"}}) {
        const auto refused = file.set("top", {{key, value}}, "test");
        ASSERT_FALSE(refused) << key;
        EXPECT_EQ(text("levels.toml"), before);
    }
    EXPECT_FALSE(file.set("none", {{"rekey_s", "4"}}, "test"));
    settings_.levels_file.clear();
    const auto inline_tables = file.set("top", {{"rekey_s", "4"}}, "test");
    ASSERT_FALSE(inline_tables);
    EXPECT_NE(inline_tables.error().find("main.toml itself"), std::string::npos) << inline_tables.error();
}

TEST(Store, KindsAndTheirKeys) {
    const auto read = [](const std::string& table) { return parse_config("version = 1\n" + tunnel + table, "c.toml"); };
    const auto shared = read("[store]\nkind = \"postgresql\"\nconninfo = \"service=tandem\"\nkeep_days = 30\n");
    ASSERT_TRUE(shared) << shared.error();
    EXPECT_TRUE(shared->store.shared);
    EXPECT_EQ(shared->store.keep_days, 30u);
    for (const auto* bad :
         {"[store]\nkind = \"oracle\"\n", "[store]\nkind = \"postgresql\"\n",
          "[store]\nconninfo = \"service=tandem\"\n", "[store]\nkeep_days = -1\n", "[store]\ncolour = 1\n"})
        EXPECT_FALSE(read(bad)) << bad;
}

TEST(Alarms, StandUntilCleared) {
    alarm_board board;
    board.raise("store", "away");
    const auto since = board.standing().at("store").since;
    board.raise("store", "still away");
    EXPECT_EQ(board.standing().at("store").text, "still away");
    EXPECT_EQ(board.standing().at("store").since, since);
    board.set("store", false, "");
    EXPECT_TRUE(board.standing().empty());
}

TEST(VerbTools, Times) {
    const auto time = [](const nlohmann::json& value) { return time_arg({{"t", value}}, "t"); };
    const auto text = [&](const nlohmann::json& value) {
        const auto got = time(value);
        return got ? exact_time_text(*got) : std::string("-");
    };
    EXPECT_EQ(text("2026-11-21"), "2026-11-21T00:00:00.000Z");
    EXPECT_EQ(text("2026-11-21T18:05"), "2026-11-21T18:05:00.000Z");
    EXPECT_EQ(text("2026-11-21 18:05:07.250Z"), "2026-11-21T18:05:07.250Z");
    EXPECT_EQ(text(1'795'284'307'250), "2026-11-21T18:05:07.250Z");
    for (const auto* bad :
         {"yesterday", "2026-13-01", "2026-11-21T", "2026-11-21T25:00", "2026-1-1", "-1", "2026-11-21x"})
        EXPECT_EQ(text(bad), "-") << bad;
}

} // namespace
} // namespace tandem::control
