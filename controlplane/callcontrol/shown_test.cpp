// SPDX-License-Identifier: Apache-2.0
// What the other side gets to see of a caller: our addresses, whatever is anchored; and what is refused in words.
#include "controlplane/callcontrol/ng_fixture.hpp"
#include "controlplane/callcontrol/sdp.hpp"

namespace tandem::callcontrol {
namespace {

struct Shown : ng_fixture {
    static std::string head(const std::string& address) {
        return "v=0\r\no=- 1 1 IN IP4 " + address + "\r\ns=-\r\nc=IN IP4 " + address + "\r\nt=0 0\r\n";
    }
    const entries replace{{"replace", bencode::list{"origin", "session-connection"}}};
    std::string offered(const std::string& id, const std::string& body, entries more = {}) {
        more.insert(more.end(), replace.begin(), replace.end());
        const auto reply = offer(id, body, std::move(more));
        EXPECT_EQ(reply.text_of("result"), "ok") << reply.text_of("error-reason");
        return std::string(reply.text_of("sdp"));
    }
    static std::string origin(const std::string& text) {
        const auto at = text.find("o=");
        return text.substr(at, text.find("\r\n", at) - at);
    }
    // Of the rejected line too.
    static constexpr const char* rejected =
        "m=audio 0 RTP/AVP 0\r\nc=IN IP4 10.0.0.9\r\na=rtcp:5001 IN IP4 10.0.0.9\r\n";
};

TEST_F(Shown, WithoutAnAnchoredStreamTheCallersAddressIsHidden) {
    const std::string own = "10.0.0.9";
    for (const auto& body : {head(own), head(own) + "m=audio 0 RTP/AVP 0\r\n", head(own) + rejected}) {
        const auto text = offered("c" + std::to_string(body.size()), body);
        EXPECT_EQ(text.find(own), std::string::npos) << text;
        EXPECT_EQ(origin(text), "o=- 1 1 IN IP4 198.51.100.1");
        EXPECT_NE(text.find("c=IN IP4 198.51.100.1"), std::string::npos) << text;
    }
    EXPECT_NE(offered("held", head("0.0.0.0")).find("c=IN IP4 0.0.0.0"), std::string::npos) << "hold is seen";
    const auto six = offered("six", head(own), {{"address family", "IP6"}});
    EXPECT_EQ(origin(six), "o=- 1 1 IN IP6 2001:db8::1");
}

// replace: sdp-version (RFC 3264 8): one up where what that side is shown differs, over a restart too.
TEST_F(Shown, TheVersionIsCountedWhereThatIsAsked) {
    const entries counted{{"replace", bencode::list{"origin", "sdp-version"}}};
    const auto version = [](const bencode::value& reply) {
        const auto line = origin(std::string(reply.text_of("sdp")));
        return line.substr(4, line.find(" IN") - 4);
    };
    const auto said = [&](const std::string& way, const std::string& number) {
        auto body = sdp("198.51.100.2", 4000, "a=x-" + way + "\r\n");
        return body.replace(body.find("1 1 IN"), 6, "1 " + number + " IN");
    };
    EXPECT_EQ(version(offer("c", said("one", "7"), counted)), "1 7");
    EXPECT_EQ(version(answer("c", sdp("198.51.100.3", 5000), counted)), "1 1") << "each side's own";
    EXPECT_EQ(version(offer("c", said("one", "9"), counted)), "1 7") << "nothing else differs";
    EXPECT_EQ(version(offer("c", said("two", "9"), counted)), "1 8");
    EXPECT_EQ(version(offer("c", said("one", "2"), counted)), "1 9");
    boot();
    EXPECT_EQ(version(offer("c", said("one", "2"), counted)), "1 10");
    EXPECT_EQ(version(answer("c", sdp("198.51.100.3", 5000), counted)), "1 2");
    EXPECT_EQ(version(offer("c", said("one", "2"))), "1 2") << "as it came where nobody asks";
}

TEST_F(Shown, HoldByAddressGoesOnAsADirectionWhereThatIsAsked) {
    const auto held = [&](const std::string& id, const std::string& way) {
        return std::string(offer(id, head("0.0.0.0") + "m=audio 4000 RTP/AVP 0\r\na=" + way + "\r\n",
                                 {{"replace", bencode::list{"zero-address"}}})
                               .text_of("sdp"));
    };
    const auto text = held("c", "sendrecv");
    EXPECT_EQ(text.find("0.0.0.0"), text.rfind("0.0.0.0")) << "in o= alone: " << text;
    EXPECT_NE(text.find("c=IN IP4 198.51.100.1\r\n"), std::string::npos) << text;
    EXPECT_NE(text.find("a=sendonly\r\n"), std::string::npos) << text;
    EXPECT_EQ(text.find("a=sendrecv"), std::string::npos) << text;
    EXPECT_NE(held("d", "recvonly").find("a=inactive\r\n"), std::string::npos);
}

TEST_F(Shown, LinesThatFlagsAskFor) {
    const auto with = [&](const std::string& flag) {
        return std::string(
            offer("c" + flag, sdp("198.51.100.2", 4000, "a=extmap:1 urn:x\r\n"), {{"flags", bencode::list{flag}}})
                .text_of("sdp"));
    };
    EXPECT_EQ(with("no-rtcp-attribute").find("a=rtcp"), std::string::npos);
    EXPECT_NE(with("full-rtcp-attribute").find(" IN IP4 198.51.100.1\r\n", with("x").find("a=rtcp:")),
              std::string::npos);
    EXPECT_EQ(with("strip-extmap").find("a=extmap"), std::string::npos);
}

TEST_F(Shown, TowardsAUnitItIsTheInnerOne) {
    const auto text = offered("c", head("198.51.100.9"), {{"metadata", "caller=bob;callee=alice"}});
    EXPECT_EQ(origin(text), "o=- 1 1 IN IP4 10.64.0.1");
}

TEST_F(Shown, WithinADialogueItStays) { // RFC 3264 8
    const auto first = origin(offered("c", sdp("10.64.0.2", 4000), {{"metadata", "caller=alice;callee=bob"}}));
    ASSERT_EQ(answer("c", sdp("198.51.100.2", 5000)).text_of("result"), "ok");
    EXPECT_EQ(origin(offered("c", head("10.64.0.2") + rejected, {{"to-tag", "b"}})), first);
    const auto refused = answer("c", head("198.51.100.2") + rejected, replace);
    EXPECT_EQ(refused.text_of("result"), "ok") << refused.text_of("error-reason");
    EXPECT_EQ(refused.text_of("sdp").find("198.51.100.2"), std::string_view::npos);
    EXPECT_NE(refused.text_of("sdp").find("10.64.0.1"), std::string_view::npos);
}

TEST_F(Shown, FaxByT38IsRefusedAndTheCallGoesOn) {
    establish("c");
    const auto saved = store.calls.at("c").size();
    const std::string fax = "m=image 5004 udptl t38\r\na=T38FaxVersion:0\r\n";
    for (const auto& body : {head("198.51.100.2") + fax, sdp("198.51.100.2", 0) + fax}) {
        const auto reply = offer("c", body, {{"from-tag", "b"}, {"to-tag", "a"}});
        EXPECT_EQ(reply.text_of("error-reason"), "Fax by T.38 (m=image udptl) is not carried: answer 488, and the fax "
                                                 "goes on in the audio of the call");
        EXPECT_EQ(asked(1).legs[1].remote_rtp->port, 5000);
        EXPECT_EQ(store.calls.at("c").size(), saved);
    }
    for (const auto* beside : {"m=image 0 udptl t38\r\n", "m=image 5004 udptl t38\r\n"}) {
        const auto reply = offer("c", sdp("198.51.100.2", 5000) + beside, {{"from-tag", "b"}, {"to-tag", "a"}});
        EXPECT_NE(reply.text_of("sdp").find("m=image 0 udptl"), std::string_view::npos)
            << "beside audio it is rejected alone";
    }
}

TEST_F(Shown, AnOfferOfWhichNothingCanBeCarriedIsRefused) {
    const std::string chat = "m=message 2855 TCP/MSRP *\r\na=accept-types:text/plain\r\n";
    EXPECT_EQ(offer("c", head("198.51.100.2") + chat).text_of("error-reason"),
              "m=message TCP/MSRP is not carried, and there is nothing else: only RTP is");
    EXPECT_TRUE(server->calls().empty());
    const auto beside = offered("d", sdp("198.51.100.2", 4000) + chat);
    EXPECT_NE(beside.find("m=message 0 TCP/MSRP"), std::string::npos) << "beside audio it is rejected alone";
}

// The call passes two proxies that share the gateway.
TEST_F(Shown, WhatComesAgainWithLoopProtectGoesOnAsItIs) {
    const entries flags{{"flags", bencode::list{"loop-protect"}}};
    const auto first = std::string(offer("c", sdp("10.64.0.2", 4000), flags).text_of("sdp"));
    EXPECT_NE(first.find("\r\na=tandem:"), std::string::npos);
    EXPECT_LT(first.find("a=tandem:"), first.find("m=audio")) << "of the session";
    for (const auto* via : {"", "z9hG4bK-2"}) {
        auto more = flags;
        more.emplace_back("via-branch", via);
        EXPECT_EQ(offer("c", first, std::move(more)).text_of("sdp"), first);
    }
    const auto inner = std::string(answer("c", sdp("198.51.100.2", 5000), flags).text_of("sdp"));
    EXPECT_EQ(answer("c", inner, flags).text_of("sdp"), inner);
    EXPECT_EQ(relay.open_media.size(), 1U);
    EXPECT_EQ(asked(1).legs[0].remote_rtp->address.to_string(), "10.64.0.2");
    EXPECT_EQ(asked(1).legs[1].remote_rtp->port, 5000);
    // A mark alone leads nobody around the gateway.
    const auto mark = first.substr(first.find("a=tandem:"), 27);
    auto forged = sdp("198.51.100.2", 5002);
    forged.insert(forged.find("m="), mark);
    const auto reply = offer("c", forged, {{"from-tag", "b"}, {"to-tag", "a"}, flags[0]});
    EXPECT_EQ(reply.text_of("sdp").find(" 5002 "), std::string_view::npos);
    EXPECT_NE(reply.text_of("sdp").find("a=tandem:"), std::string_view::npos);
}

TEST_F(Shown, AnIpv4AddressWrittenAsAnIpv6OneIsIpv4) {
    EXPECT_EQ(callcontrol::sdp::parse_connection("IN IP6 ::ffff:198.51.100.2"), asio::ip::make_address("198.51.100.2"));
    ASSERT_EQ(offer("c", sdp("::ffff:10.64.0.2", 4000), {{"metadata", "caller=alice;callee=bob"}}).text_of("result"),
              "ok");
    ASSERT_EQ(answer("c", sdp("::ffff:198.51.100.2", 5000)).text_of("result"), "ok");
    EXPECT_EQ(fake_relay::text(asked(1).legs[0]), "unit:alice");
    EXPECT_EQ(fake_relay::text(asked(1).legs[1]), "core:core");
    EXPECT_EQ(asked(1).legs[1].remote_rtp->address.to_string(), "198.51.100.2");
}

TEST_F(Shown, WhatIsOfAnotherFamilyIsNotSentTo) {
    ASSERT_EQ(offer("c", sdp("198.51.100.2", 4000, "a=rtcp:4009 IN IP6 2001:db8::9\r\n")).text_of("result"), "ok");
    ASSERT_EQ(
        answer("c", sdp("10.0.0.3", 5000), {{"received-from", bencode::list{"IP6", "2001:db8::7"}}}).text_of("result"),
        "ok");
    EXPECT_EQ(asked(1).legs[0].remote_rtcp, (media::endpoint{asio::ip::make_address("198.51.100.2"), 4009}));
    EXPECT_EQ(asked(1).legs[1].remote_rtp->address.to_string(), "10.0.0.3");
}

} // namespace
} // namespace tandem::callcontrol
