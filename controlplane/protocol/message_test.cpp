// SPDX-License-Identifier: Apache-2.0
// Control codec: golden bytes, every refusal of ORA-05 to ORA-15 that needs no session, round trips of random messages.
#include "controlplane/protocol/message.hpp"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace tandem::protocol {
namespace {

using bytes = std::vector<std::uint8_t>;

bytes plain(const wiped_bytes& b) {
    return {b.begin(), b.end()};
}

status refused(const bytes& wire) {
    const auto got = decode(wire);
    return got ? status::ok : got.error();
}

// A CONFIG request with the id code "alice", written out by hand.
const bytes config_request{0x10, 0x00, 0x00, 0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x00,
                           0x00, 0x00, 0x01, 0x00, 0x03, 0x00, 0x05, 'a',  'l',  'i',  'c',  'e'};

TEST(Ora04, GoldenConfigRequest) {
    auto m = message::request(exchange::config);
    m.set_sequence(1).add<tlv::id_code>("alice");
    EXPECT_EQ(plain(m.encode()), config_request);
    const auto got = decode(config_request);
    ASSERT_TRUE(got);
    EXPECT_EQ(got->get<tlv::id_code>(), "alice");
    EXPECT_EQ(got->tsid(), no_tsid); // ORA-05
    EXPECT_EQ(got->sequence(), 1U);
    EXPECT_FALSE(got->is_response());
}

TEST(Ora04, GoldenSeedRequest) {
    auto m = message::request(exchange::seed);
    m.set_tsid(0x0102030405060708).set_sequence(0x0A0B0C0D);
    const bytes seed{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    m.add<tlv::media_id>(7).add<tlv::epoch>(2).add<tlv::seed>(seed);
    const bytes expected{0x10, 0x00, 0x0C, 0x03, 1, 2, 3, 4, 5, 6, 7, 8, 0x0A, 0x0B, 0x0C, 0x0D, // header
                         0x00, 0x0D, 0x00, 0x04, 0, 0, 0, 7,                                     // media_id
                         0x00, 0x0E, 0x00, 0x04, 0, 0, 0, 2,                                     // epoch
                         0x00, 0x10, 0x00, 0x10, 0, 1, 2, 3, 4, 5, 6, 7, 8,    9,    10,   11,   12, 13, 14, 15};
    EXPECT_EQ(plain(m.encode()), expected);
}

TEST(Ora04, GoldenEndpointAndAddress) {
    auto m = message::request(exchange::media_close);
    endpoint e;
    e.address.bytes = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 192, 0, 2, 1};
    e.port = 20000;
    m.set_tsid(1).add<tlv::media_id>(1).add<tlv::gateway_media>(e).add<tlv::inner_address>(e.address);
    const auto got = decode(m.encode());
    ASSERT_TRUE(got);
    EXPECT_EQ(got->get<tlv::gateway_media>(), e);
    EXPECT_EQ(got->get<tlv::inner_address>(), e.address);
}

TEST(Values, ANumberOfANewerPeerNamesNothing) {
    EXPECT_EQ(named<key_source>(0), key_source::gateway);
    EXPECT_EQ(named<key_source>(2), key_source::both);
    EXPECT_FALSE(named<key_source>(3));
    EXPECT_EQ(named<key_use>(1), key_use::seed_is_key);
    EXPECT_FALSE(named<key_use>(2));
    EXPECT_EQ(named<path_choice>(wire(path_choice::wwan)), path_choice::wwan);
    EXPECT_FALSE(named<path_choice>(255));
}

TEST(Ora10, WrongVersionIsRefused) {
    for (unsigned version = 0; version < 16; ++version) {
        auto wire = config_request;
        wire[0] = static_cast<std::uint8_t>(version << 4);
        EXPECT_EQ(refused(wire), version == 1 ? status::ok : status::bad_version) << version;
    }
}

TEST(Ora11, IndicationAndReservedMustBeZero) {
    auto wire = config_request;
    for (unsigned i = 1; i < 16; ++i) {
        wire[0] = static_cast<std::uint8_t>(0x10 | i);
        EXPECT_EQ(refused(wire), status::bad_indication);
    }
    wire = config_request;
    for (unsigned i = 1; i < 256; ++i) {
        wire[1] = static_cast<std::uint8_t>(i);
        EXPECT_EQ(refused(wire), status::bad_reserved);
    }
}

TEST(Ora12, UnknownTypeIsRefusedAndAnswerable) {
    for (unsigned type = 0; type < 256; ++type) {
        auto wire = config_request;
        wire[2] = static_cast<std::uint8_t>(type);
        if (find_exchange(static_cast<std::uint8_t>(type)) == nullptr) {
            EXPECT_EQ(refused(wire), status::unknown_type) << type;
        }
    }
    auto wire = config_request;
    wire[2] = 200;
    const auto answer = message::refusal(peek(wire).value(), status::unknown_type);
    EXPECT_EQ(answer.wire_type(), 201);
    EXPECT_EQ(answer.sequence(), 1U);
    EXPECT_EQ(answer.code(), status::unknown_type);
    EXPECT_FALSE(answer.get<tlv::reason>()->empty());
}

TEST(Ora13, CountMismatchIsRefused) {
    for (unsigned count = 0; count < 256; ++count) {
        auto wire = config_request;
        wire[3] = static_cast<std::uint8_t>(count);
        EXPECT_EQ(refused(wire), count == 1 ? status::ok : status::bad_count) << count;
    }
}

TEST(Ora13, EveryTruncationIsRefused) {
    for (std::size_t length = 0; length < config_request.size(); ++length) {
        const bytes cut(config_request.begin(),
                        config_request.begin() +
                            static_cast<std::ptrdiff_t>(length)); // exact heap size: ASan sees an over-read
        EXPECT_NE(refused(cut), status::ok) << length;
    }
    auto longer = config_request;
    longer.push_back(0);
    EXPECT_EQ(refused(longer), status::bad_count);
    auto beyond = config_request;
    beyond[19] = 6; // the TLV says one byte more than there is
    EXPECT_EQ(refused(beyond), status::bad_tlv);
    beyond[18] = 0xFF;
    EXPECT_EQ(refused(beyond), status::bad_tlv);
}

TEST(Ora14, LengthsOutsideTheTableAreRefused) {
    for (const auto& row : tlv_table) {
        for (const std::size_t length :
             {std::size_t{0}, std::size_t{row.min}, std::size_t{row.max}, std::size_t{row.max} + 1}) {
            auto wire = config_request;
            wire[3] = 2;
            const auto number = static_cast<std::uint16_t>(row.id);
            wire.insert(wire.end(), {static_cast<std::uint8_t>(number >> 8), static_cast<std::uint8_t>(number & 255),
                                     static_cast<std::uint8_t>(length >> 8), static_cast<std::uint8_t>(length & 255)});
            wire.insert(wire.end(), length, 'x');
            const bool fits = length >= row.min && length <= row.max;
            EXPECT_EQ(refused(wire), fits ? status::ok : status::bad_tlv) << row.name << ' ' << length;
        }
    }
}

TEST(Ora14, UnknownTlvIsSkipped) {
    auto wire = config_request;
    wire[3] = 3;
    wire.insert(wire.end(), {0x7F, 0xFF, 0x00, 0x03, 1, 2, 3});
    wire.insert(wire.end(), {0x00, 0x09, 0x00, 0x04, 0, 0, 0, 60});
    const auto got = decode(wire);
    ASSERT_TRUE(got);
    EXPECT_EQ(got->tlv_count(), 2U);
    EXPECT_EQ(got->get<tlv::lifetime_s>(), 60U);
}

TEST(Ora14, TextMustBeUtf8WithoutControls) {
    for (const std::string bad :
         {"\xC0\x80", "\xED\xA0\x80", "a\nb", "\x1B[2J", "\xF5\x80\x80\x80", "\xE2\x82", "\x7F", "\xC2\x85"}) {
        auto wire = config_request;
        wire[19] = static_cast<std::uint8_t>(bad.size());
        wire.resize(20);
        wire.insert(wire.end(), bad.begin(), bad.end());
        EXPECT_EQ(refused(wire), status::bad_tlv) << testing::PrintToString(bad);
    }
    const std::string good = "zo\xC3\xAB \xE2\x82\xAC \xF0\x9F\x93\x9E";
    EXPECT_TRUE(valid_text({reinterpret_cast<const std::uint8_t*>(good.data()), good.size()}));
}

TEST(Ora14, MissingTlvIsRefused) {
    for (const auto& row : exchange_table) {
        auto request = message::request(row.id);
        const bool needs =
            std::ranges::any_of(need_table, [&](const need& n) { return n.in == row.id && !n.response; });
        EXPECT_EQ(refused(plain(request.encode())), needs ? status::missing_tlv : status::ok) << row.name;
        const bool response_needs =
            std::ranges::any_of(need_table, [&](const need& n) { return n.in == row.id && n.response; });
        EXPECT_EQ(refused(plain(request.response(status::ok).encode())),
                  response_needs ? status::missing_tlv : status::ok)
            << row.name;
        EXPECT_EQ(refused(plain(request.response(status::internal).encode())), status::ok) << row.name;
    }
}

// A random message of every kind of TLV comes back as it went in.
TEST(Ora14, RoundTripOfRandomMessages) {
    std::mt19937_64 random(14);
    const auto value = [&](std::size_t n) {
        bytes v(n);
        std::ranges::generate(v, [&] { return static_cast<std::uint8_t>(random()); });
        return v;
    };
    for (int round = 0; round < 2000; ++round) {
        auto m = message::request(exchange::release);
        m.set_tsid(random()).set_sequence(static_cast<std::uint32_t>(random()));
        const auto seed = value(16 + random() % 49);
        const auto number = random();
        const std::string text(random() % 201, static_cast<char>('a' + random() % 26));
        endpoint e;
        std::ranges::copy(value(16), e.address.bytes.begin());
        e.port = static_cast<std::uint16_t>(number);
        m.add<tlv::seed>(seed).add<tlv::resume_tsid>(number).add<tlv::reason>(text).add<tlv::unit_media>(e);
        m.add<tlv::inner_prefix>(static_cast<std::uint8_t>(number)).add<tlv::mtu>(static_cast<std::uint16_t>(number));
        m.add<tlv::overlap_ms>(static_cast<std::uint32_t>(number)).add<tlv::inner_gateway>(e.address);
        const auto repeats = random() % 5;
        for (std::size_t i = 0; i < repeats; ++i)
            m.add<tlv::server>("host:" + std::to_string(i));
        const auto wire = m.encode();
        const auto got = decode(wire);
        ASSERT_TRUE(got);
        EXPECT_EQ(got->tsid(), m.tsid());
        EXPECT_EQ(got->sequence(), m.sequence());
        EXPECT_TRUE(std::ranges::equal(*got->get<tlv::seed>(), seed));
        EXPECT_TRUE(std::ranges::equal(got->get_secret<tlv::seed>()->view(), seed));
        EXPECT_EQ(got->get<tlv::resume_tsid>(), number);
        EXPECT_EQ(got->get<tlv::reason>(), text);
        EXPECT_EQ(got->get<tlv::unit_media>(), e);
        EXPECT_EQ(got->get<tlv::inner_prefix>(), static_cast<std::uint8_t>(number));
        EXPECT_EQ(got->get<tlv::mtu>(), static_cast<std::uint16_t>(number));
        EXPECT_EQ(got->get<tlv::overlap_ms>(), static_cast<std::uint32_t>(number));
        EXPECT_EQ(got->get<tlv::inner_gateway>(), e.address);
        ASSERT_EQ(got->count<tlv::server>(), repeats);
        for (std::size_t i = 0; i < repeats; ++i)
            EXPECT_EQ(got->get<tlv::server>(i), "host:" + std::to_string(i));
        EXPECT_FALSE(got->get<tlv::server>(repeats));
        EXPECT_EQ(plain(got->encode()), plain(wire));
    }
}

// Any flipped bit gives a message or a refusal, never an over-read (meaningful under ASan), and never a changed length.
TEST(Ora13, FlippedBitsNeverOverread) {
    auto m = message::request(exchange::media_open);
    const bytes seed(32, 7);
    m.add<tlv::media_id>(1).add<tlv::epoch>(0).add<tlv::suite>(3).add<tlv::seed>(seed);
    m.add<tlv::gateway_media>({}).add<tlv::inner_media>({}).add<tlv::phone_media>({});
    const auto wire = plain(m.encode());
    ASSERT_EQ(refused(wire), status::ok);
    int accepted = 0;
    for (std::size_t bit = 0; bit < wire.size() * 8; ++bit) {
        auto flipped = wire;
        flipped[bit / 8] = static_cast<std::uint8_t>(flipped[bit / 8] ^ 1U << bit % 8);
        const auto got = decode(flipped);
        if (got && got->tlv_count() == m.tlv_count()) {
            ++accepted;
            EXPECT_EQ(plain(got->encode()), flipped);
        }
    }
    EXPECT_GT(accepted, 0);
}

TEST(Rim23, ContactNamesItsPeersAndMayBeAnsweredWithNothing) {
    auto asked = message::request(exchange::contact);
    EXPECT_EQ(decode(asked.encode()).error(), status::missing_tlv);
    asked.add<tlv::peer>("+46701234567").add<tlv::peer>("sip:bob@example.com");
    const auto read = decode(asked.encode());
    ASSERT_TRUE(read);
    EXPECT_EQ(read->count<tlv::peer>(), 2U);
    EXPECT_EQ(read->get<tlv::peer>(1), "sip:bob@example.com");
    EXPECT_TRUE(decode(asked.response(status::ok).encode()));
}

TEST(Rim28, SeedMakeIsAnsweredWithSeedsOrWithARefusal) {
    auto asked = message::request(exchange::seed_make);
    asked.add<tlv::media_id>(7).add<tlv::epoch>(3);
    EXPECT_EQ(decode(asked.encode()).error(), status::missing_tlv) << "how long it is to be";
    asked.add<tlv::seed_bytes>(28).add<tlv::seed_count>(2);
    ASSERT_TRUE(decode(asked.encode()));
    auto answer = asked.response(status::ok);
    answer.add<tlv::media_id>(7).add<tlv::epoch>(3);
    EXPECT_EQ(decode(answer.encode()).error(), status::missing_tlv);
    const std::vector<std::uint8_t> seed(28, 9);
    answer.add<tlv::seed>(seed).add<tlv::seed>(seed);
    const auto read = decode(answer.encode());
    ASSERT_TRUE(read);
    EXPECT_EQ(read->get_secret<tlv::seed>(1)->size(), 28U);
    EXPECT_TRUE(decode(asked.response(status::unknown_type).encode()));
}

TEST(Message, LongTextIsCutBetweenCharacters) {
    auto m = message::request(exchange::release);
    std::string text(199, 'a');
    text += "\xE2\x82\xAC"; // 199 + 3 bytes: the euro sign does not fit into 200
    m.add<tlv::reason>(text);
    EXPECT_EQ(m.get<tlv::reason>()->size(), 199U);
    EXPECT_TRUE(decode(m.encode()));
}

TEST(Message, EmptyTextIsPresent) {
    auto m = message::request(exchange::release);
    EXPECT_FALSE(m.has<tlv::reason>());
    m.add<tlv::reason>("");
    EXPECT_TRUE(m.has<tlv::reason>());
    EXPECT_EQ(m.get<tlv::reason>(), "");
    EXPECT_TRUE(decode(m.encode())->has<tlv::reason>());
}

TEST(Message, NoMoreThan255Tlvs) {
    auto m = message::request(exchange::release);
    for (int i = 0; i < 300; ++i)
        m.add<tlv::server>("s");
    EXPECT_EQ(m.tlv_count(), 255U);
    EXPECT_TRUE(decode(m.encode()));
}

} // namespace
} // namespace tandem::protocol
