// SPDX-License-Identifier: Apache-2.0
// Equal names are equal bytes; a number that is no number is refused with a sentence; canonical text stays as it is.
#include "controlplane/protocol/address_name.hpp"

#include <random>

#include <gtest/gtest.h>

namespace tandem::protocol {
namespace {

struct example {
    const char* from;
    address_kind kind;
    const char* to;
};

TEST(Rim19, NamesBecomeCanonical) {
    const example examples[] = {
        {"+46701234567", address_kind::number, "+46701234567"},
        {"+46 70-123 45 67", address_kind::number, "+46701234567"},
        {" +46 (70) 123.45.67 ", address_kind::number, "+46701234567"},
        {"0046701234567", address_kind::number, "+46701234567"},
        {"00 46 70 1234567", address_kind::number, "+46701234567"},
        {"tel:+46701234567", address_kind::number, "+46701234567"},
        {"TEL:+46-70-1234567;phone-context=example.com", address_kind::number, "+46701234567"},
        {"+1", address_kind::number, "+1"},
        {"+123456789012345", address_kind::number, "+123456789012345"},
        {"SIP:Alice@Example.COM:5060;transport=udp", address_kind::sip, "sip:Alice@example.com"},
        {"sips:alice:secret@example.com?subject=x", address_kind::sip, "sip:alice@example.com"},
        {"sip:%61lice%20b@example.com", address_kind::sip, "sip:alice%20b@example.com"},
        {"sip:a%2fb%2a@h", address_kind::sip, "sip:a/b*@h"},
        {"alice@example.com.", address_kind::sip, "sip:alice@example.com"},
        {"sip:+46701@192.0.2.1:5060", address_kind::sip, "sip:+46701@192.0.2.1"},
        {"sip:bob@[2001:DB8::1]:5060", address_kind::sip, "sip:bob@[2001:db8::1]"},
        {"@Example.COM", address_kind::domain, "@example.com"},
        {"alice", address_kind::id_code, "alice"},
        {"Alice", address_kind::id_code, "Alice"},
        {"1001", address_kind::id_code, "1001"},
        {"host/gw.example.com", address_kind::id_code, "host/gw.example.com"},
    };
    for (const auto& e : examples) {
        const auto got = parse_address_name(e.from);
        ASSERT_TRUE(got) << e.from << ": " << got.error();
        EXPECT_EQ(got->kind, e.kind) << e.from;
        EXPECT_EQ(got->text, e.to) << e.from;
    }
}

TEST(Rim19, WhatIsNoNameIsRefusedWithTheRemedy) {
    for (const std::string text : {"",
                                   "  ",
                                   "+",
                                   "+-",
                                   "+46x70",
                                   "+1234567890123456",
                                   "+0701234567",
                                   "000701",
                                   "tel:0701234567",
                                   "tel:",
                                   "070-123 45 67",
                                   "sip:example.com",
                                   "sip:@example.com",
                                   "sip:a b@example.com",
                                   "sip:alice@",
                                   "sip:alice@-x",
                                   "sip:alice@a..b",
                                   "sip:alice@a:port",
                                   "sip:alice@a:",
                                   "sip:alice@[::1",
                                   "sip:a%zz@h",
                                   "sip:a%2@h",
                                   "@",
                                   "@a b",
                                   "@a@b",
                                   "al ice",
                                   "al\nice",
                                   "alice;x",
                                   "\"Alice\"",
                                   "<sip:alice@example.com>",
                                   "al,ice",
                                   "\xc3\xa5sa"}) {
        const auto got = parse_address_name(text);
        ASSERT_FALSE(got) << text << " became " << got->text;
        EXPECT_NE(got.error().find("write"), std::string::npos) << got.error();
        EXPECT_EQ(got.error().find('\n'), std::string::npos);
    }
    EXPECT_FALSE(parse_address_name(std::string(256, 'a')));
    EXPECT_FALSE(parse_address_name(std::string(65, 'a')));
    EXPECT_TRUE(parse_address_name(std::string(64, 'a')));
}

// Whatever is accepted is canonical: read again it is itself.
TEST(AddressName, CanonicalTextIsNotLongerThanARowWhateverWasLeftOut) {
    const std::string longest = std::string(245, 'a') + "@a.b"; // "sip:" makes 253
    EXPECT_EQ(parse_address_name(longest)->text, "sip:" + longest);
    const auto refused = parse_address_name("aaa" + longest); // 252 as written, 256 with its scheme
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().find("255 bytes"), std::string::npos);
}

TEST(AddressName, CanonicalTextStaysAsItIs) {
    std::mt19937 random(2); // NOLINT: the same run each time
    const std::string letters = "+00@sip:tel:.;%a4B6 -[]()?/\\\x80";
    std::size_t accepted = 0;
    for (int n = 0; n < 200'000; ++n) {
        std::string text;
        for (auto size = random() % 12; size > 0; --size)
            text += letters[random() % letters.size()];
        for (const auto* before : {"", "sip:a", "+4", "@x"}) {
            const auto once = parse_address_name(before + text);
            if (!once)
                continue;
            ++accepted;
            const auto again = parse_address_name(once->text);
            ASSERT_TRUE(again) << before << text << " -> " << once->text << ": " << again.error();
            ASSERT_EQ(*again, *once) << before << text;
        }
    }
    EXPECT_GT(accepted, 10'000u);
}

} // namespace
} // namespace tandem::protocol
