// SPDX-License-Identifier: Apache-2.0
// The judge itself: a gateway that is right has no violation, and each way of being wrong has its own.
#include <gtest/gtest.h>

#include "tests/tools/oracle/end.hpp"

namespace tandem::oracle {
namespace {

using namespace std::chrono_literals;

srtp_key key_of(char filling, api::suite suite = api::suite::aead_aes_128_gcm) {
    const auto& row = api::info(suite);
    return {suite, std::string(std::size_t{row.key_length} + row.salt_length, filling), {}};
}

// What a gateway sends of one SSRC under one key.
class gateway {
public:
    explicit gateway(srtp_key key, std::uint32_t roc = 0) : key_(std::move(key)), stream_(key_, 7, roc) {}
    bytes rtp(std::uint16_t sequence, std::uint64_t number) {
        auto packet = make_rtp(7, sequence, 0, {2, number});
        EXPECT_TRUE(stream_.protect(packet, false));
        return packet;
    }
    bytes rtcp(std::uint64_t number) {
        auto packet = make_rtcp(7, {2, number});
        EXPECT_TRUE(stream_.protect(packet, true));
        return packet;
    }

private:
    srtp_key key_;
    srtp_stream stream_;
};

class judged : public testing::Test {
protected:
    judged() : here({1, "c", "", 1, 1, false}, book), there({2, "c", "", 2, 1, false}, book) {
        here.far(&there);
        here.ears.expect(key_of('a'), true);
    }
    void take(const bytes& wire) { here.take(wire, now); }
    std::vector<std::string> wrong() {
        here.look_again(now + 10s, 1s);
        std::vector<std::string> out;
        for (const auto& [what, one] : here.wrong.list())
            out.push_back(what);
        return out;
    }
    using list = std::vector<std::string>;

    ledger book;
    end here, there;
    moment now = std::chrono::steady_clock::now();
};

TEST_F(judged, nothing_is_wrong_with_what_goes_on) {
    gateway g(key_of('a'));
    std::uint64_t number = 0;
    for (unsigned index = 65'500; index < 65'600; ++index) {
        take(g.rtp(static_cast<std::uint16_t>(index), ++number));
        take(g.rtcp(++number));
    }
    here.ears.expect(key_of('b'), true); // a new key goes on with the rollover counter ...
    here.ears.settle(now);
    gateway next(key_of('b'), 1);
    take(next.rtp(65, ++number));
    here.ears.expect(key_of('c', api::suite::aes_cm_128_hmac_sha1_32), true); // ... or begins
    here.ears.settle(now);
    gateway last(key_of('c', api::suite::aes_cm_128_hmac_sha1_32));
    take(last.rtp(66, ++number));
    take(last.rtcp(++number));
    EXPECT_EQ(wrong(), list{});
    EXPECT_EQ(here.heard, number);
}

TEST_F(judged, an_index_comes_again) {
    gateway g(key_of('a')), again(key_of('a'));
    take(g.rtp(100, 1));
    take(again.rtp(100, 2));
    EXPECT_EQ(wrong(), list{"an index twice under one key"});
}

TEST_F(judged, an_srtcp_index_comes_again) {
    gateway g(key_of('a')), again(key_of('a'));
    take(g.rtcp(1));
    take(again.rtcp(2));
    EXPECT_EQ(wrong(), list{"an index twice under one key"});
}

TEST_F(judged, the_rollover_counter_begins_again) {
    gateway g(key_of('a'));
    take(g.rtp(65'535, 1));
    take(g.rtp(0, 2));
    gateway again(key_of('a'));
    take(again.rtp(1, 3));
    EXPECT_EQ(wrong(), list{"not the index that a receiver expects"});
}

TEST_F(judged, the_rollover_counter_begins_again_under_the_next_key) {
    gateway g(key_of('a'));
    take(g.rtp(65'535, 1));
    take(g.rtp(0, 2));
    here.ears.expect(key_of('b'), true);
    gateway next(key_of('b'), 1), again(key_of('b'));
    take(next.rtp(1, 3));
    take(again.rtp(2, 4)); // once it has gone on it goes on
    EXPECT_EQ(wrong(), list{"not the index that a receiver expects"});
}

TEST_F(judged, one_key_protects_two_legs) {
    end other({3, "d", "", 3, 1, false}, book);
    other.far(&there);
    other.ears.expect(key_of('a'), true);
    gateway g(key_of('a')), twin(key_of('a'));
    take(g.rtp(9, 1));
    other.take(twin.rtp(9, 2), now);
    EXPECT_EQ(other.wrong.list().count("an index twice under one key"), 1U);
}

TEST_F(judged, a_packet_is_delivered_again) {
    gateway g(key_of('a'));
    take(g.rtp(1, 1));
    take(g.rtp(2, 2));
    take(g.rtp(3, 1));
    EXPECT_EQ(wrong(), list{"a packet delivered twice"});
}

TEST_F(judged, clear_where_srtp_was_agreed) {
    take(make_rtp(7, 1, 0, {2, 1}));
    EXPECT_EQ(wrong(), list{"in clear where SRTP was agreed"});
}

TEST_F(judged, a_replaced_key_goes_on) {
    gateway g(key_of('a'));
    take(g.rtp(1, 1));
    here.ears.expect(key_of('b'), true);
    here.ears.settle(now);
    now += 100ms;
    take(g.rtp(2, 2)); // was on its way
    EXPECT_EQ(wrong(), list{});
    now += 1s;
    take(g.rtp(3, 3));
    EXPECT_EQ(wrong(), list{"a replaced key is used"});
}

// A unit that is made again: what was on its way came under the keys of before; what comes now begins.
TEST_F(judged, an_end_begins_anew) {
    gateway g(key_of('a'));
    take(g.rtp(65'535, 1));
    take(g.rtp(0, 2));
    here.ears.begin_anew(now);
    here.ears.expect(key_of('b'), false);
    take(g.rtp(1, 3));
    gateway next(key_of('b'));
    take(next.rtp(2, 4));
    EXPECT_EQ(wrong(), list{});
    here.ears.expect(key_of('c'), true); // goes on with this life's rollover counter, not with the other's
    gateway goes_on(key_of('c'), 1);
    take(goes_on.rtp(3, 5));
    EXPECT_EQ(wrong(), list{"not the index that a receiver expects"});
}

TEST_F(judged, an_end_that_began_anew_is_sent_the_key_of_before) {
    gateway g(key_of('a'));
    take(g.rtp(1, 1));
    here.ears.begin_anew(now);
    here.ears.expect(key_of('b'), false);
    now += 1s;
    take(g.rtp(2, 2));
    EXPECT_EQ(wrong(), list{"a replaced key is used"});
}

TEST_F(judged, a_key_that_nobody_told) {
    gateway g(key_of('x'));
    take(g.rtp(1, 1));
    EXPECT_EQ(wrong(), list{"authenticates under no key"});
}

TEST_F(judged, a_key_that_is_told_a_moment_later) {
    gateway g(key_of('b'));
    take(g.rtp(1, 1));
    here.ears.expect(key_of('b'), true);
    here.look_again(now + 100ms, 1s);
    EXPECT_EQ(wrong(), list{});
    EXPECT_EQ(here.heard, 1U);
}

// An a=crypto line without its key, as a gateway writes it that has lost it: not the oracle's end, at its first packet.
TEST_F(judged, a_key_of_another_length_is_refused_where_it_is_told) {
    for (const std::size_t length : {0U, 30U, 44U}) {
        const srtp_key wrong{api::suite::aead_aes_128_gcm, std::string(length, 'a'), {}};
        EXPECT_THROW(here.ears.expect(wrong, true), std::invalid_argument);
        EXPECT_THROW(here.send_under(wrong, roc_choice::keep), std::invalid_argument);
    }
    EXPECT_THROW(here.ears.expect(srtp_key{}, true), std::invalid_argument) << "clear has no key";
    gateway g(key_of('a'));
    take(g.rtp(1, 1));
    EXPECT_EQ(wrong(), list{});
    EXPECT_EQ(here.heard, 1U) << "under the key of before";
}

TEST_F(judged, another_calls_packet_and_nobodys) {
    gateway g(key_of('a'));
    auto foreign = make_rtp(7, 1, 0, {99, 1});
    auto nobodys = make_rtp(7, 2, 0, {2, 1});
    std::fill(nobodys.begin() + 12, nobodys.end(), std::uint8_t{0});
    srtp_stream s(key_of('a'), 7, 0);
    ASSERT_TRUE(s.protect(foreign, false) && s.protect(nobodys, false));
    take(foreign);
    take(nobodys);
    EXPECT_EQ(wrong(), (list{"a packet of another call", "a payload that nobody sent"}));
}

} // namespace
} // namespace tandem::oracle
