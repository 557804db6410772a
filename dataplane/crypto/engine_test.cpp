// SPDX-License-Identifier: Apache-2.0
// Both engines against published vectors (tests/vectors), against each other on random packets, and against flipped
// bits.
#include "dataplane/crypto/engine.hpp"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <random>

#include "dataplane/crypto/ipsecmb.hpp"
#include "dataplane/crypto/openssl.hpp"
#include "dataplane/rtp/index.hpp"
#include "dataplane/rtp/packet.hpp"

namespace tandem::crypto {
namespace {

using bytes = std::vector<std::uint8_t>;
using nlohmann::json;

json load(const std::string& name) {
    std::ifstream file(std::string(TANDEM_VECTORS) + "/" + name);
    EXPECT_TRUE(file) << name;
    return json::parse(file);
}

bytes hex(const json& text) {
    const auto& digits = text.get_ref<const std::string&>();
    bytes out;
    for (std::size_t i = 0; i + 1 < digits.size(); i += 2)
        out.push_back(static_cast<std::uint8_t>(std::stoul(digits.substr(i, 2), nullptr, 16)));
    return out;
}

op op_of(bytes& packet, std::size_t length, const key_object& key, std::uint64_t index) {
    const rtp::parsed view = rtp::parse(packet.data(), length);
    op item;
    item.packet = packet.data();
    item.length = static_cast<std::uint32_t>(length);
    item.key = &key;
    item.header = view.header;
    item.rtcp = view.rtcp;
    item.ssrc = view.ssrc;
    item.index = index;
    return item;
}

std::unique_ptr<key_object> key_of(engine& with, api::suite suite, const bytes& key, const bytes& salt) {
    session_keys keys{};
    std::copy(key.begin(), key.end(), keys.rtp.key);
    std::copy(salt.begin(), salt.end(), keys.rtp.salt);
    keys.rtcp = keys.rtp;
    auto object = std::make_unique<key_object>();
    EXPECT_TRUE(with.build(suite, keys, *object));
    return object;
}

class Engines : public testing::TestWithParam<std::string> {
protected:
    std::unique_ptr<engine> subject_ = GetParam() == "ipsecmb" ? make_ipsecmb() : make_openssl(nullptr);
};

void expect_packet(engine& subject, const key_object& key, const json& row) {
    const bytes plain = hex(row["plain"]);
    const bytes sealed = hex(row["sealed"]);
    const std::uint64_t index = row["index"];
    bytes packet = plain;
    packet.resize(plain.size() + rtp::max_trailer);
    op item = op_of(packet, plain.size(), key, index);
    subject.protect({&item, 1});
    packet.resize(item.length);
    EXPECT_EQ(packet, sealed) << row;
    item = op_of(packet, packet.size(), key, index);
    subject.unprotect({&item, 1});
    EXPECT_EQ(item.result, api::drop::none) << row;
    packet.resize(item.length);
    EXPECT_EQ(packet, plain) << row;
}

TEST_P(Engines, Rfc7714) {
    const json file = load("rfc7714.json");
    for (const json& row : file["packets"]) {
        const auto* suite = api::find_suite(row["suite"].get_ref<const std::string&>());
        ASSERT_NE(suite, nullptr);
        const auto key = key_of(*subject_, suite->id, hex(row["key"]), hex(file["salt"]));
        expect_packet(*subject_, *key, row);
    }
}

TEST_P(Engines, LibsrtpValidate) {
    const json file = load("libsrtp_validate.json");
    session_keys keys;
    ASSERT_TRUE(derive_session_keys(api::suite::aes_cm_128_hmac_sha1_80, hex(file["master_key"]),
                                    hex(file["master_salt"]), keys));
    const auto key = std::make_unique<key_object>();
    ASSERT_TRUE(subject_->build(api::suite::aes_cm_128_hmac_sha1_80, keys, *key));
    for (const json& row : file["packets"])
        expect_packet(*subject_, *key, row);
}

// RFC 3711 B.2: with SSRC 0 and index 0 a payload of zeros becomes the key stream.
TEST_P(Engines, Rfc3711B2) {
    const json file = load("rfc3711_b2.json");
    const auto key = key_of(*subject_, api::suite::aes_cm_128_hmac_sha1_80, hex(file["key"]), hex(file["salt"]));
    bytes packet(12 + 48 + rtp::max_trailer);
    packet[0] = 0x80;
    op item = op_of(packet, 12 + 48, *key, 0);
    subject_->protect({&item, 1});
    for (unsigned block = 0; block < 3; ++block) {
        const bytes expected = hex(file["blocks"][std::to_string(block)]);
        EXPECT_TRUE(std::equal(expected.begin(), expected.end(), packet.begin() + 12 + 16 * block)) << block;
    }
}

TEST_P(Engines, SelfTestPasses) {
    EXPECT_EQ(self_test(*subject_), "");
}

INSTANTIATE_TEST_SUITE_P(Srtp, Engines, testing::Values("ipsecmb", "openssl"),
                         [](const auto& chosen) { return chosen.param; });

// Label 0 with r = 0 leaves the salt alone, so the PRF is AES-CM's key stream: all blocks of the appendices.
TEST(Srtp, KeyStreamOfRfc3711B2AndRfc6188) {
    for (const json& file : {load("rfc3711_b2.json"), load("rfc6188.json")["key_stream"]}) {
        bytes stream(0xff02 * 16);
        ASSERT_TRUE(derive(hex(file["key"]), hex(file["salt"]), rtp::label::rtp_encryption, stream));
        for (const auto& [block, text] : file["blocks"].items()) {
            const bytes expected = hex(text);
            EXPECT_TRUE(std::equal(expected.begin(), expected.end(), stream.begin() + 16 * std::stol(block))) << block;
        }
    }
}

TEST(Rim12, DerivationOfRfc3711B3AndRfc6188) {
    for (const json& file : {load("rfc3711_b3.json"), load("rfc6188.json")["derivation"]}) {
        const auto expect = [&](const char* name, rtp::label label) {
            const bytes expected = hex(file[name]);
            bytes got(expected.size());
            ASSERT_TRUE(derive(hex(file["master_key"]), hex(file["master_salt"]), label, got));
            EXPECT_EQ(got, expected) << name;
        };
        expect("cipher_key", rtp::label::rtp_encryption);
        expect("auth_key", rtp::label::rtp_authentication);
        expect("cipher_salt", rtp::label::rtp_salting);
    }
}

TEST(Rim12, DerivationRefusesWrongLengths) {
    session_keys keys;
    const bytes key(16);
    const bytes salt(14);
    EXPECT_FALSE(derive_session_keys(api::suite::aead_aes_128_gcm, key, salt, keys));
    EXPECT_FALSE(derive_session_keys(api::suite::aead_aes_256_gcm, key, bytes(12), keys));
    EXPECT_FALSE(derive_session_keys(api::suite::clear, {}, {}, keys));
    EXPECT_TRUE(derive_session_keys(api::suite::aes_cm_128_hmac_sha1_32, key, salt, keys));
}

// --- the engines against each other
// -----------------------------------------------------------------------------------

struct sample {
    bytes packet; // with room behind
    std::size_t length = 0;
    std::uint64_t index = 0;
    std::size_t key = 0;
    std::uint8_t mki_length = 0;
};

sample random_sample(std::mt19937_64& random, std::size_t keys) {
    sample made;
    const bool rtcp = random() % 8 == 0;
    const std::size_t words = random() % 16;
    const bool extension = random() % 4 == 0;
    const std::size_t extra = extension ? random() % 6 : 0;
    const std::size_t header = rtcp ? 8 : 12 + 4 * words + (extension ? 4 + 4 * extra : 0);
    made.length = header + (random() % 4 == 0 ? random() % 1400 : random() % 200);
    made.packet.resize(made.length + rtp::max_trailer);
    for (auto& byte : made.packet)
        byte = static_cast<std::uint8_t>(random());
    made.packet[0] = static_cast<std::uint8_t>(0x80 | (rtcp ? 1 : words) | (extension && !rtcp ? 0x10 : 0));
    made.packet[1] = rtcp ? 200 : 111;
    if (extension && !rtcp) {
        made.packet[12 + 4 * words + 2] = 0;
        made.packet[12 + 4 * words + 3] = static_cast<std::uint8_t>(extra);
    }
    made.index = rtcp ? random() & rtp::max_rtcp_index : random() & rtp::max_rtp_index;
    made.key = random() % keys;
    made.mki_length = static_cast<std::uint8_t>(random() % 5);
    return made;
}

class pair_of_engines : public testing::Test {
protected:
    void SetUp() override {
        std::mt19937_64 random(7714);
        for (int copy = 0; copy < 3; ++copy)
            for (const auto& row : api::suite_table) {
                if (row.id == api::suite::clear)
                    continue;
                bytes key(row.key_length);
                bytes salt(row.salt_length);
                for (auto* part : {&key, &salt})
                    for (auto& byte : *part)
                        byte = static_cast<std::uint8_t>(random());
                session_keys keys;
                ASSERT_TRUE(derive_session_keys(row.id, key, salt, keys));
                fast_keys_.push_back(std::make_unique<key_object>());
                slow_keys_.push_back(std::make_unique<key_object>());
                ASSERT_TRUE(fast_->build(row.id, keys, *fast_keys_.back()));
                ASSERT_TRUE(slow_->build(row.id, keys, *slow_keys_.back()));
            }
    }
    op make(sample& from, const std::vector<std::unique_ptr<key_object>>& keys) const {
        op item = op_of(from.packet, from.length, *keys[from.key], from.index);
        item.mki_length = from.mki_length;
        item.mki = static_cast<std::uint32_t>(from.index * 2654435761U);
        return item;
    }
    std::unique_ptr<engine> fast_ = make_ipsecmb();
    std::unique_ptr<engine> slow_ = make_openssl(nullptr);
    std::vector<std::unique_ptr<key_object>> fast_keys_;
    std::vector<std::unique_ptr<key_object>> slow_keys_;
};

using SrtpEngines = pair_of_engines;

// Bursts of 1..150 packets, all suites, RTP and RTCP, every kind of header and MKI length mixed, holes in between.
TEST_F(SrtpEngines, AgreeOnMixedBursts) {
    std::mt19937_64 random(42);
    for (int burst = 0; burst < 300; ++burst) {
        std::vector<sample> fast(1 + random() % 150);
        for (auto& one : fast)
            one = random_sample(random, fast_keys_.size());
        std::vector<sample> slow = fast;
        const std::vector<sample> plain = fast;
        std::vector<op> fast_ops(fast.size());
        std::vector<op> slow_ops(fast.size());
        for (std::size_t i = 0; i < fast.size(); ++i) {
            fast_ops[i] = make(fast[i], fast_keys_);
            slow_ops[i] = make(slow[i], slow_keys_);
            if (random() % 10 == 0)
                fast_ops[i].result = slow_ops[i].result = api::drop::srtp_replay; // dropped earlier: left alone
        }
        fast_->protect(fast_ops);
        slow_->protect(slow_ops);
        for (std::size_t i = 0; i < fast.size(); ++i) {
            ASSERT_EQ(fast_ops[i].length, slow_ops[i].length);
            ASSERT_TRUE(std::equal(fast[i].packet.begin(), fast[i].packet.begin() + fast_ops[i].length,
                                   slow[i].packet.begin()));
            if (fast_ops[i].result != api::drop::none) {
                ASSERT_EQ(fast[i].packet, plain[i].packet);
            }
        }
        fast_->unprotect(fast_ops);
        slow_->unprotect(slow_ops);
        for (std::size_t i = 0; i < fast.size(); ++i) {
            ASSERT_EQ(fast_ops[i].result, slow_ops[i].result);
            ASSERT_EQ(fast_ops[i].length, plain[i].length);
            ASSERT_TRUE(std::equal(plain[i].packet.begin(),
                                   plain[i].packet.begin() + static_cast<long>(plain[i].length),
                                   fast[i].packet.begin()));
        }
    }
}

// Every bit of one packet per suite, RTP and RTCP (the MKI's bits choose the key; here it is not authenticated: left
// out).
TEST_F(SrtpEngines, EveryFlippedBitIsRefusedAndRestored) {
    std::mt19937_64 random(1);
    for (engine* subject : {fast_.get(), slow_.get()}) {
        const auto& keys = subject == fast_.get() ? fast_keys_ : slow_keys_;
        for (std::size_t key = 0; key < 4; ++key)
            for (const bool rtcp : {false, true}) {
                sample one;
                do
                    one = random_sample(random, 1);
                while ((one.packet[1] == 200) != rtcp || one.length > 200);
                one.key = key;
                one.mki_length = 0;
                op item = make(one, keys);
                subject->protect({&item, 1});
                const std::uint32_t length = item.length;
                const bytes sealed(one.packet.begin(), one.packet.begin() + length);
                for (std::size_t bit = 0; bit < 8 * sealed.size(); ++bit) {
                    bytes broken = sealed;
                    broken[bit / 8] = static_cast<std::uint8_t>(broken[bit / 8] ^ 1 << bit % 8);
                    const bytes sent = broken;
                    op tried = item;
                    tried.packet = broken.data();
                    tried.length = length;
                    tried.ssrc = rtp::load32(broken.data() + (rtcp ? 4 : 8));
                    if (rtcp) { // the index word is read from the packet
                        const std::size_t at = api::info(keys[key]->suite).aead
                                                   ? length - 4
                                                   : length - 4 - rtp::tag_length(keys[key]->suite, true);
                        tried.index = rtp::load32(broken.data() + at) & rtp::max_rtcp_index;
                        if ((broken[at] & 0x80) == 0)
                            continue; // E flag: refused before the engine
                    }
                    subject->unprotect({&tried, 1});
                    ASSERT_EQ(tried.result, api::drop::srtp_auth) << "bit " << bit << " key " << key;
                    ASSERT_EQ(tried.length, length);
                    subject->restore(tried);
                    ASSERT_EQ(broken, sent) << "bit " << bit << " key " << key;
                }
            }
    }
}

TEST(Srtp, AnUnknownEngineIsExplained) {
    const auto none = make_engine("quantum");
    ASSERT_FALSE(none);
    EXPECT_NE(none.error().find("auto, ipsecmb or openssl"), std::string::npos);
    const auto some = make_engine("auto");
    ASSERT_TRUE(some) << some.error();
}

} // namespace
} // namespace tandem::crypto
