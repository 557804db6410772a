// SPDX-License-Identifier: Apache-2.0
// SDP reading and a=crypto: what is understood, what is refused, and that no key stays in kept lines.
#include <gtest/gtest.h>

#include "controlplane/callcontrol/sdp.hpp"
#include "controlplane/callcontrol/sdp_rewrite.hpp"

namespace tandem::callcontrol::sdp {
namespace {

const std::string head = "v=0\r\no=- 1 1 IN IP4 192.0.2.7\r\ns=-\r\nc=IN IP4 192.0.2.7\r\nt=0 0\r\n";
const std::string key_sha1 = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz"; // RFC 4568 section 10.1: 30 bytes

TEST(Sdp, ReadsSessionAndMediaLevel) {
    const auto parsed =
        parse(head + "a=inactive\r\nm=audio 4000/2 RTP/AVP 8 0\r\na=sendonly\r\na=rtcp:4567 IN IP4 192.0.2.8\r\n"
                     "m=video 5000 RTP/SAVPF 96\r\nc=IN IP6 2001:db8::5\r\na=rtcp-mux\r\nm=audio 0 RTP/AVP 0\r\n");
    ASSERT_TRUE(parsed) << parsed.error();
    ASSERT_EQ(parsed->m_lines.size(), 3U);
    const auto& audio = parsed->m_lines[0];
    EXPECT_EQ(audio.port, 4000);
    EXPECT_EQ(audio.address.to_string(), "192.0.2.7");
    EXPECT_EQ(audio.direction, way::sendonly);
    EXPECT_EQ(audio.rtcp_port, 4567);
    EXPECT_EQ(audio.rtcp_address->to_string(), "192.0.2.8");
    const auto& video = parsed->m_lines[1];
    EXPECT_EQ(video.address.to_string(), "2001:db8::5");
    EXPECT_EQ(video.direction, way::inactive);
    EXPECT_TRUE(video.rtcp_mux);
    EXPECT_TRUE(video.profile.secure && video.profile.feedback);
    EXPECT_TRUE(parsed->m_lines[2].rejected());
}

TEST(Sdp, RefusesWithTheLine) {
    const auto why = [](const std::string& text) {
        const auto parsed = parse(text);
        return parsed ? "(accepted)" : parsed.error();
    };
    EXPECT_EQ(why("garbage"), "Failed to parse SDP: line 1 is not <letter>=<value>");
    EXPECT_EQ(why(""), "Failed to parse SDP: it does not begin with v=");
    EXPECT_EQ(why("v=0\r\nm=audio\r\n"), "Failed to parse SDP: line 2 is not a valid m= line");
    EXPECT_EQ(why("v=0\r\nm=audio 70000 RTP/AVP 0\r\n"), "Failed to parse SDP: line 2 is not a valid m= line");
    EXPECT_EQ(why("v=0\r\nm=audio 4000 RTP/AVP 0\r\n"), "Failed to parse SDP: m= line 1 has no c= line");
    EXPECT_EQ(why("v=0\r\nc=IN IP4 2001:db8::1\r\n"), "Failed to parse SDP: line 2 has no usable address");
    EXPECT_EQ(why("v=0\r\nc=IN IP4 host.example\r\n"), "Failed to parse SDP: line 2 has no usable address");
    EXPECT_EQ(why(std::string("v=0\r\ns=a\0b\r\n", 12)), "Failed to parse SDP: line 2 holds the control character 0");
    std::string many = "v=0\r\nc=IN IP4 192.0.2.1\r\n";
    for (int i = 0; i < 33; ++i)
        many += "m=audio 4000 RTP/AVP 0\r\n";
    EXPECT_EQ(why(many), "Failed to parse SDP: it has more than 32 m= lines");
}

// What stands behind a bare CR would be passed on unread, and read by the other phone.
TEST(Sdp, ControlCharactersAreRefused) {
    const std::string cr = ": lines end with CR LF";
    const auto why = [](const std::string& text) {
        const auto parsed = parse(text);
        return parsed ? "(accepted)" : parsed.error();
    };
    EXPECT_EQ(why(head + "a=x:1\rc=IN IP4 192.0.2.66\r\n"),
              "Failed to parse SDP: line 6 holds the control character 13" + cr);
    EXPECT_EQ(why("v=0\rs=-\rc=IN IP4 192.0.2.7\r"), "Failed to parse SDP: line 1 holds the control character 13" + cr);
    EXPECT_EQ(why(head + "a=x:1\r"), "Failed to parse SDP: line 6 holds the control character 13" + cr);
    EXPECT_EQ(why(head + "a=x:1\r\r\n"), "Failed to parse SDP: line 6 holds the control character 13" + cr);
    for (const char c : {'\x01', '\x08', '\x0b', '\x0c', '\x1b', '\x7f'})
        EXPECT_TRUE(why(head + "a=x:" + c + "1\r\n").starts_with("Failed to parse SDP: line 6 holds")) << int{c};
    EXPECT_EQ(why(head + "a=x:\t\xc3\xa4\r\n"), "(accepted)") << "a tab, and what is not ASCII, are text";
}

TEST(Sdp, ALineMayHaveNoFormats) {
    const auto parsed = parse(head + "m=video 0 RTP/AVP\r\nm=audio 4000 rtp/AVP\r\n");
    ASSERT_TRUE(parsed) << parsed.error();
    EXPECT_EQ(parsed->m_lines[1].profile, transport{.rtp = true}) << "letters of either case";
    auto lines = std::vector<media_rewrite>(2);
    lines[1].port = 5000;
    lines[1].profile = parsed->m_lines[1].profile;
    const auto out = rewrite(*parsed, lines, {});
    EXPECT_NE(out.find("m=video 0 RTP/AVP\r\n"), std::string::npos) << out;
    EXPECT_NE(out.find("m=audio 5000 RTP/AVP\r\n"), std::string::npos) << out;
}

TEST(Sdp, AnAddressIsOneHosts) {
    const auto why = [](const std::string& address, int port = 4000) {
        const auto parsed =
            parse("v=0\r\ns=-\r\nc=IN " + address + "\r\nm=audio " + std::to_string(port) + " RTP/AVP 0\r\n");
        return parsed ? "" : parsed.error();
    };
    for (const auto* many : {"IP4 224.2.1.1/127/3", "IP4 239.1.1.1", "IP4 255.255.255.255", "IP4 240.0.0.1",
                             "IP4 0.0.0.1", "IP6 ff02::1", "IP6 ::ffff:224.0.0.1"})
        EXPECT_TRUE(why(many).ends_with("is not one host's")) << many << why(many);
    EXPECT_EQ(why("IP4 224.2.1.1"), "Failed to parse SDP: the address of m= line 1, 224.2.1.1, is not one host's");
    for (const auto* one : {"IP4 0.0.0.0", "IP6 ::", "IP4 223.1.1.1", "IP4 127.0.0.1", "IP6 fe80::1"})
        EXPECT_EQ(why(one), "");
    EXPECT_EQ(why("IP4 224.2.1.1", 0), "") << "nothing is sent there";
}

// What a lenient phone would read as a way around us.
TEST(Sdp, NoOtherWayToTheCallerGoesOn) {
    std::string others;
    for (const auto* one :
         {"candidate:1 1 UDP 1 192.0.2.7 4000 typ host", "Candidate:1 1 UDP 1 192.0.2.7 4000 typ host",
          " candidate :1 1 UDP 1 192.0.2.7 4000 typ host", "RTCP:4001 IN IP4 192.0.2.7", "altc:1 IP4 192.0.2.7 4000",
          "alt:1 1.0 : a b 192.0.2.7 4000", "visited-realm:1 x IN IP4 192.0.2.7 4000",
          "source-filter: incl IN IP4 * 192.0.2.7", "Fingerprint:sha-256 AA", "ICE-ufrag:abcd"})
        others += std::string("a=") + one + "\r\n";
    const auto parsed = parse(head + others + "m=audio 4000 RTP/AVP 8\r\n" + others + "a=altcx:1\r\n");
    ASSERT_TRUE(parsed) << parsed.error();
    auto lines = std::vector<media_rewrite>(1);
    lines[0].address = asio::ip::make_address("192.0.2.9");
    lines[0].port = lines[0].rtcp_port = 5000;
    lines[0].profile = {.rtp = true};
    EXPECT_EQ(rewrite(*parsed, lines, {.replace_origin = true}),
              "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\nm=audio 5000 RTP/AVP "
              "8\r\na=altcx:1\r\n"
              "a=rtcp:5000\r\n");
}

TEST(Sdp, RetransmissionsAreTheFormatsThatSaySo) {
    const auto types = [](const std::string& lines) {
        const auto parsed = parse(head + "m=video 4000 RTP/AVPF 96 97 99 101 103 104\r\n" + lines);
        return parsed ? retransmissions(parsed->m_lines.back()) : std::array<std::uint8_t, 3>{};
    };
    using three = std::array<std::uint8_t, 3>;
    EXPECT_EQ(types("a=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n"), (three{97}));
    EXPECT_EQ(types("a=rtpmap:97 RTX/90000\r\na=rtpmap:98 rtx/90000\r\na=rtpmap:99 rtx/90000\r\n"), (three{97, 99}))
        << "98 is no format of the line";
    EXPECT_EQ(
        types("a=rtpmap:96 rtx2/9\r\na=rtpmap:97 xrtx/9\r\na=rtpmap:999 rtx/9\r\na=rtpmap: rtx/9\r\na=rtpmap\r\n"),
        three{});
    std::string many;
    for (const char* type : {"97", "99", "101", "103"})
        many += std::string("a=rtpmap:") + type + " rtx/90000\r\n";
    EXPECT_EQ(types(many), (three{97, 99, 101}));
}

TEST(Sdp, KeepsUnknownLinesInOrder) {
    const std::string text =
        "v=0\r\no=- 1 1 IN IP4 192.0.2.7\r\ns=x y\r\ni=info\r\nc=IN IP4 192.0.2.7\r\nb=AS:64\r\nt=0 0\r\n"
        "a=x-unknown:1:2:3\r\nm=audio 4000 RTP/AVP 8 0\r\nb=AS:64\r\na=rtpmap:8 PCMA/8000\r\n"
        "a=fmtp:101 0-15\r\na=x-other\r\na=sendrecv\r\na=rtcp:4001\r\n";
    const auto parsed = parse(text);
    ASSERT_TRUE(parsed);
    std::vector<media_rewrite> same(1);
    same[0] = {.address = asio::ip::make_address("192.0.2.7"),
               .port = 4000,
               .rtcp_port = 4001,
               .profile = {.rtp = true},
               .cryptos = {}};
    EXPECT_EQ(rewrite(*parsed, same, {}), text);
}

TEST(Sdp, BareNewlinesAreKept) {
    const auto parsed = parse("v=0\no=- 1 1 IN IP4 192.0.2.7\ns=-\nc=IN IP4 192.0.2.7\nt=0 0\nm=audio 0 RTP/AVP 8\n");
    ASSERT_TRUE(parsed);
    EXPECT_EQ(rewrite(*parsed, std::vector<media_rewrite>(1), {}).find('\r'), std::string::npos);
}

TEST(Sdes, ReadsRfc4568Examples) {
    const auto one = parse_crypto("1 AES_CM_128_HMAC_SHA1_80 inline:" + key_sha1 + "|2^20|1:4 FEC_ORDER=FEC_SRTP");
    ASSERT_TRUE(one);
    EXPECT_EQ(one->tag, 1U);
    EXPECT_EQ(one->suite, api::suite::aes_cm_128_hmac_sha1_80);
    EXPECT_EQ(one->mki, 1U);
    EXPECT_EQ(one->mki_length, 4);
    EXPECT_EQ(one->key.size(), 30U);
    EXPECT_FALSE(one->usable());
    EXPECT_EQ(one->refused, "asks for FEC_ORDER=FEC_SRTP");
    const auto lifetime = parse_crypto("2 AES_CM_128_HMAC_SHA1_32 inline:" + key_sha1 + "|2^20 WSH=128");
    ASSERT_TRUE(lifetime);
    EXPECT_TRUE(lifetime->usable());
    EXPECT_FALSE(
        parse_crypto("3 AES_CM_128_HMAC_SHA1_80 inline:" + key_sha1 + "|1:4;inline:" + key_sha1 + "|2:4")->usable());
    EXPECT_FALSE(parse_crypto("4 AES_CM_128_HMAC_SHA1_80 inline:" + key_sha1 + " UNENCRYPTED_SRTP")->usable());
    EXPECT_FALSE(parse_crypto("5 AES_256_CM_HMAC_SHA1_80 inline:" + key_sha1)->usable()) << "a key for 128 bits";
    EXPECT_TRUE(parse_crypto("6 AES_CM_128_HMAC_SHA1_80 inline:" + key_sha1 + "|2^31|1:4 WSH=64 KDR=0 -X=1")->usable());
    for (const auto* mki : {"|1:5", "|300:1", "|4294967296:4", "|99999999999:4", "|1:128"})
        EXPECT_FALSE(parse_crypto("7 AES_CM_128_HMAC_SHA1_80 inline:" + key_sha1 + mki)->usable()) << mki;
}

TEST(Sdes, RefusesBadLines) {
    for (const auto* text :
         {"", "x AES_CM_128_HMAC_SHA1_80 inline:a", "1", "1 AES_CM_128_HMAC_SHA1_80", "1234567890 S inline:a",
          "1 AES_CM_128_HMAC_SHA1_80 outline:a", "1 AES_CM_128_HMAC_SHA1_80 inline:a|x:y"})
        EXPECT_FALSE(parse_crypto(text)) << text;
    for (const auto& key :
         std::vector<std::string>{"", "short", "!!!!", key_sha1 + "AA", key_sha1.substr(1), std::string(200, 'A')}) {
        const auto line = parse_crypto("1 AES_CM_128_HMAC_SHA1_80 inline:" + key);
        EXPECT_FALSE(line && line->usable()) << key;
    }
}

TEST(Sdes, KeysOfEverySuiteRoundTrip) {
    for (const auto& row : api::suite_table) {
        if (row.id == api::suite::clear)
            continue;
        protocol::secret key;
        const auto bytes = key.resize(static_cast<std::size_t>(row.key_length) + row.salt_length);
        for (std::size_t i = 0; i < bytes.size(); ++i)
            bytes[i] = static_cast<std::uint8_t>(i * 7 + 1);
        auto text = print_crypto({3, row.id, key.copy(), 0, 0}, false);
        auto unpadded = text;
        while (unpadded.ends_with('='))
            unpadded.pop_back(); // rtpengine leaves the padding out
        for (const auto& form : {text, unpadded}) {
            const auto back = parse_crypto(std::string_view(form).substr(7));
            ASSERT_TRUE(back && back->usable()) << row.name;
            EXPECT_EQ(back->suite, row.id);
            EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), back->key.view().begin(), back->key.view().end()))
                << row.name;
        }
    }
}

// A caller's key may stand elsewhere than in a media section's a=crypto; it never goes on from there.
TEST(Sdes, NoKeyIsKeptUnderAnotherName) {
    const std::string crypto = "crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" + key_sha1 + "|2^20";
    const std::string key_lines = "a=tcap:1 RTP/SAVP\r\na=acap:1 " + crypto +
                                  "\r\na=pcfg:1 t=1 a=1\r\na=key-mgmt:mikey " + key_sha1 + "\r\na=x-vendor " + crypto +
                                  "\r\na=x:INLINE:" + key_sha1 + "\r\na=CRYPTO:1 s " + key_sha1 +
                                  "\r\na=crypto\t:1 s " + key_sha1 + "\r\na=ekt:1 " + key_sha1 +
                                  "\r\na=x-again:" + key_sha1 + "\r\nb=X:" + key_sha1 + "\r\ni=" + crypto + "\r\n";
    const auto parsed = parse(head + "a=" + crypto + "\r\n" + key_lines + "a=x-kept\r\nm=audio 4000 RTP/AVP 8\r\n" +
                              key_lines + "a=x-kept\r\n");
    ASSERT_TRUE(parsed) << parsed.error();
    const auto out = rewrite(*parsed,
                             {{.address = asio::ip::make_address("192.0.2.9"),
                               .port = 4000,
                               .rtcp_port = 4001,
                               .profile = {.rtp = true},
                               .cryptos = {}}},
                             {});
    for (const auto* gone : {key_sha1.c_str(), "tcap", "pcfg"})
        EXPECT_EQ(out.find(gone), std::string::npos) << out;
    EXPECT_NE(out.find("a=x-kept\r\nm=audio"), std::string::npos);
    EXPECT_NE(out.find("a=x-kept\r\na=rtcp:"), std::string::npos) << out;
}

TEST(Sdes, LinesThatHaveToBeThereLoseTheKeyAlone) {
    const auto parsed =
        parse("v=" + key_sha1 + "\r\no=- inline:" + key_sha1 + " 1 IN IP4 192.0.2.7\r\ns=" + key_sha1 +
              "\r\nc=IN IP4 192.0.2.7/" + key_sha1 + "\r\nt=" + key_sha1 + "\r\nm=audio 0 RTP/AVP 8\r\n");
    ASSERT_TRUE(parsed) << parsed.error();
    const auto out = rewrite(*parsed, std::vector<media_rewrite>(1), {.shown = asio::ip::make_address("192.0.2.9")});
    EXPECT_EQ(out, "v=\r\no=\r\ns=\r\nc=IN IP4 192.0.2.9\r\nt=\r\nm=audio 0 RTP/AVP 8\r\n");
}

TEST(Sdes, NoKeyIsKeptInLines) {
    const auto parsed = parse(head + "k=clear:" + key_sha1 +
                              "\r\nm=audio 4000 RTP/SAVP 8\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 "
                              "inline:" +
                              key_sha1 + "\r\na=crypto:broken inline:" + key_sha1 + "\r\nk=clear:" + key_sha1 + "\r\n");
    ASSERT_TRUE(parsed);
    EXPECT_EQ(parsed->m_lines[0].cryptos.size(), 1U);
    for (const auto& line : parsed->lines)
        EXPECT_EQ(line.text.find(key_sha1), std::string::npos);
    for (const auto& line : parsed->m_lines[0].lines)
        EXPECT_EQ(line.text.find(key_sha1), std::string::npos);
}

} // namespace
} // namespace tandem::callcontrol::sdp
