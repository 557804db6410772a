// SPDX-License-Identifier: Apache-2.0
// libsrtp2 as the judge: the same clear packets go to both senders, the same protected packets to both receivers,
// through channels that lose, reorder, duplicate and corrupt; sequence wraps and ROC steps, SSRC changes, CSRCs,
// extensions, payloads from 0 to MTU, RTP and RTCP, re-keying by MKI in mid-stream. Every verdict and every byte must
// agree. 100,000 packets for each suite and sealing side with re-keying, 25,000 without MKI and for the reference
// engine (a tenth in sanitizer builds).
#include <array>
#include <deque>
#include <srtp2/srtp.h>

#include "dataplane/flow/side_testing.hpp"

namespace tandem::flow {
namespace {

using namespace testing;
using api::drop;
using api::suite;

constexpr std::size_t max_judge_keys = 16; // SRTP_MAX_NUM_MASTER_KEYS

void set_policy(suite which, srtp_crypto_policy_t& rtp, srtp_crypto_policy_t& rtcp) {
    switch (which) {
    case suite::aead_aes_128_gcm:
        srtp_crypto_policy_set_aes_gcm_128_16_auth(&rtp);
        srtp_crypto_policy_set_aes_gcm_128_16_auth(&rtcp);
        break;
    case suite::aead_aes_256_gcm:
        srtp_crypto_policy_set_aes_gcm_256_16_auth(&rtp);
        srtp_crypto_policy_set_aes_gcm_256_16_auth(&rtcp);
        break;
    case suite::aes_256_cm_hmac_sha1_80:
    case suite::aes_256_cm_hmac_sha1_32:
        srtp_crypto_policy_set_aes_cm_256_hmac_sha1_80(&rtp);
        srtp_crypto_policy_set_aes_cm_256_hmac_sha1_80(&rtcp);
        if (which == suite::aes_256_cm_hmac_sha1_32)
            srtp_crypto_policy_set_aes_cm_256_hmac_sha1_32(&rtp);
        break;
    default:
        srtp_crypto_policy_set_rtp_default(&rtp);
        srtp_crypto_policy_set_rtcp_default(&rtcp);
        if (which == suite::aes_cm_128_hmac_sha1_32)
            srtp_crypto_policy_set_aes_cm_128_hmac_sha1_32(&rtp);
    }
}

// One direction of libsrtp2 with every epoch's key known from the start. RTCP has a session of its own, whose RTP
// policy is RTCP's: libsrtp 2.5 looks for the MKI of SRTCP with RTP's tag length (cisco/libsrtp#733), which fails where
// the two differ (AES_CM_128_HMAC_SHA1_32).
class judge {
public:
    judge(suite which, std::uint8_t mki, bool sender) : mki_(mki) {
        static const bool ready = srtp_init() == srtp_err_status_ok;
        EXPECT_TRUE(ready);
        srtp_policy_t policy{};
        set_policy(which, policy.rtp, policy.rtcp);
        policy.ssrc.type = sender ? ssrc_any_outbound : ssrc_any_inbound;
        policy.window_size = rtp::replay_window::size;
        for (std::uint32_t epoch = 0; epoch < max_judge_keys; ++epoch) {
            const api::epoch_key key = master(which, epoch, 1);
            std::copy(key.key, key.key + key.key_length, keys_[epoch].begin());
            std::copy(key.salt, key.salt + key.salt_length, keys_[epoch].begin() + key.key_length);
            for (std::size_t i = 0; i < mki; ++i)
                mkis_[epoch][i] = static_cast<std::uint8_t>(epoch >> 8 * (mki - 1U - i));
            masters_[epoch] = {keys_[epoch].data(), mkis_[epoch].data(), mki};
            pointers_[epoch] = &masters_[epoch];
        }
        policy.keys = pointers_.data();
        policy.num_master_keys = mki == 0 ? 1 : max_judge_keys;
        EXPECT_EQ(srtp_create(&session_, &policy), srtp_err_status_ok);
        policy.rtp = policy.rtcp;
        EXPECT_EQ(srtp_create(&rtcp_session_, &policy), srtp_err_status_ok);
    }
    judge(const judge&) = delete;
    judge& operator=(const judge&) = delete;
    ~judge() {
        srtp_dealloc(session_);
        srtp_dealloc(rtcp_session_);
    }

    srtp_err_status_t protect(bytes& packet, std::uint32_t epoch) {
        int length = static_cast<int>(packet.size());
        const bool report = rtp::parse(packet.data(), packet.size()).rtcp;
        packet.resize(packet.size() + SRTP_MAX_TRAILER_LEN + 16);
        const auto status = (report ? srtp_protect_rtcp_mki : srtp_protect_mki)(
            report ? rtcp_session_ : session_, packet.data(), &length, mki_ != 0, mki_ != 0 ? epoch : 0);
        packet.resize(static_cast<std::size_t>(length));
        return status;
    }
    srtp_err_status_t unprotect(bytes& packet) {
        int length = static_cast<int>(packet.size());
        const bool report = rtp::parse(packet.data(), packet.size()).rtcp;
        packet.resize(packet.size() + 64);
        const auto status = (report ? srtp_unprotect_rtcp_mki : srtp_unprotect_mki)(report ? rtcp_session_ : session_,
                                                                                    packet.data(), &length, mki_ != 0);
        packet.resize(static_cast<std::size_t>(length));
        return status;
    }

private:
    std::uint8_t mki_;
    srtp_t session_ = nullptr;
    srtp_t rtcp_session_ = nullptr;
    std::array<std::array<unsigned char, 46>, max_judge_keys> keys_{};
    std::array<std::array<unsigned char, 4>, max_judge_keys> mkis_{};
    std::array<srtp_master_key_t, max_judge_keys> masters_{};
    std::array<srtp_master_key_t*, max_judge_keys> pointers_{};
};

drop as_drop(srtp_err_status_t status) {
    switch (status) {
    case srtp_err_status_ok:
        return drop::none;
    case srtp_err_status_replay_fail:
        return drop::srtp_replay;
    case srtp_err_status_replay_old:
        return drop::srtp_too_old;
    case srtp_err_status_auth_fail:
        return drop::srtp_auth;
    default:
        return drop::bad_udp; // some refusal
    }
}

struct in_flight {
    std::size_t due;
    bool corrupted;
    bytes packet;
    bytes clear;
};

struct setting {
    suite which;
    std::uint8_t mki;
    bool sealed_by_us;
    bool reference; // which of our engines
    std::size_t packets;
};

std::string name_of(const ::testing::TestParamInfo<setting>& chosen) {
    const setting& it = chosen.param;
    return std::string(api::info(it.which).name) + (it.mki == 0 ? "_no_mki" : "_mki" + std::to_string(it.mki)) +
           (it.sealed_by_us ? "_sealed_by_us" : "_sealed_by_libsrtp") + (it.reference ? "_openssl" : "_ipsecmb");
}

class AgainstLibsrtp : public ::testing::TestWithParam<setting> {
protected:
    AgainstLibsrtp()
        : engine_(GetParam().reference ? crypto::make_openssl(nullptr) : crypto::make_ipsecmb()),
          sender_(GetParam().which, GetParam().mki, true), receiver_(GetParam().which, GetParam().mki, false) {
        EXPECT_EQ(init_side(world_->in, api::side::in, GetParam().which, GetParam().mki), api::status::ok);
        EXPECT_EQ(init_side(world_->out, api::side::out, GetParam().which, GetParam().mki), api::status::ok);
        next_epoch(0);
    }

    void next_epoch(std::uint32_t epoch) {
        auto pool = world_->pool();
        for (side* each : {&world_->in, &world_->out}) {
            ASSERT_EQ(install(*each, pool, *engine_, master(GetParam().which, epoch, 1)), api::status::ok);
            if (epoch >= 2) {
                const retired gone = retire(*each, epoch - 2);
                ASSERT_EQ(gone.status, api::status::ok);
                pool.release(gone.key.value());
            }
        }
        ASSERT_EQ(switch_to(world_->out, epoch), api::status::ok);
        epoch_ = epoch;
    }

    // The next clear packet of a call that wraps, jumps and changes its SSRC.
    bytes next_clear(std::size_t i) {
        const std::size_t life = GetParam().mki == 0 ? packets_ / 7 + 1 : epoch_length_ / 2;
        if (i % life == 0) {
            ssrc_ = static_cast<std::uint32_t>(random_());
            sequence_ = static_cast<std::uint16_t>(random_() % 2 == 0 ? 65000 : random_());
            fresh_ = true;
        }
        if (random_() % 20 == 0)
            return rtcp(ssrc_, random_() % 30, random_);
        ++sequence_;
        if (i % 997 == 500)
            sequence_ = static_cast<std::uint16_t>(sequence_ + random_() % 30000); // a long loss before us
        const std::size_t payload = random_() % 10 == 0 ? random_() % 1300 : random_() % 200;
        return rtp(ssrc_, sequence_, payload, random_, random_() % 4 == 0);
    }

    // Both senders; what goes on the wire, or nothing where both refuse.
    void seal(const bytes& clear, bool lossless, std::size_t now) {
        const outcome ours = send(world_->out, world_->pool(), world_->streams(), *engine_, clear);
        bytes theirs = clear;
        const drop verdict = as_drop(sender_.protect(theirs, epoch_));
        if (verdict != drop::none) {
            ASSERT_EQ(ours.result, drop::tx_index_reused);
            ++refused_;
            return;
        }
        ASSERT_EQ(ours.result, drop::none);
        const bool report = rtp::parse(clear.data(), clear.size()).rtcp;
        if (!report) {
            ASSERT_EQ(ours.packet, theirs) << "SRTP is deterministic";
        }
        launch(GetParam().sealed_by_us ? ours.packet : theirs, clear, lossless, now);
    }

    void launch(const bytes& packet, const bytes& clear, bool lossless, std::size_t now) {
        const auto roll = random_() % 100;
        if (roll < 3 && !lossless)
            return;
        const std::size_t late = roll < 15 && !lossless ? random_() % 60 : 0;
        wire_.push_back({now + late, false, packet, clear});
        if (roll >= 96)
            wire_.push_back({now + random_() % (roll == 99 ? 300 : 20), false, packet, clear});
        if (roll % 33 == 32) {
            bytes broken = packet;
            broken[random_() % broken.size()] ^= static_cast<std::uint8_t>(1 << random_() % 8);
            wire_.push_back({now + random_() % 5, true, broken, clear});
        }
    }

    // What has arrived by `now`, in bursts, to both receivers.
    void deliver(std::size_t now) {
        std::vector<in_flight> arrived;
        for (std::size_t at = 0; at < wire_.size();) {
            if (wire_[at].due <= now) {
                arrived.push_back(std::move(wire_[at]));
                wire_.erase(wire_.begin() + static_cast<long>(at));
            } else {
                ++at;
            }
        }
        for (std::size_t from = 0; from < arrived.size(); from += 64) {
            const std::size_t count = std::min<std::size_t>(64, arrived.size() - from);
            std::vector<bytes> burst;
            for (std::size_t i = 0; i < count; ++i)
                burst.push_back(arrived[from + i].packet);
            const auto ours = receive(world_->in, world_->pool(), world_->streams(), *engine_, burst);
            for (std::size_t i = 0; i < count; ++i)
                compare(arrived[from + i], ours[i]);
        }
    }

    void compare(const in_flight& sent, const outcome& ours) {
        bytes theirs = sent.packet;
        const drop verdict = as_drop(receiver_.unprotect(theirs));
        ASSERT_EQ(ours.result == drop::none, verdict == drop::none) << api::info(ours.result).name;
        if (sent.corrupted) {
            ASSERT_NE(ours.result, drop::none);
            ++corrupted_;
            return;
        }
        ASSERT_EQ(ours.result, verdict) << api::info(ours.result).name;
        ++verdicts_[static_cast<std::size_t>(verdict)];
        if (verdict != drop::none)
            return;
        ASSERT_EQ(ours.packet, theirs);
        ASSERT_EQ(ours.packet, sent.clear);
    }

    const std::size_t packets_ = GetParam().packets;
    const std::size_t epoch_length_ = packets_ / 15;
    std::mt19937_64 random_{20261121};
    std::unique_ptr<crypto::engine> engine_;
    std::unique_ptr<world> world_ = std::make_unique<world>();
    judge sender_;
    judge receiver_;
    std::deque<in_flight> wire_;
    std::uint32_t epoch_ = 0;
    std::uint32_t ssrc_ = 0;
    std::uint16_t sequence_ = 0;
    bool fresh_ = false;
    std::size_t refused_ = 0;
    std::size_t corrupted_ = 0;
    std::array<std::size_t, api::drop_count> verdicts_{};
};

TEST_P(AgainstLibsrtp, AgreesOnEveryPacket) {
    std::deque<bytes> recent; // repeated or swapped by the clear sender
    for (std::size_t i = 0; i < packets_; ++i) {
        if (GetParam().mki != 0 && i != 0 && i % epoch_length_ == 0 && epoch_ + 1 < max_judge_keys)
            next_epoch(epoch_ + 1);
        fresh_ = false;
        bytes clear = next_clear(i);
        const bool lossless = fresh_;
        recent.push_back(clear);
        if (recent.size() > 200)
            recent.pop_front();
        if (!lossless && random_() % 50 == 0) // a clear packet comes twice, or long after
            seal(recent[random_() % recent.size()], false, i);
        if (random_() % 100 != 0 || lossless) // or late: by `recent` alone
            seal(clear, lossless, i);
        if (HasFatalFailure())
            return;
        if (lossless || random_() % 24 == 0)
            deliver(i);
        if (HasFatalFailure())
            return;
    }
    deliver(packets_ + 1000);
    // The run saw what it was made for.
    EXPECT_GT(verdicts_[static_cast<std::size_t>(drop::none)], packets_ * 9 / 10);
    EXPECT_GT(verdicts_[static_cast<std::size_t>(drop::srtp_replay)], packets_ / 100);
    EXPECT_GT(verdicts_[static_cast<std::size_t>(drop::srtp_too_old)], packets_ / 10000);
    EXPECT_GT(corrupted_, packets_ / 100);
    EXPECT_GT(refused_, packets_ / 1000);
}

std::vector<setting> settings() {
    constexpr std::size_t count = sanitized ? 10'000 : 100'000;
    std::vector<setting> all;
    for (const auto& row : api::suite_table)
        if (row.id != suite::clear)
            for (const std::uint8_t mki : {std::uint8_t{0}, std::uint8_t{4}})
                for (const bool by_us : {false, true})
                    all.push_back({row.id, mki, by_us, false, count / (mki == 0 ? 4U : 1U)});
    all.push_back({suite::aes_cm_128_hmac_sha1_80, 1, true, true, sanitized ? count : count / 4});
    all.push_back({suite::aead_aes_128_gcm, 2, false, true, sanitized ? count : count / 4});
    return all;
}

INSTANTIATE_TEST_SUITE_P(Srtp, AgainstLibsrtp, ::testing::ValuesIn(settings()), name_of);

} // namespace
} // namespace tandem::flow
