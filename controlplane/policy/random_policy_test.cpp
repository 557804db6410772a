// SPDX-License-Identifier: Apache-2.0
// 10,000 random policies: the engine against a decision that is written a second time, plainly and apart, over lists.
// What it decides, by which rule, with whose keys, over which path, and what it refuses must be the same, always.
#include <algorithm>
#include <map>
#include <random>

#include <gtest/gtest.h>

#include "controlplane/policy/engine.hpp"

namespace tandem::policy {
namespace {

using std::chrono::hours;
using std::chrono::seconds;

const std::chrono::system_clock::time_point today{hours(500'000)};

// A party as a call names it, and what it means, worked out by hand.
struct person {
    party as_said;
    std::string user, domain; // canonical; empty = none
};
const std::vector<person> people{
    {{"alice", "example.com"}, "alice", "example.com"},
    {{"alice", ""}, "alice", ""},
    {{"bob", "Example.ORG"}, "bob", "example.org"},
    {{"sip:bob@example.com:5060", "ignored.example"}, "bob", "example.com"},
    {{"+46701234567", "example.com"}, "+46701234567", "example.com"},
    {{"0046 70-123 45 68", ""}, "+46701234568", ""},
    {{"tel:+46709", "example.org"}, "+46709", "example.org"},
    {{"+1", ""}, "+1", ""},
    {{"1001", "example.com"}, "1001", "example.com"},
    {{"070-1", "example.org"}, "", "example.org"},
    {{"", ""}, "", ""},
};
const std::vector<std::string> addresses{"alice",
                                         "bob",
                                         "1001",
                                         "sip:alice@example.com",
                                         "sip:bob@example.com",
                                         "sip:bob@example.org",
                                         "@example.com",
                                         "@example.org",
                                         "+4",
                                         "+46",
                                         "+4670",
                                         "+467012",
                                         "+46701234567",
                                         "+1",
                                         "+467012345678",
                                         "sip:+46701234567@example.com",
                                         "sip:1001@example.com"};
const std::vector<std::string> level_names{"a", "b", "c", "d", "e", "gone"}; // the last never exists
const std::vector<std::string> units{"alice", "bob"};

struct verdict {
    std::string level, by;
    key_source keys{};
    path_choice path{};
    std::map<std::string, int> refused;
    friend bool operator==(const verdict&, const verdict&) = default;
};

// -- the plain one

struct plain_policy {
    config settings;
    std::vector<rule> rules;
    protocol::profile history; // of alice and bob
    bool known = true;

    int strength(const std::string& level) const {
        for (std::size_t n = 0; n < settings.levels.rows().size(); ++n)
            if (settings.levels.rows()[n].name == level)
                return static_cast<int>(n) + 1;
        return 0;
    }

    const rule* row_of(const person& who) const {
        const rule* best = nullptr;
        std::size_t best_worth = 0;
        for (const auto& row : rules) {
            std::size_t worth = 0;
            if (!who.user.empty() && !who.domain.empty() && row.address == "sip:" + who.user + "@" + who.domain)
                worth = 1000;
            else if (!who.user.empty() && row.address == who.user && who.user[0] != '+')
                worth = 900;
            else if (row.address[0] == '+' && who.user.substr(0, row.address.size()) == row.address)
                worth = 100 + row.address.size();
            else if (!who.domain.empty() && row.address == "@" + who.domain)
                worth = 1;
            if (worth > best_worth) {
                best_worth = worth;
                best = &row;
            }
        }
        return best;
    }

    std::string predicted(const std::string& by) const {
        std::vector<double> lengths;
        std::size_t failures = 0;
        for (const auto& call : history.calls) {
            if (call.ended + settings.age <= today)
                continue;
            failures += call.failed;
            if (!call.failed || call.duration > seconds(0))
                lengths.push_back(std::chrono::duration<double>(call.duration).count());
        }
        std::string level;
        if (by == "duration") {
            if (lengths.empty() || lengths.size() < settings.least_calls)
                return {};
            double expected = lengths.back();
            if (settings.duration_of == "mean") {
                expected = 0;
                for (const double length : lengths)
                    expected += length;
                expected /= static_cast<double>(lengths.size());
            } else if (settings.duration_of == "median") {
                std::sort(lengths.begin(), lengths.end());
                expected = (lengths[lengths.size() / 2] + lengths[(lengths.size() - 1) / 2]) / 2;
            }
            for (const auto& step : settings.duration)
                if (expected >= static_cast<double>(step.at_least.count()))
                    level = step.level;
        } else {
            for (const auto& step : by == "calls" ? settings.calls : settings.failures)
                if ((by == "calls" ? lengths.size() : failures) >= step.at_least)
                    level = step.level;
        }
        return level;
    }

    verdict decide(const person& caller, const person& callee, const question& call) const {
        verdict made;
        for (const auto* name : {"wish_unknown", "wish_below", "contact", "profile", "keygen", "rule"})
            made.refused[name] = 0;
        std::vector<std::pair<std::string, std::string>> said; // rule, level; in the order that breaks ties
        const rule* rows[2] = {known ? row_of(caller) : nullptr, known ? row_of(callee) : nullptr};
        for (const int side : {0, 1})
            if (rows[side] != nullptr && rows[side]->level == "deny" && made.level.empty()) {
                made.level = "deny";
                made.by = side == 0 ? "security database: caller" : "security database: callee";
            }
        for (const int side : {0, 1})
            if (rows[side] != nullptr && rows[side]->level != "deny" && strength(rows[side]->level) == 0) {
                ++made.refused["rule"];
                rows[side] = nullptr;
            }
        if (!made.level.empty())
            return made;
        if (rows[0] != nullptr)
            said.emplace_back("security database: caller", rows[0]->level);
        if (rows[1] != nullptr)
            said.emplace_back("security database: callee", rows[1]->level);
        for (const auto& device : call.devices)
            if (!device.contact_level.empty() && strength(device.contact_level) == 0)
                ++made.refused["contact"];
            else
                said.emplace_back("contacts of " + device.unit, device.contact_level);
        for (const auto& device : call.devices)
            if (!device.profile_level.empty() && strength(device.profile_level) == 0)
                ++made.refused["profile"];
            else
                said.emplace_back("profile of " + device.unit, device.profile_level);
        const auto pair = caller.as_said.id + callee.as_said.id; // a SIP address is another name than its user part
        if (pair == "alicebob" || pair == "bobalice")
            for (const auto* by : {"duration", "calls", "failures"})
                said.emplace_back(std::string("call profile: ") + by, predicted(by));
        int base = 0;
        for (const auto& [rule, level] : said)
            base = std::max(base, strength(level));
        const bool nothing = base == 0;
        if (nothing)
            base = strength(settings.default_level);

        int wish = strength(call.wish);
        if (!call.wish.empty() && wish == 0)
            ++made.refused["wish_unknown"];
        std::size_t longest = 0;
        int dialled = 0;
        for (const auto& [prefix, level] : settings.prefixes)
            if (call.dialled.substr(0, prefix.size()) == prefix && prefix.size() > longest) {
                longest = prefix.size();
                dialled = strength(level);
            }
        wish = std::max(wish, dialled);
        if (wish != 0 && wish < base)
            ++made.refused["wish_below"];
        else if (wish != 0)
            said.emplace_back("caller's wish", settings.levels.rows()[static_cast<std::size_t>(wish) - 1].name);
        if (nothing)
            said.emplace_back("default", settings.default_level);

        int stands = 0;
        for (const auto& [rule, level] : said)
            stands = std::max(stands, strength(level));
        for (const auto& [rule, level] : said)
            if (strength(level) == stands) {
                made.by = rule;
                break;
            }
        if (stands < strength(settings.floor)) {
            stands = strength(settings.floor);
            made.by = "operator's floor";
        }
        if (!settings.ceiling.empty() && stands > strength(settings.ceiling)) {
            stands = strength(settings.ceiling);
            made.by = "operator's ceiling";
        }
        const auto& level = settings.levels.rows()[static_cast<std::size_t>(stands) - 1];
        made.level = level.name;

        made.keys = level.keys;
        bool wished = false;
        for (const auto& device : call.devices) {
            const bool may = settings.any_unit_may_make_keys || settings.units_may_make_keys.count(device.unit) != 0;
            if (device.keys && !may && *device.keys != key_source::gateway)
                ++made.refused["keygen"];
            if (device.keys && may) {
                made.keys = wished ? std::max(made.keys, *device.keys) : *device.keys;
                wished = true;
            }
        }
        std::vector<key_source> by_rules;
        std::vector<path_choice> paths;
        for (const auto* row : rows) {
            if (row != nullptr && row->keys)
                by_rules.push_back(*row->keys);
            if (row != nullptr && row->path)
                paths.push_back(*row->path);
        }
        if (!by_rules.empty())
            made.keys = *std::max_element(by_rules.begin(), by_rules.end());
        made.path = paths.empty() ? level.path : paths.front();
        for (auto path = paths.rbegin(); path != paths.rend(); ++path)
            if (*path != path_choice::either)
                made.path = *path;
        return made;
    }
};

// -- chance

class chance {
public:
    explicit chance(unsigned seed) : random_(seed) {}
    std::size_t below(std::size_t n) { return random_() % n; }
    bool one_in(std::size_t n) { return below(n) == 0; }
    template <class T>
    const T& of(const std::vector<T>& all) {
        return all[below(all.size())];
    }
    // Of the levels that exist, by strength.
    std::string level(const config& settings) {
        return settings.levels.rows()[below(settings.levels.rows().size())].name;
    }

private:
    std::mt19937 random_;
};

template <class Step, class Value>
std::vector<Step> steps(chance& by, const config& settings, std::size_t unit) {
    std::vector<Step> made;
    std::size_t at = 0, rank = 0;
    for (auto n = by.below(4); n > 0; --n) {
        at += 1 + by.below(unit);
        rank = std::min(settings.levels.rows().size() - 1, rank + by.below(2));
        made.push_back({static_cast<Value>(at), settings.levels.rows()[rank].name});
    }
    return made;
}

config random_settings(chance& by) {
    config made;
    made.levels = level_table();
    for (auto n = 1 + by.below(5); n > 0; --n) {
        level row;
        row.name = level_names[n - 1]; // from the last letter to a: not the alphabet's order
        row.keys = static_cast<key_source>(by.below(3));
        row.path = static_cast<path_choice>(by.below(3));
        made.levels.set(row);
    }
    made.default_level = by.level(made);
    const auto& rows = made.levels.rows();
    const auto low = by.below(rows.size());
    if (by.one_in(3))
        made.floor = rows[low].name;
    if (by.one_in(3))
        made.ceiling = rows[low + by.below(rows.size() - low)].name;
    for (const auto* prefix : {"*", "*7", "*77", "00"})
        if (by.one_in(2))
            made.prefixes.emplace_back(prefix, by.level(made));
    made.any_unit_may_make_keys = by.one_in(4);
    for (const auto& unit : units)
        if (by.one_in(2))
            made.units_may_make_keys.insert(unit);
    made.duration_of = by.of<std::string>({"median", "mean", "last"});
    made.least_calls = 1 + by.below(4);
    made.age = hours(1 + by.below(10));
    made.duration = steps<duration_step, seconds>(by, made, 400);
    made.calls = steps<count_step, std::size_t>(by, made, 4);
    made.failures = steps<count_step, std::size_t>(by, made, 4);
    return made;
}

plain_policy random_policy(chance& by) {
    plain_policy made;
    made.settings = random_settings(by);
    made.known = !by.one_in(10);
    for (const auto& address : addresses) {
        if (!by.one_in(3))
            continue;
        rule row{address, by.one_in(8) ? by.one_in(2) ? "gone" : "deny" : by.level(made.settings), {}, {}, ""};
        if (by.one_in(2))
            row.keys = static_cast<key_source>(by.below(3));
        if (by.one_in(2))
            row.path = static_cast<path_choice>(by.below(3));
        made.rules.push_back(row);
    }
    std::shuffle(made.rules.begin(), made.rules.end(), std::mt19937(static_cast<unsigned>(by.below(1000))));
    made.history = {"alice", "bob", {}, 0};
    for (auto n = by.below(10); n > 0; --n) {
        const bool failed = by.one_in(3);
        made.history.add({today - hours(by.below(12)) - std::chrono::minutes(n),
                          failed && by.one_in(2) ? seconds(0) : seconds(1 + by.below(1000)), failed});
    }
    return made;
}

question random_call(chance& by, const config& settings, const person& caller, const person& callee) {
    question call{caller.as_said, callee.as_said, "", "", {}};
    const auto maybe_level = [&] {
        return by.one_in(2) ? std::string() : by.one_in(6) ? std::string("gone") : by.level(settings);
    };
    call.wish = maybe_level();
    call.dialled = by.of<std::string>({"", "*5", "*7123", "*77123", "0046", "alice"});
    for (const auto& unit : units)
        if (by.one_in(2)) {
            advice one{unit, maybe_level(), maybe_level(), "", {}};
            if (by.one_in(2))
                one.keys = static_cast<key_source>(by.below(3));
            call.devices.push_back(one);
        }
    return call;
}

verdict ask(engine& one, const question& call) {
    const auto before = one.count();
    const auto got = one.decide(call);
    const auto& after = one.count();
    const auto more = [&](std::uint64_t counters::*which) { return static_cast<int>(after.*which - before.*which); };
    EXPECT_EQ(more(&counters::decisions), 1);
    return {got.chosen.name,
            got.decided_by,
            got.chosen.keys,
            got.chosen.path,
            {{"wish_unknown", more(&counters::wish_unknown)},
             {"wish_below", more(&counters::wish_below)},
             {"contact", more(&counters::contact_unknown)},
             {"profile", more(&counters::profile_unknown)},
             {"keygen", more(&counters::keygen_not_permitted)},
             {"rule", more(&counters::rule_level_unknown)}}};
}

TEST(RandomPolicies, TenThousandAgreeWithThePlainDecision) {
    std::map<std::string, int> deciders;
    for (unsigned seed = 0; seed < 10'000; ++seed) {
        chance by(seed);
        const auto plain = random_policy(by);
        engine real(plain.settings, [] { return today; });
        if (plain.known)
            real.rules_replaced(plain.rules);
        if (!plain.history.calls.empty())
            real.profiles_replaced({plain.history});
        for (int n = 0; n < 4; ++n) {
            const auto& caller = n == 0 ? people[1] : by.of(people);
            const auto& callee = n == 0 ? people[2] : by.of(people);
            const auto call = random_call(by, plain.settings, caller, callee);
            const auto expected = plain.decide(caller, callee, call);
            const auto got = ask(real, call);
            ASSERT_EQ(got.level, expected.level) << "policy " << seed << ", call " << n;
            ASSERT_EQ(got.by, expected.by) << "policy " << seed << ", call " << n;
            ASSERT_TRUE(got == expected) << "policy " << seed << ", call " << n;
            ++deciders[got.level == "deny" ? "denied by " + got.by : got.by];
        }
    }
    EXPECT_EQ(deciders.size(), 15u); // every rule decided somewhere
    for (const auto& [rule, times] : deciders)
        EXPECT_GT(times, 50) << rule;
}

} // namespace
} // namespace tandem::policy
