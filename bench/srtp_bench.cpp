// SPDX-License-Identifier: Apache-2.0
// SRTP in cycles per packet: our sides with the ipsecmb engine, beside OpenSSL EVP (one context per session) and
// libsrtp2, in the same run, on packets of the same content, in bursts of 64 over N sessions in random order.
//
// What is timed: tandem  - parse, index, replay or sent-window, crypto in bursts, commit (prepare/engine/commit of
// flow/side)
//                crypto  - of that, the engine's call alone: what `evp` is to be compared with
//                evp     - crypto alone: IV, AAD, cipher, tag; no parsing, no index, no window
//                libsrtp - srtp_protect / srtp_unprotect: what `tandem` is to be compared with
// Each burst of ours, and each 8 packets of the slower ones (about as long), are timed with rdtsc and the median is
// given, so that a stolen time slice does not count; the contenders take turns every `chunk` bursts. Making the packets
// that unprotect takes is not timed.
#include <algorithm>
#include <array>
#include <benchmark/benchmark.h>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <numeric>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <random>
#include <srtp2/srtp.h>
#include <string>
#include <vector>
#include <x86intrin.h>

#include "bench/libsrtp.hpp"
#include "dataplane/crypto/ipsecmb.hpp"
#include "dataplane/crypto/iv.hpp"
#include "dataplane/crypto/key_pool.hpp"
#include "dataplane/flow/side.hpp"
#include "dataplane/rtp/index.hpp"
#include "dataplane/rtp/packet.hpp"

namespace {

using namespace tandem;
using api::suite;

constexpr std::size_t burst = 64;
constexpr std::size_t chunk = 64; // bursts of one contender before the next has its turn
constexpr std::size_t group = 8;  // packets of evp and libsrtp timed at once
// With NSS: 100,000 TSC a packet at 1,000 AES-CM sessions, many minutes of set-up at 20,000.
constexpr std::uint64_t libsrtp_budget = 30'000'000; // TSC a turn
constexpr std::size_t libsrtp_max_sessions = 1000;
constexpr std::size_t header = 12;
constexpr std::size_t buffer = 1536;

void require(bool condition, const char* what) {
    if (!condition) {
        std::fprintf(stderr, "srtp_bench: %s failed: figures would be wrong\n", what);
        std::exit(1);
    }
}

// --- OpenSSL, one context per session
// ---------------------------------------------------------------------------------

class evp_session {
public:
    evp_session(suite which, const crypto::raw_keys& keys, bool encrypt)
        : aead_(api::info(which).aead), encrypt_(encrypt) {
        std::memcpy(salt_, keys.salt, sizeof keys.salt);
        const EVP_CIPHER* cipher = which == suite::aead_aes_256_gcm ? EVP_aes_256_gcm()
                                   : aead_                          ? EVP_aes_128_gcm()
                                                                    : EVP_aes_128_ctr();
        tag_ = api::info(which).rtp_tag_length;
        require(EVP_CipherInit_ex(cipher_, cipher, nullptr, keys.key, nullptr, encrypt ? 1 : 0) == 1, "EVP key");
        if (!aead_) {
            static EVP_MAC* const hmac = EVP_MAC_fetch(nullptr, "HMAC", nullptr);
            mac_ = EVP_MAC_CTX_new(hmac);
            char digest[] = "SHA1";
            const OSSL_PARAM parameters[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
                                             OSSL_PARAM_construct_end()};
            require(EVP_MAC_init(mac_, keys.auth, sizeof keys.auth, parameters) == 1, "EVP MAC key");
        }
    }
    evp_session(const evp_session&) = delete;
    evp_session& operator=(const evp_session&) = delete;
    ~evp_session() {
        EVP_CIPHER_CTX_free(cipher_);
        EVP_MAC_CTX_free(mac_);
    }

    void protect(std::uint8_t* packet, int length, std::uint64_t index) {
        std::uint8_t iv[16];
        int written = 0;
        if (aead_) {
            crypto::make_aead_iv(salt_, rtp::load32(packet + 8), index, iv);
            EVP_EncryptInit_ex(cipher_, nullptr, nullptr, nullptr, iv);
            EVP_EncryptUpdate(cipher_, nullptr, &written, packet, header);
            EVP_EncryptUpdate(cipher_, packet + header, &written, packet + header, length - int{header});
            EVP_EncryptFinal_ex(cipher_, packet + length, &written);
            EVP_CIPHER_CTX_ctrl(cipher_, EVP_CTRL_AEAD_GET_TAG, tag_, packet + length);
            return;
        }
        crypto::make_cm_iv(salt_, rtp::load32(packet + 8), index, iv);
        EVP_EncryptInit_ex(cipher_, nullptr, nullptr, nullptr, iv);
        EVP_EncryptUpdate(cipher_, packet + header, &written, packet + header, length - int{header});
        std::uint8_t tag[20];
        hmac(packet, length, index, tag);
        std::memcpy(packet + length, tag, static_cast<std::size_t>(tag_));
    }

    [[nodiscard]] bool unprotect(std::uint8_t* packet, int length, std::uint64_t index) {
        std::uint8_t iv[16];
        int written = 0;
        const int body = length - tag_;
        if (aead_) {
            crypto::make_aead_iv(salt_, rtp::load32(packet + 8), index, iv);
            EVP_DecryptInit_ex(cipher_, nullptr, nullptr, nullptr, iv);
            EVP_CIPHER_CTX_ctrl(cipher_, EVP_CTRL_AEAD_SET_TAG, tag_, packet + body);
            EVP_DecryptUpdate(cipher_, nullptr, &written, packet, header);
            EVP_DecryptUpdate(cipher_, packet + header, &written, packet + header, body - int{header});
            return EVP_DecryptFinal_ex(cipher_, packet + body, &written) == 1;
        }
        std::uint8_t tag[20];
        hmac(packet, body, index, tag);
        if (!crypto::equal_constant_time(tag, packet + body, static_cast<std::size_t>(tag_)))
            return false;
        crypto::make_cm_iv(salt_, rtp::load32(packet + 8), index, iv);
        EVP_DecryptInit_ex(cipher_, nullptr, nullptr, nullptr, iv);
        EVP_DecryptUpdate(cipher_, packet + header, &written, packet + header, body - int{header});
        return true;
    }

private:
    void hmac(const std::uint8_t* packet, int length, std::uint64_t index, std::uint8_t (&tag)[20]) {
        std::uint8_t roc[4];
        rtp::store32(roc, rtp::roc_of(index));
        std::size_t size = 0;
        EVP_MAC_init(mac_, nullptr, 0, nullptr);
        EVP_MAC_update(mac_, packet, static_cast<std::size_t>(length));
        EVP_MAC_update(mac_, roc, sizeof roc);
        EVP_MAC_final(mac_, tag, &size, sizeof tag);
    }

    bool aead_;
    bool encrypt_;
    int tag_ = 0;
    std::uint8_t salt_[16] = {};
    EVP_CIPHER_CTX* cipher_ = EVP_CIPHER_CTX_new();
    EVP_MAC_CTX* mac_ = nullptr;
};

// --- sessions of every contender, with the same keys
// ------------------------------------------------------------------

class rig {
public:
    rig(suite which, std::size_t count)
        : count_(count), pool_memory_(allocate(crypto::key_pool::bytes(static_cast<std::uint32_t>(3 * count)))),
          pool_(pool_memory_.get(), static_cast<std::uint32_t>(3 * count)),
          sides_(static_cast<flow::side*>(allocate(3 * count * sizeof(flow::side)).release())), order_(count) {
        std::mt19937_64 random(20261121);
        for (std::size_t i = 0; i < count; ++i) {
            api::epoch_key key{};
            key.key_length = api::info(which).key_length;
            key.salt_length = api::info(which).salt_length;
            for (auto& byte : key.key)
                byte = static_cast<std::uint8_t>(random());
            for (auto& byte : key.salt)
                byte = static_cast<std::uint8_t>(random());
            for (std::size_t role = 0; role < 3; ++role) { // in, out, and the sender of what `in` takes
                flow::side& made = side_of(i, role);
                require(flow::init_side(made, role == 0 ? api::side::in : api::side::out, which, 0) ==
                                api::status::ok &&
                            flow::install(made, pool_, *engine_, key) == api::status::ok,
                        "install");
            }
            crypto::session_keys keys;
            require(crypto::derive_session_keys(which, {key.key, key.key_length}, {key.salt, key.salt_length}, keys),
                    "derivation");
            evp_out_.push_back(std::make_unique<evp_session>(which, keys.rtp, true));
            evp_in_.push_back(std::make_unique<evp_session>(which, keys.rtp, false));
            if (count <= libsrtp_max_sessions) {
                srtp_out_.push_back(tandem::bench::make_libsrtp(which, key, true));
                srtp_in_.push_back(tandem::bench::make_libsrtp(which, key, false));
                require(srtp_out_.back() != nullptr && srtp_in_.back() != nullptr, "srtp_create");
            }
        }
        std::iota(order_.begin(), order_.end(), std::size_t{0});
        std::shuffle(order_.begin(), order_.end(), random);
        for (auto& byte : packets_)
            byte = static_cast<std::uint8_t>(random());
    }
    rig(const rig&) = delete;
    rig& operator=(const rig&) = delete;
    ~rig() {
        for (auto* all : {&srtp_in_, &srtp_out_})
            for (srtp_t one : *all)
                srtp_dealloc(one);
        std::free(sides_);
    }

    using cycles = std::vector<std::uint64_t>;
    // One burst each; adds the TSC cycles that it, or each group of it, took.
    void tandem(bool protect, std::size_t payload, cycles& taken, cycles& crypto_alone);
    void evp(bool protect, std::size_t payload, cycles& taken);
    void libsrtp(bool protect, std::size_t payload, cycles& taken);

private:
    struct freer {
        void operator()(void* memory) const { std::free(memory); }
    };
    static std::unique_ptr<void, freer> allocate(std::size_t size) {
        const std::size_t rounded = (size + 4095) / 4096 * 4096;
        void* memory = std::aligned_alloc(4096, rounded);
        require(memory != nullptr, "memory");
        std::memset(memory, 0, rounded);
        return std::unique_ptr<void, freer>(memory);
    }
    flow::side& side_of(std::size_t session, std::size_t role) { return sides_[role * count_ + session]; }
    std::uint8_t* packet(std::size_t i) { return packets_.data() + i * buffer; }

    // The next 64 sessions of one contender's walk, a clear packet for each, sequence numbers rising.
    struct walk {
        std::size_t at = 0;
        std::uint64_t round = 0;
    };
    void next_burst(walk& from, std::size_t payload) {
        for (std::size_t i = 0; i < burst; ++i) {
            chosen_[i] = order_[from.at];
            index_[i] = from.round;
            if (++from.at == count_) {
                from.at = 0;
                ++from.round;
            }
            std::uint8_t* rtp = packet(i);
            rtp[0] = 0x80;
            rtp[1] = 0;
            rtp[2] = static_cast<std::uint8_t>(index_[i] >> 8);
            rtp[3] = static_cast<std::uint8_t>(index_[i]);
            rtp::store32(rtp + 8, 0x1000);
            length_[i] = static_cast<std::uint32_t>(header + payload);
        }
    }
    // Seals the burst by our out-sides of role 2 or plainly by index, for a contender's unprotect.
    void seal() {
        for (std::size_t i = 0; i < burst; ++i) {
            const std::uint64_t entry = side_of(chosen_[i], 2).epochs[0];
            crypto::op& op = ops_[i];
            op = {};
            op.packet = packet(i);
            op.length = length_[i];
            op.header = header;
            op.ssrc = 0x1000;
            op.index = index_[i];
            op.key = &pool_[static_cast<std::uint32_t>(entry >> 32) - 1];
        }
        engine_->protect(ops_);
        for (std::size_t i = 0; i < burst; ++i)
            length_[i] = ops_[i].length;
    }

    std::size_t count_;
    std::unique_ptr<crypto::engine> engine_ = crypto::make_ipsecmb();
    std::unique_ptr<void, freer> pool_memory_;
    crypto::key_pool pool_;
    flow::stream_pool streams_; // none: one SSRC a session
    flow::side* sides_;
    std::vector<std::unique_ptr<evp_session>> evp_out_;
    std::vector<std::unique_ptr<evp_session>> evp_in_;
    std::vector<srtp_t> srtp_out_;
    std::vector<srtp_t> srtp_in_;
    std::vector<std::size_t> order_;
    std::array<walk, 6> walks_{};
    std::array<std::size_t, burst> chosen_{};
    std::array<std::uint64_t, burst> index_{};
    std::array<std::uint32_t, burst> length_{};
    std::array<crypto::op, burst> ops_{};
    alignas(64) std::array<std::uint8_t, burst * buffer> packets_{};
};

void rig::tandem(bool protect, std::size_t payload, cycles& taken, cycles& crypto_alone) {
    next_burst(walks_[protect ? 0 : 1], payload);
    if (!protect)
        seal();
    const flow::side wire{}; // a clear in-side: how the pipeline's ops come to the out-side
    if (protect)
        for (std::size_t i = 0; i < burst; ++i)
            require(flow::prepare_unprotect(wire, pool_, streams_, packet(i), length_[i], ops_[i]) == api::drop::none,
                    "parse");
    bool ok = true;
    const std::uint64_t before = __rdtsc();
    for (std::size_t i = 0; i < burst; ++i)
        flow::prefetch(side_of(chosen_[i], protect ? 1 : 0));
    if (protect) {
        for (std::size_t i = 0; i < burst; ++i)
            ok &= flow::prepare_protect(side_of(chosen_[i], 1), pool_, streams_, 64, ops_[i]) == api::drop::none;
        const std::uint64_t prepared = __rdtsc();
        engine_->protect(ops_);
        crypto_alone.push_back(__rdtsc() - prepared);
    } else {
        for (std::size_t i = 0; i < burst; ++i)
            ok &= flow::prepare_unprotect(side_of(chosen_[i], 0), pool_, streams_, packet(i), length_[i], ops_[i]) ==
                  api::drop::none;
        const std::uint64_t prepared = __rdtsc();
        engine_->unprotect(ops_);
        crypto_alone.push_back(__rdtsc() - prepared);
        for (std::size_t i = 0; i < burst; ++i)
            ok &= flow::commit_unprotect(side_of(chosen_[i], 0), pool_, streams_, *engine_, ops_[i]) == api::drop::none;
    }
    taken.push_back(__rdtsc() - before);
    require(ok, "our packet");
}

void rig::evp(bool protect, std::size_t payload, cycles& taken) {
    next_burst(walks_[protect ? 2 : 3], payload);
    if (!protect)
        seal();
    bool ok = true;
    for (std::size_t from = 0; from < burst; from += group) {
        const std::uint64_t before = __rdtsc();
        for (std::size_t i = from; i < from + group; ++i)
            if (protect)
                evp_out_[chosen_[i]]->protect(packet(i), static_cast<int>(length_[i]), index_[i]);
            else
                ok &= evp_in_[chosen_[i]]->unprotect(packet(i), static_cast<int>(length_[i]), index_[i]);
        taken.push_back(__rdtsc() - before);
    }
    require(ok, "EVP packet");
}

void rig::libsrtp(bool protect, std::size_t payload, cycles& taken) {
    next_burst(walks_[protect ? 4 : 5], payload);
    if (!protect)
        seal();
    bool ok = true;
    for (std::size_t from = 0; from < burst; from += group) {
        const std::uint64_t before = __rdtsc();
        for (std::size_t i = from; i < from + group; ++i) {
            int length = static_cast<int>(length_[i]);
            ok &= (protect ? srtp_protect(srtp_out_[chosen_[i]], packet(i), &length)
                           : srtp_unprotect(srtp_in_[chosen_[i]], packet(i), &length)) == srtp_err_status_ok;
        }
        taken.push_back(__rdtsc() - before);
    }
    require(ok, "libsrtp packet");
}

// --- cases
// ------------------------------------------------------------------------------------------------------------

std::unique_ptr<rig> current; // one suite and number of sessions at a time: cases are registered in that order
std::pair<suite, std::size_t> current_is{suite::clear, 0};

double median_per_packet(std::vector<std::uint64_t>& taken, std::size_t packets) {
    std::nth_element(taken.begin(), taken.begin() + static_cast<long>(taken.size() / 2), taken.end());
    return static_cast<double>(taken[taken.size() / 2]) / static_cast<double>(packets);
}

void run(benchmark::State& state, suite which, std::size_t sessions, std::size_t payload, bool protect) {
    if (current_is != std::pair{which, sessions}) {
        current.reset();
        current = std::make_unique<rig>(which, sessions);
        current_is = {which, sessions};
    }
    std::vector<std::uint64_t> ours;
    std::vector<std::uint64_t> alone;
    std::vector<std::uint64_t> evp;
    std::vector<std::uint64_t> libsrtp;
    for (auto _ : state) {
        for (std::size_t i = 0; i < chunk; ++i)
            current->tandem(protect, payload, ours, alone);
        for (std::size_t i = 0; i < chunk; ++i)
            current->evp(protect, payload, evp);
        const std::uint64_t before = __rdtsc();
        for (std::size_t i = 0; i < chunk && sessions <= libsrtp_max_sessions && __rdtsc() - before < libsrtp_budget;
             ++i)
            current->libsrtp(protect, payload, libsrtp);
    }
    const double mine = median_per_packet(ours, burst);
    const double crypto = median_per_packet(alone, burst);
    const double its = median_per_packet(evp, group);
    const double theirs = libsrtp.empty() ? 0 : median_per_packet(libsrtp, group);
    state.counters["1_tandem"] = mine;
    state.counters["2_crypto"] = crypto;
    state.counters["3_evp"] = its;
    state.counters["4_libsrtp"] = theirs;
    state.counters["5_evp/crypto"] = its / crypto;
    state.counters["6_libsrtp/tandem"] = theirs / mine;
}

void add_cases() {
    for (const auto& row : api::suite_table) {
        if (row.id == suite::clear)
            continue;
        for (const std::size_t sessions : {1, 1000, 20000})
            for (const std::size_t payload : {33, 60, 160, 1200})
                for (const bool protect : {true, false})
                    benchmark::RegisterBenchmark(
                        (std::string(row.name) + "/" + std::to_string(sessions) + "_sessions/" +
                         std::to_string(payload) + "_B/" + (protect ? "protect" : "unprotect"))
                            .c_str(),
                        [=, id = row.id](benchmark::State& state) { run(state, id, sessions, payload, protect); })
                        ->Iterations(8);
    }
}

std::string libsrtp_backend() {
    std::ifstream maps("/proc/self/maps");
    std::string line;
    while (std::getline(maps, line))
        if (line.find("libnss3") != std::string::npos)
            return "NSS (a context per packet: slow; not a fair peer alone)";
    return "OpenSSL or internal";
}

} // namespace

int main(int argc, char** argv) {
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv))
        return 2;
    require(srtp_init() == srtp_err_status_ok, "srtp_init");
    benchmark::AddCustomContext("libsrtp", std::string(srtp_get_version_string()) + ", backend " + libsrtp_backend());
    benchmark::AddCustomContext("openssl", OpenSSL_version(OPENSSL_VERSION));
    benchmark::AddCustomContext("unit", "TSC cycles per packet (medians); the time columns mean nothing here");
    add_cases();
    benchmark::RunSpecifiedBenchmarks();
    current.reset();
    return 0;
}
