// SPDX-License-Identifier: Apache-2.0
// No state is shared between workers: three of them in threads, packets at wrong queues, while the control thread adds,
// keys, re-keys, updates, lists, ages and removes flows and reads every counter. Run under ThreadSanitizer too
// (tools/test threads); here it checks that nothing is lost and that the account is exact.
#include <atomic>
#include <thread>

#include <gtest/gtest.h>

#include "dataplane/flow/ageing.hpp"
#include "dataplane/pipeline/testbed_test.hpp"

namespace tandem::pipeline::testing {
namespace {

using api::suite;
constexpr suite kind = suite::aead_aes_128_gcm;
constexpr std::uint16_t people = 6, epochs = 12;

api::net_address unit(unsigned call, unsigned place) {
    return address("192.0.2." + std::to_string(70 + place), static_cast<std::uint16_t>(7000 + 2 * call));
}

std::unique_ptr<srtp_end> end_of_unit() {
    std::vector<srtp_end::key> keys;
    for (std::uint32_t e = 0; e < epochs; ++e)
        keys.push_back({e, master_key(kind, static_cast<std::uint8_t>(e == 0 ? 1 : 100 + e))});
    return std::make_unique<srtp_end>(kind, keys, 4u, false);
}

struct traffic {
    testbed& t;
    std::vector<std::unique_ptr<srtp_end>> ends;
    std::vector<std::uint16_t> sequence = std::vector<std::uint16_t>(people, 0);

    explicit traffic(testbed& bed) : t(bed) {
        for (unsigned i = 0; i < people; ++i)
            ends.push_back(end_of_unit());
    }
    // 30 packets of each call both ways, every one by another queue; from another address each time.
    void burst(std::uint32_t epoch, unsigned place) {
        for (unsigned n = 0; n < 30; ++n)
            for (unsigned i = 0; i < people; ++i) {
                const auto more = static_cast<std::uint16_t>(2 * i);
                const std::uint16_t s = ++sequence[i];
                t.inject(0,
                         frame(ends[i]->protect(rtp(s, 500 + i, 30), epoch), unit(i, place),
                               local(access4, static_cast<std::uint16_t>(4000 + more))),
                         s % 4);
                t.inject(1, frame(rtp(s, 900 + i, 30), phone4, local(core4, static_cast<std::uint16_t>(5000 + more))),
                         (s + i) % 4);
            }
    }
};

// What the control thread reads while workers write.
void look(testbed& t, flow::ageing& ages) {
    t.flows().for_each(0, t.flows().top(), [&](flow::slot_index slot, const flow::record& r) {
        (void)ages.look(slot, api::read(t.flow_stats()[slot].last_packet_ns), r.timeout_s, monotonic_ns());
        (void)flow::describe(t.flows().shared(), slot);
    });
    std::uint64_t sum = 0;
    for (std::size_t c = 0; c < static_cast<std::size_t>(api::counter::count); ++c)
        sum += t.counter(static_cast<api::counter>(c));
    for (const auto& f : t.flow_stats())
        sum += api::read(f.rx_packets) + api::read(f.tx_bytes) + api::read(f.expected) + api::read(f.auth_failures);
    EXPECT_GT(sum + t.all_drops(), 0u);
    (void)t.events();
}

void add(testbed& t, unsigned call) {
    t.add_pair(access4, core4, kind, suite::clear, 4, static_cast<std::uint16_t>(2 * call));
}

void rekey(testbed& t, unsigned call, std::uint32_t epoch) {
    const auto more = static_cast<std::uint16_t>(2 * call);
    const auto up = id(access4, static_cast<std::uint16_t>(4000 + more));
    const auto down = id(core4, static_cast<std::uint16_t>(5000 + more));
    EXPECT_EQ(t.flows().install(epoch_key(up, api::side::in, epoch, kind, static_cast<std::uint8_t>(100 + epoch))),
              api::status::ok);
    EXPECT_EQ(t.flows().install(epoch_key(down, api::side::out, epoch, kind, static_cast<std::uint8_t>(50 + epoch))),
              api::status::ok);
    EXPECT_EQ(t.flows().switch_to({down, epoch, api::side::out, {}}), api::status::ok);
    if (epoch >= 2) {
        EXPECT_EQ(t.flows().retire({up, epoch - 2, api::side::in, {}}), api::status::ok);
        EXPECT_EQ(t.flows().retire({down, epoch - 2, api::side::out, {}}), api::status::ok);
    }
    api::flow_update change{};
    change.id = up;
    change.mask = api::update_dscp | api::update_timeout;
    change.dscp = static_cast<std::uint8_t>(epoch);
    change.timeout_s = 30;
    EXPECT_EQ(t.flows().update(change), api::status::ok);
    t.flows().finish();
}

// Media comes and goes by a thread of its own, so that the control thread learns nothing from it.
class speaker {
public:
    explicit speaker(testbed& t) : media_(t), thread_([this, &t] { run(t); }) {}
    void allow(std::uint32_t epoch) { allowed_.store(epoch, std::memory_order_release); }
    [[nodiscard]] bool done(std::uint32_t epoch) const { return done_.load(std::memory_order_relaxed) >= epoch; }
    std::uint64_t end() {
        thread_.join();
        return out_;
    }

private:
    void run(testbed& t) {
        for (std::uint32_t e = 1; e <= epochs; ++e) { // under the keys of epoch e - 1
            while (allowed_.load(std::memory_order_acquire) < e)
                std::this_thread::yield();
            media_.burst(e - 1, e % 3);
            while (t.collected() + t.all_drops() < t.injected())
                out_ += t.collect(0).size() + t.collect(1).size();
            done_.store(e, std::memory_order_relaxed);
        }
    }
    traffic media_;
    std::atomic<std::uint32_t> allowed_{0}, done_{0};
    std::uint64_t out_ = 0;
    std::thread thread_;
};

TEST(Churn, FlowsComeChangeAndGoWhileWorkersRun) {
    testbed t(3);
    flow::ageing ages(64 + flow::spare_slots);
    for (unsigned i = 0; i < people; ++i)
        add(t, i);
    t.start();
    speaker media(t);
    for (std::uint32_t e = 1; e < epochs; ++e) {
        media.allow(e);
        for (unsigned i = 0; i < people; ++i) // while that is under way
            rekey(t, i, e);
        add(t, people + e); // a call that nobody speaks in
        EXPECT_EQ(t.flows().list({}).size(), 2u * people + 2);
        do
            look(t, ages);
        while (!media.done(e));
        EXPECT_EQ(t.flows().remove(id(access4, static_cast<std::uint16_t>(4000 + 2 * (people + e)))), api::status::ok);
        EXPECT_EQ(t.flows().remove(id(core4, static_cast<std::uint16_t>(5000 + 2 * (people + e)))), api::status::ok);
        t.flows().finish();
    }
    media.allow(epochs);
    for (unsigned i = 0; i < 2; ++i) // with packets under way to them
        EXPECT_EQ(t.flows().remove(id(access4, static_cast<std::uint16_t>(4000 + 2 * i))), api::status::ok);
    t.flows().finish();
    const std::uint64_t out = media.end();
    t.halt();
    EXPECT_GT(out, 0u);
    // Nothing but what came before the unit was heard, and what went to the removed flows.
    EXPECT_EQ(t.all_drops(),
              t.drops(api::drop::no_remote) + t.drops(api::drop::no_flow) + t.drops(api::drop::flow_gone));
    EXPECT_EQ(t.drops(api::drop::srtp_auth), 0u);
}

// A re-offer: the unit's leg muxes or has a flow for RTCP of its own; the core's flow follows.
void reoffer(testbed& t, unsigned call, bool mux) {
    const auto port = [call](unsigned at) { return static_cast<std::uint16_t>(at + 2 * call); };
    const auto up = id(access4, port(4000)), up_rtcp = id(access4, port(4001)), down = id(core4, port(5000));
    const bool muxed = t.flows().find(up_rtcp) == flow::no_slot;
    const auto now = [&](api::flow_id of) {
        api::flow_replacement r{};
        r.config = flow::describe(t.flows().shared(), t.flows().find(of)).config;
        r.config.route.rtp_remote.port = r.config.route.rtcp_remote.port = 0;
        r.in_from[0] = r.out_from[0] = of;
        return r;
    };
    std::vector<api::flow_replacement> items{now(up), now(down)};
    items[0].config.carries = mux ? 3 : api::carries_rtp;
    items[1].config.route.rtcp_out = mux ? up : up_rtcp;
    if (mux && !muxed)
        items[0].in_from[1] = items[0].out_from[1] = up_rtcp;
    if (!mux) {
        items.push_back(now(muxed ? up : up_rtcp));
        items[2].config.id = up_rtcp;
        items[2].config.carries = api::carries_rtcp;
    }
    std::vector<api::status> said(items.size());
    t.flows().replace(items, 1, said);
    for (const auto s : said)
        ASSERT_EQ(s, api::status::ok);
    t.flows().finish();
}

TEST(Churn, FlowsAreReplacedWhileWorkersRun) {
    testbed t(3);
    for (unsigned i = 0; i < people; ++i)
        add(t, i);
    t.start();
    speaker media(t);
    unsigned replaced = 0;
    for (std::uint32_t e = 1; e < epochs && !HasFatalFailure(); ++e) {
        media.allow(e);
        do
            for (unsigned i = 0; i < 2 * people; ++i, ++replaced) // with packets under way by every queue
                reoffer(t, i % people, i >= people);
        while (!media.done(e));
        for (unsigned i = 0; i < people; ++i)
            rekey(t, i, e);
    }
    media.allow(epochs);
    const std::uint64_t out = media.end();
    t.halt();
    EXPECT_GT(replaced, 100u);
    // What another worker hands over while its flow goes may come too late for a second look; never under the old
    // state.
    const auto late = t.drops(api::drop::flow_gone);
    EXPECT_LE(late, replaced / 20);
    EXPECT_EQ(t.all_drops(), t.drops(api::drop::no_remote) + late) << "no_remote: before the unit was heard";
    EXPECT_EQ(out + t.all_drops(), t.injected());
    RecordProperty("replaced", static_cast<int>(replaced));
}

} // namespace
} // namespace tandem::pipeline::testing
