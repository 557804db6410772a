// SPDX-License-Identifier: Apache-2.0
// Rules of the control channel, each end by itself; all of them together: channel_explore_test.cpp.
#include "controlplane/protocol/channel.hpp"

#include <gtest/gtest.h>

namespace tandem::protocol {
namespace {

using namespace std::chrono_literals;
using bytes = std::vector<std::uint8_t>;

constexpr std::uint64_t session = 0x1234;

template <class T>
std::vector<T*> all(actions& of) {
    std::vector<T*> out;
    for (auto& a : of)
        if (auto* t = std::get_if<T>(&a))
            out.push_back(t);
    return out;
}

message service() {
    return message::request(exchange::service).add<tlv::service_name>("x");
}

message reply(std::uint32_t sequence, status code = status::ok, std::uint64_t tsid = session) {
    auto m = service();
    m.set_tsid(tsid).set_sequence(sequence);
    return m.response(code);
}

class Channel : public ::testing::Test {
protected:
    instant now{};
    channel unit{role::unit};
    link_id link = 0;
    std::uint32_t peers = 0;

    void SetUp() override { link = up(carrier::stream); }
    message config_answer(std::uint32_t sequence, std::uint64_t tsid) {
        auto request = message::request(exchange::config);
        auto m = request.set_sequence(sequence).response(status::ok);
        m.set_tsid(tsid).add<tlv::inner_address>({}).add<tlv::inner_prefix>(16).add<tlv::inner_gateway>({});
        m.add<tlv::keepalive_ms>(1).add<tlv::lifetime_s>(1);
        return m;
    }
    link_id up(carrier kind, std::uint64_t tsid = session) {
        const auto id = unit.attach(kind, now);
        auto out = unit.configure(id, 100, message::request(exchange::config).add<tlv::id_code>("a"), 5s, now);
        const auto sent = all<to_send>(out);
        EXPECT_EQ(sent.size(), 1U);
        EXPECT_EQ(peek(sent[0]->bytes)->tsid, no_tsid); // ORA-05
        out = give(config_answer(peek(sent[0]->bytes)->sequence, tsid), id);
        EXPECT_EQ(all<to_finish>(out).back()->of, 100U);
        EXPECT_TRUE(unit.bound(id));
        return id;
    }
    actions give(const message& m) { return give(m, link); }
    actions give(const message& m, link_id on) { return unit.receive(on, m.encode(), now); }
    // A request of the gateway's, the next one.
    message peer(exchange what = exchange::keepalive) {
        auto m = message::request(what);
        m.set_tsid(session).set_sequence(++peers);
        return m;
    }
    std::uint32_t ask(ticket of, std::chrono::milliseconds timeout = 5s) {
        auto out = unit.request(of, service(), timeout, now);
        const auto sent = all<to_send>(out);
        return sent.empty() ? 0 : peek(sent[0]->bytes)->sequence;
    }
};

TEST_F(Channel, Ora07EveryRequestCarriesTheSessionAndRises) {
    auto out = unit.request(1, service(), 5s, now);
    const auto first = *peek(all<to_send>(out)[0]->bytes);
    EXPECT_EQ(first.tsid, session);
    EXPECT_GT(ask(2), first.sequence);
}

TEST_F(Channel, Ora15AResponseFitsByNumberTypeAndSession) {
    const auto number = ask(1);
    auto other_type = message::request(exchange::release);
    other_type.set_tsid(session).set_sequence(number);
    auto out = give(other_type.response(status::ok));
    EXPECT_EQ(all<unmatched>(out).size(), 1U);
    auto right = reply(number, status::service_unavailable);
    right.set_sequence(number + 1);
    out = give(right);
    EXPECT_EQ(all<unmatched>(out).size(), 1U);
    right.set_sequence(number);
    out = give(right);
    ASSERT_EQ(all<to_finish>(out).size(), 1U);
    EXPECT_EQ(all<to_finish>(out)[0]->response->code(), status::service_unavailable);
    out = give(right);
    EXPECT_EQ(all<unmatched>(out).size(), 1U);
    const auto next = ask(2);
    auto foreign = reply(next, status::ok, session + 1);
    out = give(foreign); // ORA-08
    EXPECT_EQ(all<to_close>(out).at(0)->why, ending::wrong_tsid);
    EXPECT_EQ(all<to_finish>(out).at(0)->how, outcome::failed);
    EXPECT_FALSE(unit.up());
}

TEST_F(Channel, Ora15AResponseIsOfTheMediaThatWasAsked) {
    const auto asking = [] {
        auto m = message::request(exchange::media_open).add<tlv::media_id>(5).add<tlv::epoch>(0).add<tlv::suite>(1);
        m.add<tlv::gateway_media>(endpoint{}).add<tlv::inner_media>(endpoint{}).add<tlv::phone_media>(endpoint{});
        return m;
    };
    const auto answer = [&](actions& sent, status code) {
        auto m = asking();
        m.set_tsid(session).set_sequence(peek(all<to_send>(sent).at(0)->bytes)->sequence);
        return m.response(code);
    };
    const auto with = [](message m, std::uint32_t media) {
        m.add<tlv::media_id>(media).add<tlv::unit_media>(endpoint{});
        return m;
    };
    auto sent = unit.request(1, asking(), 5s, now);
    auto out = give(with(answer(sent, status::ok), 6));
    EXPECT_EQ(all<unmatched>(out).size(), 1U);
    EXPECT_EQ(all<to_finish>(out).size(), 0U);
    out = give(with(answer(sent, status::ok), 5));
    ASSERT_EQ(all<to_finish>(out).size(), 1U);
    EXPECT_EQ(all<to_finish>(out)[0]->response->get<tlv::media_id>(), 5U);

    sent = unit.request(2, asking(), 5s, now);
    out = give(answer(sent, status::bad_suite)); // a refusal need not name it
    ASSERT_EQ(all<to_finish>(out).size(), 1U);
    EXPECT_EQ(all<to_finish>(out)[0]->of, 2U);
}

TEST_F(Channel, Ora15SequencesRiseOnAStream) {
    auto out = give(peer());
    EXPECT_EQ(all<to_serve>(out).size(), 1U);
    --peers;
    out = give(peer());
    EXPECT_EQ(all<to_serve>(out).size(), 0U);
    EXPECT_EQ(all<refused>(out).at(0)->code, status::bad_sequence);
    EXPECT_EQ(decode(all<to_send>(out).at(0)->bytes)->code(), status::bad_sequence);
    const auto next = up(carrier::stream);
    peers = 0; // begin anew on each connection
    out = give(peer(), next);
    EXPECT_EQ(all<to_serve>(out).size(), 1U);
}

TEST_F(Channel, ThirtyTwoAreOutstandingTheRestWaitsAndIsBounded) {
    channel_limits few{.waiting = 2};
    unit = channel(role::unit, few);
    link = up(carrier::stream);
    std::vector<std::uint32_t> numbers;
    for (ticket t = 1; t <= 32; ++t)
        numbers.push_back(ask(t));
    EXPECT_NE(numbers.back(), 0U);
    EXPECT_FALSE(unit.ready());
    EXPECT_EQ(ask(33), 0U);
    EXPECT_EQ(ask(34), 0U);
    auto out = unit.request(35, service(), 5s, now);
    EXPECT_EQ(all<to_finish>(out).at(0)->how, outcome::timeout);
    out = give(reply(numbers[7]));
    EXPECT_EQ(all<to_finish>(out).at(0)->of, 8U);
    EXPECT_EQ(all<to_send>(out).size(), 1U); // the next takes its place
    now += 5s;
    EXPECT_EQ(unit.due(), now);
    out = unit.poll(now);
    EXPECT_EQ(all<to_finish>(out).size(), 33U);
    EXPECT_FALSE(unit.due());
}

TEST_F(Channel, KeepaliveIsSentAndSilenceEndsTheLink) {
    unit.keepalive(100ms, now);
    auto first = unit.poll(now);
    EXPECT_EQ(all<to_send>(first).size(), 1U);
    for (int i = 1; i <= 3; ++i) {
        now += 100ms;
        ASSERT_EQ(unit.due(), now);
        auto out = unit.poll(now);
        ASSERT_EQ(all<to_send>(out).size(), 1U);
        const auto sent = decode(all<to_send>(out)[0]->bytes);
        EXPECT_TRUE(sent->is(exchange::keepalive));
        if (i == 1)
            unit.heard(link, now); // a packet is a sign of life
    }
    now += 100ms;
    auto out = unit.poll(now);
    EXPECT_TRUE(all<to_close>(out).empty());
    now += 1ms;
    out = unit.poll(now);
    EXPECT_EQ(all<to_close>(out).at(0)->why, ending::silent);
}

TEST_F(Channel, ARenewedLinkIsHeardForAWhile) {
    const auto number = ask(1);
    const auto next = up(carrier::stream);
    auto out = unit.request(2, service(), 5s, now);
    EXPECT_EQ(all<to_send>(out).at(0)->link, next);
    out = give(reply(number)); // by the old one
    EXPECT_EQ(all<to_finish>(out).at(0)->how, outcome::response);
    ASSERT_NE(ask(3), 0U);
    now += 1s;
    out = unit.poll(now);
    EXPECT_EQ(all<to_close>(out).at(0)->link, link);
    EXPECT_TRUE(all<to_finish>(out).empty()); // what went out on the new one goes on
}

TEST_F(Channel, AnotherSessionFailsWhatWasOfTheOld) {
    ask(1);
    const auto id = unit.attach(carrier::stream, now);
    auto out = unit.configure(id, 100, message::request(exchange::config).add<tlv::id_code>("a"), 5s, now);
    out = give(config_answer(peek(all<to_send>(out)[0]->bytes)->sequence, session + 1), id);
    std::map<ticket, outcome> ends;
    for (const auto* f : all<to_finish>(out))
        ends[f->of] = f->how;
    EXPECT_EQ(ends, (std::map<ticket, outcome>{{1, outcome::failed}, {100, outcome::response}}));
    EXPECT_EQ(all<to_close>(out).at(0)->link, link);
}

TEST_F(Channel, OverDatagramsTheSameBytesGetTheSameResponse) {
    unit = channel(role::unit);
    link = up(carrier::datagrams);
    const auto request = peer();
    auto out = give(request);
    ASSERT_EQ(all<to_serve>(out).size(), 1U);
    out = give(request); // it is being served
    EXPECT_TRUE(out.empty());
    auto answer = request.response(status::internal, "once");
    out = unit.answer(link, answer, now);
    const auto first = all<to_send>(out).at(0)->bytes;
    out = give(request);
    EXPECT_EQ(all<to_send>(out).at(0)->bytes, first);
    --peers;
    out = give(peer(exchange::release)); // the same number, other bytes
    EXPECT_EQ(all<refused>(out).at(0)->code, status::bad_sequence);
    EXPECT_TRUE(all<to_serve>(out).empty());
}

TEST_F(Channel, OverDatagramsARequestGoesOnOverTheNextLink) {
    unit = channel(role::unit);
    link = up(carrier::datagrams);
    auto out = unit.request(1, service(), 5s, now);
    const auto sent = all<to_send>(out).at(0)->bytes;
    EXPECT_TRUE(unit.lost(link, now).empty());
    const auto next = unit.attach(carrier::datagrams, now);
    out = unit.configure(next, 100, message::request(exchange::config).add<tlv::id_code>("a"), 5s, now);
    out = give(config_answer(peek(all<to_send>(out)[0]->bytes)->sequence, session), next);
    ASSERT_EQ(all<to_send>(out).size(), 1U);
    EXPECT_EQ(all<to_send>(out)[0]->link, next);
    EXPECT_EQ(all<to_send>(out)[0]->bytes, sent);
}

TEST_F(Channel, AnotherProcessGoesOnWithTheConversation) {
    unit = channel(role::unit);
    link = up(carrier::datagrams);
    auto out = unit.request(1, service(), 5s, now);
    const auto sent = all<to_send>(out).at(0)->bytes;
    const auto served = peer();
    out = give(served);
    out = unit.answer(link, served.response(status::ok), now);
    const auto answered = all<to_send>(out).at(0)->bytes;
    unit = channel(role::unit, {}, conversation(unit.talk()));
    link = unit.attach(carrier::datagrams, now);
    out = unit.configure(link, 100, message::request(exchange::config).add<tlv::id_code>("a"), 5s, now);
    const auto config = peek(all<to_send>(out)[0]->bytes)->sequence;
    EXPECT_GT(config, peek(sent)->sequence);
    out = give(config_answer(config, session));
    EXPECT_EQ(all<to_send>(out).at(0)->bytes, sent);
    out = give(served);
    EXPECT_EQ(all<to_send>(out).at(0)->bytes, answered);
    EXPECT_TRUE(all<to_serve>(out).empty());
}

TEST(ChannelGateway, Ora16BeforeConfigNothingElseIsServed) {
    const instant now{};
    channel gateway(role::gateway);
    const auto link = gateway.attach(carrier::stream, now);
    auto m = message::request(exchange::keepalive);
    m.set_sequence(1);
    auto out = gateway.receive(link, m.encode(), now);
    EXPECT_EQ(all<refused>(out).at(0)->code, status::not_configured);
    m.set_tsid(5).set_sequence(2);
    out = gateway.receive(link, m.encode(), now);
    EXPECT_EQ(all<refused>(out).at(0)->code, status::bad_tsid);
    EXPECT_TRUE(all<to_close>(out).empty());
    out = gateway.receive(link, bytes(15, 0x10), now); // no header to answer to
    EXPECT_EQ(all<refused>(out).at(0)->code, status::bad_tlv);
    EXPECT_TRUE(all<to_send>(out).empty());
    out = gateway.request(1, service(), std::chrono::seconds(1), now);
    EXPECT_EQ(all<to_finish>(out).at(0)->how, outcome::failed);
}

} // namespace
} // namespace tandem::protocol
