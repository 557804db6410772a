// SPDX-License-Identifier: Apache-2.0
// levels.toml: what it says, what is refused and where (RIM-15, RIM-17, RIM-30), and a single key set in its text.
#include "controlplane/policy/config_file.hpp"

#include "controlplane/policy/config_tables.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace tandem::policy {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr const char* whole = R"(version = 1
default = "standard"
floor = "basic"
ceiling = "high"

# weakest first
[levels.standard]
suite = "AES_CM_128_HMAC_SHA1_80"   # the name says little: the order does
seed_bytes = 16
rekey_s = 60
overlap_s = 2
tag_bits = 80
[levels.basic]
suite = "AEAD_AES_128_GCM"
rekey_s = 30
keygen = "both"
path = "wlan"
[levels.high]
rekey_s = 2.5
overlap_s = 0.5

[wish.prefixes]
"*77" = "high"
"*7" = "basic"
[keygen]
devices_may = ["alice", "bob"]
[profiles]
of = "mean"
least_calls = 1
age_days = 7
most = 10
[[profiles.duration]]
at_least_s = 300
level = "basic"
[[profiles.duration]]
at_least_s = 900
level = "high"
[[profiles.calls]]
at_least = 20
level = "high"
[[profiles.failures]]
at_least = 2
level = "basic"
)";

tl::expected<config, std::string> parse(const std::string& text) {
    return parse_config(text, "levels.toml", {});
}

// The error's place and a part of what it says.
void expect_refused(const std::string& text, const std::string& place, const std::string& says) {
    const auto got = parse(text);
    ASSERT_FALSE(got) << text;
    EXPECT_EQ(got.error().rfind("levels.toml:" + place + ": ", 0), 0u) << got.error() << "\nof\n" << text;
    EXPECT_NE(got.error().find(says), std::string::npos) << got.error();
}

TEST(Rim15, EveryTableIsRead) {
    const auto got = parse(whole);
    ASSERT_TRUE(got) << got.error();
    ASSERT_EQ(got->levels.rows().size(), 3u);
    EXPECT_EQ(got->levels.rows()[0].name, "standard"); // as written, not by name nor as built in
    EXPECT_EQ(got->levels.rows()[1].name, "basic");
    EXPECT_EQ(got->levels.rows()[0].suite, api::suite::aes_cm_128_hmac_sha1_80);
    EXPECT_EQ(got->levels.rows()[1].keys, key_source::both);
    EXPECT_EQ(got->levels.rows()[1].path, path_choice::wlan);
    EXPECT_EQ(got->levels.rows()[1].seed_bytes, 16u); // from the built-in basic
    EXPECT_EQ(got->levels.rows()[2].suite, api::suite::aead_aes_256_gcm);
    EXPECT_EQ(got->levels.rows()[2].rekey, milliseconds(2500));
    EXPECT_EQ(got->levels.rows()[2].overlap, milliseconds(500));
    EXPECT_EQ(got->floor, "basic");
    EXPECT_EQ(got->ceiling, "high");
    EXPECT_EQ(got->prefixes.size(), 2u);
    EXPECT_EQ(got->units_may_make_keys, (std::set<std::string>{"alice", "bob"}));
    EXPECT_FALSE(got->any_unit_may_make_keys);
    EXPECT_EQ(got->duration_of, "mean");
    EXPECT_EQ(got->least_calls, 1u);
    EXPECT_EQ(got->age, std::chrono::hours(24 * 7));
    EXPECT_EQ(got->most_profiles, 10u);
    ASSERT_EQ(got->duration.size(), 2u);
    EXPECT_EQ(got->duration[1].at_least, seconds(900));
    EXPECT_EQ(got->calls.size(), 1u);
    EXPECT_EQ(got->failures[0].level, "basic");
}

TEST(Rim15, WithoutLevelsTheBuiltInOnesStand) {
    const auto got = parse("version = 1\n[keygen]\ndevices_may = true\n");
    ASSERT_TRUE(got) << got.error();
    EXPECT_EQ(got->levels.rows().size(), 4u);
    EXPECT_EQ(got->default_level, "standard");
    EXPECT_TRUE(got->any_unit_may_make_keys);
    EXPECT_EQ(got->duration.size(), 2u);
    // Built-in thresholds whose levels are gone say nothing.
    const auto own = parse("version = 1\ndefault = \"a\"\n[levels.a]\n[levels.high]\n");
    ASSERT_TRUE(own) << own.error();
    ASSERT_EQ(own->duration.size(), 1u);
    EXPECT_EQ(own->duration[0].level, "high");
}

// Levels 0..n: interval non-increasing, seed and key length non-decreasing; whatever breaks it is refused at its key.
TEST(Rim17, LevelsGrowStrongerInEveryRespect) {
    struct row {
        const char* suite;
        int seed;
        double rekey;
    };
    struct example {
        row weaker, stronger;
        bool fine;
        const char* place; // line:column in the text below
        const char* says;
    };
    constexpr auto* gcm128 = "AEAD_AES_128_GCM";
    constexpr auto* gcm256 = "AEAD_AES_256_GCM";
    constexpr auto* cm128 = "AES_CM_128_HMAC_SHA1_32";
    const example examples[] = {
        {{gcm128, 16, 60}, {gcm128, 16, 60}, true, "", ""},
        {{gcm128, 16, 60}, {gcm256, 64, 1}, true, "", ""},
        {{gcm128, 16, 60}, {cm128, 16, 60}, true, "", ""}, // another technique of the same strength
        {{gcm256, 32, 5}, {gcm256, 32, 5}, true, "", ""},
        {{gcm128, 16, 5}, {gcm128, 16, 5.5}, false, "10:11", "rekey_s = 5.5 is longer than 5 of l0"},
        {{gcm128, 32, 5}, {gcm256, 31, 5}, false, "9:14", "a seed of 31 bytes is shorter than the 32 of l0"},
        {{gcm256, 32, 5}, {gcm128, 32, 5}, false, "8:9", "a key of 128 bits is shorter than the 256 of l0"},
        {{gcm256, 64, 5}, {cm128, 64, 1}, false, "8:9", "a key of 128 bits"},
    };
    for (const auto& e : examples) {
        std::string text = "version = 1\ndefault = \"l0\"\n";
        for (const auto* r : {&e.weaker, &e.stronger})
            text += fmt::format("[levels.l{}]\nsuite = \"{}\"\nseed_bytes = {}\nrekey_s = {}\n", r == &e.weaker ? 0 : 1,
                                r->suite, r->seed, r->rekey);
        text += "overlap_s = 0.5\n";
        const auto got = parse(text);
        if (e.fine) {
            EXPECT_TRUE(got) << got.error();
            continue;
        }
        expect_refused(text, e.place, e.says);
    }
    const auto table = level_table::built_in();
    const auto& rows = table.rows();
    for (std::size_t n = 1; n < rows.size(); ++n) {
        EXPECT_LE(rows[n].rekey, rows[n - 1].rekey);
        EXPECT_GE(rows[n].seed_bytes, rows[n - 1].seed_bytes);
        EXPECT_GE(api::info(rows[n].suite).key_length, api::info(rows[n - 1].suite).key_length);
    }
}

TEST(Rim30, AnIntervalNotBelowThePrimarysLifetimeIsRefusedAtItsKey) {
    const std::string text = "version = 1\n[levels.standard]\nrekey_s = 100\n";
    EXPECT_TRUE(parse_config(text, "levels.toml", {seconds(101)}));
    const auto refused = parse_config(text, "levels.toml", {seconds(100)});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().rfind("levels.toml:3:11: level standard: rekey_s = 100 s is not below", 0), 0u)
        << refused.error();
    EXPECT_FALSE(parse_config("version = 1\n", "levels.toml", {seconds(120)})); // built-in ones are held to it too
}

TEST(Levels, WhatIsWrongIsSaidWithItsPlaceAndTheRemedy) {
    const std::string v = "version = 1\n";
    expect_refused(v + "[levels.standard]\nsuit = \"x\"\n", "3:1",
                   "unknown key \"suit\" in [levels.standard]; known here: suite");
    expect_refused(v + "colour = 1\n", "2:1", "known here: version, default");
    expect_refused(v + "[levels.standard]\nsuite = \"ROT13\"\n", "3:9", "known: AES_CM_128_HMAC_SHA1_80");
    expect_refused(v + "[levels.standard]\nsuite = \"RTP\"\n", "3:9", "known: AES_CM_128"); // floor: AES-128
    expect_refused(v + "[levels.standard]\nseed_bytes = 15\n", "3:14", "choose 16 to 64");
    expect_refused(v + "[levels.standard]\nseed_bytes = \"16\"\n", "3:14", "whole number");
    expect_refused(v + "[levels.standard]\nrekey_s = nan\n", "3:11", "number of seconds");
    expect_refused(v + "[levels.standard]\nrekey_s = 0.1\n", "3:11", "choose 0.5 s or more");
    expect_refused(v + "[levels.standard]\noverlap_s = 60\n", "3:13", "below rekey_s");
    expect_refused(v + "[levels.standard]\ntag_bits = 80\n", "3:12", "tag_bits must be 128");
    expect_refused(v + "[levels.standard]\nkeygen = \"unit!\"\n", "3:10", "gateway, device, both");
    expect_refused(v + "[levels.standard]\npath = \"5g\"\n", "3:8", "either, wlan, wwan");
    expect_refused(v + "[levels.\"a b\"]\n", "2:9", "letters, digits");
    expect_refused(v + "[levels]\nstandard = 5\n", "3:1", "[levels.standard]");
    expect_refused(v + "default = \"gold\"\n", "2:11", "names no level; levels: basic, standard, elevated, high");
    expect_refused(v + "floor = \"gold\"\n", "2:9", "names no level");
    expect_refused(v + "ceiling = \"basic\"\nfloor = \"high\"\n", "3:9", "above ceiling");
    expect_refused(v + "[wish.prefixes]\n\"*77\" = \"gold\"\n", "3:9", "names no level");
    expect_refused(v + "[wish.prefixes]\n\"call\" = \"high\"\n", "3:1", "0-9 * # +");
    expect_refused(v + "[wish.prefixes]\n\"\" = \"high\"\n", "3:1", "1 to 16");
    expect_refused(v + "[keygen]\ndevices_may = \"alice\"\n", "3:15", "list of id codes");
    expect_refused(v + "[keygen]\ndevices_may = [5]\n", "3:16", "id codes in quotes");
    expect_refused(v + "[profiles]\nof = \"mode\"\n", "3:6", "median, mean, last");
    expect_refused(v + "[profiles]\nleast_calls = 65\n", "3:15", "from 1 to 64");
    expect_refused(v + "[[profiles.duration]]\nat_least_s = 5\n", "2:1", "needs level");
    expect_refused(
        v + "[[profiles.calls]]\nat_least = 5\nlevel = \"high\"\n[[profiles.calls]]\nat_least = 5\nlevel = \"high\"\n",
        "6:12", "thresholds rise");
    expect_refused(v + "[[profiles.failures]]\nat_least = 5\nlevel = \"high\"\n[[profiles.failures]]\nat_least = "
                       "6\nlevel = \"basic\"\n",
                   "7:9", "levels rise");
    expect_refused(v + "[levels.standard\n", "2:17", "");
    expect_refused(v + "default = \"st\xc3\xa5\"\n", "2:14", "ASCII");
    expect_refused(v + "default = '''standard'''\n", "2:11", "one line");
    const auto none = parse("default = \"standard\"\n");
    ASSERT_FALSE(none);
    EXPECT_EQ(none.error(), "levels.toml: no version; the first line must be: version = 1");
    const auto gone = parse(v + "[levels.a]\n");
    ASSERT_FALSE(gone);
    EXPECT_NE(gone.error().find("write default = \"a\""), std::string::npos) << gone.error();
}

// -- controlplane.toml

tl::expected<tables, std::string> in_main_file(const std::string& text) {
    try {
        const toml_reader r("controlplane.toml");
        const auto root = r.parse(text);
        return read_tables(root, r, {});
    } catch (const toml_fault& fault) {
        return tl::unexpected(fault.text);
    }
}

TEST(Rim15, TheSameTablesMayStandInControlplaneToml) {
    const auto own = in_main_file("default_level = \"fast\"\n[levels.fast]\nrekey_s = 5\noverlap_s = 1\n");
    ASSERT_TRUE(own) << own.error();
    EXPECT_EQ(own->values.default_level, "fast");
    EXPECT_EQ(own->values.levels.rows().size(), 1u);
    EXPECT_TRUE(own->file.empty());
    const auto elsewhere = in_main_file("levels = \"/etc/tandem/levels.toml\"\ninstance = \"x\"\n");
    ASSERT_TRUE(elsewhere) << elsewhere.error();
    EXPECT_EQ(elsewhere->file, "/etc/tandem/levels.toml");
    const auto both = in_main_file("levels = \"levels.toml\"\nfloor = \"basic\"\n");
    ASSERT_FALSE(both);
    EXPECT_EQ(both.error().rfind("controlplane.toml:2:9: floor and levels = \"levels.toml\" are both here", 0), 0u)
        << both.error();
    EXPECT_FALSE(in_main_file("levels = \"\"\n"));
    EXPECT_FALSE(in_main_file("levels = 5\n"));
}

// -- one key set

std::string set(const std::string& text, const char* name, const char* key, const char* value) {
    const auto got = set_level_key(text, "levels.toml", name, key, value, {});
    return got ? *got : "refused: " + got.error();
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
    const auto at = text.find(from);
    return at == std::string::npos ? "\"" + from + "\" is not there" : text.replace(at, from.size(), to);
}

TEST(Rim15, OneKeyIsSetAndEverythingElseStays) {
    EXPECT_EQ(set(whole, "standard", "rekey_s", "45.5"), replaced(whole, "rekey_s = 60", "rekey_s = 45.5"));
    EXPECT_EQ(set(whole, "standard", "suite", "AES_CM_128_HMAC_SHA1_80"), whole);
    EXPECT_EQ(set(whole, "high", "rekey_s", "\t1 "), replaced(whole, "rekey_s = 2.5", "rekey_s = 1"));
    EXPECT_EQ(set(whole, "basic", "path", "\"wwan\""), replaced(whole, "\"wlan\"", "\"wwan\""));
    EXPECT_EQ(set(whole, "high", "seed_bytes", "48"),
              replaced(whole, "overlap_s = 0.5\n", "overlap_s = 0.5\nseed_bytes = 48\n"));
    EXPECT_EQ(set(whole, "high", "seed_is_key", "true"),
              replaced(whole, "overlap_s = 0.5\n", "overlap_s = 0.5\nseed_is_key = true\n"));
    // Odd but good TOML.
    EXPECT_EQ(set("version = 1\r\n[ levels . \"standard\" ] # here\r\n# not yet\r\n", "standard", "rekey_s", "5"),
              "version = 1\r\n[ levels . \"standard\" ] # here\r\nrekey_s = 5\r\n# not yet\r\n");
    EXPECT_EQ(set("version = 1\n[levels.standard]", "standard", "rekey_s", "5"),
              "version = 1\n[levels.standard]\nrekey_s = 5\n");
    EXPECT_EQ(set("version = 1\nlevels.standard.rekey_s = 7 # s\n", "standard", "rekey_s", "5"),
              "version = 1\nlevels.standard.rekey_s = 5 # s\n");
    EXPECT_EQ(set("version = 1\n[levels]\nstandard = {rekey_s = 7, overlap_s = 1}\n", "standard", "rekey_s", "5"),
              "version = 1\n[levels]\nstandard = {rekey_s = 5, overlap_s = 1}\n");
    // No level is written: none of the built-in ones is lost.
    const auto grown = set("version = 1\nfloor = \"basic\" # why", "high", "rekey_s", "3");
    const auto again = parse(grown);
    ASSERT_TRUE(again) << again.error();
    EXPECT_EQ(grown.rfind("version = 1\nfloor = \"basic\" # why\n", 0), 0u);
    EXPECT_EQ(again->levels.rows().size(), 4u);
    EXPECT_EQ(again->levels.find("high")->rekey, seconds(3));
    EXPECT_EQ(again->levels.find("elevated")->rekey, seconds(15));
}

TEST(Rim15, WhatWouldNotBeAcceptedWholeIsNotSet) {
    const auto refused = [](const std::string& text, const char* name, const char* key, const char* value,
                            const std::string& says) {
        const auto got = set(text, name, key, value);
        EXPECT_EQ(got.rfind("refused: ", 0), 0u) << got;
        EXPECT_NE(got.find(says), std::string::npos) << got;
    };
    refused(whole, "high", "rekey_s", "31", "levels.toml:19:11: level high: rekey_s = 31 is longer than 30 of basic");
    refused(whole, "high", "seed_bytes", "65", "choose 16 to 64");
    refused(whole, "gold", "rekey_s", "5", "there is no level \"gold\"; levels: basic, high, standard");
    refused(whole, "high", "colour", "5", "known: suite");
    refused(whole, "high", "rekey_s", "5\n[levels.x]", "one word or number");
    refused(whole, "high", "suite", "x\" # ", "one word or number");
    refused(whole, "high", "rekey_s", "", "one word or number");
    refused(whole, "standard", "suite", "AEAD_AES_256_GCM", "tag_bits");
    refused("version = 1\n", "gold", "rekey_s", "5", "built-in");
    refused("version = 1\nlevels.standard.rekey_s = 7\n", "standard", "overlap_s", "1", "edit the file");
    refused("version = 1\n[levels.standard]\nrekey_s = [7,\n8]\n", "standard", "rekey_s", "5", "edit the file");
    refused("[[[", "standard", "rekey_s", "5", "levels.toml:1:");
}

} // namespace
} // namespace tandem::policy
