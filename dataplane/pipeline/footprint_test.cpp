// SPDX-License-Identifier: Apache-2.0
// What an RTP packet of a call that goes on writes: the hot line of each part of its flow's state, and no other. (What
// it reads cannot be seen from here; flow/footprint.hpp counts it from the layouts.)
#include <cstring>
#include <gtest/gtest.h>
#include <vector>

#include "dataplane/flow/footprint.hpp"
#include "dataplane/pipeline/testbed_test.hpp"

namespace tandem::pipeline::testing {
namespace {

// Lines of a thing that differ from how they were.
class watched {
public:
    watched(const void* what, std::size_t size)
        : what_(static_cast<const std::uint8_t*>(what)), before_(what_, what_ + size) {}
    [[nodiscard]] std::vector<std::size_t> changed() const {
        std::vector<std::size_t> lines;
        for (std::size_t at = 0; at < before_.size(); at += flow::cache_line)
            if (std::memcmp(what_ + at, before_.data() + at, std::min(flow::cache_line, before_.size() - at)) != 0)
                lines.push_back(at / flow::cache_line);
        return lines;
    }

private:
    const std::uint8_t* what_;
    std::vector<std::uint8_t> before_;
};

using lines = std::vector<std::size_t>;

crypto::key_pool::index key_of(const flow::side& s) {
    return static_cast<crypto::key_pool::index>(s.epochs[0] >> 32) - 1;
}

class Footprint : public ::testing::TestWithParam<api::suite> {};

TEST_P(Footprint, APacketWritesHotLinesOnly) {
    testbed t;
    const auto p = t.add_pair(access4, core4, GetParam());
    srtp_end unit(GetParam(), {{0, master_key(GetParam(), 1)}}, 4, false);
    const auto phone = address("203.0.113.7", 40000), far = address("198.51.100.9", 6000);
    const auto up = [&](std::uint16_t sequence) {
        return t.pass(0, {frame(unit.protect(rtp(sequence)), phone, local(access4, 4000))}).size();
    };
    const auto down = [&](std::uint16_t sequence) {
        return t.pass(1, {frame(rtp(sequence, 0x55667788), far, local(core4, 5000))}).size();
    };
    ASSERT_EQ(up(1), 1u); // the leg is latched, streams are made
    ASSERT_EQ(down(1), 1u);
    ASSERT_EQ(up(2), 1u);
    ASSERT_EQ(down(2), 1u);

    flow::memory& state = t.flows().shared();
    const auto a = t.flows().find(p.unit), b = t.flows().find(p.core);
    const crypto::key_pool keys = state.keys();
    const std::size_t key_bytes = crypto::key_bytes(GetParam());
    const watched block(&state.records()[a], sizeof(flow::flow_block));
    const watched key(&keys[key_of(state.ins()[a])], key_bytes);
    const watched way(&t.hops()[a], sizeof(flow_hops));
    const watched counters(&t.stats(p.unit), sizeof(api::flow_stats));
    const watched other(&state.records()[b], sizeof(flow::flow_block));
    const watched other_key(&keys[key_of(state.outs()[b])], key_bytes);
    ASSERT_EQ(up(3), 1u);
    EXPECT_EQ(block.changed(), (lines{offsetof(flow::flow_block, in) / 64})) << "the in-side's line 0";
    EXPECT_EQ(key.changed(), lines{0});
    EXPECT_EQ(way.changed(), lines{});
    EXPECT_EQ(counters.changed(), lines{0});
    EXPECT_EQ(other.changed(), lines{}) << "the other direction's flow has no part in it";

    ASSERT_EQ(down(3), 1u);
    EXPECT_EQ(other.changed(), (lines{offsetof(flow::flow_block, in) / 64, offsetof(flow::flow_block, out) / 64}));
    EXPECT_EQ(other_key.changed(), lines{0});
}

INSTANTIATE_TEST_SUITE_P(Suites, Footprint,
                         ::testing::Values(api::suite::aes_cm_128_hmac_sha1_80, api::suite::aead_aes_128_gcm,
                                           api::suite::aead_aes_256_gcm));

} // namespace
} // namespace tandem::pipeline::testing
