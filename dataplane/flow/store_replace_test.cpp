// SPDX-License-Identifier: Apache-2.0
// What a replacement of flows may ask for: each item is looked at, one that cannot be refuses its whole group, and what
// was in force is as it was, to the last byte.
#include <cstring>
#include <gtest/gtest.h>

#include "dataplane/flow/store.hpp"

namespace tandem::flow {
namespace {

using api::status;
constexpr std::uint32_t room = 8;
constexpr auto gcm = api::suite::aead_aes_128_gcm;

struct at_once final : executor {
    void run(unsigned worker, const std::function<void()>& what) override {
        ++commands;
        last = worker;
        what();
    }
    void quiesce() override {}
    unsigned commands = 0, last = 0;
};

api::net_address remote(std::uint16_t port) {
    return {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 9}, port, {}};
}

api::flow_config flow_at(std::uint16_t port, std::uint64_t tag = 1, std::uint8_t carries = 3) {
    api::flow_config c{};
    c.id = port;
    c.tag = tag;
    c.in = c.out = {gcm, 4, 0};
    c.carries = carries;
    c.route = {port, port, remote(port), remote(port)};
    return c;
}

api::epoch_key key_for(api::flow_id id, api::side side, std::uint32_t epoch, std::uint8_t seed) {
    api::epoch_key k{};
    k.id = id;
    k.side = side;
    k.epoch = k.mki = epoch;
    k.key_length = 16;
    k.salt_length = 12;
    std::memset(k.key, seed, sizeof k.key);
    return k;
}

api::flow_replacement one(std::uint16_t port, api::flow_id from, std::uint64_t tag = 1, std::uint8_t carries = 3) {
    api::flow_replacement r{};
    r.config = flow_at(port, tag, carries);
    r.in_from[0] = r.out_from[0] = from;
    return r;
}

class Replace : public ::testing::Test {
protected:
    Replace() { flows.recover(); }
    void add(const api::flow_config& c) {
        ASSERT_EQ(flows.add(c, 1), status::ok);
        for (const auto side : {api::side::in, api::side::out})
            ASSERT_EQ(flows.install(key_for(c.id, side, 5, static_cast<std::uint8_t>(c.id))), status::ok);
    }
    std::vector<status> replace(const std::vector<api::flow_replacement>& items) {
        std::vector<status> said(items.size());
        flows.replace(items, 1, said);
        return said;
    }
    // Refused, and nothing is another than before.
    void expect_refused(const std::vector<api::flow_replacement>& items, const std::vector<status>& said) {
        std::vector<std::byte> before(sizeof(flow_block) * state.slots()), after(before.size());
        const auto* blocks = reinterpret_cast<const std::byte*>(&state.records()[0]);
        std::memcpy(before.data(), blocks, before.size());
        const auto keys = flows.keys_used(), count = flows.count();
        EXPECT_EQ(replace(items), said);
        std::memcpy(after.data(), blocks, after.size());
        EXPECT_TRUE(before == after) << "a refusal changed something";
        EXPECT_EQ(flows.keys_used(), keys);
        EXPECT_EQ(flows.count(), count);
        EXPECT_EQ(state.header().decided, 0u);
    }

    memory state = std::move(*memory::make(room));
    port_table table{{ip_bytes{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1}}};
    std::unique_ptr<crypto::engine> engine = std::move(*crypto::make_engine("auto"));
    at_once workers;
    store flows{state, table, *engine, workers, 2};
};

TEST_F(Replace, OneBadItemRefusesItsGroup) {
    add(flow_at(10));
    add(flow_at(20, 2));
    add(flow_at(30, 1, api::carries_rtp));
    add(flow_at(32, 1, api::carries_rtp));
    const auto with = [](api::flow_replacement r, auto&& change) {
        change(r);
        return r;
    };
    const auto good = one(12, 10);
    const std::pair<api::flow_replacement, status> wrong[] = {
        {one(14, 99), status::unknown_flow},
        {one(14, 20), status::not_yours},
        {one(20, 10), status::not_yours},    // the port is another media's
        {one(14, 20, 2), status::not_yours}, // and so is the item
        {one(12, 10), status::flow_exists},
        {with(good, [](auto& r) { r.config.id = 1 << 16 | 14; }), status::bad_address},
        {with(one(14, 10), [](auto& r) { r.config.in.suite = static_cast<api::suite>(77); }), status::bad_suite},
        {with(one(14, 10), [](auto& r) { r.in_keys = static_cast<api::key_choice>(2); }), status::bad_message},
        {with(one(14, 10), [](auto& r) { r.in_key.key_length = 16; }), status::bad_message}, // a key, but not fresh
        {with(one(14, 30), [](auto& r) { r.in_from[1] = 32; }), status::bad_state},          // both carry RTP
        {with(one(14, 10), [](auto& r) { r.in_from[1] = 10; }), status::bad_state},          // itself
        {with(one(14, 10),
              [](auto& r) {
                  r.out_keys = api::key_choice::fresh;
                  r.out_key = key_for(14, api::side::out, 5, 77); // a number that was another key's
              }),
         status::bad_epoch},
        {with(one(14, 10),
              [](auto& r) {
                  r.in_keys = api::key_choice::fresh;
                  r.in_key = key_for(14, api::side::in, 6, 77);
                  r.in_key.salt_length = 14;
              }),
         status::bad_key_length},
        {with(one(14, 0),
              [](auto& r) { // the old one's key, but not its indices
                  r.config.id = 10;
                  r.config.route.rtp_out = r.config.route.rtcp_out = 10;
                  r.in_keys = api::key_choice::fresh;
                  r.in_key = key_for(10, api::side::in, 6, 10);
              }),
         status::bad_state},
    };
    for (const auto& [item, says] : wrong) {
        SCOPED_TRACE(static_cast<unsigned>(says));
        expect_refused({good, item}, {status::group_refused, says});
        if (says != status::flow_exists && item.config.tag == 1) {
            expect_refused({item, good}, {says, status::group_refused});
            expect_refused({item}, {says});
        }
    }
    expect_refused(std::vector<api::flow_replacement>(17, good), std::vector<status>(17, status::bad_message));
}

TEST_F(Replace, AFullTableIsNoReason) {
    for (std::uint16_t port = 1; port <= room; ++port)
        add(flow_at(port));
    EXPECT_EQ(flows.add(flow_at(99), 1), status::table_full);
    for (std::uint16_t turn = 0; turn < 100; ++turn) // more than there are slots to spare, within one request
        ASSERT_EQ(replace({one(static_cast<std::uint16_t>(50 + turn), turn == 0 ? 1 : 49 + turn)}),
                  std::vector{status::ok});
    EXPECT_EQ(flows.count(), room);
    EXPECT_EQ(flows.add(flow_at(99), 1), status::table_full);
}

TEST_F(Replace, KeysThatDoNotFitRefuseAndNothingIsLost) {
    for (std::uint16_t port = 1; port <= room; ++port)
        add(flow_at(port));
    for (std::uint32_t epoch = 6; epoch < 8; ++epoch)
        for (std::uint16_t port = 1; port <= room; ++port)
            for (const auto side : {api::side::in, api::side::out})
                static_cast<void>(
                    flows.install(key_for(port, side, epoch, static_cast<std::uint8_t>(30 * (epoch - 5) + port))));
    ASSERT_EQ(flows.install(key_for(room, api::side::in, 7, 68)), status::table_full);
    auto rtp = one(50, 1, 1, api::carries_rtp), rtcp = one(51, 1, 1, api::carries_rtcp);
    expect_refused({rtp, rtcp}, {status::group_refused, status::table_full}); // the second needs keys of its own
}

TEST_F(Replace, AFlowChangesItsPortAndKeepsAllElse) {
    add(flow_at(10));
    record& before = state.records()[flows.find(10)];
    switch_source(before, remote(777));
    const auto worker = before.worker;
    auto item = one(12, 10);
    item.config.route.rtp_remote.port = item.config.route.rtcp_remote.port = 0;
    std::vector<std::string> told;
    flows.on_publish = [&](auto, const auto& r) { told.push_back("open " + std::to_string(r.id)); };
    flows.on_carry = [&](const auto& s) { told.push_back("carry " + std::to_string(state.records()[s.to].id)); };
    flows.on_withdraw = [&](auto, const auto& r) {
        told.push_back("close " + std::to_string(r.id));
        EXPECT_EQ(flows.find(10), no_slot);
    };
    flows.on_replaced = [&](auto, const auto& r) { told.push_back("in force " + std::to_string(r.id)); };
    const auto commands = workers.commands;
    EXPECT_EQ(replace({item}), std::vector{status::ok});
    EXPECT_EQ(workers.commands, commands + 1) << "one command";
    EXPECT_EQ(workers.last, worker);
    EXPECT_EQ(told, (std::vector<std::string>{"open 12", "carry 12", "close 10", "in force 12"}));
    flows.finish();
    const auto all = flows.list({});
    ASSERT_EQ(all.size(), 1u);
    EXPECT_EQ(all[0].config.id, 12u);
    EXPECT_EQ(all[0].in_epochs[0], 5u);
    EXPECT_EQ(all[0].sending_epoch, 5u);
    EXPECT_EQ(all[0].source.port, 777);
    EXPECT_EQ(all[0].config.route.rtp_remote.port, 10);
    EXPECT_EQ(all[0].worker, worker);
    EXPECT_EQ(flows.keys_used(), 2u);
    EXPECT_EQ(flows.remove(12), status::ok);
    flows.finish();
    EXPECT_EQ(flows.keys_used(), 0u);
}

TEST_F(Replace, AKeyThatIsSaidToBeFreshButIsNotIsTheSameOne) {
    add(flow_at(10));
    const side& before = state.outs()[flows.find(10)];
    const auto object = before.epochs[0] >> 32;
    const auto generation = before.generations[0];
    auto item = one(10, 10);
    item.out_keys = api::key_choice::fresh;
    item.out_key = key_for(10, api::side::out, 2, 10); // another number, even a lower one
    EXPECT_EQ(replace({item}), std::vector{status::ok});
    flows.finish();
    const side& after = state.outs()[flows.find(10)];
    EXPECT_EQ(after.epochs[0] >> 32, object) << "its packets are counted on";
    EXPECT_EQ(after.generations[0], generation) << "its streams would be forgotten";
    EXPECT_EQ(sending_epoch(after), 2u);
    EXPECT_EQ(flows.keys_used(), 2u);
}

// RTP and RTCP of a leg that were added apart may be on two workers: one of them rests while the other switches.
TEST_F(Replace, FlowsOfTwoWorkersBecomeOne) {
    auto rtp = flow_at(10, 1, api::carries_rtp), rtcp = flow_at(13, 1, api::carries_rtcp);
    add(rtp);
    add(rtcp);
    for (const auto side : {api::side::in, api::side::out})
        ASSERT_EQ(flows.retire({13, 5, side, {}}), status::ok);
    ASSERT_NE(state.records()[flows.find(10)].worker, state.records()[flows.find(13)].worker);
    auto item = one(10, 10);
    item.in_from[1] = item.out_from[1] = 13;
    EXPECT_EQ(replace({item}), std::vector{status::ok});
    flows.finish();
    EXPECT_EQ(flows.count(), 1u);
    EXPECT_EQ(flows.find(13), no_slot);
    // What was added as RTP and RTCP of one leg is on one worker from the start.
    add(flow_at(40, 4, api::carries_rtp));
    add(flow_at(41, 4, api::carries_rtcp));
    EXPECT_EQ(state.records()[flows.find(40)].worker, state.records()[flows.find(41)].worker);
}

TEST_F(Replace, TwoLegsWithDifferentKeysAreNotJoined) {
    add(flow_at(10, 1, api::carries_rtp));
    add(flow_at(11, 1, api::carries_rtcp)); // keys are by port here
    auto item = one(10, 10);
    item.in_from[1] = item.out_from[1] = 11;
    expect_refused({item}, {status::bad_epoch});
}

TEST_F(Replace, WhereThePeerIsStaysUnlessItIsSaid) {
    const route was{10, 11, remote(100), remote(101)}, muxed{10, 10, remote(100), remote(100)};
    const auto carried = [](route to, std::uint8_t carries, const route& from) {
        carry_remotes(to, carries, (carries & 1) != 0 ? &from : nullptr, (carries & 2) != 0 ? &from : nullptr);
        return std::pair(to.rtp_remote.port, to.rtcp_remote.port);
    };
    using ports = std::pair<std::uint16_t, std::uint16_t>;
    EXPECT_EQ(carried({20, 21, {}, {}}, 3, was), ports(100, 101));
    EXPECT_EQ(carried({20, 20, {}, {}}, 3, muxed), ports(100, 100));
    EXPECT_EQ(carried({20, 20, {}, {}}, 3, was), ports(100, 100)) << "the leg muxes now";
    EXPECT_EQ(carried({20, 21, {}, {}}, 3, muxed), ports(100, 0)) << "RTCP comes from nobody knows where now";
    EXPECT_EQ(carried({20, 21, remote(7), {}}, 3, was), ports(7, 101));
    EXPECT_EQ(carried({20, 21, {}, remote(8)}, 3, was), ports(100, 8));
    EXPECT_EQ(carried({20, 20, {}, {}}, 2, muxed), ports(0, 100)) << "RTCP alone";
    EXPECT_EQ(carried({20, 20, {}, {}}, 2, was), ports(0, 0));
}

TEST_F(Replace, CountersGoAlongByWhatIsCarried) {
    api::flow_stats from{}, to{};
    from.rx_packets = 5;
    from.tx_bytes = 50;
    from.rtcp_rx_packets = 3;
    from.reported_jitter_max = 9;
    from.replays = 2;
    from.last_packet_ns = 77;
    carry_counters(to, from, api::carries_rtp, true);
    EXPECT_EQ(to.rx_packets + to.tx_bytes + to.replays, 57u);
    EXPECT_EQ(to.rtcp_rx_packets + to.reported_jitter_max, 0u);
    EXPECT_EQ(to.last_packet_ns, 77u);
    carry_counters(to, from, api::carries_rtcp, false);
    EXPECT_EQ(to.rx_packets, 5u);
    EXPECT_EQ(to.replays, 2u);
    EXPECT_EQ(to.rtcp_rx_packets, 3u);
    EXPECT_EQ(to.reported_jitter_max, 9u);
}

} // namespace
} // namespace tandem::flow
