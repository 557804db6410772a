// SPDX-License-Identifier: Apache-2.0
// A clear source that jumps or restarts its sequence, towards an SRTP leg, through the worker: libsrtp2 judges what the
// leg gets, and what it reports of that (RR, NACK) comes back by the numbers that the source knows. Roll-over counters
// that are found by a second try, and how many of these there are.
#include <gtest/gtest.h>

#include "dataplane/pipeline/testbed_test.hpp"
#include "dataplane/rtp/packet.hpp"

namespace tandem::pipeline::testing {
namespace {

using api::drop;
constexpr std::uint32_t source = 0x99;

struct Sequences : ::testing::Test {
    static bytes words(std::initializer_list<std::uint32_t> from) {
        bytes b(4 * from.size());
        std::size_t at = 0;
        for (const std::uint32_t word : from) {
            tandem::rtp::store32(b.data() + at, word);
            at += 4;
        }
        return b;
    }
    static bytes report_of(std::uint32_t about, std::uint32_t highest) {
        return words({0x81c90007, 0x11223344, about, 0x02000005, highest, 7, 8, 9});
    }
    static bytes nack(std::uint32_t about, std::uint32_t entry) {
        return words({0x81cd0003, 0x11223344, about, entry});
    }

    testbed t;
    srtp_end unit{gcm, {{0, master_key(gcm, 1)}}, 4, false};
    srtp_end unit_in{gcm, {{0, master_key(gcm, 2)}}, 4, true};

    std::vector<opened> from_phone(const bytes& packet, std::uint16_t port = 5000) {
        return t.pass(1, {frame(packet, phone4, local(core4, port))});
    }
    std::vector<opened> from_unit(const bytes& clear, std::uint16_t port = 4000) {
        return t.pass(0, {frame(unit.protect(clear), unit4, local(access4, port))});
    }
    // What libsrtp2 makes of a source's packet: its sequence number there.
    std::optional<std::uint16_t> heard(std::uint16_t sequence) {
        const auto out = from_phone(rtp(sequence, source));
        if (out.size() != 1)
            return std::nullopt;
        const auto clear = unit_in.unprotect(out[0].payload);
        EXPECT_TRUE(clear) << sequence;
        return clear ? std::optional(tandem::rtp::load16(clear->data() + 2)) : std::nullopt;
    }
    void expect_moved_back(std::uint16_t rtcp_port) {
        const auto report = from_unit(report_of(source, 0x000103e8 + 5), rtcp_port);
        ASSERT_EQ(report.size(), 1u);
        EXPECT_EQ(report[0].payload, report_of(source, 0x000103e8 + 5 + 38999));
        EXPECT_EQ(from_unit(nack(source, 0x03ea8001), rtcp_port)[0].payload, nack(source, 0x9c418001));
        EXPECT_EQ(from_unit(nack(0x55, 0x03ea8001), rtcp_port)[0].payload, nack(0x55, 0x03ea8001)) << "another SSRC";
    }
    // Heard from 998 on as 998 to 1000; then from 40000 on as 1001 (lost), 1002, ...
    void restart_source() {
        (void)from_unit(rtp(1)); // latches
        for (std::uint16_t sequence = 998; sequence <= 1000; ++sequence)
            ASSERT_EQ(heard(sequence), sequence);
        ASSERT_EQ(heard(40000), std::nullopt);
        for (std::uint16_t i = 1; i < 10; ++i)
            ASSERT_EQ(heard(static_cast<std::uint16_t>(40000 + i)), 1001 + i);
        EXPECT_EQ(t.drops(drop::sequence_jump), 1u);
    }
};

TEST_F(Sequences, ARestartIsHeardAndReportedByTheSourcesNumbers) {
    t.add_pair(access4, core4, gcm);
    restart_source();
    expect_moved_back(4000);
    for (std::uint32_t i = 10; i < 70'000; i += i < 50 ? 1 : 40) // over the wrap of both
        ASSERT_EQ(heard(static_cast<std::uint16_t>(40000 + i)), static_cast<std::uint16_t>(1001 + i));
    const bytes report = rtcp(source); // its own is not touched
    EXPECT_EQ(unit_in.unprotect(from_phone(report)[0].payload), report);
}

// RFC 4588: a retransmission names the packet by the number that its receiver knows.
TEST_F(Sequences, ARetransmissionNamesTheMovedPacket) {
    t.retransmissions = {96, 97};
    t.add_pair(access4, core4, gcm);
    restart_source();
    std::uint16_t own = 500; // of the retransmissions' stream
    const auto resent = [&](std::uint8_t type) {
        bytes packet = rtp(own++, 0x77);
        packet[1] = type;
        tandem::rtp::store16(packet.data() + 12, 40004);
        const auto out = from_phone(packet);
        const auto clear = out.size() == 1 ? unit_in.unprotect(out[0].payload) : std::nullopt;
        return clear ? tandem::rtp::load16(clear->data() + 12) : 0;
    };
    EXPECT_EQ(resent(98), 40004) << "nobody has said that this is one";
    EXPECT_EQ(resent(97), 1005);
    EXPECT_EQ(resent(96), 1005);
}

// RTP and RTCP at ports of their own on both legs.
TEST_F(Sequences, ReportsByAPortOfTheirOwn) {
    t.add_pair(access4, core4, gcm);
    const auto unit_leg = [](std::uint16_t n) { return id(access4, static_cast<std::uint16_t>(4100 + n)); };
    const auto core_leg = [](std::uint16_t n) { return id(core4, static_cast<std::uint16_t>(5100 + n)); };
    for (const std::uint16_t n : std::initializer_list<std::uint16_t>{0, 1}) {
        api::flow_config up{};
        up.id = unit_leg(n);
        up.reverse = core_leg(n);
        up.in.suite = gcm;
        up.carries = n == 0 ? api::carries_rtp : api::carries_rtcp;
        up.source.policy = api::source_policy::authenticated;
        up.in.mki_length = 4;
        up.route = {core_leg(0), core_leg(1), phone4, phone4}; // both, also where only RTCP is carried
        api::flow_config down = up;
        down.id = core_leg(n);
        down.reverse = unit_leg(n);
        down.in = {};
        down.out = up.in;
        down.source.policy = api::source_policy::signalled;
        down.source.signalled = phone4;
        down.route = {unit_leg(0), unit_leg(1), unit4, unit4};
        for (const auto& one : {up, down})
            ASSERT_EQ(t.flows().add(one, 0), api::status::ok);
        ASSERT_EQ(t.flows().install(epoch_key(unit_leg(n), api::side::in, 0, gcm, 1)), api::status::ok);
        ASSERT_EQ(t.flows().install(epoch_key(core_leg(n), api::side::out, 0, gcm, 2)), api::status::ok);
    }
    for (const std::uint16_t sequence : std::initializer_list<std::uint16_t>{1000, 40000, 40001})
        (void)from_phone(rtp(sequence, source), 5100);
    expect_moved_back(4101);
}

TEST_F(Sequences, BetweenClearLegsNothingIsChanged) {
    api::flow_config up{};
    up.id = id(access4, 4000);
    up.reverse = id(core4, 5000);
    up.carries = api::carries_rtp | api::carries_rtcp;
    up.source.policy = api::source_policy::followed;
    up.route = {up.reverse, up.reverse, phone4, phone4};
    api::flow_config down = up;
    down.id = up.reverse;
    down.reverse = up.id;
    down.route = {up.id, up.id, unit4, unit4};
    for (const auto& one : {up, down})
        ASSERT_EQ(t.flows().add(one, 0), api::status::ok);
    for (const std::uint16_t sequence : std::initializer_list<std::uint16_t>{1000, 40000, 5, 40000, 41000, 7}) {
        const auto out = t.pass(0, {frame(rtp(sequence, source), unit4, local(access4, 4000))});
        ASSERT_EQ(out.size(), 1u);
        EXPECT_EQ(out[0].payload, rtp(sequence, source));
    }
    EXPECT_EQ(from_phone(report_of(source, 1000))[0].payload, report_of(source, 1000));
    EXPECT_EQ(t.all_drops(), 0u);
}

TEST_F(Sequences, AStrayPacketIsOneDrop) {
    t.add_pair(access4, core4, gcm);
    (void)from_unit(rtp(1));
    for (std::uint16_t sequence = 1; sequence < 100; ++sequence) {
        ASSERT_EQ(heard(sequence), sequence);
        if (sequence % 7 == 0) {
            ASSERT_EQ(heard(static_cast<std::uint16_t>(20000 + 300 * sequence)), std::nullopt);
        }
    }
    EXPECT_EQ(t.drops(drop::sequence_jump), 14u);
    const auto& s = t.stats(id(core4, 5000));
    EXPECT_EQ(s.rx_packets, 113u);
    EXPECT_EQ(s.expected, 113u) << "strays are not loss";
    EXPECT_EQ(s.tx_dropped, 14u);
}

// A restarted data plane goes on with the offset.
TEST_F(Sequences, OffsetsSurviveTheProcess) {
    t.add_pair(access4, core4, gcm);
    restart_source();
    t.check_account = false;
    testbed second(1, t.take_memory());
    const auto out = second.pass(1, {frame(rtp(40010, source), phone4, local(core4, 5000))});
    ASSERT_EQ(out.size(), 1u);
    const auto clear = unit_in.unprotect(out[0].payload);
    ASSERT_TRUE(clear);
    EXPECT_EQ(tandem::rtp::load16(clear->data() + 2), 1011);
}

// More SSRCs than a side has places for, one after the other; and gone with the flow.
TEST_F(Sequences, ManySsrcsInTurn) {
    const auto p = t.add_pair(access4, core4, gcm);
    for (std::uint32_t ssrc = 1; ssrc <= 40; ++ssrc) {
        ASSERT_EQ(from_unit(rtp(65535, ssrc)).size(), 1u) << ssrc;
        ASSERT_EQ(from_unit(rtp(0, ssrc)).size(), 1u);
        const auto down = from_phone(rtp(9, ssrc));
        ASSERT_EQ(down.size(), 1u);
        ASSERT_TRUE(unit_in.unprotect(down[0].payload));
    }
    constexpr unsigned further = 40 - flow::own_streams; // on the unit's in-side, on the out-side towards it
    EXPECT_EQ(t.flows().shared().streams().used(), 2 * further + flow::clear_streams - flow::own_streams);
    for (const api::flow_id each : {p.unit, p.core})
        ASSERT_EQ(t.flows().remove(each), api::status::ok);
    t.flows().finish();
    EXPECT_EQ(t.flows().shared().streams().used(), 0u);
}

// A stream whose packets before its first wrap were lost.
TEST_F(Sequences, FirstHeardAfterItsFirstWrap) {
    t.add_pair(access4, core4, gcm);
    for (const std::uint16_t sequence : std::initializer_list<std::uint16_t>{65533, 65534, 65535})
        (void)unit.protect(rtp(sequence)); // lost
    for (std::uint16_t sequence = 0; sequence < 5; ++sequence)
        EXPECT_EQ(from_unit(rtp(sequence)).size(), 1u);
    EXPECT_EQ(t.all_drops(), 0u);
}

// Forged packets of made-up SSRCs from one network get few second tries; a true stream from elsewhere gets its own.
TEST_F(Sequences, SecondTriesAreFew) {
    t.add_pair(access4, core4, gcm);
    for (const std::uint16_t sequence : std::initializer_list<std::uint16_t>{65534, 65535, 0})
        (void)unit.protect(rtp(sequence));
    const auto flood = address("203.0.113.5", 9);
    for (std::uint32_t n = 0; n < 200; ++n) {
        bytes forged = rtp(1, 0x1000 + n);
        forged.resize(forged.size() + 20);
        EXPECT_TRUE(t.pass(0, {frame(forged, flood, local(access4, 4000))}).empty());
    }
    EXPECT_EQ(t.drops(drop::srtp_auth), 200u);
    EXPECT_TRUE(t.pass(0, {frame(unit.protect(rtp(1)), flood, local(access4, 4000))}).empty()) << "its tries are used";
    EXPECT_EQ(from_unit(rtp(2)).size(), 1u);

    second_tries tries;
    const auto v6 = address("2001:db8::1", 1), same_net = address("2001:db8::ffff", 1);
    std::uint64_t now = 1'000'000'000'000;
    unsigned granted = 0;
    for (int i = 0; i < 100; ++i)
        granted += tries.take(i % 2 == 0 ? v6 : same_net, now) ? 1 : 0;
    EXPECT_EQ(granted, second_tries::tries);
    EXPECT_TRUE(tries.take(flood, now));
    granted = 0;
    for (int i = 0; i < 10'000; ++i)
        granted += tries.take(v6, now += 1'000'000) ? 1 : 0; // ten seconds
    EXPECT_EQ(granted, 10 * second_tries::tries);
}

} // namespace
} // namespace tandem::pipeline::testing
