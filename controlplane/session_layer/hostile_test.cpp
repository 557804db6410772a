// SPDX-License-Identifier: Apache-2.0
// A peer that does not keep to the rules: each fault has its name and is counted, does nothing else than its table
// says, and no other session knows of it. COL-28, COL-15 (older ones are ignored).
#include <gtest/gtest.h>

#include "controlplane/session_layer/pair_fixture.hpp"

namespace tandem::session_layer::testing {
namespace {

using namespace std::chrono_literals;

class Hostile : public ::testing::Test {
protected:
    Hostile() {
        w.connect(0, carrier::stream, 1, true, reason::start);
        other.connect(0, carrier::stream, 1, true, reason::start);
        mine = w.open(0);
        theirs = w.open(1);
        w.settle();
        other.settle();
        (void)other.open(0);
        other.settle();
        before_ = other.fingerprint();
    }
    void TearDown() override { EXPECT_EQ(other.fingerprint(), before_) << "another session was touched"; }

    // What the accepter would never say.
    void say(const message& m) {
        bytes frame;
        frame_writer out(frame, 65536);
        ASSERT_TRUE(out.put(m));
        say(frame);
    }
    void say(std::span<const std::uint8_t> frame) {
        w.ends[0].receive(w.wires[0].link[0], frame, w.now);
        for (const auto& e : w.ends[0].take()) {
            resets += std::holds_alternative<was_reset>(e) ? 1U : 0U;
            shut += std::holds_alternative<close_link>(e) ? 1U : 0U;
            data += std::holds_alternative<received>(e) ? 1U : 0U;
        }
    }
    [[nodiscard]] std::uint64_t count(error e) const { return w.ends[0].errors(e); }
    static message about(verb v, stream_id id, std::uint64_t offset) {
        return message(v).set(field::stream, id).set(field::offset, offset);
    }

    world w, other{{}, 78};
    stream_id mine = 0, theirs = 0;
    std::size_t resets = 0, shut = 0, data = 0;

private:
    std::uint64_t before_ = 0;
};

TEST_F(Hostile, AckBeyondWhatWasSent) {
    w.write(0, mine, 10);
    say(about(verb::ack, mine, 11));
    EXPECT_EQ(count(error::ack_beyond), 1U);
    EXPECT_EQ(resets, 1U);
    EXPECT_EQ(shut, 0U);
    EXPECT_EQ(w.ends[0].buffered(), 0U);
}

TEST_F(Hostile, AckOfACloseThatWasNotSaid) {
    say(about(verb::ack, mine, 0).set(field::flags, ack_closed));
    EXPECT_EQ(count(error::ack_beyond), 1U);
    EXPECT_EQ(resets, 1U);
}

TEST_F(Hostile, OpensAndResetsWithoutEnd) {
    for (stream_id id = theirs + 2; id < theirs + 2000; id += 2) {
        say(message(verb::open).set(field::stream, id));
        say(message(verb::reset).set(field::stream, id));
    }
    EXPECT_EQ(w.ends[0].streams(), 2U);
    EXPECT_LE(w.ends[0].waiting(), 2U);
}

TEST_F(Hostile, AckThatGoesBack) {
    w.write(0, mine, 10);
    w.settle();
    say(about(verb::ack, mine, 5));
    EXPECT_EQ(count(error::ack_back), 1U);
    EXPECT_EQ(resets, 0U);
    w.write(0, mine, 10);
    w.settle();
    EXPECT_EQ(w.stories[mine].read[1], 20U);
}

TEST_F(Hostile, WindowThatGoesBack) {
    say(about(verb::window, mine, 3));
    EXPECT_EQ(count(error::window_back), 1U);
    w.write(0, mine, 1000);
    w.settle();
    EXPECT_EQ(w.stories[mine].read[1], 1000U);
}

TEST_F(Hostile, StreamsThatNobodyOpened) {
    const bytes octets(3, 1);
    for (const stream_id id : {0U, 99U, 100U}) {
        say(about(verb::data, id, 0).set_tail(octets));
        say(about(verb::ack, id, 0));
        say(about(verb::window, id, 9));
        say(about(verb::close, id, 0));
        say(message(verb::reset).set(field::stream, id));
        say(message(verb::datagram).set(field::stream, id).set_tail(octets));
    }
    EXPECT_EQ(count(error::unknown_stream), 18U);
    EXPECT_EQ(resets + data + shut, 0U);
    EXPECT_EQ(w.ends[0].streams(), 2U);
}

TEST_F(Hostile, OpenOfWhatIsNotItsOwn) {
    say(message(verb::open).set(field::stream, 41));
    say(message(verb::open).set(field::stream, 0));
    EXPECT_EQ(count(error::wrong_opener), 2U);
    say(message(verb::open).set(field::stream, 40)); // leaves out the ones before
    EXPECT_EQ(count(error::gap), 1U);
    say(message(verb::open).set(field::stream, theirs + 2).set(field::kind, 3));
    EXPECT_EQ(count(error::bad_kind), 1U);
    EXPECT_EQ(w.ends[0].streams(), 2U);
}

TEST_F(Hostile, MoreStreamsThanAllowed) {
    for (std::uint32_t i = 1; i <= 3000; ++i)
        say(message(verb::open).set(field::stream, theirs + 2 * i));
    EXPECT_EQ(w.ends[0].streams(), limits{}.streams + 1);
    EXPECT_EQ(count(error::too_many_streams), 3000U - (limits{}.streams - 1));
    w.write(0, mine, 10);
    w.settle();
    EXPECT_EQ(w.stories[mine].read[1], 10U);
}

TEST_F(Hostile, TheWindowFlooded) {
    const bytes much(60'000, 1);
    for (std::uint64_t i = 0; i < 10; ++i)
        say(about(verb::data, theirs, i * much.size()).set_tail(much));
    EXPECT_EQ(count(error::window_exceeded), 1U);
    EXPECT_EQ(resets, 1U);
    EXPECT_EQ(data, 262'144 / much.size());
    say(about(verb::data, mine, ~std::uint64_t{0} - 5).set_tail(much)); // over the end of numbers
    EXPECT_EQ(count(error::window_exceeded), 2U);
}

TEST_F(Hostile, OctetsAfterAGapOrTheEnd) {
    const bytes octets(5, 1);
    say(about(verb::data, theirs, 3).set_tail(octets));
    EXPECT_EQ(count(error::gap), 1U);
    EXPECT_EQ(data, 0U);
    say(about(verb::close, theirs, 0));
    say(about(verb::data, theirs, 0).set_tail(octets));
    EXPECT_EQ(count(error::beyond_close), 1U);
    EXPECT_EQ(resets, 1U);
    say(about(verb::close, mine, 0));
    say(about(verb::close, mine, 7));
    EXPECT_EQ(count(error::beyond_close), 2U);
}

TEST_F(Hostile, FramesThatAreNone) {
    const bytes junk[] = {{},
                          {0x10},
                          {frame_mark, 0},
                          {frame_mark, 200},
                          {frame_mark, 5, 0, 0},
                          {frame_mark, 4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 9, 9}};
    for (const auto& frame : junk) {
        w.connect(0, carrier::stream, 5, false);
        w.ends[0].receive(w.wires.back().link[0], frame, w.now);
        w.act(0);
        EXPECT_FALSE(w.wires.back().up[0]);
    }
    EXPECT_EQ(count(error::malformed), std::size(junk));
    EXPECT_EQ(w.ends[0].links(), 1U);
}

// ---- links
// ------------------------------------------------------------------------------------------------------------

TEST_F(Hostile, ResumeWithAWrongSecret) { // COL-28
    const std::array<std::uint8_t, 4> both{1, 2, 3, 4};
    session thief(role::creator, 77, test_secret(10), {}, w.now);
    const auto from = thief.dial(carrier::stream, 1, both, w.now);
    thief.move(from, reason::lost, w.now);
    const auto to = w.ends[1].accept(carrier::stream, both, w.now);
    bytes frame;
    ASSERT_GT(thief.pull(from, frame, 16384, w.now), 0U);
    w.ends[1].receive(to, frame, w.now);
    EXPECT_EQ(w.ends[1].errors(error::wrong_secret), 1U);
    EXPECT_EQ(w.ends[1].links(), 1U);
    EXPECT_EQ(w.ends[1].current(), w.wires[0].link[1]);
}

TEST_F(Hostile, AProofIsOfItsLinkAlone) { // COL-28
    const std::array<std::uint8_t, 4> one{1, 2, 3, 4}, two{1, 2, 3, 5};
    const auto from = w.ends[0].dial(carrier::stream, 1, one, w.now);
    bytes frame;
    ASSERT_GT(w.ends[0].pull(from, frame, 16384, w.now), 0U);
    EXPECT_EQ(session_asked_for(frame), 77U);
    w.ends[1].receive(w.ends[1].accept(carrier::stream, two, w.now), frame, w.now); // replayed elsewhere
    EXPECT_EQ(w.ends[1].errors(error::wrong_secret), 1U);
    // And the answer is not the question said back.
    w.ends[0].receive(from, frame, w.now);
    EXPECT_EQ(w.ends[0].errors(error::second_join), 1U);
}

// The exporter failed: what anybody could prove is no proof.
TEST_F(Hostile, NothingIsProvedWithoutSecretOrBinding) { // COL-28
    const std::array<std::uint8_t, 4> binding{1, 2, 3, 4};
    const auto joins = [&](const protocol::secret& secret, std::span<const std::uint8_t> bound) {
        session one(role::creator, 5, secret, {}, w.now), two(role::accepter, 5, secret, {}, w.now);
        bytes frame;
        EXPECT_GT(one.pull(one.dial(carrier::stream, 1, bound, w.now), frame, 16384, w.now), 0U);
        const auto to = two.accept(carrier::stream, bound, w.now);
        two.receive(to, frame, w.now);
        return two.joined(to);
    };
    EXPECT_TRUE(joins(test_secret(), binding));
    EXPECT_FALSE(joins(test_secret(), {}));
    EXPECT_FALSE(joins(protocol::secret(), binding));
}

TEST_F(Hostile, TwoLinksShareNoSessionUnlessResumed) { // COL-28
    const auto to = w.ends[1].accept(carrier::stream, {}, w.now);
    bytes frame;
    frame_writer out(frame, 16384);
    const bytes octets(3, 1);
    ASSERT_TRUE(out.put(about(verb::data, mine, 0).set_tail(octets)));
    ASSERT_TRUE(out.put(message(verb::begin).set(field::number, 9).set(field::hard, 1)));
    w.ends[1].receive(to, frame, w.now);
    EXPECT_EQ(w.ends[1].errors(error::not_joined), 2U);
    EXPECT_TRUE(w.ends[1].take().empty());
    EXPECT_EQ(session_asked_for(frame), std::nullopt);
    // A link of one session says JOIN for another.
    frame.clear();
    const auto from = other.ends[0].dial(carrier::stream, 1, {}, w.now);
    ASSERT_GT(other.ends[0].pull(from, frame, 16384, w.now), 0U);
    other.ends[0].lost(from, w.now);
    w.ends[1].receive(to, frame, w.now);
    EXPECT_EQ(w.ends[1].errors(error::wrong_session), 1U);
    EXPECT_EQ(w.ends[1].links(), 1U);
    other = world{{}, 78}; // what asking left there is not this test's matter
    other.connect(0, carrier::stream, 1, true, reason::start);
    other.settle();
    (void)other.open(0);
    other.settle();
}

// ---- procedures
// -------------------------------------------------------------------------------------------------------

TEST_F(Hostile, OldProceduresAreIgnored) { // COL-15
    w.connect(1, carrier::stream, 2);
    w.settle();
    const auto at = w.ends[0].current();
    const auto by_other = [](verb v, std::uint32_t number) {
        return message(v).set(field::initiator, 1).set(field::number, number);
    };
    say(by_other(verb::announce, 1));
    say(by_other(verb::begin, 1).set(field::hard, 1)); // on the old link
    EXPECT_EQ(count(error::old_procedure), 2U);
    say(message(verb::confirm).set(field::number, 1));
    say(message(verb::done).set(field::number, 1));
    EXPECT_EQ(count(error::old_procedure), 4U);
    EXPECT_EQ(w.ends[0].current(), at);
    EXPECT_FALSE(w.ends[0].handing_over());
}

TEST_F(Hostile, ProceduresThatCannotBe) {
    say(message(verb::announce).set(field::initiator, 0).set(field::number, 5)); // in our name
    say(message(verb::done).set(field::initiator, 1).set(field::number, 5));
    say(message(verb::begin).set(field::initiator, 7).set(field::number, 5));
    EXPECT_EQ(count(error::wrong_initiator), 3U);
    say(message(verb::announce).set(field::initiator, 1).set(field::number, 5).set(field::completed, 50));
    EXPECT_EQ(count(error::out_of_turn), 1U);
    EXPECT_FALSE(w.ends[0].handing_over());
}

// Who announces and says no more does not stop a session for good.
TEST_F(Hostile, AnAnnouncementAndThenNothing) {
    say(message(verb::announce).set(field::initiator, 1).set(field::number, 5));
    EXPECT_TRUE(w.ends[0].handing_over());
    w.pump();
    w.settle();
    w.pass(6s);
    w.settle();
    w.write(0, mine, 10);
    w.settle();
    EXPECT_EQ(w.stories[mine].read[1], 10U);
    EXPECT_FALSE(w.ends[0].handing_over());
}

} // namespace
} // namespace tandem::session_layer::testing
