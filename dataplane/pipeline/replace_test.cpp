// SPDX-License-Identifier: Apache-2.0
// A re-offer replaces a media's flows and their state goes along (RFC 3711 3.3.1, 3.4): whatever two changes follow
// each other, with roll-over counters above 0 libsrtp2 goes on to authenticate every packet, SRTP and SRTCP, hears no
// index twice, and what was recorded before is refused.
#include <gtest/gtest.h>
#include <memory>
#include <optional>
#include <tuple>

#include "dataplane/pipeline/testbed_test.hpp"

namespace tandem::pipeline::testing {
namespace {

using api::drop;
using api::suite;
constexpr auto gcm = suite::aead_aes_128_gcm, cm = suite::aes_cm_128_hmac_sha1_80;

// A leg as signalling sees it, with the peer behind it.
struct leg {
    unsigned address;
    std::uint16_t port;
    suite kind;
    std::uint8_t mki;
    std::uint8_t seed; // of the keys
    api::net_address phone;
    bool told;               // where the peer is, signalling says
    std::uint32_t epoch = 0; // 2n and 2n + 1 are the same key
    bool mux = true;         // else RTCP has the next port, here and there

    [[nodiscard]] api::flow_id rtp() const { return id(address, port); }
    [[nodiscard]] api::flow_id rtcp() const { return id(address, static_cast<std::uint16_t>(port + (mux ? 0 : 1))); }
    [[nodiscard]] api::net_address phone_rtcp() const {
        auto a = phone;
        a.port = static_cast<std::uint16_t>(a.port + (mux ? 0 : 1));
        return a;
    }
    [[nodiscard]] std::uint8_t seed_of(std::uint32_t at, api::side way) const {
        return static_cast<std::uint8_t>(seed + 10 * (at / 2) + (way == api::side::out ? 1 : 0));
    }
};
using legs = std::array<leg, 2>;

std::vector<api::flow_config> plan(const legs& all) {
    std::vector<api::flow_config> flows;
    for (unsigned i = 0; i < 2; ++i) {
        const leg &in = all[i], &out = all[1 - i];
        api::flow_config c{};
        c.id = in.rtp();
        c.reverse = out.rtp();
        c.tag = 7;
        c.in = {in.kind, in.mki, 0};
        c.out = {out.kind, out.mki, 0};
        c.carries = in.mux ? 3 : api::carries_rtp;
        c.source.policy = in.kind == suite::clear ? api::source_policy::signalled : api::source_policy::authenticated;
        c.source.signalled = in.phone;
        c.route = {out.rtp(), out.rtcp(), {}, {}};
        if (out.told)
            c.route = {out.rtp(), out.rtcp(), out.phone, out.phone_rtcp()};
        flows.push_back(c);
        if (in.mux)
            continue;
        c.id = in.rtcp();
        c.reverse = out.rtcp();
        c.carries = api::carries_rtcp;
        c.source.signalled = in.phone_rtcp();
        flows.push_back(c);
    }
    return flows;
}

// The old flows that go on in a new one of leg i.
void name(const leg& before, const leg& now, bool rtcp, api::flow_id (&to)[2]) {
    if (now.mux && !before.mux) {
        to[0] = before.rtp();
        to[1] = before.rtcp();
    } else {
        to[0] = rtcp ? before.rtcp() : before.rtp();
    }
}

std::vector<api::flow_replacement> replacements(const legs& before, const legs& now) {
    std::vector<api::flow_replacement> items;
    for (const auto& c : plan(now)) {
        api::flow_replacement r{};
        r.config = c;
        const unsigned i = c.id >> 16 == now[0].address ? 0 : 1;
        name(before[i], now[i], c.carries == api::carries_rtcp, r.in_from);
        name(before[i], now[i], c.carries == api::carries_rtcp, r.out_from);
        const auto give = [&](const leg& was, const leg& is, api::side way, api::key_choice& choice,
                              api::epoch_key& key) {
            if (was.epoch == is.epoch && was.kind == is.kind)
                return;
            choice = api::key_choice::fresh;
            if (is.kind != suite::clear)
                key = epoch_key(c.id, way, is.epoch, is.kind, is.seed_of(is.epoch, way));
        };
        give(before[i], now[i], api::side::in, r.in_keys, r.in_key);
        give(before[1 - i], now[1 - i], api::side::out, r.out_keys, r.out_key);
        items.push_back(r);
    }
    return items;
}

// What a peer does with libsrtp2: it knows every key that its leg may come to and, as long as the suite stays, goes on.
class peer {
public:
    peer(const leg& begin, std::uint32_t ssrc) : ssrc_(ssrc) { follow(begin); }
    void follow(const leg& now) {
        if (out_ == nullptr || now.kind != is_.kind) {
            std::vector<srtp_end::key> out, in;
            for (std::uint32_t e = now.epoch; now.kind != suite::clear && e < now.epoch + 8; ++e) {
                out.push_back({e, master_key(now.kind, now.seed_of(e, api::side::in))});
                in.push_back({e, master_key(now.kind, now.seed_of(e, api::side::out))});
            }
            recorded_.clear();
            out_ = out.empty() ? nullptr : std::make_unique<srtp_end>(now.kind, out, now.mki, false);
            in_ = in.empty() ? nullptr : std::make_unique<srtp_end>(now.kind, in, now.mki, true);
        }
        is_ = now;
    }
    [[nodiscard]] bytes clear_rtp() { return rtp(++sequence_, ssrc_); }
    [[nodiscard]] bytes clear_rtcp() const { return rtcp(ssrc_); }
    [[nodiscard]] bytes frame_of(const bytes& packet, bool is_rtcp) {
        const bytes sealed = out_ ? out_->protect(packet, is_.epoch) : packet;
        recorded_.push_back({sealed, is_rtcp});
        return framed(sealed, is_rtcp);
    }
    // What it sent before, once more, to where the leg is now.
    [[nodiscard]] std::vector<bytes> replays() const {
        std::vector<bytes> all;
        for (const auto& [sealed, is_rtcp] : recorded_)
            if (out_ != nullptr)
                all.push_back(framed(sealed, is_rtcp));
        return all;
    }
    [[nodiscard]] std::optional<bytes> opens(const opened& o) const {
        return in_ ? in_->unprotect(o.payload) : o.payload;
    }

private:
    [[nodiscard]] bytes framed(const bytes& payload, bool is_rtcp) const {
        const auto to = local(is_.address, static_cast<std::uint16_t>(is_rtcp ? is_.rtcp() : is_.rtp()));
        return frame(payload, is_rtcp ? is_.phone_rtcp() : is_.phone, to);
    }
    leg is_{};
    std::uint32_t ssrc_;
    std::uint16_t sequence_ = 65'500;
    std::unique_ptr<srtp_end> out_, in_;
    std::vector<std::pair<bytes, bool>> recorded_;
};

struct change {
    const char* name;
    void (*apply)(legs&);
};
const change changes[] = {
    {"UnitMux", [](legs& l) { l[0].mux = !l[0].mux; }},
    {"CoreMux", [](legs& l) { l[1].mux = !l[1].mux; }},
    {"CoreSuite",
     [](legs& l) {
         l[1].kind = l[1].kind == suite::clear ? cm : suite::clear;
         l[1].epoch += 2;
     }},
    {"UnitPort", [](legs& l) { l[0].port = static_cast<std::uint16_t>(l[0].port + 100); }},
    {"CorePhone", [](legs& l) { l[1].phone.port = static_cast<std::uint16_t>(l[1].phone.port + 4); }},
    {"CoreFamily",
     [](legs& l) {
         const bool v6 = l[1].address == core6;
         l[1].address = v6 ? core4 : core6;
         l[1].phone = v6 ? address("198.51.100.9", 6000) : address("2001:db8:1::9", 6000);
     }},
    {"UnitSameKey", [](legs& l) { l[0].epoch |= 1; }},
    {"UnitNewKey", [](legs& l) { l[0].epoch = (l[0].epoch | 1) + 1; }},
    {"Nothing", [](legs&) {}},
};

struct media {
    testbed t;
    legs now{leg{access4, 4000, gcm, 4, 1, address("192.0.2.77", 7000), false},
             leg{core4, 5000, suite::clear, 0, 101, address("198.51.100.9", 6000), true}};
    peer unit{now[0], 500}, core{now[1], 900};
    unsigned sent = 0, sent_rtcp = 0;

    media() {
        for (const auto& c : plan(now))
            EXPECT_EQ(t.flows().add(c, 0), api::status::ok);
        install(now[0].rtp(), now[1].rtp());
    }
    void install(api::flow_id up, api::flow_id down) {
        for (const auto way : {api::side::in, api::side::out})
            EXPECT_EQ(
                t.flows().install(epoch_key(way == api::side::in ? up : down, way, 0, gcm, now[0].seed_of(0, way))),
                api::status::ok);
    }

    void one(peer& from, const peer& to, unsigned port, const api::net_address& phone, bool is_rtcp) {
        const bytes packet = is_rtcp ? from.clear_rtcp() : from.clear_rtp();
        const auto out = t.pass(port, {from.frame_of(packet, is_rtcp)});
        ASSERT_EQ(out.size(), 1u) << (port == 0 ? "up" : "down") << (is_rtcp ? " RTCP" : " RTP");
        EXPECT_EQ(to.opens(out[0]), packet);
        EXPECT_TRUE(flow::same_address(out[0].destination, phone));
        ++(is_rtcp ? sent_rtcp : sent);
    }
    void talk(unsigned packets) {
        for (unsigned n = 0; n < packets && !::testing::Test::HasFatalFailure(); ++n) {
            one(unit, core, 0, now[1].phone, false);
            one(unit, core, 0, now[1].phone_rtcp(), true);
            one(core, unit, 1, now[0].phone, false);
            one(core, unit, 1, now[0].phone_rtcp(), true);
        }
    }
    void replace(const legs& with) {
        const auto items = replacements(now, with);
        std::vector<api::status> said(items.size());
        t.flows().replace(items, 1, said);
        for (const auto s : said)
            ASSERT_EQ(s, api::status::ok);
        t.flows().finish();
        now = with;
        unit.follow(now[0]);
        core.follow(now[1]);
    }
    // What was recorded is worth nothing, before anything new is heard and after.
    void replay() {
        for (const auto* from : {&unit, &core})
            for (const auto& f : from->replays())
                EXPECT_TRUE(t.pass(from == &unit ? 0 : 1, {f}).empty()) << "a replay came through";
    }
    [[nodiscard]] std::uint64_t counted(std::uint64_t (*of)(const api::flow_stats&)) const {
        std::uint64_t sum = 0;
        for (const auto& s : t.flow_stats())
            sum += s.id != 0 ? of(s) : 0;
        return sum;
    }
};

class Reoffers : public ::testing::TestWithParam<std::tuple<unsigned, unsigned>> {};
INSTANTIATE_TEST_SUITE_P(Pairs, Reoffers,
                         ::testing::Combine(::testing::Range(0u, unsigned{std::size(changes)}),
                                            ::testing::Range(0u, unsigned{std::size(changes)})),
                         [](const auto& p) {
                             return std::string(changes[std::get<0>(p.param)].name) +
                                    changes[std::get<1>(p.param)].name;
                         });

TEST_P(Reoffers, StateGoesAlong) {
    media m;
    m.talk(50); // beyond the first wrap
    for (const unsigned which : {std::get<0>(GetParam()), std::get<1>(GetParam())}) {
        legs next = m.now;
        changes[which].apply(next);
        m.replace(next);
        ASSERT_FALSE(HasFailure()) << changes[which].name;
        m.replay();
        m.talk(10);
        ASSERT_FALSE(HasFailure()) << "after " << changes[which].name;
        m.replay();
    }
    EXPECT_EQ(m.counted([](const auto& s) { return s.rx_packets; }), m.sent);
    EXPECT_EQ(m.counted([](const auto& s) { return s.tx_packets; }), m.sent);
    EXPECT_EQ(m.counted([](const auto& s) { return std::uint64_t{s.rtcp_rx_packets}; }), m.sent_rtcp);
    EXPECT_EQ(m.t.flows().count(), plan(m.now).size());
    std::size_t keys = 0;
    for (const auto& c : plan(m.now))
        keys += (c.in.suite != suite::clear ? 1u : 0u) + (c.out.suite != suite::clear ? 1u : 0u);
    EXPECT_EQ(m.t.flows().shared().keys().used(), keys) << "a key too many, or one lost";
}

} // namespace
} // namespace tandem::pipeline::testing
