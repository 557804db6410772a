// SPDX-License-Identifier: Apache-2.0
// A refused re-offer (RFC 3261 14.1, RFC 3264 8) leaves the call as it was, in our own state too: by the other end,
// which we never hear of, or by us, in the offer or in the answer.
#include <algorithm>

#include "controlplane/callcontrol/ng_fixture.hpp"

namespace tandem::callcontrol {
namespace {

struct Reoffer : ng_fixture {
    using tags = entries;
    static tags by(const std::string& who) { return {{"from-tag", who}, {"to-tag", who == "a" ? "b" : "a"}}; }
    bencode::value reoffer(const std::string& who, const std::string& body, entries more = {}) {
        for (auto& one : by(who))
            more.push_back(one);
        return offer("c", body, std::move(more));
    }
    bencode::value reanswer(const std::string& who, const std::string& body) {
        auto more = by(who);
        more.emplace_back("call-id", "c");
        more.emplace_back("sdp", body);
        return command("answer", std::move(more));
    }
    std::ptrdiff_t logged(const std::string& line) const {
        return std::count(relay.log.begin(), relay.log.end(), line);
    }
    // What is saved of the call, without the moment of the last word.
    std::string saved() const {
        auto text = store.calls.at("c");
        const auto at = text.find("\"last_signal_us\":");
        text.erase(at, text.find(',', at) - at);
        return text;
    }
    static std::string on_hold(const std::string& address, int port, const std::string& more = "") {
        auto text = sdp(address, port, more);
        return text.replace(text.find("a=sendrecv"), 10, "a=sendonly");
    }
    static std::string video(const std::string& more = "") {
        return "m=video 4100 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n" + more;
    }
};

TEST_F(Reoffer, ThatFailsInTheMiddleGivesBackWhatItTook) {
    relay.fails_at = 1;
    EXPECT_EQ(offer("new", sdp("198.51.100.2", 4000) + video()).text_of("result"), "error");
    EXPECT_EQ(logged("close #1 offer came to nothing"), 1);
    EXPECT_TRUE(server->calls().empty());
    relay.fails_at.reset();
    establish("c");
    relay.fails_at = 1;
    const auto was = saved();
    EXPECT_EQ(reoffer("b", sdp("2001:db8::9", 6000) + video()).text_of("result"), "error");
    EXPECT_EQ(logged("withdraw #2"), 1);
    EXPECT_EQ(saved(), was);
    EXPECT_TRUE(relay.beside.empty());
}

TEST_F(Reoffer, ThatTheOtherEndRefusesIsForgottenByTheNext) {
    establish("c");
    const auto& asked_first = asked(1);
    // On hold, to another family and port: answered 488, which no proxy tells.
    ASSERT_EQ(reoffer("b", on_hold("2001:db8::9", 6000, "a=rtcp-mux\r\n")).text_of("result"), "ok");
    EXPECT_EQ(asked_first.legs[1].remote_rtp->port, 5000);
    EXPECT_EQ(logged("close #1 moved"), 0);
    EXPECT_EQ(logged("beside c/0 #1 unit:alice core:core/6 alice>bob"), 1);
    // The other side's re-offer, of what was in force.
    ASSERT_EQ(reoffer("a", sdp("10.64.0.2", 4000)).text_of("result"), "ok");
    EXPECT_EQ(logged("withdraw #1"), 1);
    ASSERT_EQ(reanswer("a", sdp("198.51.100.2", 5000)).text_of("result"), "ok");
    const auto& now = asked(1);
    EXPECT_EQ(fake_relay::text(now.legs[1]), "core:core");
    EXPECT_EQ(now.legs[1].remote_rtp->port, 5000);
    EXPECT_FALSE(now.legs[1].rtcp_mux);
    EXPECT_EQ(now.forward, (std::array{true, true}));
    EXPECT_EQ(relay.open_media.size(), 1U);
}

TEST_F(Reoffer, AnsweredMovesTheLegOfTheSameMedia) {
    establish("c");
    ASSERT_EQ(reoffer("b", sdp("2001:db8::9", 6000)).text_of("result"), "ok");
    const auto answered = reanswer("b", sdp("10.64.0.2", 4000));
    ASSERT_EQ(answered.text_of("result"), "ok") << answered.text_of("error-reason");
    EXPECT_NE(answered.text_of("sdp").find("c=IN IP6 2001:db8::1"), std::string::npos) << answered.text_of("sdp");
    EXPECT_EQ(fake_relay::text(asked(1).legs[1]), "core:core/6");
    EXPECT_EQ(relay.open_media.size(), 1U);
}

TEST_F(Reoffer, ThatPolicyDeniesLeavesTheCallAsItWas) {
    establish("c");
    EXPECT_EQ(relay.asked_whether, 1U);
    const auto before = saved();
    const auto log = relay.log;
    relay.denied = "Denied by policy: left the company";
    EXPECT_EQ(reoffer("b", on_hold("198.51.100.2", 5000)).text_of("error-reason"), relay.denied)
        << "where no leg moves";
    EXPECT_EQ(reoffer("a", sdp("10.64.0.2", 4400) + video()).text_of("error-reason"), relay.denied);
    EXPECT_EQ(relay.asked_whether, 3U) << "once an offer";
    EXPECT_EQ(saved(), before);
    EXPECT_EQ(relay.log, log);
    EXPECT_EQ(offer("new", sdp("198.51.100.2", 4000)).text_of("error-reason"), relay.denied);
    EXPECT_EQ(server->calls().size(), 1U);
    EXPECT_FALSE(store.calls.contains("new"));
    EXPECT_EQ(relay.log, log) << "no port was taken";
    relay.denied.clear();
    EXPECT_EQ(reoffer("b", on_hold("198.51.100.2", 5000)).text_of("result"), "ok");
}

TEST_F(Reoffer, RefusedInTheOfferChangesNothingAndGivesBackWhatItTook) {
    establish("c");
    const auto before = saved();
    relay.refuse_open = "all media ports are in use";
    relay.refuse_open_index = 2;
    const auto three = sdp("2001:db8::9", 6000) + video() + video();
    const auto refused = reoffer("b", three);
    EXPECT_EQ(refused.text_of("error-reason"), relay.refuse_open);
    receive(std::chrono::milliseconds(10));
    EXPECT_EQ(logged("withdraw #1"), 1) << "beside the line that runs";
    EXPECT_EQ(logged("close #2 offer came to nothing"), 1) << "the new line's";
    EXPECT_EQ(saved(), before);
    EXPECT_EQ(server->calls().at(0).media, std::vector<media::media_id>{1});
}

TEST_F(Reoffer, RefusedInTheAnswerChangesNothingWhicheverLineItWas) {
    establish("c");
    ASSERT_EQ(reoffer("a", on_hold("10.64.0.2", 4400) + video()).text_of("result"), "ok");
    const auto offered = saved();
    const auto first = asked(1).legs[0].remote_rtp;
    relay.refuse_update = "flows could not be changed: flow table is full";
    EXPECT_EQ(reanswer("a", sdp("198.51.100.2", 5200) + video()).text_of("error-reason"), relay.refuse_update);
    EXPECT_EQ(saved(), offered) << "in force as before, the re-offer still open";
    EXPECT_EQ(asked(1).legs[0].remote_rtp, first);
    EXPECT_EQ(std::count_if(relay.log.begin(), relay.log.end(), [](const auto& l) { return l.starts_with("close"); }),
              0);
    relay.refuse_update.clear(); // answered once more
    EXPECT_EQ(reanswer("a", sdp("198.51.100.2", 5200) + video()).text_of("result"), "ok");
    EXPECT_EQ(asked(1).legs[0].remote_rtp->port, 4400);
    EXPECT_EQ(asked(1).forward, (std::array{false, true}));
    EXPECT_EQ(relay.open_media.size(), 2U);
}

TEST_F(Reoffer, AnAnswerWhoseSecondLineCannotBeReadTouchesNoMedia) {
    establish("c");
    ASSERT_EQ(reoffer("a", sdp("10.64.0.2", 4400) + video()).text_of("result"), "ok");
    const auto updates = logged("update #1");
    const auto refused =
        reanswer("a", sdp("198.51.100.2", 5200) + "m=video 4100 RTP/SAVP 96\r\na=rtpmap:96 H264/90000\r\n");
    EXPECT_EQ(refused.text_of("result"), "error");
    EXPECT_EQ(logged("update #1"), updates);
}

TEST_F(Reoffer, ALineThatIsRejectedInTheAnswerEndsOnlyWithTheOthers) {
    establish("c");
    ASSERT_EQ(reoffer("a", sdp("10.64.0.2", 4000) + video()).text_of("result"), "ok");
    ASSERT_EQ(reanswer("a", sdp("198.51.100.2", 5000) + video()).text_of("result"), "ok");
    ASSERT_EQ(reoffer("a", sdp("10.64.0.2", 4400) + video()).text_of("result"), "ok");
    relay.refuse_update = "no";
    const auto without = sdp("198.51.100.2", 5000) + "m=video 0 RTP/AVP 96\r\n";
    EXPECT_EQ(reanswer("a", without).text_of("result"), "error");
    receive(std::chrono::milliseconds(10));
    EXPECT_EQ(relay.open_media.size(), 2U) << "video goes on";
    relay.refuse_update.clear();
    EXPECT_EQ(reanswer("a", without).text_of("result"), "ok");
    receive(std::chrono::milliseconds(10));
    EXPECT_EQ(relay.open_media.size(), 1U);
}

TEST_F(Reoffer, KeysOfARefusedOneAreNotUsed) {
    const auto secure = [](const char* key, const std::string& address, int port) {
        return sdp(address, port, std::string("a=crypto:3 AES_CM_128_HMAC_SHA1_80 inline:") + key + "\r\n", "RTP/SAVP");
    };
    const auto* first = "YUoDhXeYnfq5GHqLxAvAr5fHaKXTXPTPlLB0Hlw1";
    const auto* second = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";
    ASSERT_EQ(offer("c", sdp("10.64.0.2", 4000),
                    {{"metadata", "caller=alice;callee=bob"}, {"transport-protocol", "RTP/SAVP"}})
                  .text_of("result"),
              "ok");
    ASSERT_EQ(answer("c", secure(first, "198.51.100.2", 5000)).text_of("error-reason"), "");
    const auto in_force = asked(1).legs[1].srtp;
    ASSERT_TRUE(in_force);
    ASSERT_EQ(reoffer("b", secure(second, "198.51.100.2", 5000)).text_of("result"), "ok"); // refused by alice
    ASSERT_EQ(reoffer("b", secure(first, "198.51.100.2", 5400)).text_of("result"), "ok");
    ASSERT_EQ(reanswer("b", sdp("10.64.0.2", 4000)).text_of("result"), "ok");
    EXPECT_EQ(asked(1).legs[1].srtp, in_force) << "peer's key and ours";
}

TEST_F(Reoffer, OneThatIsOpenOutlivesARestart) {
    establish("c");
    ASSERT_EQ(reoffer("a", sdp("10.64.0.2", 4400)).text_of("result"), "ok");
    boot();
    ASSERT_EQ(reanswer("a", sdp("198.51.100.2", 5000)).text_of("result"), "ok");
    EXPECT_EQ(asked(1).legs[0].remote_rtp->port, 4400);
}

// Keys are not saved: an answer that a restart parted from its offer would put a leg in clear that asked for SRTP.
TEST_F(Reoffer, WhoseKeysARestartTookIsRefusedInTheAnswer) {
    const auto secure =
        sdp("198.51.100.2", 5000,
            "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:YUoDhXeYnfq5GHqLxAvAr5fHaKXTXPTPlLB0Hlw1\r\n", "RTP/SAVP");
    establish("c");
    const auto updates = relay.log.size();
    const auto lost = [&](const bencode::value& reply) {
        EXPECT_NE(reply.text_of("error-reason").find("SDES keys of this offer are gone"), std::string::npos)
            << bencode::print(reply);
    };
    ASSERT_EQ(reoffer("b", secure).text_of("result"), "ok"); // the offerer's
    boot();
    lost(reanswer("b", sdp("10.64.0.2", 4000)));
    const auto to_srtp = tags{{"transport-protocol", "RTP/SAVP"}}; // ours, to the answerer
    ASSERT_EQ(reoffer("a", sdp("10.64.0.2", 4000), to_srtp).text_of("result"), "ok");
    boot();
    lost(reanswer("a", secure));
    lost(reanswer("a", sdp("198.51.100.2", 5000)));
    EXPECT_EQ(relay.log.size(), updates) << "no media is touched";
    ASSERT_EQ(reoffer("b", secure).text_of("result"), "ok");
    ASSERT_EQ(reanswer("b", sdp("10.64.0.2", 4000)).text_of("result"), "ok");
    EXPECT_TRUE(asked(1).legs[1].srtp);
}

} // namespace
} // namespace tandem::callcontrol
