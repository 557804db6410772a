// SPDX-License-Identifier: Apache-2.0
// Trace and capture on the ring testbed: each way that a packet can go has the verdicts that it should, nothing in
// clear is in a capture that was not granted it, and a full ring costs records, never packets.
#include <algorithm>
#include <cstring>
#include <gtest/gtest.h>

#include "dataplane/pipeline/testbed_test.hpp"

namespace tandem::pipeline::testing {
namespace {

using api::drop;
using api::stage;
const api::net_address moved = address("192.0.2.78", 7001);

struct captured {
    api::capture_record head;
    bytes data;
};

struct Taps : ::testing::Test {
    testbed t;
    testbed::pair p = t.add_pair(access4, core4, gcm);
    srtp_end unit{gcm, {{0, master_key(gcm, 1)}}, 4, false};
    api::worker_stats own{};
    flow::port_table addresses{std::vector<flow::ip_bytes>{}};
    std::unique_ptr<trace_tap> trace;
    std::unique_ptr<capture_tap> capture;

    ~Taps() override {
        t.worker().tap(static_cast<trace_tap*>(nullptr));
        t.worker().tap(static_cast<capture_tap*>(nullptr));
    }
    void arm_trace(std::uint32_t packets, const api::net_address* flow = nullptr) {
        api::trace_request what{packets, 0, {}};
        if (flow != nullptr)
            what.places = {1, 0, {*flow}};
        trace = std::make_unique<trace_tap>(what, 0, addresses, own);
        t.worker().tap(trace.get());
    }
    void arm_capture(const capture_choice& what) {
        capture = std::make_unique<capture_tap>(what, 0, own);
        t.worker().tap(capture.get());
    }
    std::vector<api::trace_record> traced() {
        std::vector<api::trace_record> out;
        for (const std::byte* at; (at = trace->ring().front()) != nullptr; trace->ring().pop())
            std::memcpy(&out.emplace_back(), at, sizeof(api::trace_record));
        return out;
    }
    std::vector<captured> taken() {
        std::vector<captured> out;
        for (const std::byte* at; (at = capture->ring().front()) != nullptr; capture->ring().pop()) {
            captured& c = out.emplace_back();
            std::memcpy(&c.head, at, sizeof c.head);
            const auto* first = reinterpret_cast<const std::uint8_t*>(at + sizeof c.head);
            c.data.assign(first, first + c.head.captured);
        }
        return out;
    }
    bytes up(const bytes& srtp, const api::net_address& from = unit4) {
        return frame(srtp, from, local(access4, 4000));
    }
    bytes down(const bytes& rtp) { return frame(rtp, phone4, local(core4, 5000)); }
    api::trace_record one(unsigned port, const bytes& f) {
        arm_trace(10);
        (void)t.pass(port, {f});
        const auto got = traced();
        EXPECT_EQ(got.size(), 1u);
        return got.empty() ? api::trace_record{} : got[0];
    }
};

bool has(const api::trace_record& r, api::trace_flags flag) {
    return (r.flags & flag) != 0;
}
bool contains(const bytes& whole, const bytes& part) {
    return std::search(whole.begin(), whole.end(), part.begin(), part.end()) != whole.end();
}

TEST_F(Taps, AcceptedPacketThatLatches) {
    const auto r = one(0, up(unit.protect(rtp(7, 0x11223344, 40))));
    EXPECT_EQ(r.last, stage::send);
    EXPECT_EQ(r.reason, drop::none);
    EXPECT_EQ(r.flow, p.unit);
    EXPECT_EQ(r.tag, 1u);
    EXPECT_EQ(r.in_suite, gcm);
    EXPECT_EQ(r.out_suite, api::suite::clear);
    EXPECT_TRUE(has(r, api::trace_accepted) && has(r, api::trace_latched) && has(r, api::trace_sent));
    EXPECT_TRUE(has(r, api::trace_media) && has(r, api::trace_in_index));
    EXPECT_FALSE(has(r, api::trace_rtcp) || has(r, api::trace_out_index) || has(r, api::trace_handed));
    EXPECT_EQ(r.ssrc, 0x11223344u);
    EXPECT_EQ(r.sequence, 7);
    EXPECT_EQ(r.in_index, 7u);
    EXPECT_EQ(r.in_epoch, 0u);
    EXPECT_TRUE(flow::same_address(r.source, unit4));
    EXPECT_TRUE(flow::same_address(r.destination, local(access4, 4000)));
    EXPECT_TRUE(flow::same_address(r.out_destination, phone4));
    EXPECT_EQ(r.in_payload, 12 + 40 + 16 + 4);
    EXPECT_EQ(r.out_payload, 12 + 40);
    EXPECT_EQ(r.out_port, 1);
    EXPECT_EQ(r.burst, 1);
    // The second from there does not move the leg; one from elsewhere does.
    EXPECT_FALSE(has(one(0, up(unit.protect(rtp(8, 0x11223344, 40)))), api::trace_latched));
    EXPECT_TRUE(has(one(0, up(unit.protect(rtp(9, 0x11223344, 40)), moved)), api::trace_latched));
}

TEST_F(Taps, ProtectedOnTheWayOut) {
    (void)t.pass(0, {up(unit.protect(rtp(1)))}); // where the unit is
    const auto r = one(1, down(rtp(0x1234, 5)));
    EXPECT_EQ(r.last, stage::send);
    EXPECT_TRUE(has(r, api::trace_out_index) && has(r, api::trace_sent));
    EXPECT_FALSE(has(r, api::trace_in_index));
    EXPECT_EQ(r.out_index, 0x1234u);
    EXPECT_EQ(r.out_epoch, 0u);
    EXPECT_TRUE(flow::same_address(r.out_destination, unit4));
}

TEST_F(Taps, DroppedWhereAndWhy) {
    const bytes good = unit.protect(rtp(1));
    EXPECT_EQ(one(0, up(good)).reason, drop::none);
    auto r = one(0, up(good));
    EXPECT_EQ(r.last, stage::unprotect);
    EXPECT_TRUE(r.reason == drop::srtp_replay && has(r, api::trace_in_index) && !has(r, api::trace_accepted));
    EXPECT_EQ(r.in_index, 1u);
    bytes bad = unit.protect(rtp(2));
    bad[20] ^= 1;
    r = one(0, up(bad));
    EXPECT_EQ(r.last, stage::unprotect);
    EXPECT_EQ(r.reason, drop::srtp_auth);
    EXPECT_EQ(r.sequence, 2);
    r = one(0, frame(good, unit4, local(access4, 4444)));
    EXPECT_EQ(r.last, stage::lookup);
    EXPECT_EQ(r.reason, drop::no_flow);
    EXPECT_EQ(r.flow, 0u);
    EXPECT_TRUE(flow::same_address(r.destination, local(access4, 4444)));
    r = one(0, bytes(14, 0));
    EXPECT_TRUE(r.last == stage::lookup && r.reason == drop::not_ip && r.source.port == 0);
    r = one(1, frame(rtp(1), moved, local(core4, 5000)));
    EXPECT_TRUE(r.last == stage::unprotect && r.reason == drop::wrong_source);
    t.hops()[t.flows().find(p.unit)].rtp.mtu = 100;
    r = one(0, up(unit.protect(rtp(3))));
    EXPECT_TRUE(r.last == stage::send && r.reason == drop::too_big && !has(r, api::trace_sent));
    t.hops()[t.flows().find(p.unit)].rtp.state = hop_state::none;
    r = one(0, up(unit.protect(rtp(4))));
    EXPECT_TRUE(r.last == stage::protect && r.reason == drop::no_next_hop);
    ASSERT_EQ(t.flows().remove(p.unit), api::status::ok);
    t.flows().finish();
    EXPECT_EQ(one(0, up(unit.protect(rtp(5)))).reason, drop::no_flow);
    EXPECT_EQ(t.all_drops(), 8u);
}

TEST_F(Taps, TracesSoManyOfOneFlow) {
    const auto here = local(access4, 4000);
    arm_trace(3, &here);
    for (std::uint16_t n = 1; n <= 5; ++n)
        (void)t.pass(0, {frame(rtp(n), unit4, local(access4, 4444)), up(unit.protect(rtp(n)))});
    const auto got = traced();
    ASSERT_EQ(got.size(), 3u);
    for (std::uint16_t n = 0; n < 3; ++n)
        EXPECT_EQ(got[n].sequence, n + 1);
    EXPECT_EQ(t.drops(drop::no_flow), 5u);
}

TEST_F(Taps, TracesWhatComesToAnyOfSomePlaces) {
    const api::trace_request what{10, 0, {2, 0, {local(access4, 4444), local(core4, 5000)}}};
    trace = std::make_unique<trace_tap>(what, 0, addresses, own);
    t.worker().tap(trace.get());
    (void)t.pass(0, {frame(rtp(7), unit4, local(access4, 4444)), up(unit.protect(rtp(1))), bytes(200, 0x5a)});
    (void)t.pass(1, {down(rtp(9, 9))});
    const auto got = traced();
    ASSERT_EQ(got.size(), 2u);
    EXPECT_EQ(got[0].reason, drop::no_flow);
    EXPECT_EQ(got[1].sequence, 9);
}

TEST_F(Taps, CapturesWhatCameToAPlaceInAndOut) {
    capture_choice some;
    some.ports = ~0u;
    some.places = {1, 0, {local(access4, 4000)}};
    arm_capture(some);
    (void)t.pass(0, {frame(rtp(7), unit4, local(access4, 4444)), up(unit.protect(rtp(1))), bytes(200, 0x5a)});
    (void)t.pass(1, {down(rtp(9, 9))});
    auto got = taken();
    ASSERT_EQ(got.size(), 2u);
    EXPECT_EQ(got[0].head.way, api::capture_way::in);
    EXPECT_EQ(got[0].head.port, 0);
    EXPECT_EQ(got[1].head.way, api::capture_way::out);
    EXPECT_EQ(got[1].head.port, 1);

    some.direction = api::capture_out; // what came in is looked at all the same
    arm_capture(some);
    (void)t.pass(0, {up(unit.protect(rtp(2)))});
    (void)t.pass(1, {down(rtp(10, 9))});
    got = taken();
    ASSERT_EQ(got.size(), 1u);
    EXPECT_EQ(got[0].head.port, 1);
}

TEST_F(Taps, CaptureHoldsCiphertextOnly) {
    const bytes media = rtp(1, 1, 160), pattern(media.begin() + 12, media.end());
    const bytes srtp = unit.protect(media), back = rtp(9, 9, 160), back_pattern(back.begin() + 12, back.end());
    capture_choice all;
    all.ports = ~0u;
    for (const bool plaintext : {false, true}) {
        all.plaintext = plaintext;
        arm_capture(all);
        const bytes in = up(plaintext ? unit.protect(rtp(2, 1, 160)) : srtp);
        ASSERT_EQ(t.pass(0, {in}).size(), 1u);
        auto got = taken();
        ASSERT_EQ(got.size(), 2u);
        EXPECT_EQ(got[0].head.way, api::capture_way::in);
        EXPECT_EQ(got[0].data, in); // as it came, though it was decrypted in place
        EXPECT_EQ(got[0].head.withheld, 0);
        EXPECT_EQ(got[1].head.way, api::capture_way::out);
        EXPECT_EQ(got[1].head.port, 1);
        EXPECT_EQ(got[1].head.original, 14u + 28 + 172);
        EXPECT_EQ(got[1].data.size(), plaintext ? 14u + 28 + 172 : 14u + 28 + 12);
        EXPECT_EQ(got[1].head.withheld, plaintext ? 0 : 1);

        const bytes clear = down(plaintext ? rtp(10, 9, 160) : back);
        ASSERT_EQ(t.pass(1, {clear}).size(), 1u);
        got = taken();
        ASSERT_EQ(got.size(), 2u);
        EXPECT_EQ(got[0].data.size(), plaintext ? clear.size() : 14u + 28 + 12);
        EXPECT_EQ(got[0].head.original, clear.size());
        EXPECT_EQ(got[1].data.size(), 14u + 28 + 172 + 20); // SRTP: whole
        EXPECT_FALSE(contains(got[1].data, back_pattern));
    }
    EXPECT_FALSE(contains(srtp, pattern));
}

TEST_F(Taps, WhatDidNotAuthenticateMayBeClear) {
    capture_choice all;
    all.ports = ~0u;
    arm_capture(all);
    const bytes clear = rtp(1, 1, 160), nowhere = frame(clear, unit4, local(access4, 4444));
    EXPECT_TRUE(t.pass(0, {up(clear), nowhere, bytes(200, 0x5a)}).empty());
    const auto got = taken();
    ASSERT_EQ(got.size(), 3u);
    EXPECT_NE(got[0].head.reason, drop::none);
    EXPECT_EQ(got[0].data.size(), 14u + 28 + 12);
    EXPECT_EQ(got[1].head.reason, drop::no_flow);
    EXPECT_EQ(got[1].data.size(), 14u + 28 + 12);
    EXPECT_EQ(got[2].head.reason, drop::not_ip);
    EXPECT_EQ(got[2].data.size(), 34u);
    for (const auto& c : got)
        EXPECT_EQ(c.head.withheld, 1);
}

TEST_F(Taps, CaptureFilters) {
    const bytes good = unit.protect(rtp(1));
    capture_choice some;
    some.ports = ~0u;
    some.drop = drop::srtp_replay;
    arm_capture(some);
    (void)t.pass(0, {up(good), up(good), up(good)});
    auto got = taken();
    ASSERT_EQ(got.size(), 2u);
    EXPECT_TRUE(got[0].head.reason == drop::srtp_replay && got[1].head.way == api::capture_way::in);

    some = {};
    some.ports = 2; // "core"
    some.snap_length = 50;
    some.packets = 2;
    arm_capture(some);
    for (std::uint16_t n = 2; n < 6; ++n)
        (void)t.pass(0, {up(unit.protect(rtp(n)))});
    got = taken();
    ASSERT_EQ(got.size(), 2u);
    for (const auto& c : got) {
        EXPECT_TRUE(c.head.way == api::capture_way::out && c.head.port == 1);
        EXPECT_EQ(c.data.size(), 50u);
    }
    some.direction = api::capture_in;
    arm_capture(some);
    (void)t.pass(0, {up(unit.protect(rtp(7)))});
    EXPECT_TRUE(taken().empty());
}

TEST_F(Taps, FullRingCostsRecordsNotPackets) {
    arm_trace(100'000);
    unsigned out = 0;
    constexpr unsigned packets = 16384 + 256;
    for (unsigned n = 0; n < packets; n += 64) {
        std::vector<bytes> burst;
        for (unsigned i = 0; i < 64; ++i)
            burst.push_back(up(unit.protect(rtp(static_cast<std::uint16_t>(n + i), 1, 20))));
        out += static_cast<unsigned>(t.pass(0, burst).size());
    }
    EXPECT_EQ(out, packets);
    EXPECT_EQ(trace->lost(), 256u);
    EXPECT_EQ(own.counters[static_cast<std::size_t>(api::counter::capture_lost)], 256u);
    EXPECT_EQ(traced().size(), 16384u);
}

TEST(TapsOfTwoWorkers, HandedOverIsSeenTwiceAndCapturedOnce) {
    testbed t(2);
    (void)t.add_pair(access4, core4, gcm);
    srtp_end unit{gcm, {{0, master_key(gcm, 1)}}, 4, false};
    const flow::port_table addresses{std::vector<flow::ip_bytes>{}};
    std::array<api::worker_stats, 2> own{};
    std::vector<std::unique_ptr<trace_tap>> traces;
    std::vector<std::unique_ptr<capture_tap>> captures;
    capture_choice all;
    all.ports = ~0u;
    all.direction = api::capture_in;
    for (unsigned i = 0; i < 2; ++i) {
        traces.push_back(std::make_unique<trace_tap>(api::trace_request{10, 0, {}}, i, addresses, own[i]));
        captures.push_back(std::make_unique<capture_tap>(all, i, own[i]));
        t.worker(i).tap(traces[i].get());
        t.worker(i).tap(captures[i].get());
    }
    for (std::uint16_t queue = 0; queue < 2; ++queue) // one of them is not the flow's own
        t.inject(0, frame(unit.protect(rtp(static_cast<std::uint16_t>(queue + 1))), unit4, local(access4, 4000)),
                 queue);
    t.pump();
    EXPECT_EQ(t.collect(0).size() + t.collect(1).size(), 2u);
    unsigned handed = 0, sent = 0, copies = 0;
    for (unsigned i = 0; i < 2; ++i) {
        for (const std::byte* at; (at = traces[i]->ring().front()) != nullptr; traces[i]->ring().pop()) {
            api::trace_record r;
            std::memcpy(&r, at, sizeof r);
            EXPECT_EQ(r.reason, drop::none);
            EXPECT_EQ(r.worker, i);
            handed += has(r, api::trace_handed) && r.last == stage::lookup ? 1 : 0;
            sent += has(r, api::trace_sent) ? 1 : 0;
        }
        for (; captures[i]->ring().front() != nullptr; captures[i]->ring().pop())
            ++copies;
        t.worker(i).tap(static_cast<trace_tap*>(nullptr));
        t.worker(i).tap(static_cast<capture_tap*>(nullptr));
    }
    EXPECT_EQ(handed, 1u);
    EXPECT_EQ(sent, 2u);
    EXPECT_EQ(copies, 2u);
}

TEST_F(Taps, StagesAreCounted) {
    bytes bad = unit.protect(rtp(1));
    bad[20] ^= 1;
    (void)t.pass(
        0, {up(unit.protect(rtp(2))), up(bad), frame(bad, unit4, local(access4, 4444)), up(unit.protect(rtp(3)))});
    const api::worker_sight& s = t.sight();
    const std::uint64_t entered[] = {4, 4, 3, 2, 2};
    for (std::size_t i = 0; i < api::stage_count; ++i) {
        EXPECT_EQ(s.stage_packets[i], entered[i]) << i;
        EXPECT_GT(s.stage_tsc[i], 0u) << i;
    }
    EXPECT_EQ(s.burst_sizes[2], 1u); // one burst of 4
    std::uint64_t sum = 0;
    for (const std::uint64_t n : s.stage_tsc)
        sum += n;
    EXPECT_EQ(s.busy_tsc, sum);
}

} // namespace
} // namespace tandem::pipeline::testing
