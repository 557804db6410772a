// SPDX-License-Identifier: Apache-2.0
// The ng server as a client sees it: replies, error reasons (rtpengine's words), retransmissions, order of commands,
// the end of calls, recovery. SDP itself: golden_test.cpp.
#include "controlplane/callcontrol/cookie_cache.hpp"
#include "controlplane/callcontrol/ng_fixture.hpp"

#include <set>

namespace tandem::callcontrol {
namespace {

class Ng : public ng_fixture {};

TEST_F(Ng, PingPong) {
    EXPECT_EQ(raw("cookie d7:command4:pinge"), "cookie d6:result4:ponge");
    EXPECT_EQ(server->count().pings, 1U);
}

TEST_F(Ng, ErrorRepliesAreRtpengines) {
    const auto error = [](const std::string& why) {
        return "c d6:result5:error12:error-reason" + std::to_string(why.size()) + ":" + why + "e";
    };
    const std::vector<std::pair<std::string, std::string>> cases{
        {"d7:comm", "Could not decode bencode dictionary"},
        {"l7:commande", "Invalid NG data format"},
        {"i5e", "Invalid NG data format"},
        {"", "Invalid data (no payload)"},
        {"d1:x1:ye", "Dictionary contains no key \"command\""},
        {"d7:commandi5ee", "Dictionary contains no key \"command\""},
        {"d7:command3:fooe", "Unrecognized command"},
        {"d7:command5:offere", "No SDP body in message"},
        {"d7:command5:offer3:sdp3:v=0e", "No call-id in message"},
        {"d7:command5:offer3:sdp3:v=07:call-id1:xe", "No from-tag in message"},
        {"d7:command6:answer3:sdp3:v=07:call-id1:x8:from-tag1:fe", "No to-tag in message"},
        {"d7:command6:deletee", "No call-id in message"},
        {"d7:command5:querye", "No call-id in message"},
        {"d7:command5:query7:call-id1:xe", "Unknown call-id"},
    };
    for (const auto& [request, why] : cases) {
        boot(); // a new client port: no retransmission
        EXPECT_EQ(raw("c " + request), error(why)) << request;
    }
    EXPECT_EQ(reason("answer", {{"call-id", "x"}, {"from-tag", "f"}, {"to-tag", "t"}, {"sdp", sdp("198.51.100.2", 1)}}),
              "Unknown call-id");
    EXPECT_TRUE(
        reason("offer", {{"call-id", "x"}, {"from-tag", "f"}, {"sdp", "garbage"}}).starts_with("Failed to parse SDP"));
    EXPECT_TRUE(server->calls().empty()) << "a refused first offer leaves no call";
}

// What has no room is told in the words at which a proxy goes to its next node; running calls never notice.
TEST_F(Ng, ACallForWhichThereIsNoRoomIsRefusedInTheProxysWords) {
    more_settings.max_calls = 1;
    boot();
    const auto body = sdp("198.51.100.2", 4000);
    ASSERT_EQ(offer("one", body).text_of("result"), "ok");
    EXPECT_EQ(offer("two", body).text_of("error-reason"), "Parallel session limit reached");
    EXPECT_EQ(server->count().calls_refused, 1U);
    EXPECT_EQ(server->calls().size(), 1U);
    EXPECT_EQ(store.calls.size(), 1U) << "nothing of it is kept";
    EXPECT_EQ(offer("one", body).text_of("result"), "ok") << "a re-offer is no new call";
    EXPECT_EQ(answer("one", sdp("198.51.100.3", 5000)).text_of("result"), "ok");
    EXPECT_EQ(command("ping").text_of("result"), "pong");
    ASSERT_EQ(command("delete", {{"call-id", "one"}, {"from-tag", "a"}}).text_of("result"), "ok");
    EXPECT_EQ(offer("two", body).text_of("result"), "ok");
}

TEST_F(Ng, AGateOfAnotherRoomRefusesWithItsCause) {
    std::optional<refusal> no = refusal{refusal::want::load, "the journal is full"};
    server->gates().add([&] { return no; });
    const auto body = sdp("198.51.100.2", 4000);
    const auto reply = offer("one", body);
    EXPECT_EQ(reply.text_of("result"), "load limit");
    EXPECT_EQ(reply.text_of("message"), "the journal is full");
    no = refusal{refusal::want::ports, "none is free"};
    EXPECT_EQ(offer("one", body).text_of("error-reason"), "Ran out of ports");
    no.reset();
    EXPECT_EQ(offer("one", body).text_of("result"), "ok");
}

TEST_F(Ng, PingSaysWhatIsWrongAndNewCallsGoElsewhere) {
    std::string wrong;
    more_settings.trouble = [&] { return wrong; };
    boot();
    establish("runs");
    wrong = "worker 0 of the data plane does not come round";
    EXPECT_EQ(reason("ping"), wrong);
    EXPECT_EQ(server->count().pings_refused, 1U);
    const auto body = sdp("198.51.100.2", 4000);
    const auto told = offer("new", body, {{"supports", bencode::list{"load limit"}}});
    EXPECT_EQ(told.text_of("result"), "load limit");
    EXPECT_EQ(told.text_of("message"), wrong);
    EXPECT_EQ(offer("new", body).text_of("error-reason"), "Parallel session limit reached");
    EXPECT_EQ(server->count().calls_refused, 2U);
    EXPECT_EQ(server->calls().size(), 1U) << "nothing of it is kept";
    // Calls that run are given their chance.
    EXPECT_EQ(offer("runs", sdp("10.64.0.2", 4000)).text_of("result"), "ok");
    EXPECT_EQ(answer("runs", sdp("198.51.100.2", 5000)).text_of("result"), "ok");
    EXPECT_EQ(command("delete", {{"call-id", "runs"}, {"from-tag", "a"}}).text_of("result"), "ok");
    wrong.clear();
    EXPECT_EQ(command("ping").text_of("result"), "pong");
    EXPECT_EQ(offer("new", body).text_of("result"), "ok");
}

TEST_F(Ng, NoRoomIsToldInTheProxysWordsForNewCallsOnly) {
    more_settings.max_calls = 2;
    boot();
    establish("runs");
    const auto body = sdp("198.51.100.2", 4000);
    const entries knows{{"supports", bencode::list{"something", "load limit"}}};
    for (const auto& [of, words] : {std::pair{media::shortage::ports, "Ran out of ports"},
                                    {media::shortage::flows, "Parallel session limit reached"},
                                    {media::shortage::data_plane, "Parallel session limit reached"}}) {
        relay.refuse_open = "no room, do this";
        relay.short_of = of;
        EXPECT_EQ(offer("new", body).text_of("error-reason"), words);
        const auto told = offer("new", body, knows);
        EXPECT_EQ(told.text_of("result"), "load limit");
        EXPECT_EQ(told.text_of("message"), "no room, do this");
        EXPECT_EQ(command("ping").text_of("result"), "pong") << "a gateway that is full is well";
        // One media more for a call that runs: refused with words, for it cannot go elsewhere.
        const auto more = offer("runs", sdp("10.64.0.2", 4000) + "m=video 4002 RTP/AVP 96\r\n", knows);
        EXPECT_EQ(more.text_of("error-reason"), "no room, do this");
    }
    relay.refuse_open.clear();
    relay.short_of = media::shortage::none;
    EXPECT_EQ(offer("second", body).text_of("result"), "ok");
    EXPECT_EQ(offer("third", body).text_of("error-reason"), "Parallel session limit reached");
    EXPECT_EQ(offer("second", body).text_of("result"), "ok") << "again is not new";
    EXPECT_EQ(server->calls().size(), 2U);
}

TEST_F(Ng, NoCookieNoReply) {
    send("d7:command4:pinge");
    EXPECT_FALSE(receive(std::chrono::milliseconds(100)));
    EXPECT_EQ(server->count().malformed, 1U);
}

TEST_F(Ng, RetransmissionGetsTheSameReplyAndActsOnce) {
    const auto request = bencode::print(entries{
        {"command", "offer"}, {"call-id", "c"}, {"from-tag", "a"}, {"sdp", sdp("198.51.100.2", 4000, "", "RTP/AVP")}});
    const auto first = raw("cookie1 " + request);
    EXPECT_EQ(raw("cookie1 " + request), first);
    EXPECT_EQ(server->count().retransmissions, 1U);
    EXPECT_EQ(server->count().offers, 1U);
    EXPECT_EQ(relay.log.size(), 1U);
    raw("cookie2 " + request);
    EXPECT_EQ(server->count().offers, 2U);
}

// What was asked together is stored together, once, before the first of its replies goes out.
TEST_F(Ng, RepliesOfATurnGoOutAfterOneFlush) {
    std::array<char, 65536> buffer{};
    asio::error_code early;
    store.on_flush = [&] {
        if (store.flushes > 1)
            return; // the first turn's replies are there
        EXPECT_GE(store.calls.size(), 64U);
        client->receive(asio::buffer(buffer), 0, early);
    };
    std::set<std::string> missing;
    for (int i = 0; i < 100; ++i) { // more than are taken at once
        const auto cookie = "k" + std::to_string(i) + " ";
        send(cookie + bencode::print(entries{{"command", "offer"},
                                             {"call-id", "c" + std::to_string(i)},
                                             {"from-tag", "a"},
                                             {"sdp", sdp("198.51.100.2", 4000)}}));
        missing.insert(cookie);
    }
    while (!missing.empty()) {
        const auto reply = receive();
        ASSERT_TRUE(reply) << missing.size() << " replies did not come";
        EXPECT_EQ(missing.erase(reply->substr(0, reply->find(' ') + 1)), 1U);
    }
    EXPECT_EQ(early, asio::error::would_block) << "a reply went out before its call was stored";
    EXPECT_LE(store.flushes, 5U);
}

TEST_F(Ng, WhoFloodsFillsAQueueOfHisOwn) {
    asio::ip::udp::socket flood(io, asio::ip::udp::endpoint(asio::ip::make_address("127.0.0.1"), 0));
    flood.connect(server->endpoints().front());
    for (int i = 0; i < 20'000; ++i) { // more than any queue holds; nobody reads meanwhile
        asio::error_code full;
        flood.send(asio::buffer(std::string("k d7:command4:pinge")), 0, full);
    }
    EXPECT_GT(server->count().queue_full, 0U);
    unsigned heard = 0; // by ports: a quarter of the clients comes to the flood's queue
    for (int i = 0; i < 16; ++i) {
        client.emplace(io, asio::ip::udp::endpoint(asio::ip::make_address("127.0.0.1"), 0));
        client->connect(server->endpoints().front());
        client->non_blocking(true);
        asio::error_code none;
        client->send(asio::buffer(std::string("k d7:command4:pinge")), 0, none);
        heard += receive(std::chrono::milliseconds(i == 0 ? 2000 : 200)) ? 1 : 0;
    }
    EXPECT_GE(heard, 4U);
}

TEST(CookieCache, RepliesOfAnEndedCallAreGoneAtOnce) {
    using namespace std::chrono_literals;
    cookie_cache cache(20s);
    const auto now = cookie_cache::clock::now();
    for (const std::string key : {"a 1", "a 2", "a 3"}) {
        EXPECT_EQ(cache.begin(key, now).what, cookie_cache::found::fresh);
        cache.belongs(key, key == "a 3" ? "other" : "call");
        cache.finish(key, "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:secret");
    }
    cache.forget_call("call");
    for (const std::string key : {"a 1", "a 2"}) // not answered, and not worked on again either
        EXPECT_EQ(cache.begin(key, now).what, cookie_cache::found::working);
    EXPECT_EQ(cache.begin("a 3", now).what, cookie_cache::found::done);
    cache.forget_call("call");
    EXPECT_EQ(cache.begin("b 1", now + 21s).what, cookie_cache::found::fresh); // all else has had its time
    EXPECT_EQ(cache.size(), 1U);
}

// Requests that belong to no call share nothing: forgetting 60,000 of them is not quadratic (it took over a minute).
TEST(CookieCache, RequestsWithoutACallCostNoMoreTheMoreThereAre) {
    using namespace std::chrono_literals;
    cookie_cache cache(20s);
    const auto now = cookie_cache::clock::now();
    for (unsigned i = 0; i < 4 * cookie_cache::most; ++i) {
        const auto key = std::to_string(i);
        cache.begin(key, now);
        cache.belongs(key, i % 2 == 0 ? "" : "one call for all");
        cache.finish(key, "pong");
    }
    EXPECT_EQ(cache.size(), cookie_cache::most);
    cache.forget_call("one call for all");
    EXPECT_EQ(cache.begin("x", now + 21s).what, cookie_cache::found::fresh);
    EXPECT_EQ(cache.size(), 1U);
    EXPECT_EQ(cache.bytes(), 0U);
}

TEST(CookieCache, IsBoundedInBytes) {
    cookie_cache cache(std::chrono::hours(1));
    const auto now = cookie_cache::clock::now();
    const std::string large(60'000, 'x');
    for (unsigned i = 0; i < 3'000; ++i) {
        const auto key = std::to_string(i);
        cache.begin(key, now);
        cache.finish(key, large);
        ASSERT_LE(cache.bytes(), cookie_cache::most_bytes + large.size());
    }
    EXPECT_GT(cache.size(), 1'000U);
    EXPECT_EQ(cache.begin("2999", now).what, cookie_cache::found::done) << "the newest are kept";
}

// Offers wait for the call's turn while it is deleted: each begins a call anew, none works on the one that is gone.
TEST_F(Ng, ABurstOfOffersBesideADelete) {
    for (int round = 0; round < 3; ++round) {
        ASSERT_EQ(offer("c", sdp("198.51.100.2", 4000)).text_of("result"), "ok");
        relay.delay = std::chrono::milliseconds(20);
        const auto ask_for = [&](const std::string& name, int number) {
            send(name + std::to_string(round * 100 + number) + " " +
                 bencode::print(entries{{"command", name},
                                        {"call-id", "c"},
                                        {"from-tag", "a"},
                                        {"to-tag", name == "answer" ? "b" : ""},
                                        {"sdp", sdp("198.51.100.3", 5000)}}));
        };
        ask_for("answer", 0);
        for (int i = 0; i < 8; ++i) {
            ask_for("delete", i);
            ask_for("offer", 2 * i);
            ask_for("offer", 2 * i + 1);
        }
        for (int i = 0; i < 25; ++i)
            EXPECT_TRUE(receive()) << "reply " << i;
        relay.delay = {};
        EXPECT_EQ(command("delete", {{"call-id", "c"}, {"from-tag", "a"}}).text_of("result"), "ok");
        EXPECT_TRUE(server->calls().empty());
        EXPECT_TRUE(relay.open_media.empty());
    }
}

// A proxy that does not wait for replies: what follows a delete under the same Call-ID is of the next call.
TEST_F(Ng, ACallThatBeginsAgainBehindItsDeleteIsAnswered) {
    relay.delay = std::chrono::milliseconds(20);
    for (const std::string round : {"1", "2"})
        for (const std::string name : {"offer", "answer", "delete"})
            send(name + round + " " +
                 bencode::print(entries{{"command", name},
                                        {"call-id", "c"},
                                        {"from-tag", "a"},
                                        {"to-tag", name == "answer" ? "b" : ""},
                                        {"sdp", sdp("198.51.100.3", 5000)}}));
    for (unsigned n = 0; n < 6; ++n) {
        const auto reply = receive().value_or("(no reply)");
        EXPECT_NE(reply.find("6:result2:ok"), std::string::npos) << reply;
        EXPECT_EQ(reply.find("not found"), std::string::npos) << reply;
    }
    EXPECT_EQ(server->count().calls_ended, 2U);
}

TEST_F(Ng, RetransmissionDuringWorkIsNotStartedAgain) {
    ASSERT_EQ(offer("c", sdp("198.51.100.2", 4000)).text_of("result"), "ok");
    relay.delay = std::chrono::milliseconds(60);
    const auto request = "slow " + bencode::print(entries{{"command", "answer"},
                                                          {"call-id", "c"},
                                                          {"from-tag", "a"},
                                                          {"to-tag", "b"},
                                                          {"sdp", sdp("198.51.100.3", 5000)}});
    send(request);
    send(request);
    EXPECT_TRUE(receive());
    EXPECT_FALSE(receive(std::chrono::milliseconds(120)));
    EXPECT_EQ(std::count(relay.log.begin(), relay.log.end(), "update #1"), 1);
}

TEST_F(Ng, CommandsOfOneCallDoNotInterleave) {
    ASSERT_EQ(offer("c", sdp("198.51.100.2", 4000)).text_of("result"), "ok");
    relay.delay = std::chrono::milliseconds(30);
    for (int i = 0; i < 5; ++i)
        send("x" + std::to_string(i) + " " +
             bencode::print(entries{{"command", "answer"},
                                    {"call-id", "c"},
                                    {"from-tag", "a"},
                                    {"to-tag", "b"},
                                    {"sdp", sdp("198.51.100.3", 5000 + 2 * i)}}));
    send("y " + bencode::print(entries{{"command", "delete"}, {"call-id", "c"}, {"from-tag", "a"}}));
    for (int i = 0; i < 6; ++i) {
        const auto reply = receive();
        ASSERT_TRUE(reply);
        EXPECT_TRUE(reply->starts_with(i < 5 ? "x" + std::to_string(i) : "y")) << *reply;
    }
    for (std::size_t i = 1; i + 1 < relay.log.size(); i += 2) {
        EXPECT_EQ(relay.log[i], "update #1");
        EXPECT_EQ(relay.log[i + 1], "updated #1");
    }
    receive(std::chrono::milliseconds(10));
    EXPECT_EQ(relay.log.back(), "close #1 deleted");
    EXPECT_EQ(server->calls().size(), 0U);
}

TEST_F(Ng, DeleteTellsWhatWas) {
    establish("c");
    const auto reply = command("delete", {{"call-id", "c"}, {"from-tag", "a"}});
    EXPECT_EQ(reply.text_of("result"), "ok");
    ASSERT_NE(reply.find("totals"), nullptr);
    EXPECT_EQ(*reply.find("totals")->find("RTP")->find("packets")->integer(), 33);
    ASSERT_NE(reply.find("tags")->find("a"), nullptr);
    ASSERT_NE(reply.find("tags")->find("b"), nullptr);
    receive(std::chrono::milliseconds(10));
    EXPECT_EQ(relay.log.back(), "close #1 deleted");
    EXPECT_TRUE(store.calls.empty());
    const auto again = command("delete", {{"call-id", "c"}, {"from-tag", "a"}});
    EXPECT_EQ(again.text_of("result"), "ok");
    EXPECT_EQ(again.text_of("warning"), "Call-ID not found or tags didn't match");
}

TEST_F(Ng, DeleteBeforeAnswerClosesMedia) {
    ASSERT_EQ(offer("c", sdp("10.64.0.2", 4000)).text_of("result"), "ok");
    command("delete", {{"call-id", "c"}, {"from-tag", "a"}});
    receive(std::chrono::milliseconds(10));
    EXPECT_TRUE(relay.open_media.empty());
    EXPECT_EQ(reason("answer", {{"call-id", "c"}, {"from-tag", "a"}, {"to-tag", "b"}, {"sdp", sdp("198.51.100.2", 2)}}),
              "Unknown call-id");
}

TEST_F(Ng, DeleteWithForeignTagsEndsNothing) {
    establish("c");
    EXPECT_FALSE(command("delete", {{"call-id", "c"}, {"from-tag", "zz"}}).text_of("warning").empty());
    EXPECT_EQ(server->calls().size(), 1U);
}

TEST_F(Ng, DeleteOfALosingForkKeepsTheCall) {
    ASSERT_EQ(offer("c", sdp("198.51.100.2", 4000)).text_of("result"), "ok");
    answer("c", sdp("198.51.100.3", 5000), {{"to-tag", "b1"}});
    command("answer", {{"call-id", "c"}, {"from-tag", "a"}, {"to-tag", "b2"}, {"sdp", sdp("198.51.100.4", 6000)}});
    command("delete", {{"call-id", "c"}, {"from-tag", "a"}, {"to-tag", "b"}});
    EXPECT_EQ(server->calls().size(), 1U);
    EXPECT_EQ(asked(1).legs[1].remote_rtp->address.to_string(), "198.51.100.4");
}

TEST_F(Ng, QueryHasRtpenginesShape) {
    establish("c");
    const auto reply = command("query", {{"call-id", "c"}});
    for (const auto* key : {"created", "created_us", "last signal", "SSRC", "tags", "totals"})
        EXPECT_NE(reply.find(key), nullptr) << key;
    const auto* tag = reply.find("tags")->find("b");
    ASSERT_NE(tag, nullptr);
    const auto& media = tag->find("medias")->items()->front();
    EXPECT_EQ(*media.find("index")->integer(), 1);
    EXPECT_EQ(media.text_of("protocol"), "RTP/AVP");
    const auto& stream = media.find("streams")->items()->front();
    EXPECT_EQ(stream.text_of("local address"), "198.51.100.1");
    EXPECT_EQ(stream.find("endpoint")->text_of("address"), "198.51.100.2");
    EXPECT_EQ(*stream.find("stats")->find("packets")->integer(), 22);
}

TEST_F(Ng, ListHonoursLimit) {
    for (const auto* id : {"c1", "c2", "c3"})
        offer(id, sdp("198.51.100.2", 4000));
    EXPECT_EQ(command("list").find("calls")->items()->size(), 3U);
    EXPECT_EQ(command("list", {{"limit", "2"}}).find("calls")->items()->size(), 2U);
    EXPECT_EQ(command("list", {{"limit", 1}}).find("calls")->items()->size(), 1U);
}

TEST_F(Ng, MediaThatEndsByItselfEndsTheCall) {
    establish("c");
    relay.open_media.clear();
    relay.on_ended(1, "c", "timeout");
    EXPECT_TRUE(server->calls().empty());
    EXPECT_TRUE(store.calls.empty());
    EXPECT_EQ(server->count().calls_ended, 1U);
}

TEST_F(Ng, RelaysErrorIsTheReplysReason) {
    relay.refuse_open = "No free media port: raise [media] ports";
    EXPECT_EQ(reason("offer", {{"call-id", "c"}, {"from-tag", "a"}, {"sdp", sdp("198.51.100.2", 4000)}}),
              relay.refuse_open);
    EXPECT_TRUE(server->calls().empty());
    relay.refuse_open.clear();
    relay.refuse_update = "Unit \"alice\" does not answer";
    offer("c", sdp("198.51.100.2", 4000));
    EXPECT_EQ(reason("answer", {{"call-id", "c"}, {"from-tag", "a"}, {"to-tag", "b"}, {"sdp", sdp("198.51.100.3", 2)}}),
              relay.refuse_update);
}

TEST_F(Ng, RecoveredCallCanBeReofferedAndDeleted) {
    establish("c");
    ASSERT_EQ(store.calls.size(), 1U);
    EXPECT_EQ(store.calls["c"].find("inline"), std::string::npos);
    boot();
    ASSERT_EQ(server->count().calls_recovered, 1U);
    EXPECT_EQ(command("query", {{"call-id", "c"}}).text_of("result"), "ok");
    const auto before = relay.log.size();
    const auto reply = offer("c", sdp("198.51.100.2", 5000), {{"from-tag", "b"}, {"to-tag", "a"}});
    EXPECT_NE(reply.text_of("sdp").find("m=audio 20000 "), std::string::npos) << "alice's leg keeps its port";
    EXPECT_EQ(relay.log.size(), before) << "no new media";
    command("answer", {{"call-id", "c"}, {"from-tag", "b"}, {"to-tag", "a"}, {"sdp", sdp("10.64.0.2", 4000)}});
    EXPECT_EQ(relay.log.back(), "update #1");
    EXPECT_EQ(command("delete", {{"call-id", "c"}, {"from-tag", "a"}}).text_of("result"), "ok");
    receive(std::chrono::milliseconds(10));
    EXPECT_TRUE(relay.open_media.empty());
}

TEST_F(Ng, RecoveryForgetsCallsWithoutMediaAndBadEntries) {
    establish("c");
    relay.open_media.clear();
    store.calls["junk"] = "{\"version\":9}";
    boot();
    EXPECT_EQ(server->count().calls_recovered, 0U);
    EXPECT_TRUE(store.calls.empty());
}

TEST_F(Ng, OfferThatIsNeverAnsweredIsForgotten) {
    more_settings.offer_timeout = std::chrono::milliseconds(60);
    boot();
    establish("answered");
    ASSERT_EQ(offer("left", sdp("198.51.100.2", 4000)).text_of("result"), "ok");
    EXPECT_EQ(server->calls().size(), 2U);
    receive(std::chrono::milliseconds(200));
    ASSERT_EQ(server->calls().size(), 1U);
    EXPECT_EQ(server->calls()[0].call_id, "answered");
    EXPECT_EQ(relay.log.back(), "close #2 offer was never answered");
}

TEST_F(Ng, TakenPortIsSaidInWords) {
    config settings;
    settings.listen = server->endpoints();
    fake_relay other_relay;
    callcontrol::server second(io, settings, other_relay, units, store);
    const auto started = second.start();
    ASSERT_FALSE(started);
    EXPECT_NE(started.error().find("ng cannot listen on 127.0.0.1:"), std::string::npos);
}

} // namespace
} // namespace tandem::callcontrol
