// SPDX-License-Identifier: Apache-2.0
// A call that forks (RFC 3261 16.6): each offer under a via-branch of its own is a branch, with keys, transport, ports
// and end of its own; whoever answers is taken.
#include <algorithm>

#include "controlplane/callcontrol/ng_fixture.hpp"
#include "controlplane/callcontrol/sdp.hpp"
#include "controlplane/callcontrol/sdp_crypto.hpp"

namespace tandem::callcontrol {
namespace {

const std::string peers_key = "YUoDhXeYnfq5GHqLxAvAr5fHaKXTXPTPlLB0Hlw1";

struct Forks : ng_fixture {
    const std::string caller = sdp("198.51.100.2", 4000);

    bencode::value branch(const std::string& via, entries more = {}) {
        more.emplace_back("via-branch", via);
        return offer("c", caller, std::move(more));
    }
    std::string secure_branch(const std::string& via, entries more = {}) {
        more.emplace_back("transport-protocol", "RTP/SAVP");
        return std::string(branch(via, std::move(more)).text_of("sdp"));
    }
    // Of the first a=crypto line of a suite: tag, key.
    static std::pair<std::string, std::string> offered(const std::string& text) {
        const auto at = text.find(" AES_CM_128_HMAC_SHA1_80 inline:");
        const auto tag = text.rfind(':', at) + 1;
        const auto key = text.find("inline:", at) + 7;
        return {text.substr(tag, at - tag), text.substr(key, text.find_first_of("\r\n|", key) - key)};
    }
    static std::string taking(const std::string& tag, const std::string& address) {
        return sdp(address, 5000, "a=crypto:" + tag + " AES_CM_128_HMAC_SHA1_80 inline:" + peers_key + "\r\n",
                   "RTP/SAVP");
    }
    bencode::value answered(const std::string& to_tag, const std::string& body, const std::string& via = "") {
        entries all{{"call-id", "c"}, {"from-tag", "a"}, {"to-tag", to_tag}, {"sdp", body}};
        if (!via.empty())
            all.emplace_back("via-branch", via);
        return command("answer", std::move(all));
    }
    bencode::value end(entries keys) {
        keys.emplace_back("call-id", "c");
        if (std::none_of(keys.begin(), keys.end(), [](const auto& one) { return one.first == "from-tag"; }))
            keys.emplace_back("from-tag", "a");
        auto reply = command("delete", std::move(keys));
        receive(std::chrono::milliseconds(5));
        return reply;
    }
    bool alive() { return command("query", {{"call-id", "c"}}).text_of("result") == "ok"; }
    static std::string sent_key(const media::media_request& m) {
        return callcontrol::sdp::print_crypto({1, m.legs[1].srtp->suite, m.legs[1].srtp->send.copy(), 0, 0}, false);
    }
};

TEST_F(Forks, KeysBelongToTheirBranch) {
    const auto first = offered(secure_branch("br.0")), second = offered(secure_branch("br.1"));
    EXPECT_NE(first.second, second.second);
    EXPECT_EQ(relay.open_media.size(), 2U);
    const auto taken = answered("t0", taking(first.first, "198.51.100.3"), "br.0");
    ASSERT_EQ(taken.text_of("result"), "ok") << taken.text_of("error-reason");
    EXPECT_NE(sent_key(asked(1)).find(first.second), std::string::npos);
    EXPECT_EQ(asked(1).legs[1].remote_rtp->address.to_string(), "198.51.100.3");
    EXPECT_FALSE(asked(2).legs[1].remote_rtp) << "the other one still rings";
}

// The dialogue passes the gateway twice, with what it offered first: each pass has ports of its own, whatever the
// proxy says of branches, and each change finds its own pass.
TEST_F(Forks, ASpiralIsTwoPassesOfOneDialogue) {
    for (const auto& via : {std::string(), std::string("z")}) {
        const auto pass = [&](const char* which, entries more) {
            if (!via.empty())
                more.emplace_back("via-branch", via + which);
            return more;
        };
        const auto text = [](const bencode::value& reply) { return std::string(reply.text_of("sdp")); };
        const auto at = [](const std::string& body) { // its audio
            const auto parsed = callcontrol::sdp::parse(body);
            EXPECT_TRUE(parsed);
            return parsed ? media::endpoint{parsed->m_lines.at(0).address, parsed->m_lines.at(0).port}
                          : media::endpoint{};
        };
        const auto first = relay.next, second = first + 1;
        const auto check = [&](const media::endpoint& caller_at, const media::endpoint& callee_at) {
            EXPECT_EQ(asked(first).legs[0].remote_rtp, caller_at);
            EXPECT_EQ(asked(first).legs[1].remote_rtp, relay.open_media.at(second).locals.legs[0].rtp);
            EXPECT_EQ(asked(second).legs[0].remote_rtp, relay.open_media.at(first).locals.legs[1].rtp);
            EXPECT_EQ(asked(second).legs[1].remote_rtp, callee_at);
        };
        const auto callee = sdp("198.51.100.3", 5000), moved = sdp("198.51.100.2", 4040),
                   away = sdp("198.51.100.7", 5050);
        const auto one = text(offer("c", caller, pass("1", {})));
        ASSERT_EQ(offer("c", one, pass("2", {})).text_of("result"), "ok");
        EXPECT_EQ(relay.open_media.size(), 2U);
        ASSERT_EQ(answer("c", text(answer("c", callee, pass("2", {}))), pass("1", {})).text_of("result"), "ok");
        check(at(caller), at(callee));
        // The caller changes, then the callee, then both are where they were.
        offer("c", text(offer("c", moved, pass("3", {{"to-tag", "b"}}))), pass("4", {{"to-tag", "b"}}));
        answer("c", text(answer("c", callee, pass("4", {}))), pass("3", {}));
        check(at(moved), at(callee));
        const entries back{{"from-tag", "b"}, {"to-tag", "a"}};
        offer("c", text(offer("c", away, back)), back);
        signal("answer", "c", text(signal("answer", "c", moved, back)), back);
        check(at(moved), at(away));
        end({});
        EXPECT_FALSE(alive());
    }
}

// Who answers first, a fork or an announcement, may have no use for a line that the next one takes.
TEST_F(Forks, ALineThatTheFirstAnswerRejectsIsStillThere) {
    const std::string video = "m=video 4002 RTP/AVP 96\r\n", none = "m=video 0 RTP/AVP 96\r\n";
    more_settings.offer_timeout = std::chrono::milliseconds(100);
    boot();
    ASSERT_EQ(offer("c", caller + video).text_of("result"), "ok");
    ASSERT_EQ(answered("t0", sdp("198.51.100.4", 6000) + none).text_of("result"), "ok");
    const auto taken = answered("t1", sdp("198.51.100.3", 5000) + video);
    EXPECT_EQ(taken.text_of("sdp").find("m=video 0"), std::string_view::npos) << taken.text_of("sdp");
    EXPECT_EQ(asked(2).legs[1].remote_rtp->port, 4002);
    ASSERT_EQ(answered("t0", sdp("198.51.100.4", 6000) + none).text_of("result"), "ok");
    receive(std::chrono::milliseconds(5));
    EXPECT_FALSE(relay.open_media.contains(2)) << "it was taken, and is no more";
    end({});

    ASSERT_EQ(offer("c", caller + video).text_of("result"), "ok");
    ASSERT_EQ(answered("t0", sdp("198.51.100.4", 6000) + none).text_of("result"), "ok");
    for (int tries = 0; tries < 200 && relay.open_media.contains(4); ++tries)
        receive(std::chrono::milliseconds(20));
    EXPECT_FALSE(relay.open_media.contains(4)) << "nobody answers any more";
    EXPECT_TRUE(alive());
    EXPECT_TRUE(relay.open_media.contains(3));
}

TEST_F(Forks, WhicheverAnswersIsTakenByItsOwnTransport) {
    for (const auto& [one, two] : {std::pair{"RTP/AVP", "RTP/SAVP"}, {"RTP/SAVP", "RTP/AVP"}})
        for (const auto* who : {"br.0", "br.1"}) {
            const std::string sdp0(branch("br.0", {{"transport-protocol", one}}).text_of("sdp"));
            const std::string sdp1(branch("br.1", {{"transport-protocol", two}}).text_of("sdp"));
            const auto& heard = who == std::string("br.0") ? sdp0 : sdp1;
            const bool secure = heard.find("RTP/SAVP") != std::string::npos;
            const auto reply =
                answered("t", secure ? taking(offered(heard).first, "198.51.100.3") : sdp("198.51.100.3", 5000), who);
            EXPECT_EQ(reply.text_of("result"), "ok") << one << two << who << reply.text_of("error-reason");
            end({});
        }
}

TEST_F(Forks, BothMayAnswerOneAfterTheOther) {
    branch("br.0");
    branch("br.1");
    const auto early = answered("t1", sdp("198.51.100.4", 6000), "br.1");
    const auto final = answered("t0", sdp("198.51.100.3", 5000), "br.0");
    EXPECT_EQ(early.text_of("result"), "ok");
    EXPECT_EQ(final.text_of("result"), "ok");
    EXPECT_EQ(asked(1).legs[1].remote_rtp->port, 5000);
    EXPECT_EQ(asked(2).legs[1].remote_rtp->port, 6000);
    EXPECT_EQ(server->calls().at(0).to_tag, "t0") << "the last answer's";
    // In the dialogue, the tags say which one.
    ASSERT_EQ(offer("c", sdp("198.51.100.3", 5500), {{"from-tag", "t0"}, {"to-tag", "a"}, {"via-branch", "br.9"}})
                  .text_of("result"),
              "ok");
    ASSERT_EQ(command("answer",
                      {{"call-id", "c"}, {"from-tag", "t0"}, {"to-tag", "a"}, {"via-branch", "br.9"}, {"sdp", caller}})
                  .text_of("result"),
              "ok");
    EXPECT_EQ(asked(1).legs[1].remote_rtp->port, 5500);
    EXPECT_EQ(asked(2).legs[1].remote_rtp->port, 6000);
    EXPECT_EQ(relay.open_media.size(), 2U);
}

TEST_F(Forks, TheNextDestinationNeverSeesTheFirstOnesKey) {
    for (const bool named : {true, false}) { // by via-branch, or not at all
        const auto via = [&](const char* name) { return named ? name : ""; };
        const auto first = secure_branch(via("br.0"));
        ASSERT_EQ(answered("t0", taking(offered(first).first, "198.51.100.3"), via("br.0")).text_of("result"), "ok");
        const auto second = secure_branch(via("br.1")); // after the 183
        for (std::size_t at = 0; (at = first.find("inline:", at)) != std::string::npos; ++at)
            EXPECT_EQ(second.find(first.substr(at, 30)), std::string::npos) << named;
        const auto reply = answered("t1", taking(offered(second).first, "198.51.100.4"), via("br.1"));
        EXPECT_EQ(reply.text_of("result"), "ok") << reply.text_of("error-reason");
        const auto& now = relay.open_media.rbegin()->second.asked;
        EXPECT_EQ(now.legs[1].remote_rtp->address.to_string(), "198.51.100.4");
        EXPECT_NE(sent_key(now).find(offered(second).second), std::string::npos);
        end({});
    }
}

TEST_F(Forks, ThoseThatTheProxyDoesNotTellApartHaveTheirOwnKeysByTag) {
    const auto first = offered(secure_branch("")), second = offered(secure_branch(""));
    EXPECT_NE(first.first, second.first);
    EXPECT_NE(first.second, second.second);
    EXPECT_EQ(relay.open_media.size(), 1U);
    ASSERT_EQ(answered("t0", taking(first.first, "198.51.100.3")).text_of("result"), "ok");
    EXPECT_NE(sent_key(asked(1)).find(first.second), std::string::npos);
}

TEST_F(Forks, AnotherCalleeHasALevelAndAUnitOfItsOwn) {
    ASSERT_EQ(branch("", {{"metadata", "caller=bob;callee=dave"}}).text_of("result"), "ok");
    ASSERT_EQ(answered("t0", sdp("198.51.100.3", 5000)).text_of("result"), "ok");
    ASSERT_EQ(branch("", {{"metadata", "caller=bob;callee=alice"}}).text_of("result"), "ok");
    EXPECT_EQ(fake_relay::text(asked(2).legs[1]), "unit:alice");
    EXPECT_EQ(asked(2).callee, "alice");
    EXPECT_EQ(asked(2).branch, 1U);
    ASSERT_EQ(answered("t1", sdp("10.64.0.2", 5000)).text_of("result"), "ok");
    EXPECT_EQ(server->calls().at(0).callee, "alice");
}

TEST_F(Forks, ADeleteOfABranchThatLostLeavesTheAnsweredOne) {
    const std::vector<std::pair<entries, bool>> deletes{
        {{{"via-branch", "br.1"}}, false},
        {{{"to-tag", "loser"}}, false},
        {{{"to-tag", "loser"}, {"via-branch", "br.1"}}, false},
        {{{"to-tag", "loser"}}, true},
        {{{"via-branch", "br.1"}}, true},
        {{{"from-tag", "loser"}}, true},
        {{{"from-tag", "loser"}, {"to-tag", "a"}, {"via-branch", "br.1"}}, true},
    };
    for (const auto& [keys, early] : deletes) {
        relay.log.clear();
        branch("br.0");
        branch("br.1");
        if (early)
            answered("loser", sdp("198.51.100.4", 6000), "br.1");
        answered("winner", sdp("198.51.100.3", 5000), "br.0");
        EXPECT_EQ(end(keys).text_of("result"), "ok");
        EXPECT_TRUE(alive());
        ASSERT_EQ(relay.open_media.size(), 1U) << "the loser's ports are free, the winner's are not";
        EXPECT_EQ(relay.open_media.begin()->second.asked.legs[1].remote_rtp->port, 5000);
        EXPECT_EQ(end({{"to-tag", "winner"}}).text_of("result"), "ok");
        EXPECT_FALSE(alive());
        EXPECT_TRUE(relay.open_media.empty());
    }
}

TEST_F(Forks, ADeleteOfABranchLeavesThoseThatStillRing) {
    branch("br.0");
    branch("br.1");
    answered("t0", sdp("198.51.100.3", 5000), "br.0"); // a 183
    end({{"via-branch", "br.0"}});
    ASSERT_TRUE(alive());
    EXPECT_EQ(answered("t1", sdp("198.51.100.4", 6000), "br.1").text_of("result"), "ok");
    // The callee hangs up: nobody is left.
    branch("br.2");
    end({{"from-tag", "t1"}, {"to-tag", "a"}});
    EXPECT_FALSE(alive());
    EXPECT_TRUE(relay.open_media.empty());
}

// Credentials, or another destination, were asked for meanwhile: nobody says that the first offer is over.
TEST_F(Forks, AByeEndsTheCallThoughAnEarlierOfferWasNeverAnswered) {
    branch("br.0");
    branch("br.1");
    answered("t", sdp("198.51.100.3", 5000), "br.1");
    end({{"to-tag", "t"}, {"via-branch", "of.the.bye"}});
    EXPECT_FALSE(alive());
    EXPECT_TRUE(relay.open_media.empty());
    EXPECT_EQ(store.ended.back().cause, "hung up");
    // With nothing to tell them apart the rest goes by itself; the record is of the call that was.
    more_settings.offer_timeout = std::chrono::milliseconds(100);
    boot();
    branch("br.0");
    branch("br.1", {{"metadata", "caller=zoe;callee=bob"}});
    answered("t", sdp("198.51.100.3", 5000), "br.1");
    end({{"to-tag", "t"}});
    const auto hung_up = std::chrono::system_clock::now();
    for (int tries = 0; tries < 200 && alive(); ++tries)
        receive(std::chrono::milliseconds(20));
    EXPECT_FALSE(alive());
    ASSERT_EQ(store.ended.size(), 2U);
    EXPECT_EQ(store.ended.back().cause, "hung up");
    EXPECT_EQ(store.ended.back().callee, "bob");
    EXPECT_LE(store.ended.back().ended.wall, hung_up);
}

TEST_F(Forks, ADeleteOfTheFirstDestinationLeavesTheNext) {
    branch("");
    answered("t0", sdp("198.51.100.3", 5000));
    branch("");
    end({{"to-tag", "t0"}});
    ASSERT_TRUE(alive());
    EXPECT_EQ(answered("t1", sdp("198.51.100.4", 6000)).text_of("result"), "ok");
    EXPECT_EQ(asked(1).legs[1].remote_rtp->port, 6000);
    end({{"to-tag", "t0"}}); // once more
    EXPECT_TRUE(alive());
    end({});
    EXPECT_FALSE(alive());
}

TEST_F(Forks, ADeleteOfWhatIsNotThereIsAnErrorWhereThatIsFatal) {
    const entries fatal{{"flags", bencode::list{"fatal"}}};
    const auto refused = end(fatal);
    EXPECT_EQ(refused.text_of("result"), "error");
    EXPECT_EQ(refused.text_of("error-reason"), "Call-ID not found or tags didn't match");
    EXPECT_EQ(end({}).text_of("result"), "ok");
    establish("c");
    EXPECT_EQ(end({{"from-tag", "zz"}, {"flags", bencode::list{"fatal"}}}).text_of("result"), "error");
    EXPECT_EQ(end(fatal).text_of("result"), "ok");
}

TEST_F(Forks, AStrangersOfferIsRefusedWhileTheCallRings) {
    const auto from = [](const char* address) { return bencode::list{"IP4", address}; };
    branch("br.0", {{"received-from", from("198.51.100.2")}});
    const auto locals = relay.open_media.at(1).locals.legs[0].rtp;
    const std::vector<entries> strangers{
        {{"from-tag", "x"}},
        {{"from-tag", "x"}, {"via-branch", "br.7"}},
        {{"from-tag", "x"}, {"received-from", from("203.0.113.9")}},
        {{"from-tag", "x"}, {"via-branch", "br.0"}, {"received-from", from("203.0.113.9")}}};
    for (const auto& keys : strangers) {
        const auto reply = offer("c", sdp("203.0.113.9", 4444), keys);
        EXPECT_TRUE(reply.text_of("error-reason").starts_with("Call exists with other tags")) << keys.size();
        EXPECT_EQ(relay.open_media.size(), 1U);
        EXPECT_EQ(relay.open_media.at(1).locals.legs[0].rtp, locals);
    }
    ASSERT_EQ(answered("t", sdp("198.51.100.3", 5000), "br.0").text_of("result"), "ok");
    EXPECT_EQ(asked(1).legs[0].remote_rtp->address.to_string(), "198.51.100.2");
}

TEST_F(Forks, TheSamePartyMayTryAgainUnderAnotherTag) {
    const bencode::list from{"IP4", "198.51.100.2"};
    branch("br.0", {{"received-from", from}});
    EXPECT_EQ(branch("br.5", {{"from-tag", "a2"}, {"received-from", from}}).text_of("result"), "ok");
    EXPECT_EQ(branch("br.5", {{"from-tag", "a3"}}).text_of("result"), "ok") << "by its via-branch";
    EXPECT_EQ(relay.open_media.size(), 1U);
    EXPECT_EQ(
        command("answer", {{"call-id", "c"}, {"from-tag", "a3"}, {"to-tag", "t"}, {"sdp", caller}}).text_of("result"),
        "ok");
}

TEST_F(Forks, BranchesOutliveARestart) {
    branch("br.0");
    branch("br.1");
    answered("t1", sdp("198.51.100.4", 6000), "br.1");
    boot();
    EXPECT_EQ(server->count().calls_recovered, 1U);
    EXPECT_EQ(answered("t0", sdp("198.51.100.3", 5000), "br.0").text_of("result"), "ok");
    EXPECT_EQ(asked(1).legs[1].remote_rtp->port, 5000);
    branch("br.2");
    EXPECT_EQ(asked(3).branch, 2U) << "no number comes twice";
    end({{"via-branch", "br.1"}});
    EXPECT_TRUE(alive());
    EXPECT_FALSE(relay.open_media.contains(2));
}

TEST_F(Forks, WhatIsNoUtf8OutlivesARestartByteForByte) {
    const std::string id("\xff\x80"
                         "call\xc3(\0\x01 1",
                         12),
        tag = "\xe2\x28\xa1tag", to = "\x01\xf5";
    const entries keys{{"from-tag", tag}};
    ASSERT_EQ(offer(id, caller, keys).text_of("result"), "ok");
    ASSERT_EQ(
        command("answer", {{"call-id", id}, {"from-tag", tag}, {"to-tag", to}, {"sdp", sdp("198.51.100.3", 5000)}})
            .text_of("result"),
        "ok");
    boot();
    ASSERT_EQ(server->calls().size(), 1U);
    EXPECT_EQ(server->calls()[0].call_id, id);
    EXPECT_EQ(server->calls()[0].from_tag, tag);
    EXPECT_EQ(server->calls()[0].to_tag, to);
    EXPECT_EQ(offer(id, caller, {{"from-tag", tag}, {"to-tag", to}}).text_of("result"), "ok");
    EXPECT_EQ(relay.open_media.size(), 1U);
    EXPECT_EQ(command("delete", {{"call-id", id}, {"from-tag", to}, {"to-tag", tag}}).text_of("result"), "ok");
    EXPECT_TRUE(server->calls().empty());
}

TEST_F(Forks, ABranchThatIsNeverAnsweredIsForgottenAlone) {
    more_settings.offer_timeout = std::chrono::milliseconds(60);
    boot();
    branch("br.0");
    branch("br.1");
    answered("t0", sdp("198.51.100.3", 5000), "br.0");
    receive(std::chrono::milliseconds(200));
    EXPECT_TRUE(alive());
    EXPECT_EQ(server->calls()[0].media, std::vector<media::media_id>{1});
    EXPECT_EQ(relay.log.back(), "close #2 offer was never answered");
}

TEST_F(Forks, MediaOfALoserThatEndByThemselvesLeaveTheCall) {
    branch("br.0");
    branch("br.1");
    answered("t1", sdp("198.51.100.4", 6000), "br.1");
    answered("t0", sdp("198.51.100.3", 5000), "br.0");
    relay.open_media.erase(2);
    relay.on_ended(2, "c", "timeout");
    EXPECT_TRUE(alive());
    relay.open_media.erase(1);
    relay.on_ended(1, "c", "timeout");
    EXPECT_FALSE(alive());
}

TEST_F(Forks, ARefusedBranchLeavesTheOthers) {
    branch("br.0");
    relay.refuse_open = "all media ports are in use";
    EXPECT_EQ(branch("br.1").text_of("error-reason"), relay.refuse_open);
    EXPECT_EQ(answered("t0", sdp("198.51.100.3", 5000), "br.0").text_of("result"), "ok");
    EXPECT_EQ(server->calls().size(), 1U);
}

TEST_F(Forks, AnAnswerToARefusedBranchIsNoOthers) {
    branch("br.0");
    relay.refuse_open = "all media ports are in use";
    branch("br.1");
    relay.refuse_open.clear();
    relay.denied = "Denied by policy: left the company";
    branch("br.2");
    relay.denied.clear();
    const auto before = relay.log.size();
    for (const auto* via : {"br.1", "br.2"})
        EXPECT_EQ(answered("t1", sdp("198.51.100.9", 5000), via).text_of("error-reason"),
                  "The offer of this via-branch was refused");
    EXPECT_EQ(relay.log.size(), before);
    EXPECT_EQ(answered("t0", sdp("198.51.100.3", 5000), "ack").text_of("result"), "ok"); // one that nobody offered
    branch("br.1");                                                                      // tried again, and taken
    EXPECT_EQ(answered("t1", sdp("198.51.100.9", 5000), "br.1").text_of("result"), "ok");
}

TEST_F(Forks, AnAnswerToAReofferThatWasRefusedChangesNothing) {
    branch("br.0");
    answered("t0", sdp("198.51.100.3", 5000), "br.0");
    relay.denied = "Denied by policy: left the company";
    EXPECT_EQ(branch("re.1", {{"to-tag", "t0"}}).text_of("error-reason"), relay.denied);
    relay.denied.clear();
    const auto before = relay.log.size();
    EXPECT_EQ(answered("t0", sdp("198.51.100.9", 5000), "re.1").text_of("error-reason"),
              "The offer of this via-branch was refused");
    EXPECT_EQ(relay.log.size(), before);
    EXPECT_EQ(branch("re.1", {{"to-tag", "t0"}}).text_of("result"), "ok");
    EXPECT_EQ(answered("t0", sdp("198.51.100.9", 5000), "re.1").text_of("result"), "ok");
}

TEST_F(Forks, ACallHasAtMostSoManyBranches) {
    for (int i = 0; i < 32; ++i)
        ASSERT_EQ(branch("br." + std::to_string(i)).text_of("result"), "ok");
    EXPECT_EQ(branch("br.32").text_of("error-reason"), "Call has 32 branches already, no more are taken");
    EXPECT_EQ(branch("br.7").text_of("result"), "ok");
}

} // namespace
} // namespace tandem::callcontrol
