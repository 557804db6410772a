// SPDX-License-Identifier: Apache-2.0
// Each kind of keys: what the data plane is told, what a change makes new, what is believed of a data plane that knows
// better.
#include "controlplane/media/key_kind.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <gtest/gtest.h>

namespace tandem::media {
namespace {

constexpr auto suite = api::suite::aes_cm_128_hmac_sha1_80;

struct key_kind_test : testing::Test {
    key_kind_test() {
        terms.legs[0].kind = leg_kind::unit;
        terms.legs[0].tsid = 7;
        terms.legs[0].suite = suite;
        terms.legs[1] = sdes_leg(1, 2);
        for (auto& leg : terms.legs) {
            leg.port = ports->mark(asio::ip::make_address("192.0.2.1"), next, "");
            next = static_cast<std::uint16_t>(next + 2);
            if (!leg.is_unit())
                leg.source.how = learning::once;
        }
    }
    static protocol::secret filled(std::uint8_t with) {
        const std::vector<std::uint8_t> bytes(30, with);
        return protocol::secret(bytes);
    }
    static leg_terms sdes_leg(std::uint8_t in, std::uint8_t out) {
        leg_terms leg;
        leg.suite = suite;
        leg.srtp = sdes{suite, filled(in), filled(out)};
        return leg;
    }
    std::vector<api::epoch_key> keys_of(std::size_t leg, key_step which = {}) {
        std::vector<api::epoch_key> out;
        const auto done = key_kind::of(terms.legs[leg]).add(out, {media, terms, leg, seeds, which});
        failed = done ? "" : done.error().text;
        return out;
    }

    std::shared_ptr<port_table> ports =
        std::make_shared<port_table>(std::uint16_t{20000}, std::uint16_t{20099}, std::chrono::milliseconds(0));
    std::uint16_t next = 20000;
    media_terms terms;
    facts media;
    epoch_seeds seeds;
    keying state;
    std::string failed;
};

TEST_F(key_kind_test, ClearHasNone) {
    const leg_terms clear;
    const auto& kind = key_kind::of(clear);
    EXPECT_FALSE(kind.protects());
    EXPECT_FALSE(kind.has_seeds());
    terms.legs[1].suite = api::suite::clear;
    EXPECT_TRUE(keys_of(1, {true, true, 1, 1}).empty());
    EXPECT_EQ(failed, "");
    state.epoch = 4;
    kind.found_out(state, 9, 9);
    EXPECT_EQ(state.epoch, 4u) << "nothing is sent under it";
    EXPECT_EQ(state.highest, 9u) << "and it never comes again";
}

TEST_F(key_kind_test, SignalledOnesChangeOneByOneAndAreGoneWithTheProcess) {
    const auto& kind = key_kind::of(terms.legs[1]);
    EXPECT_TRUE(kind.protects());
    EXPECT_FALSE(kind.has_seeds());
    const auto both = keys_of(1, {true, true, 3, 5});
    ASSERT_EQ(both.size(), 3u) << "from the leg RTP and RTCP, towards it one flow";
    for (const auto& key : both)
        EXPECT_EQ(key.epoch, key.side == api::side::in ? 3u : 5u);
    state.keyed = true;
    state.highest = state.epoch = state.in_epoch = 5;
    const auto step = kind.plan(state, sdes_leg(1, 2), sdes_leg(9, 2));
    EXPECT_TRUE(step.fresh_in);
    EXPECT_FALSE(step.fresh_out);
    EXPECT_EQ(step.in_epoch, 6u);
    EXPECT_EQ(step.epoch, 5u);
    terms.legs[1].srtp.reset();
    EXPECT_TRUE(keys_of(1).empty());
    EXPECT_EQ(failed, "") << "what goes on needs none";
    (void)keys_of(1, {true, true, 3, 5});
    EXPECT_NE(failed.find("not known any more"), std::string::npos) << failed;
}

TEST_F(key_kind_test, SeedsGiveEachDirectionItsOwn) {
    const auto& kind = key_kind::of(terms.legs[0]);
    EXPECT_TRUE(kind.protects());
    EXPECT_TRUE(kind.has_seeds());
    EXPECT_TRUE(keys_of(0, {true, true, 3, 5}).empty()) << "no secondary begins";
    seeds.epoch = 8;
    seeds.seed[0] = filled(7);
    const auto keys = keys_of(0);
    ASSERT_FALSE(keys.empty());
    const auto in = std::ranges::find(keys, api::side::in, &api::epoch_key::side);
    const auto out = std::ranges::find(keys, api::side::out, &api::epoch_key::side);
    ASSERT_TRUE(in != keys.end() && out != keys.end());
    EXPECT_NE(std::memcmp(in->key, out->key, in->key_length), 0);
    EXPECT_EQ(in->epoch, 8u);
    EXPECT_EQ(out->mki, 8u);
    state.next.seed[0] = filled(1); // a re-key is under way: its seed is ours
    state.epoch = 7;
    kind.found_out(state, 8, 8);
    EXPECT_EQ(state.epoch, 7u);
    EXPECT_EQ(state.highest, 8u);
}

} // namespace
} // namespace tandem::media
