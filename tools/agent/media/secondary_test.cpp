// SPDX-License-Identifier: Apache-2.0
// Two ends of a secondary back to back: every suite, layout on the wire, re-keys under loss, reordering and duplication
// around the sequence wrap, forged packets, what an epoch's end does. RFC 3711 3.3.1; rows RIM-11 to RIM-13.
#include "tools/agent/media/secondary.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <random>
#include <set>

using namespace tandem;
using namespace tandem::agent;
using bytes = std::vector<std::uint8_t>;

namespace {

constexpr std::array suites{api::suite::aes_cm_128_hmac_sha1_80, api::suite::aes_cm_128_hmac_sha1_32,
                            api::suite::aead_aes_128_gcm,        api::suite::aead_aes_256_gcm,
                            api::suite::aes_256_cm_hmac_sha1_80, api::suite::aes_256_cm_hmac_sha1_32};

endpoint inner(std::uint8_t last, std::uint16_t port) {
    return {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 64, 0, last}, port};
}

secondary_config config_of(api::suite suite, protocol::direction sends) {
    secondary_config config;
    config.media = 7;
    config.tsid = 0x1122334455667788;
    config.suite = suite;
    config.gateway_media = inner(9, 30000);
    config.inner_media = inner(1, 20000), config.inner_rtcp = inner(1, 20001);
    config.phone_media = inner(2, 7078), config.phone_rtcp = inner(2, 7079);
    config.sends = sends;
    return config;
}

epoch_seeds seeds_of(std::uint32_t epoch, std::uint8_t fill = 0) {
    epoch_seeds seeds;
    seeds.epoch = epoch;
    seeds.seeds.emplace_back(bytes(32, static_cast<std::uint8_t>(fill + epoch)));
    return seeds;
}

struct ends {
    std::unique_ptr<secondary> unit, gateway;
    explicit ends(api::suite suite, std::uint32_t epoch = 0)
        : unit(secondary::open(config_of(suite, protocol::direction::to_gateway), seeds_of(epoch)).value()),
          gateway(secondary::open(config_of(suite, protocol::direction::to_unit), seeds_of(epoch)).value()) {}
};

bytes rtp(std::uint32_t ssrc, std::uint16_t sequence, std::size_t payload = 160) {
    bytes packet(12 + payload, static_cast<std::uint8_t>(sequence));
    packet[0] = 0x80, packet[1] = 0;
    packet[2] = static_cast<std::uint8_t>(sequence >> 8), packet[3] = static_cast<std::uint8_t>(sequence);
    for (unsigned i = 0; i < 4; i++)
        packet[8 + i] = static_cast<std::uint8_t>(ssrc >> (24 - 8 * i));
    return packet;
}

bytes rtcp(std::uint32_t ssrc) {
    bytes packet{0x80, 201, 0, 1, 0, 0, 0, 0};
    for (unsigned i = 0; i < 4; i++)
        packet[4 + i] = static_cast<std::uint8_t>(ssrc >> (24 - 8 * i));
    return packet;
}

bytes copy(std::span<const std::uint8_t> from) {
    return {from.begin(), from.end()};
}
bytes protect(secondary& by, const bytes& packet) {
    const auto what = looks_like_rtcp(packet) ? packet_class::rtcp : packet_class::rtp;
    return copy(by.protect(what, packet, clock::now()));
}
// The UDP payload of what the phone would get; empty = dropped.
bytes unprotect(secondary& by, const bytes& datagram) {
    const auto packet = by.unprotect(datagram);
    return packet.empty() ? bytes{} : copy(parse_packet(packet).payload);
}

void rekey(secondary& sender, secondary& receiver, std::uint32_t epoch) {
    ASSERT_TRUE(receiver.prepare(seeds_of(epoch)));
    ASSERT_TRUE(sender.prepare(seeds_of(epoch)));
    ASSERT_TRUE(sender.switch_to_prepared());
    ASSERT_TRUE(receiver.switch_to_prepared());
}

std::uint32_t read32(const bytes& from, std::size_t at) {
    return static_cast<std::uint32_t>(from[at] << 24 | from[at + 1] << 16 | from[at + 2] << 8 | from[at + 3]);
}

} // namespace

TEST(Rim12Secondary, BothWaysEverySuite) {
    for (const auto suite : suites) {
        ends e(suite);
        for (std::uint16_t sequence = 100; sequence < 110; sequence++) {
            const bytes sent = rtp(1, sequence), report = rtcp(1);
            EXPECT_EQ(unprotect(*e.gateway, protect(*e.unit, sent)), sent);
            EXPECT_EQ(unprotect(*e.unit, protect(*e.gateway, sent)), sent);
            EXPECT_EQ(unprotect(*e.gateway, protect(*e.unit, report)), report);
        }
        EXPECT_EQ(e.gateway->counters.received, 20U);
        EXPECT_EQ(e.gateway->counters.received_rtcp, 10U);
    }
}

TEST(Rim12Secondary, WireLayoutHasTheEpochAsMki) {
    for (const auto suite : suites) {
        const auto& row = api::info(suite);
        ends e(suite, 0x01020304);
        const bytes packet = protect(*e.unit, rtp(1, 5, 160));
        ASSERT_EQ(packet.size(), 12U + 160 + 4 + row.rtp_tag_length);
        EXPECT_EQ(read32(packet, row.aead ? packet.size() - 4 : packet.size() - 4 - row.rtp_tag_length), 0x01020304U);
        const bytes report = protect(*e.unit, rtcp(1));
        ASSERT_EQ(report.size(), 8U + 4 + 4 + row.rtcp_tag_length);
        EXPECT_EQ(read32(report, row.aead ? report.size() - 4 : report.size() - 4 - row.rtcp_tag_length), 0x01020304U);
        EXPECT_EQ(std::search_n(packet.begin() + 12, packet.end(), 8, std::uint8_t{5}), packet.end()); // ciphertext
    }
}

TEST(Rim12Secondary, DirectionsMediaAndSessionsHaveDifferentKeys) {
    ends e(api::suite::aead_aes_128_gcm);
    const bytes up = protect(*e.unit, rtp(1, 5)), down = protect(*e.gateway, rtp(1, 5));
    EXPECT_NE(up, down);
    EXPECT_TRUE(unprotect(*e.unit, up).empty()); // a reflected packet
    EXPECT_EQ(e.unit->counters.auth_failures, 1U);
    auto other = config_of(api::suite::aead_aes_128_gcm, protocol::direction::to_gateway);
    other.media = 8;
    const auto stranger = secondary::open(other, seeds_of(0)).value();
    EXPECT_NE(protect(*stranger, rtp(1, 5)), up);
    other.media = 7;
    other.tsid++;
    EXPECT_NE(protect(*secondary::open(other, seeds_of(0)).value(), rtp(1, 5)), up);
}

TEST(Rim11Secondary, AFlippedBitIsRefusedAndChangesNothing) {
    for (const auto suite : suites) {
        ends e(suite);
        ASSERT_FALSE(unprotect(*e.gateway, protect(*e.unit, rtp(1, 65530))).empty());
        const bytes good = protect(*e.unit, rtp(1, 2)); // after the wrap: ROC 1
        for (std::size_t bit = 0; bit < good.size() * 8; bit++) {
            bytes bad = good;
            bad[bit / 8] = static_cast<std::uint8_t>(bad[bit / 8] ^ (1U << (bit % 8)));
            EXPECT_TRUE(unprotect(*e.gateway, bad).empty()) << bit;
        }
        EXPECT_EQ(e.gateway->counters.received, 1U);
        EXPECT_EQ(unprotect(*e.gateway, good), rtp(1, 2));
        EXPECT_EQ(unprotect(*e.gateway, protect(*e.unit, rtp(1, 3))), rtp(1, 3));
        const auto before = e.gateway->counters.replays;
        EXPECT_TRUE(unprotect(*e.gateway, good).empty());
        EXPECT_EQ(e.gateway->counters.replays, before + 1);
    }
}

TEST(Rim13Secondary, RekeyNearTheWrapWithReorderingLosesNothing) {
    for (const auto suite : suites)
        for (unsigned start : {65480U, 65500U, 65520U, 65533U, 65535U, 0U, 32760U}) {
            ends e(suite);
            std::vector<bytes> sent, wire;
            for (unsigned i = 0; i < 200; i++) {
                if (i % 25 == 24) // a new key every 25 packets, three wraps of keys around one of the sequence
                    rekey(*e.unit, *e.gateway, i / 25 + 1);
                if (i % 50 == 49)
                    e.gateway->retire_below(e.gateway->receive_epoch() - 1);
                sent.push_back(rtp(9, static_cast<std::uint16_t>(start + i)));
                wire.push_back(protect(*e.unit, sent.back()));
                ASSERT_FALSE(wire.back().empty());
                // Ten late and in reverse, so that old epochs arrive after new ones. The stream's very first packet
                // comes first: before one has authenticated, RFC 3711 knows no other ROC than 0.
                if (i == 0 || wire.size() == 10 || i == 199) {
                    for (std::size_t j = wire.size(); j-- > 0;)
                        EXPECT_EQ(unprotect(*e.gateway, wire[j]), sent[j]) << start << " " << i << " " << j;
                    wire.clear();
                    sent.clear();
                }
            }
            EXPECT_EQ(e.gateway->counters.received, 200U);
            EXPECT_EQ(e.gateway->counters.auth_failures, 0U);
        }
}

TEST(Rim13Secondary, RandomLossReorderDuplicateManyEpochs) {
    std::mt19937 random(20260101);
    for (const auto suite : suites) {
        ends e(suite);
        std::deque<std::pair<bytes, bytes>> air; // wire, plain
        std::set<std::uint64_t> accepted;
        std::uint64_t index = 65000, lost = 0, duplicates = 0;
        std::uint32_t epoch = 0;
        const auto deliver = [&](std::size_t at) {
            const auto [wire, plain] = air[at];
            air.erase(air.begin() + static_cast<std::ptrdiff_t>(at));
            ASSERT_EQ(unprotect(*e.gateway, wire), plain);
        };
        for (unsigned i = 0; i < 20000; i++, index++) {
            if (i % 500 == 499) {
                rekey(*e.unit, *e.gateway, ++epoch);
                if (epoch >= 2)
                    e.gateway->retire_below(epoch - 1); // the overlap of the epoch before the last is over
            }
            const bytes plain = rtp(77, static_cast<std::uint16_t>(index), random() % 200);
            const bytes wire = protect(*e.unit, plain);
            if (random() % 50 == 0) {
                lost++;
                continue;
            }
            air.emplace_back(wire, plain);
            if (air.size() > 30)
                deliver(random() % air.size());
            if (random() % 100 == 0) { // what was just sent, twice: the second is a replay or waits for its first
                const auto before = e.gateway->counters.replays;
                if (!unprotect(*e.gateway, wire).empty()) {
                    const bool still = air.back().first == wire;
                    if (still)
                        air.pop_back();
                } else {
                    EXPECT_EQ(e.gateway->counters.replays, before + 1);
                    duplicates++;
                }
            }
        }
        EXPECT_EQ(e.gateway->counters.auth_failures, 0U);
        EXPECT_EQ(e.gateway->counters.unknown_epoch, 0U);
        EXPECT_EQ(e.gateway->counters.received + lost + air.size(), 20000U);
        EXPECT_GT(lost, 200U);
        EXPECT_EQ(e.gateway->counters.rekeys, 40U);
    }
}

TEST(Rim13Secondary, RocGoesOnAcrossEpochsAndWraps) {
    ends e(api::suite::aes_cm_128_hmac_sha1_80);
    std::uint32_t epoch = 0;
    for (std::uint64_t index = 60000; index < 60000 + 4 * 65536; index += 97) {
        if (index % 5 == 0 && epoch < 60) {
            rekey(*e.unit, *e.gateway, ++epoch);
            e.gateway->retire_below(epoch);
        }
        const bytes plain = rtp(5, static_cast<std::uint16_t>(index), 20);
        ASSERT_EQ(unprotect(*e.gateway, protect(*e.unit, plain)), plain) << index;
    }
    EXPECT_GE(epoch, 60U);
}

TEST(Rim13Secondary, ReplaysAreRefusedAcrossRekeys) {
    for (const auto suite : suites) {
        ends e(suite);
        std::vector<bytes> wire;
        for (std::uint16_t i = 0; i < 20; i++)
            wire.push_back(protect(*e.unit, rtp(3, i)));
        wire.push_back(protect(*e.unit, rtcp(3)));
        for (const auto& packet : wire)
            ASSERT_FALSE(unprotect(*e.gateway, packet).empty());
        rekey(*e.unit, *e.gateway, 1);
        for (const auto& packet : wire) // the old key is still in force
            EXPECT_TRUE(unprotect(*e.gateway, packet).empty());
        EXPECT_EQ(e.gateway->counters.replays, wire.size());
    }
}

TEST(Rim13Secondary, SrtcpIndexIsNotResetByARekey) { // RFC 3711 3.4
    ends e(api::suite::aes_cm_128_hmac_sha1_80);
    const auto index_of = [](const bytes& packet) { return read32(packet, packet.size() - 10 - 4 - 4) & 0x7fffffffU; };
    const auto first = index_of(protect(*e.unit, rtcp(1)));
    const auto second = index_of(protect(*e.unit, rtcp(1)));
    rekey(*e.unit, *e.gateway, 1);
    const auto third = index_of(protect(*e.unit, rtcp(1)));
    EXPECT_EQ(second, first + 1);
    EXPECT_EQ(third, second + 1);
}

TEST(Rim13Secondary, AnOldEpochIsRefusedAfterTheOverlap) {
    ends e(api::suite::aead_aes_128_gcm);
    const bytes late = protect(*e.unit, rtp(3, 10));
    rekey(*e.unit, *e.gateway, 1);
    ASSERT_FALSE(unprotect(*e.gateway, protect(*e.unit, rtp(3, 11))).empty());
    e.gateway->retire_below(1);
    EXPECT_EQ(e.gateway->epochs_held(), 1U);
    EXPECT_TRUE(unprotect(*e.gateway, late).empty());
    EXPECT_EQ(e.gateway->counters.unknown_epoch, 1U);
}

TEST(Rim13Secondary, OnlyTheNextEpochIsAccepted) {
    ends e(api::suite::aead_aes_128_gcm, 4);
    EXPECT_EQ(e.unit->prepare(seeds_of(6)).error(), secondary_error::bad_epoch);
    EXPECT_EQ(e.unit->prepare(seeds_of(3)).error(), secondary_error::bad_epoch);
    EXPECT_EQ(e.unit->prepare(seeds_of(4, 1)).error(), secondary_error::bad_epoch); // the current one, another seed
    EXPECT_TRUE(e.unit->prepare(seeds_of(4)));                                      // repeated: yes again
    EXPECT_FALSE(e.unit->switch_to_prepared());
    ASSERT_TRUE(e.unit->prepare(seeds_of(5)));
    EXPECT_TRUE(e.unit->prepare(seeds_of(5)));
    EXPECT_TRUE(e.unit->switch_to_prepared());
    EXPECT_EQ(e.unit->send_epoch(), 5U);
}

TEST(Rim12Secondary, SeedIsKey) {
    auto up = config_of(api::suite::aes_cm_128_hmac_sha1_80, protocol::direction::to_gateway), down = up;
    up.use = down.use = key_use::seed_is_key;
    down.sends = protocol::direction::to_unit;
    epoch_seeds seeds;
    seeds.seeds.emplace_back(bytes(30, 1));
    seeds.seeds.emplace_back(bytes(30, 2));
    const auto unit = secondary::open(up, seeds).value();
    const auto gateway = secondary::open(down, seeds).value();
    EXPECT_EQ(unprotect(*gateway, protect(*unit, rtp(1, 1))), rtp(1, 1));
    EXPECT_EQ(unprotect(*unit, protect(*gateway, rtp(1, 1))), rtp(1, 1));
    seeds.seeds.pop_back();
    EXPECT_EQ(secondary::open(up, seeds).error(), secondary_error::bad_seed);
}

TEST(Rim10Secondary, NothingWorksAfterTheWipe) {
    ends e(api::suite::aead_aes_256_gcm);
    const bytes packet = protect(*e.unit, rtp(1, 1));
    e.unit->wipe();
    e.gateway->wipe();
    EXPECT_TRUE(protect(*e.unit, rtp(1, 2)).empty());
    EXPECT_TRUE(unprotect(*e.gateway, packet).empty());
    EXPECT_TRUE(e.unit->keepalive(clock::now()).empty());
    EXPECT_EQ(e.gateway->counters.unknown_epoch, 1U);
}

TEST(Rim11Secondary, JunkIsCountedNotCrashedOn) {
    std::mt19937 random(3);
    ends e(api::suite::aes_cm_128_hmac_sha1_32);
    for (unsigned i = 0; i < 20000; i++) {
        bytes junk(random() % 80);
        for (auto& byte : junk)
            byte = static_cast<std::uint8_t>(random());
        if (i % 2 == 0 && junk.size() > 20) { // close to right: version and epoch fit
            junk[0] = static_cast<std::uint8_t>(0x80 | (junk[0] & 0x3f));
            std::fill_n(junk.end() - 8, 4, std::uint8_t{0});
        }
        EXPECT_TRUE(unprotect(*e.gateway, junk).empty());
        (void)protect(*e.unit, junk); // a phone that sends junk
    }
    const auto& c = e.gateway->counters;
    EXPECT_EQ(c.auth_failures + c.malformed + c.unknown_epoch + c.replays, 20000U);
    EXPECT_GT(c.auth_failures, 100U);
}

TEST(Rim12Secondary, SsrcsAreBoundedAndComeBackWithANewKey) {
    ends e(api::suite::aead_aes_128_gcm);
    for (std::uint32_t ssrc = 1; ssrc <= srtp_sender::max_streams; ssrc++)
        ASSERT_FALSE(unprotect(*e.gateway, protect(*e.unit, rtp(ssrc, 1))).empty()) << ssrc;
    EXPECT_TRUE(protect(*e.unit, rtp(1000, 1)).empty());
    EXPECT_EQ(e.unit->counters.not_protected, 1U);
    rekey(*e.unit, *e.gateway, 1);
    ASSERT_FALSE(unprotect(*e.gateway, protect(*e.unit, rtp(1, 2))).empty());
    rekey(*e.unit, *e.gateway, 2); // who was silent for a whole epoch makes room
    EXPECT_FALSE(unprotect(*e.gateway, protect(*e.unit, rtp(1000, 1))).empty());
    EXPECT_FALSE(unprotect(*e.gateway, protect(*e.unit, rtp(1, 3))).empty());
}

TEST(Rim10Secondary, KeepaliveIsAReceiverReportThatAuthenticates) {
    ends e(api::suite::aes_cm_128_hmac_sha1_80);
    const bytes packet = copy(e.unit->keepalive(clock::now()));
    const bytes plain = unprotect(*e.gateway, packet);
    ASSERT_EQ(plain.size(), 8U);
    EXPECT_EQ(plain[1], 201);
    // Nothing heard yet: again soon, but not for ever.
    const auto start = clock::now();
    auto now = start;
    for (std::uint64_t i = 1; i < secondary::keepalives_unheard; i++) {
        EXPECT_FALSE(e.unit->keepalive_due(now));
        now += secondary::keepalive_unheard + std::chrono::milliseconds(100);
        EXPECT_TRUE(e.unit->keepalive_due(now)) << i;
        EXPECT_FALSE(e.unit->keepalive(now).empty());
    }
    EXPECT_FALSE(e.unit->keepalive_due(now + std::chrono::seconds(10)));
    EXPECT_TRUE(e.unit->keepalive_due(now + secondary::keepalive_after));
    // Heard: only against silence.
    ends heard(api::suite::aes_cm_128_hmac_sha1_80);
    ASSERT_FALSE(heard.unit->keepalive(start).empty());
    ASSERT_FALSE(unprotect(*heard.unit, protect(*heard.gateway, rtp(1, 1))).empty());
    EXPECT_FALSE(heard.unit->keepalive_due(start + std::chrono::seconds(14)));
}

TEST(Rim13Secondary, GuessedIndexFollowsRfc3711AppendixA) {
    EXPECT_EQ(guess_index(0, 5), 5U);
    EXPECT_EQ(guess_index(65530, 3), 65536U + 3);
    EXPECT_EQ(guess_index(65536 + 3, 65530), 65530U);
    EXPECT_EQ(guess_index(3, 65530), 65530U); // before ROC 0 there is nothing
    EXPECT_EQ(guess_index(5 * 65536 + 40000, 39000), 5U * 65536 + 39000);
}
