// SPDX-License-Identifier: Apache-2.0
// a=crypto between a phone and us: MKI, suites, session parameters, what an answer may not be.
#include <gtest/gtest.h>

#include "controlplane/callcontrol/ng_fixture.hpp"

namespace tandem::callcontrol {
namespace {

const std::string key30 = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";
const std::string key46 = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLQ==";

class SdesCall : public ng_fixture {
protected:
    static std::string secured(const std::string& lines, int port = 4000) {
        return sdp("198.51.100.1", port, lines, "RTP/SAVP");
    }
    static std::string line(const std::string& rest) { return "a=crypto:" + rest + "\r\n"; }
    // An SAVP caller towards a clear callee; the SDP that the caller gets in the answer.
    std::string answered(const std::string& lines) {
        const auto told = offer("c", secured(lines), {{"transport-protocol", "RTP/AVP"}});
        EXPECT_EQ(told.text_of("result"), "ok") << told.text_of("error-reason");
        return std::string(answer("c", sdp("198.51.100.2", 5000)).text_of("sdp"));
    }
    std::string offered(entries more = {}) {
        more.emplace_back("transport-protocol", "RTP/SAVP");
        return std::string(offer("c", sdp("198.51.100.1", 4000), std::move(more)).text_of("sdp"));
    }
    std::string refused(const std::string& lines) {
        return std::string(offer("c", secured(lines)).text_of("error-reason"));
    }
};

TEST_F(SdesCall, AnMkiIsCarriedBothWays) {
    const auto back = answered(line("1 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + "|2^31|7:4"));
    EXPECT_NE(back.find("|1:4\r\n"), std::string::npos) << "ours, of the same length: " << back;
    EXPECT_EQ(back.find("2^31"), std::string::npos);
    const auto& keys = *asked(1).legs[0].srtp;
    EXPECT_EQ(keys.mki_length, 4);
    EXPECT_EQ(keys.receive_mki, 7u);
    EXPECT_EQ(keys.send_mki, 1u);
}

TEST_F(SdesCall, KeysOf256BitsOfRfc6188) {
    const auto back = answered(line("2 AES_256_CM_HMAC_SHA1_32 inline:" + key46));
    EXPECT_NE(back.find("a=crypto:2 AES_256_CM_HMAC_SHA1_32 inline:"), std::string::npos) << back;
    EXPECT_EQ(asked(1).legs[0].srtp->suite, api::suite::aes_256_cm_hmac_sha1_32);
    EXPECT_EQ(asked(1).legs[0].srtp->receive.size(), 46u);
}

TEST_F(SdesCall, SessionParametersThatAreNotCarriedAreRefusedLineByLine) {
    const auto why = refused(line("1 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + " UNENCRYPTED_SRTP") +
                             line("2 AES_CM_128_HMAC_SHA1_32 inline:" + key30 + " UNENCRYPTED_SRTCP") +
                             line("3 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + " UNAUTHENTICATED_SRTP") +
                             line("4 F8_128_HMAC_SHA1_80 inline:" + key30));
    for (const auto* part :
         {"1 AES_CM_128_HMAC_SHA1_80 asks for UNENCRYPTED_SRTP", "2 AES_CM_128_HMAC_SHA1_32 asks for UNENCRYPTED_SRTCP",
          "3 AES_CM_128_HMAC_SHA1_80 asks for UNAUTHENTICATED_SRTP", "4 F8_128_HMAC_SHA1_80 is not known here"})
        EXPECT_NE(why.find(part), std::string::npos) << why;
    EXPECT_EQ(why.find(key30), std::string::npos) << "no key in an error";
    const auto back = answered(line("1 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + " UNENCRYPTED_SRTP") +
                               line("2 AES_CM_128_HMAC_SHA1_80 inline:" + key30));
    EXPECT_NE(back.find("a=crypto:2 AES_CM_128_HMAC_SHA1_80"), std::string::npos) << "another line is usable";
}

TEST_F(SdesCall, AnAnswerIsOneOfTheLinesOfferedAndAsOffered) {
    for (const auto& [answer_line, why] : std::vector<std::pair<std::string, std::string>>{
             {"1 AES_CM_128_HMAC_SHA1_32 inline:" + key30, "none of those offered"},
             {"9 AES_CM_128_HMAC_SHA1_80 inline:" + key30, "none of those offered"},
             {"1 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + "|1:4", "has an MKI where none was offered"},
             {"1 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + " UNENCRYPTED_SRTCP", "asks for UNENCRYPTED_SRTCP"}}) {
        offered({{"SDES", bencode::list{"only-AES_CM_128_HMAC_SHA1_80"}}});
        const auto reply = answer("c", sdp("198.51.100.2", 5000, line(answer_line), "RTP/SAVP"));
        EXPECT_NE(reply.text_of("error-reason").find(why), std::string::npos) << reply.text_of("error-reason");
    }
    EXPECT_EQ(answer("c", sdp("198.51.100.2", 5000, line("1 AES_CM_128_HMAC_SHA1_80 inline:" + key30), "RTP/SAVP"))
                  .text_of("result"),
              "ok");
}

TEST_F(SdesCall, FlagsBySpacesHyphensAndUnderscores) {
    for (const auto* flag : {"SDES-only-AES_CM_128_HMAC_SHA1_80", "SDES-only-AES-CM-128-HMAC-SHA1-80",
                             "SDES_only_AES_CM_128_HMAC_SHA1_80", "SDES only AES_CM_128_HMAC_SHA1_80"}) {
        const auto text = offered({{"flags", bencode::list{flag}}});
        EXPECT_NE(text.find("a=crypto:1 AES_CM_128_HMAC_SHA1_80"), std::string::npos) << flag << text;
        EXPECT_EQ(text.find("a=crypto:2"), std::string::npos) << flag;
        ASSERT_EQ(command("delete", {{"call-id", "c"}, {"from-tag", "a"}}).text_of("result"), "ok");
    }
    const auto without = offered({{"flags", bencode::list{"SDES-no-AEAD_AES_256_GCM"}}});
    EXPECT_EQ(without.find("AEAD_AES_256_GCM"), std::string::npos);
    EXPECT_NE(without.find("AEAD_AES_128_GCM"), std::string::npos);
}

TEST_F(SdesCall, LifetimeAndPadding) {
    const auto text = offered({{"flags", bencode::list{"SDES-lifetime", "SDES-pad", "SDES-only-AEAD_AES_128_GCM"}}});
    EXPECT_NE(text.find("==|2^31\r\n"), std::string::npos) << text;
    EXPECT_EQ(offered().find("2^31"), std::string::npos);
}

} // namespace
} // namespace tandem::callcontrol
