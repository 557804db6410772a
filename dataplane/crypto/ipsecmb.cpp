// SPDX-License-Identifier: Apache-2.0
// The fast engine: Intel IPsec-MB (performance.md 9 and 10).
//   AEAD   the direct API, packet by packet: GCM has no lanes to fill, so a job queue is pure overhead.
//   AES-CM cipher burst and hash burst of a whole burst, unchecked, over job arrays that persist; verified before
//   decrypted.
// Traps: HMAC-SHA1 tags must be asked for with 12 or 20 bytes, so 10 and 4 are cut from a scratch tag; the ROC is
// hashed behind the payload, where trailer bytes lie that must be saved first.
#include "dataplane/crypto/ipsecmb.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <intel-ipsec-mb.h>

#include "dataplane/crypto/iv.hpp"
#include "dataplane/crypto/trailer.hpp"

namespace tandem::crypto {

namespace {

constexpr std::size_t lanes = 64;              // jobs per library call
constexpr std::size_t scratch_tag_length = 12; // what the library gives; the wire takes 10 or 4
constexpr std::size_t roc_length = 4;

// An AES-CM key's parts: the HMAC states in the key object's first line, the schedule behind it.
struct hmac_states {
    alignas(8) std::uint8_t ipad[20];
    std::uint8_t opad[20];
};
struct cm_keys {
    hmac_states hmac;
    alignas(16) std::uint8_t schedule[15 * 16];
};
static_assert(sizeof(hmac_states) == sizeof(key_object::head) && offsetof(key_object, head) % 8 == 0);
static_assert(sizeof(gcm_key_data) <= gcm_expanded_bytes && offsetof(key_object, expanded) % 64 == 0);

[[nodiscard]] const gcm_key_data& gcm_of(const key_object& key) noexcept {
    return *reinterpret_cast<const gcm_key_data*>(key.expanded);
}

class ipsecmb final : public engine {
public:
    explicit ipsecmb(IMB_MGR* manager) noexcept : manager_(manager) {
        for (auto& job : hash_jobs_) {
            job.hash_alg = IMB_AUTH_HMAC_SHA_1;
            job.auth_tag_output_len_in_bytes = scratch_tag_length;
        }
        for (std::size_t i = 0; i < lanes; ++i) {
            hash_jobs_[i].auth_tag_output = tags_[i].data();
            for (ciphers* each : {&ciphers_128_, &ciphers_256_}) {
                each->jobs[i].iv = each->ivs[i].data();
                each->jobs[i].iv_len_in_bytes = 16;
                each->jobs[i].key_len_in_bytes = each == &ciphers_128_ ? 16 : 32;
                each->jobs[i].cipher_mode = IMB_CIPHER_CNTR;
            }
        }
    }
    ~ipsecmb() override { free_mb_mgr(manager_); }

    [[nodiscard]] std::string_view name() const noexcept override { return "ipsecmb"; }

    [[nodiscard]] std::uint32_t fingerprint() const noexcept override {
        std::uint32_t hash = 2166136261U; // FNV-1a over what decides the layout
        const auto mix = [&](std::uint64_t value) {
            for (int i = 0; i < 8; ++i)
                hash = (hash ^ static_cast<std::uint32_t>(value >> 8 * i & 0xff)) * 16777619U;
        };
        mix(imb_get_version());
        mix(manager_->features);
        mix(manager_->used_arch);
        return hash;
    }

    [[nodiscard]] bool build(api::suite suite, const session_keys& keys, key_object& out) noexcept override;
    void protect(std::span<op> ops) noexcept override;
    void unprotect(std::span<op> ops) noexcept override;
    void restore(op& failed) noexcept override;

private:
    void expand_cm(api::suite suite, const raw_keys& raw, std::uint8_t* schedule, std::uint8_t* states) noexcept;
    void expand_gcm(api::suite suite, const raw_keys& raw, gcm_key_data& out) noexcept;
    void gcm(const gcm_key_data& key, const std::uint8_t* iv, bool encrypt, const op& item, std::uint32_t body,
             std::uint8_t* tag) noexcept;

    void make_aead_ivs(std::span<const op> ops) noexcept;
    void protect_gcm(op& item, const std::uint8_t* iv) noexcept;
    void unprotect_gcm(op& item, const std::uint8_t* iv) noexcept;
    void protect_lanes(std::span<op> ops) noexcept;
    void unprotect_lanes(std::span<op> ops) noexcept;
    void with_rtcp_gcm(const op& item, bool encrypt, std::uint32_t body, std::uint8_t* tag) noexcept;

    void add(op& item, const std::uint8_t* schedule, const std::uint8_t* states, const std::uint8_t* salt) noexcept;
    void flush_protect() noexcept;
    void flush_unprotect() noexcept;
    void hash_all() noexcept;
    // The library takes jobs of one key length at once.
    struct ciphers {
        alignas(64) std::array<std::array<std::uint8_t, 16>, lanes> ivs{};
        std::array<IMB_JOB, lanes> jobs{};
        std::size_t count = 0;
    };
    void add_cipher(std::size_t lane) noexcept;
    void cipher_all(IMB_CIPHER_DIRECTION direction) noexcept;
    void cm_rtcp(op& item, void (ipsecmb::*flush)() noexcept) noexcept;

    IMB_MGR* manager_;
    std::size_t count_ = 0;
    std::array<op*, lanes> items_{};
    std::array<const std::uint8_t*, lanes> schedules_{};
    std::array<const std::uint8_t*, lanes> states_{};
    std::array<const std::uint8_t*, lanes> salts_{};
    std::array<std::uint32_t, lanes> bodies_{};
    std::array<std::uint32_t, lanes> saved_{};
    alignas(64) std::array<std::array<std::uint8_t, 16>, lanes> aead_ivs_{};
    alignas(64) std::array<std::array<std::uint8_t, 16>, lanes> tags_{};
    std::array<IMB_JOB, lanes> hash_jobs_{};
    ciphers ciphers_128_, ciphers_256_;
    gcm_context_data context_{};
};

// --- keys
// -------------------------------------------------------------------------------------------------------------

void ipsecmb::expand_cm(api::suite suite, const raw_keys& raw, std::uint8_t* schedule, std::uint8_t* states) noexcept {
    alignas(16) std::uint8_t unused[15 * 16];
    alignas(16) std::uint8_t block[64];
    if (api::info(suite).key_length == 32)
        IMB_AES_KEYEXP_256(manager_, raw.key, schedule, unused);
    else
        IMB_AES_KEYEXP_128(manager_, raw.key, schedule, unused);
    for (const std::uint8_t pad : {std::uint8_t{0x36}, std::uint8_t{0x5c}}) {
        std::memset(block, pad, sizeof block);
        for (std::size_t i = 0; i < sizeof raw.auth; ++i)
            block[i] = static_cast<std::uint8_t>(block[i] ^ raw.auth[i]);
        IMB_SHA1_ONE_BLOCK(manager_, block,
                           states + (pad == 0x36 ? offsetof(hmac_states, ipad) : offsetof(hmac_states, opad)));
    }
    wipe(unused, sizeof unused);
    wipe(block, sizeof block);
}

void ipsecmb::expand_gcm(api::suite suite, const raw_keys& raw, gcm_key_data& out) noexcept {
    if (suite == api::suite::aead_aes_256_gcm)
        IMB_AES256_GCM_PRE(manager_, raw.key, &out);
    else
        IMB_AES128_GCM_PRE(manager_, raw.key, &out);
}

bool ipsecmb::build(api::suite suite, const session_keys& keys, key_object& out) noexcept {
    if (suite == api::suite::clear)
        return false;
    begin_key(out, suite, fingerprint(), keys);
    if (is_aead(out))
        expand_gcm(suite, keys.rtp, *reinterpret_cast<gcm_key_data*>(out.expanded));
    else
        expand_cm(suite, keys.rtp, out.expanded, out.head);
    return true;
}

// --- AEAD
// -------------------------------------------------------------------------------------------------------------

void ipsecmb::gcm(const gcm_key_data& key, const std::uint8_t* iv, bool encrypt, const op& item, std::uint32_t body,
                  std::uint8_t* tag) noexcept {
    std::uint8_t scratch[rtcp_aad_length];
    const aad extra = make_aad(item, scratch);
    const auto call = item.key->suite == api::suite::aead_aes_256_gcm
                          ? (encrypt ? manager_->gcm256_enc : manager_->gcm256_dec)
                          : (encrypt ? manager_->gcm128_enc : manager_->gcm128_dec);
    std::uint8_t* payload = item.packet + item.header;
    call(&key, &context_, payload, payload, body - item.header, iv, extra.data, extra.length, tag, rtp::max_tag_length);
}

// RTCP's GHASH powers are made on the stack and wiped: rare, and they would double a flow's memory.
void ipsecmb::with_rtcp_gcm(const op& item, bool encrypt, std::uint32_t body, std::uint8_t* tag) noexcept {
    alignas(64) gcm_key_data key;
    alignas(16) std::uint8_t iv[16];
    make_aead_iv(item.key->cold().raw.rtcp.salt, item.ssrc, item.index, iv);
    expand_gcm(item.key->suite, item.key->cold().raw.rtcp, key);
    gcm(key, iv, encrypt, item, body, tag);
    wipe(&key, sizeof key);
}

// All IVs of a burst before the first is used: the library loads 12 bytes at once, and two fresh stores cannot be
// forwarded to one load (15 to 20 cycles a packet).
void ipsecmb::make_aead_ivs(std::span<const op> ops) noexcept {
    for (std::size_t i = 0; i < ops.size(); ++i)
        if (is_work(ops[i]) && !ops[i].rtcp && is_aead(*ops[i].key))
            make_aead_iv(ops[i].key->rtp_salt, ops[i].ssrc, ops[i].index, aead_ivs_[i].data());
}

void ipsecmb::protect_gcm(op& item, const std::uint8_t* iv) noexcept {
    std::uint8_t* tag = item.packet + item.length;
    if (item.rtcp)
        with_rtcp_gcm(item, true, item.length, tag);
    else
        gcm(gcm_of(*item.key), iv, true, item, item.length, tag);
    item.length = finish_aead(item, item.length);
}

void ipsecmb::unprotect_gcm(op& item, const std::uint8_t* iv) noexcept {
    const std::uint32_t body = body_length(item);
    alignas(16) std::uint8_t tag[rtp::max_tag_length];
    if (item.rtcp)
        with_rtcp_gcm(item, false, body, tag);
    else
        gcm(gcm_of(*item.key), iv, false, item, body, tag);
    if (tags_equal(tag, item.packet + body, sizeof tag))
        item.length = body;
    else
        item.result = api::drop::srtp_auth;
}

void ipsecmb::restore(op& failed) noexcept {
    if (failed.key == nullptr || !is_aead(*failed.key))
        return; // AES-CM verifies first: nothing was changed
    // Counter mode undoes itself.
    alignas(16) std::uint8_t tag[rtp::max_tag_length];
    alignas(16) std::uint8_t iv[16];
    const std::uint32_t body = body_length(failed);
    make_aead_iv(failed.key->rtp_salt, failed.ssrc, failed.index, iv);
    if (failed.rtcp)
        with_rtcp_gcm(failed, false, body, tag);
    else
        gcm(gcm_of(*failed.key), iv, false, failed, body, tag);
}

// --- AES-CM with HMAC-SHA1
// --------------------------------------------------------------------------------------------

void ipsecmb::add(op& item, const std::uint8_t* schedule, const std::uint8_t* states,
                  const std::uint8_t* salt) noexcept {
    items_[count_] = &item;
    schedules_[count_] = schedule;
    states_[count_] = states;
    salts_[count_] = salt;
    ++count_;
}

void ipsecmb::add_cipher(std::size_t lane) noexcept {
    const op& item = *items_[lane];
    if (item.length <= item.header)
        return;
    ciphers& all = api::info(item.key->suite).key_length == 32 ? ciphers_256_ : ciphers_128_;
    IMB_JOB& job = all.jobs[all.count];
    make_cm_iv(salts_[lane], item.ssrc, item.index, all.ivs[all.count].data());
    job.enc_keys = schedules_[lane];
    job.src = item.packet + item.header;
    job.dst = item.packet + item.header;
    job.msg_len_to_cipher_in_bytes = item.length - item.header;
    ++all.count;
}

void ipsecmb::cipher_all(IMB_CIPHER_DIRECTION direction) noexcept {
    for (ciphers* each : {&ciphers_128_, &ciphers_256_}) {
        if (each->count != 0)
            IMB_SUBMIT_CIPHER_BURST_NOCHECK(manager_, each->jobs.data(), static_cast<std::uint32_t>(each->count),
                                            IMB_CIPHER_CNTR, direction,
                                            each == &ciphers_128_ ? IMB_KEY_128_BYTES : IMB_KEY_256_BYTES);
        each->count = 0;
    }
}

// Tags of every gathered packet: over its first bodies_[i] bytes and the word behind them.
void ipsecmb::hash_all() noexcept {
    for (std::size_t i = 0; i < count_; ++i) {
        IMB_JOB& job = hash_jobs_[i];
        job.src = items_[i]->packet;
        job.msg_len_to_hash_in_bytes = bodies_[i] + roc_length;
        job.u.HMAC._hashed_auth_key_xor_ipad = states_[i] + offsetof(hmac_states, ipad);
        job.u.HMAC._hashed_auth_key_xor_opad = states_[i] + offsetof(hmac_states, opad);
    }
    IMB_SUBMIT_HASH_BURST_NOCHECK(manager_, hash_jobs_.data(), static_cast<std::uint32_t>(count_), IMB_AUTH_HMAC_SHA_1);
}

void ipsecmb::flush_protect() noexcept {
    for (std::size_t i = 0; i < count_; ++i) {
        bodies_[i] = items_[i]->length;
        add_cipher(i);
    }
    cipher_all(IMB_DIR_ENCRYPT);
    for (std::size_t i = 0; i < count_; ++i) {
        op& item = *items_[i];
        rtp::store32(item.packet + item.length, item.rtcp ? rtcp_word(item) : rtp::roc_of(item.index));
    }
    hash_all();
    for (std::size_t i = 0; i < count_; ++i) {
        op& item = *items_[i];
        std::uint8_t* at = item.packet + item.length + (item.rtcp ? rtp::srtcp_index_length : 0);
        write_mki(at, item.mki, item.mki_length);
        at += item.mki_length;
        const std::size_t tag = rtp::tag_length(item.key->suite, item.rtcp);
        std::memcpy(at, tags_[i].data(), tag);
        item.length = static_cast<std::uint32_t>(at + tag - item.packet);
    }
    count_ = 0;
}

void ipsecmb::flush_unprotect() noexcept {
    for (std::size_t i = 0; i < count_; ++i) {
        op& item = *items_[i];
        bodies_[i] = body_length(item);
        std::uint8_t* behind = item.packet + bodies_[i];
        saved_[i] = rtp::load32(behind);
        if (!item.rtcp)
            rtp::store32(behind, rtp::roc_of(item.index)); // over MKI or tag: put back below
    }
    hash_all();
    for (std::size_t i = 0; i < count_; ++i) {
        op& item = *items_[i];
        rtp::store32(item.packet + bodies_[i], saved_[i]);
        const std::size_t tag = rtp::tag_length(item.key->suite, item.rtcp);
        if (!tags_equal(tags_[i].data(), item.packet + item.length - tag, tag)) {
            item.result = api::drop::srtp_auth;
            continue;
        }
        item.length = bodies_[i];
        add_cipher(i);
    }
    cipher_all(IMB_DIR_DECRYPT);
    count_ = 0;
}

// One SRTCP packet, its keys expanded on the stack and wiped. The word hashed behind the body is already the index's.
void ipsecmb::cm_rtcp(op& item, void (ipsecmb::*flush)() noexcept) noexcept {
    cm_keys keys;
    std::uint8_t salt[16] = {};
    std::memcpy(salt, item.key->cold().raw.rtcp.salt, sizeof item.key->cold().raw.rtcp.salt);
    expand_cm(item.key->suite, item.key->cold().raw.rtcp, keys.schedule, keys.hmac.ipad);
    add(item, keys.schedule, keys.hmac.ipad, salt);
    (this->*flush)();
    wipe(&keys, sizeof keys);
}

// From the second cache to the first.
TANDEM_PREFETCHES void prefetch_key(const op& item) noexcept {
    if (!is_work(item)) // its key may be of an earlier burst, and wiped since
        return;
    const auto* at = reinterpret_cast<const std::uint8_t*>(item.key);
    for (std::size_t line = 0; line < 64 + schedule_bytes(item.key->suite); line += 64)
        __builtin_prefetch(at + line);
    if (is_aead(*item.key))
        for (std::size_t line = 896; line < 64 + gcm_expanded_bytes; line += 64)
            __builtin_prefetch(at + line);
}
constexpr std::size_t ahead = 3;

// What a burst needs of its keys, whose first lines are near: all of it comes while the first packets are worked on.
TANDEM_PREFETCHES void fetch_keys(std::span<const op> ops) noexcept {
    for (const op& item : ops)
        if (is_work(item))
            crypto::prefetch_key(*item.key, item.key->suite, item.length);
    for (const op& item : ops.first(std::min(ahead, ops.size())))
        prefetch_key(item);
}

// --- bursts
// -----------------------------------------------------------------------------------------------------------

void ipsecmb::protect_lanes(std::span<op> ops) noexcept {
    fetch_keys(ops);
    make_aead_ivs(ops);
    for (std::size_t i = 0; i < ops.size(); ++i) {
        op& item = ops[i];
        if (i + ahead < ops.size())
            prefetch_key(ops[i + ahead]);
        if (!is_work(item))
            continue;
        if (is_aead(*item.key))
            protect_gcm(item, aead_ivs_[i].data());
        else if (!item.rtcp)
            add(item, item.key->expanded, item.key->head, item.key->rtp_salt);
    }
    if (count_ != 0)
        flush_protect();
    for (op& item : ops)
        if (is_work(item) && item.rtcp && !is_aead(*item.key))
            cm_rtcp(item, &ipsecmb::flush_protect);
}

void ipsecmb::protect(std::span<op> ops) noexcept {
    for (; ops.size() > lanes; ops = ops.subspan(lanes))
        protect_lanes(ops.first(lanes));
    protect_lanes(ops);
}

void ipsecmb::unprotect_lanes(std::span<op> ops) noexcept {
    fetch_keys(ops);
    make_aead_ivs(ops);
    for (std::size_t i = 0; i < ops.size(); ++i) {
        op& item = ops[i];
        if (i + ahead < ops.size())
            prefetch_key(ops[i + ahead]);
        if (!is_work(item))
            continue;
        if (is_aead(*item.key))
            unprotect_gcm(item, aead_ivs_[i].data());
        else if (!item.rtcp)
            add(item, item.key->expanded, item.key->head, item.key->rtp_salt);
    }
    if (count_ != 0)
        flush_unprotect();
    for (op& item : ops)
        if (is_work(item) && item.rtcp && !is_aead(*item.key))
            cm_rtcp(item, &ipsecmb::flush_unprotect);
}

void ipsecmb::unprotect(std::span<op> ops) noexcept {
    for (; ops.size() > lanes; ops = ops.subspan(lanes))
        unprotect_lanes(ops.first(lanes));
    unprotect_lanes(ops);
}

} // namespace

bool probe_ipsecmb() noexcept {
    IMB_MGR* manager = alloc_mb_mgr(0);
    if (manager == nullptr)
        return false;
    init_mb_mgr_auto(manager, nullptr);
    const bool ok = imb_get_errno(manager) == 0 && (manager->features & IMB_FEATURE_AESNI) != 0;
    free_mb_mgr(manager);
    return ok;
}

std::unique_ptr<engine> make_ipsecmb() {
    IMB_MGR* manager = alloc_mb_mgr(0);
    if (manager == nullptr)
        return nullptr;
    init_mb_mgr_auto(manager, nullptr);
    if (imb_get_errno(manager) != 0) {
        free_mb_mgr(manager);
        return nullptr;
    }
    return std::make_unique<ipsecmb>(manager);
}

} // namespace tandem::crypto
