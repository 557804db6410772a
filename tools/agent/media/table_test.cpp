// SPDX-License-Identifier: Apache-2.0
// What the gateway asks of a unit's media, on real sockets: a seed that the unit has had never begins again at index 0,
// whatever is asked and in whatever order. The gateway's end is the agent's own secondary turned round (libsrtp2).
#include "tools/agent/media/table.hpp"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include "tools/agent/device/packet.hpp"

using namespace tandem;
using namespace tandem::agent;
using namespace std::chrono_literals;
using bytes = std::vector<std::uint8_t>;
using protocol::exchange;
using protocol::message;
using protocol::status;
using protocol::tlv;

namespace {

constexpr ip_bytes mapped(std::uint8_t a, std::uint8_t b, std::uint8_t c, std::uint8_t d) {
    return {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d};
}
constexpr ip_bytes loopback6{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
const endpoint inner{mapped(10, 64, 0, 1), 20000};

struct agent_media : testing::Test {
    static constexpr std::uint32_t media = 7;
    static constexpr std::uint64_t tsid = 0x1122334455667788;
    asio::io_context io{1};
    std::vector<bytes> to_phone;
    media_table table{io, [this](std::span<const std::uint8_t> packet) {
                          to_phone.emplace_back(packet.begin(), packet.end());
                          return true;
                      }};
    asio::ip::udp::socket four{io, {asio::ip::make_address("127.0.0.1"), 0}};
    asio::ip::udp::socket six{io, {asio::ip::make_address("::1"), 0}};
    asio::ip::udp::socket* outer = &four;
    endpoint phone{mapped(10, 64, 0, 2), 7078};
    std::unique_ptr<secondary> gateway;
    asio::ip::udp::endpoint unit; // where the agent sends from
    std::uint32_t overlap = 50;

    static bytes seed_of(std::uint32_t epoch, std::uint8_t fill) {
        return bytes(32, static_cast<std::uint8_t>(fill + epoch));
    }
    secondary_config config() const {
        secondary_config out;
        out.media = media;
        out.tsid = tsid;
        out.suite = api::suite::aead_aes_128_gcm;
        out.inner_media = out.inner_rtcp = inner;
        out.phone_media = out.phone_rtcp = phone;
        out.sends = protocol::direction::to_unit;
        return out;
    }
    static epoch_seeds seeds(std::uint32_t epoch, std::uint8_t fill = 0) {
        epoch_seeds out;
        out.epoch = epoch;
        out.seeds.emplace_back(seed_of(epoch, fill));
        return out;
    }
    // As it comes off the wire: with the session's TSID.
    static message arrived(const message& sent) {
        auto wire = sent.encode();
        for (unsigned i = 0; i < 8; i++)
            wire[4 + i] = static_cast<std::uint8_t>(tsid >> (56 - 8 * i));
        return std::move(protocol::decode(wire).value());
    }
    status open(std::uint32_t epoch, bool goes_on = false, std::uint8_t fill = 0) {
        const bool v6 = outer == &six;
        const auto port = outer->local_endpoint().port();
        auto request = message::request(exchange::media_open);
        request.add<tlv::media_id>(media).add<tlv::epoch>(epoch);
        request.add<tlv::suite>(static_cast<std::uint16_t>(api::suite::aead_aes_128_gcm));
        request.add<tlv::seed>(seed_of(epoch, fill)).add<tlv::overlap_ms>(overlap);
        request.add<tlv::gateway_media>(protocol::endpoint{{v6 ? loopback6 : mapped(127, 0, 0, 1)}, port});
        request.add<tlv::inner_media>(protocol::endpoint{{inner.ip}, inner.port});
        request.add<tlv::phone_media>(protocol::endpoint{{phone.ip}, phone.port});
        if (goes_on)
            request.add<tlv::goes_on>(std::uint8_t{1});
        const auto answer = table.media_open(arrived(request));
        return static_cast<status>(answer.get<tlv::status>().value());
    }
    status seed(std::uint32_t epoch, std::uint8_t fill = 0) {
        auto request = message::request(exchange::seed);
        request.add<tlv::media_id>(media).add<tlv::epoch>(epoch).add<tlv::seed>(seed_of(epoch, fill));
        const auto answer = table.seed(arrived(request));
        const auto said = static_cast<status>(answer.get<tlv::status>().value());
        if (said == status::ok)
            table.seed_answered(media);
        return said;
    }
    void close() {
        auto request = message::request(exchange::media_close);
        request.add<tlv::media_id>(media);
        (void)table.media_close(arrived(request));
    }
    static bytes rtp(std::uint16_t sequence, std::uint32_t ssrc = 0x5eed) {
        bytes packet(172, 0x55);
        packet[0] = 0x80, packet[1] = 0;
        packet[2] = static_cast<std::uint8_t>(sequence >> 8), packet[3] = static_cast<std::uint8_t>(sequence);
        for (unsigned i = 0; i < 4; i++)
            packet[8 + i] = static_cast<std::uint8_t>(ssrc >> (24 - 8 * i));
        return packet;
    }
    // What the unit's datagram carried that the gateway got; empty where none came or it did not authenticate.
    bytes heard() {
        bytes datagram(2048);
        outer->non_blocking(true);
        for (int tries = 0; tries < 200; tries++) {
            asio::error_code error;
            const auto size = outer->receive_from(asio::buffer(datagram), unit, 0, error);
            if (error) {
                io.restart();
                io.run_for(1ms);
                continue;
            }
            const auto packet = gateway->unprotect(std::span(datagram).first(size));
            const auto payload = packet.empty() ? std::span<const std::uint8_t>() : parse_packet(packet).payload;
            if (packet.empty() || !looks_like_rtcp(payload)) // keepalives are passed over
                return {payload.begin(), payload.end()};
        }
        return {};
    }
    bool speaks(std::uint16_t sequence) {
        bytes packet(512);
        const auto payload = rtp(sequence);
        const auto size = build_udp(phone, inner, payload, packet);
        EXPECT_EQ(table.capture(std::span(packet).first(size)), captured::media);
        return heard() == payload;
    }
    bytes protect(std::uint16_t sequence) {
        const auto datagram = gateway->protect(packet_class::rtp, rtp(sequence, 0xfee1), clock::now());
        return {datagram.begin(), datagram.end()};
    }
    bool takes(const bytes& datagram) {
        const auto before = to_phone.size();
        outer->send_to(asio::buffer(datagram), unit);
        run(5ms);
        return to_phone.size() == before + 1;
    }
    void run(std::chrono::milliseconds time) {
        io.restart();
        io.run_for(time);
    }
    // In use, both ways over the wrap of the sequence: rollover counter 1.
    void begin() {
        gateway = secondary::open(config(), seeds(0)).value();
        ASSERT_EQ(open(0), status::ok);
        for (std::uint16_t n = 65530; n != 5; n++)
            ASSERT_TRUE(speaks(n)) << n;
        for (std::uint16_t n = 65530; n != 5; n++)
            ASSERT_TRUE(takes(protect(n))) << n;
    }
};

TEST_F(agent_media, ASecondOpenMovesThePhoneAndIndicesGoOn) {
    begin();
    const auto replayed = protect(5);
    ASSERT_TRUE(takes(replayed));
    phone.port = 9000;
    for (const bool says_so : {true, false}) { // as gateways before `goes_on` ask
        ASSERT_EQ(open(0, says_so), status::ok);
        EXPECT_TRUE(speaks(static_cast<std::uint16_t>(says_so ? 5 : 6)));
        EXPECT_FALSE(takes(replayed)) << "the replay window goes on";
        EXPECT_TRUE(takes(protect(static_cast<std::uint16_t>(says_so ? 6 : 7))));
    }
    EXPECT_EQ(parse_packet(to_phone.back()).destination.port, 9000);
}

TEST_F(agent_media, AGatewayThatMovesToAnotherAddressFamilyHearsTheNextIndex) {
    begin();
    outer = &six;
    ASSERT_EQ(open(0, true), status::ok);
    EXPECT_TRUE(speaks(5));
    EXPECT_TRUE(takes(protect(5)));
}

TEST_F(agent_media, AnOpenThatComesAfterALaterSeedChangesNoKey) {
    begin();
    ASSERT_EQ(seed(1), status::ok);
    ASSERT_TRUE(gateway->prepare(seeds(1)));
    ASSERT_TRUE(gateway->switch_to_prepared());
    ASSERT_EQ(open(0, true), status::ok) << "it was on its way when the answer to SEED was";
    EXPECT_EQ(table.find(media)->send_epoch(), 1U);
    EXPECT_TRUE(speaks(5));
    EXPECT_TRUE(takes(protect(5)));
}

TEST_F(agent_media, ASeedOfAMediaThatIsOverNeverBeginsAgain) {
    begin();
    close();
    EXPECT_EQ(open(0), status::bad_epoch);
    EXPECT_EQ(open(1, true), status::unknown_media) << "what the gateway takes for known is lost";
    EXPECT_EQ(open(1), status::ok) << "another seed is another key";
    EXPECT_EQ(open(0, false, 100), status::ok) << "so is another seed of the same number";
}

TEST_F(agent_media, ANewSeedBeginsAnewWhereTheGatewaySaysSo) {
    begin();
    EXPECT_EQ(open(1, true), status::unknown_media) << "a new epoch of a media in force comes by SEED";
    ASSERT_EQ(open(1), status::ok);
    gateway = secondary::open(config(), seeds(1)).value();
    EXPECT_TRUE(speaks(5));
    EXPECT_TRUE(takes(protect(1)));
}

TEST_F(agent_media, TheOldEpochStaysWhileTheGatewayHasNotHeardTheAnswer) {
    begin();
    ASSERT_EQ(seed(1), status::ok); // the answer comes too late: the gateway goes on under 0
    ASSERT_TRUE(gateway->prepare(seeds(1)));
    for (std::uint16_t n = 5; n < 20; n++) { // 150 ms, three overlaps
        EXPECT_TRUE(takes(protect(n))) << n;
        EXPECT_TRUE(speaks(n)) << n; // under 1, which the gateway has ready
        run(10ms);
    }
    EXPECT_EQ(seed(1), status::ok) << "offered again";
    ASSERT_TRUE(gateway->switch_to_prepared());
    EXPECT_TRUE(takes(protect(20)));
    run(120ms);
    EXPECT_EQ(table.find(media)->epochs_held(), 1U) << "and now it goes";
}

TEST_F(agent_media, TheOldEpochGoesWithItsOverlapWhereNobodySpeaks) {
    begin();
    ASSERT_EQ(seed(1), status::ok);
    run(120ms);
    EXPECT_EQ(table.find(media)->epochs_held(), 1U);
}

} // namespace
