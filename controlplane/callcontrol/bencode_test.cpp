// SPDX-License-Identifier: Apache-2.0
// bencode: what is printed is read back the same; what is broken is refused; bounds hold.
#include <gtest/gtest.h>
#include <random>

#include "controlplane/callcontrol/bencode.hpp"

namespace tandem::callcontrol::bencode {
namespace {

value random_value(std::mt19937& random, unsigned depth) {
    switch (random() % (depth > 5 ? 2 : 4)) {
    case 0:
        return static_cast<std::int64_t>(random()) - (1LL << 31);
    case 1: {
        std::string text(random() % 20, '\0');
        for (auto& c : text)
            c = static_cast<char>(random());
        return text;
    }
    case 2: {
        value out(list{});
        for (auto n = random() % 5; n > 0; --n)
            out.push(random_value(random, depth + 1));
        return out;
    }
    default: {
        value out(dict{});
        for (auto n = random() % 5; n > 0; --n)
            out.add("k" + std::to_string(random() % 100), random_value(random, depth + 1));
        return out;
    }
    }
}

TEST(Bencode, RoundTripOfRandomValues) {
    std::mt19937 random(20'240);
    for (int i = 0; i < 2'000; ++i) {
        const auto before = random_value(random, 0);
        const auto text = print(before);
        const auto after = parse(text);
        ASSERT_TRUE(after) << text;
        EXPECT_EQ(after->what, before) << text;
        EXPECT_EQ(after->length, text.size());
    }
}

TEST(Bencode, EveryCutIsRefused) {
    const std::string text = "d7:command5:offer3:sdp3:v=05:flagsl5:trusti-7ee1:xi0ee";
    ASSERT_TRUE(parse(text));
    for (std::size_t length = 0; length < text.size(); ++length)
        EXPECT_FALSE(parse(std::string_view(text).substr(0, length))) << length;
}

TEST(Bencode, BrokenOnesAreRefused) {
    for (const auto* text : {"",
                             "x",
                             "i",
                             "ie",
                             "i1",
                             "i1x2e",
                             "i99999999999999999999e",
                             "-1:a",
                             "5:abc",
                             "18446744073709551615:a",
                             "l",
                             "d",
                             "di1e1:ae",
                             "d1:ae",
                             "d1:a",
                             "l5:ab",
                             ":",
                             "1",
                             "e",
                             "dee"})
        if (std::string_view(text) != "dee") {
            EXPECT_FALSE(parse(text)) << text;
        }
    EXPECT_EQ(parse("dee")->length, 2U); // what follows the value is not looked at
}

TEST(Bencode, DepthAndCountAreBounded) {
    const auto nested = [](std::size_t depth) { return std::string(depth, 'l') + std::string(depth, 'e'); };
    EXPECT_TRUE(parse(nested(max_depth)));
    EXPECT_FALSE(parse(nested(max_depth + 1)));
    EXPECT_FALSE(parse(std::string(60'000, 'l')));
    std::string many = "l";
    for (std::size_t i = 0; i < max_values + 10; ++i)
        many += "i1e";
    EXPECT_FALSE(parse(many + "e"));
}

TEST(Bencode, FindsTheFirstEntryOfAName) {
    const auto parsed = parse("d1:a1:x1:a1:y1:bi3ee");
    ASSERT_TRUE(parsed);
    EXPECT_EQ(parsed->what.text_of("a"), "x");
    EXPECT_EQ(parsed->what.text_of("b"), "");
    EXPECT_EQ(*parsed->what.find("b")->integer(), 3);
    EXPECT_EQ(parsed->what.find("c"), nullptr);
}

} // namespace
} // namespace tandem::callcontrol::bencode
