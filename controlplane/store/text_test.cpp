// SPDX-License-Identifier: Apache-2.0
// Records as JSON and CSV, and back.
#include "controlplane/store/record_text.hpp"

#include "controlplane/store/local/store_fixture.hpp"

namespace tandem::store {
namespace {

call_record sample() {
    call_record r;
    r.id = new_record_id();
    r.instance = "gw-1";
    r.call_id = "a\"b\\c,\n";
    r.caller = "alice";
    r.callee = "0046 70-123 45 67";
    r.started = at(0);
    r.answered = at(5) + 250ms;
    r.ended = at(65) + 500ms;
    r.level = "high";
    r.decided_by = "caller's wish";
    r.why = {{"default", "", "", false}, {"caller's wish", "high", "asked for \"high\"", true}};
    r.cause = "hung up";
    r.clock_set = 3600s;
    for (std::uint32_t i = 0; i < 2; ++i) {
        auto m = calls_fixture::over(10 + i, r.call_id, 5, 65, i);
        m.decided_by = r.decided_by;
        m.why = r.why;
        m.level.seed_bytes = 32;
        m.level.keys = policy::key_source::both;
        m.level.rekey = std::chrono::seconds(5);
        m.rekeys = 12;
        m.seeds_from_units = 3;
        m.legs[0] = {"unit", "alice", "AEAD_AES_256_GCM", 1000, 160000, 3, 1, 2, 4, 5, 1.5, 2.25};
        m.legs[1] = {"core", "", "clear", 900, 140000, 0, 0, 0, 0, 0, 0, 0};
        r.media.push_back(m);
    }
    r.media[1].why = {{"default", "high", "another reason", true}};
    return r;
}

TEST(record_text, JsonIsReadBackWhole) {
    const auto r = sample();
    const auto text = to_json(r);
    EXPECT_EQ(text.find('\n'), std::string::npos);
    const auto back = call_record_from_json(text);
    ASSERT_TRUE(back);
    EXPECT_EQ(to_json(*back), text);
    EXPECT_EQ(back->answered, r.answered);
    EXPECT_EQ(back->duration(), 60250ms);
    EXPECT_EQ(back->clock_set, 3600s);
    EXPECT_EQ(back->why, r.why);
    ASSERT_EQ(back->media.size(), 2u);
    EXPECT_EQ(back->media[0].why, r.why);
    EXPECT_EQ(back->media[0].level.keys, policy::key_source::both);
    EXPECT_EQ(back->media[0].legs[0].max_jitter_ms, 2.25);
    EXPECT_EQ(back->media[0].legs[0].reported_lost, 5u);
    EXPECT_EQ(back->media[0].seeds_from_units, 3u);
    EXPECT_EQ(back->media[1].why[0].text, "another reason");
    EXPECT_FALSE(call_record_from_json("{}"));
    EXPECT_FALSE(call_record_from_json("not json"));
    auto odd = r;
    odd.caller = "\xff\xfe";
    EXPECT_TRUE(call_record_from_json(to_json(odd))) << "what is not UTF-8 is replaced";
}

TEST(record_text, CsvHasOneRowACallAndItsHeadersCells) {
    const auto cells = [](const std::string& row) {
        std::vector<std::string> all(1);
        bool quoted = false;
        for (const char c : row) {
            if (c == '"')
                quoted = !quoted;
            else if (c == ',' && !quoted)
                all.emplace_back();
            else
                all.back() += c;
        }
        return all;
    };
    const auto head = cells(csv_header());
    auto r = sample();
    const auto row = cells(csv_row(r));
    ASSERT_EQ(row.size(), head.size());
    const auto cell = [&](const std::string& name) {
        return row[static_cast<std::size_t>(std::ranges::find(head, name) - head.begin())];
    };
    EXPECT_EQ(cell("call_id"), "ab\\c,\n");
    EXPECT_EQ(cell("seconds"), "60.250");
    EXPECT_EQ(cell("answered").substr(19), ".250Z");
    EXPECT_EQ(cell("suite"), "AEAD_AES_256_GCM");
    EXPECT_EQ(cell("seed_bytes"), "32");
    EXPECT_EQ(cell("interval_s"), "5");
    EXPECT_EQ(cell("key_source"), "both");
    EXPECT_EQ(cell("rekeys"), "24");
    EXPECT_EQ(cell("media"), "2");
    EXPECT_EQ(cell("caller_packets"), "2000");
    EXPECT_EQ(cell("caller_lost"), "6");
    EXPECT_EQ(cell("caller_max_jitter_ms"), "2.25");
    EXPECT_EQ(cell("callee_bytes"), "280000");
    EXPECT_EQ(cell("cause"), "hung up");
    r.media.clear();
    r.answered = {};
    EXPECT_EQ(cells(csv_row(r)).size(), head.size());
}

TEST(record_text, PairsAreCanonicalAndFaultsAreFailures) {
    auto r = sample();
    const auto pair = pair_of(r);
    ASSERT_TRUE(pair);
    EXPECT_EQ(pair->first, "+46701234567");
    EXPECT_EQ(pair->second, "alice");
    EXPECT_FALSE(past_call_of(r).failed);
    EXPECT_EQ(past_call_of(r).duration, 60250ms);
    r.cause = "media timeout: unit alice was silent";
    EXPECT_TRUE(past_call_of(r).failed);
    EXPECT_EQ(past_call_of(r).duration, 60250ms);
    r.callee.clear();
    EXPECT_FALSE(pair_of(r));
}

TEST(record_text, ProfilesAreReadWhoeverWroteThem) {
    protocol::profile p{"a", "b", {}, 0};
    for (int n = 0; n < 3; ++n)
        p.add({at(n), std::chrono::milliseconds(1500 * n), n == 0});
    protocol::profile back{"a", "b", {}, 0};
    ASSERT_TRUE(profile_from_json(to_json(p), back));
    EXPECT_EQ(back, p);
    // PostgreSQL's jsonb spaces and orders as it likes.
    ASSERT_TRUE(profile_from_json(R"({"calls": [[1000, 60000, false]], "total": 7})", back));
    EXPECT_EQ(back.total, 7u);
    EXPECT_EQ(back.calls.at(0).duration, 60s);
    EXPECT_FALSE(profile_from_json("[]", back));
    EXPECT_FALSE(profile_from_json(R"({"total":1,"calls":[[1,2)", back));
    EXPECT_TRUE(back.calls.empty());
}

TEST(record_text, IdsAreUniqueAndInOrderOfTime) {
    const auto one = new_record_id(), other = new_record_id();
    EXPECT_EQ(one.size(), 32u);
    EXPECT_NE(one, other);
    EXPECT_LE(one.substr(0, 12), other.substr(0, 12));
}

} // namespace
} // namespace tandem::store
