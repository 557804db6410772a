// SPDX-License-Identifier: Apache-2.0
// The writer of JSON against nlohmann's reader and writer: commas, escapes, lengths around those at which it grows.
#include "controlplane/protocol/json_out.hpp"

#include <cstdint>
#include <gtest/gtest.h>
#include <limits>

using nlohmann::json;
using tandem::protocol::json_out;

namespace {

TEST(JsonOut, CommasStandBetweenWhatFollowsOnAnother) {
    json_out to;
    to.open('{').key("none").open('[').close(']').field("text", "a").field("yes", true).field("no", false);
    to.key("null").null().key("list").list(std::array{1, 2, 3}).key("in").open('{').close('}');
    to.key("deep").open('[').open('{').field("a", 1).close('}').open('[').value(2).close(']').close(']').close('}');
    EXPECT_EQ(to.take(), R"({"none":[],"text":"a","yes":true,"no":false,"null":null,"list":[1,2,3],"in":{},)"
                         R"("deep":[{"a":1},[2]]})");
}

TEST(JsonOut, BeginsAnewOnceItsTextIsTaken) {
    json_out to;
    to.open('[').value(1).close(']');
    EXPECT_EQ(to.take(), "[1]");
    EXPECT_EQ(to.take(), "");
    EXPECT_EQ(to.open('[').value("b").close(']').take(), "[\"b\"]");
}

TEST(JsonOut, EachOctetIsWrittenAsTheTreeWritesIt) {
    for (unsigned c = 0; c < 0x80; ++c) {
        const std::string text = "x" + std::string(1, static_cast<char>(c)) + "y";
        json_out to;
        to.value(text);
        EXPECT_EQ(to.take(), json(text).dump()) << c;
    }
    for (const std::string text : {"Bj\xc3\xb6rn", "\xe2\x82\xac", ""}) {
        json_out to;
        to.value(text);
        EXPECT_EQ(to.take(), json(text).dump()) << text;
    }
    json_out to;
    to.value("\xff broken");
    EXPECT_EQ(json::parse(to.take()), "\xef\xbf\xbd broken");
}

TEST(JsonOut, Numbers) {
    json_out to;
    to.open('[').value(std::numeric_limits<std::int64_t>::min()).value(std::numeric_limits<std::uint64_t>::max());
    to.value(0.25).value(std::numeric_limits<double>::lowest()).value(std::numeric_limits<double>::infinity());
    const auto read = json::parse(to.close(']').take());
    EXPECT_EQ(read[0], std::numeric_limits<std::int64_t>::min());
    EXPECT_EQ(read[1], std::numeric_limits<std::uint64_t>::max());
    EXPECT_EQ(read[2], 0.25);
    EXPECT_EQ(read[3], std::numeric_limits<double>::lowest());
    EXPECT_EQ(read[4], 0);
}

// Whatever the place at which its room is used up, of a key, a text, a number, a bracket.
TEST(JsonOut, GrowsAtEachPlace) {
    for (std::size_t length = 960; length < 1100; ++length)
        for (const std::size_t later : {std::size_t{0}, std::size_t{900}, std::size_t{5000}}) {
            const std::string filling(length, 'f'), more(later, 'g'), special(later, '\n');
            json_out to;
            to.open('{').field("filling", filling).field("number", 1234567890).field("more", more);
            to.field("special", special).key("list").open('[').null().close(']').close('}');
            ASSERT_EQ(json::parse(to.take()), json({{"filling", filling},
                                                    {"number", 1234567890},
                                                    {"more", more},
                                                    {"special", special},
                                                    {"list", json::array({nullptr})}}))
                << length << " " << later;
        }
}

} // namespace
