// SPDX-License-Identifier: Apache-2.0
// libsrtp2 behind srtp.hpp: the only file of the agent that includes its header. RFC 3711, RFC 7714.
#include "tools/agent/media/srtp.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include <openssl/crypto.h>
#include <srtp2/srtp.h>

namespace tandem::agent {

namespace {

constexpr unsigned replay_window = 1024; // a Wi-Fi stall may reorder more than libsrtp2's default of 128

bool library_ready() {
    static const bool ready = srtp_init() == srtp_err_status_ok;
    return ready;
}

// libsrtp2 reads key and MKI through pointers while a session or stream is made: they live here for that long.
struct policy {
    srtp_policy_t value{};
    srtp_master_key_t master{};
    srtp_master_key_t* masters[1]{&master};
    std::array<std::uint8_t, mki_length> mki{};
    protocol::secret key;

    policy(const policy&) = delete;
    policy& operator=(const policy&) = delete;

    policy(api::suite suite, const protocol::secret& source, std::uint32_t epoch, srtp_ssrc_t ssrc)
        : mki{static_cast<std::uint8_t>(epoch >> 24), static_cast<std::uint8_t>(epoch >> 16),
              static_cast<std::uint8_t>(epoch >> 8), static_cast<std::uint8_t>(epoch)},
          key(source.copy()) {
        switch (suite) {
        case api::suite::aes_cm_128_hmac_sha1_80:
            srtp_crypto_policy_set_rtp_default(&value.rtp);
            srtp_crypto_policy_set_rtcp_default(&value.rtcp);
            break;
        case api::suite::aes_cm_128_hmac_sha1_32:
            srtp_crypto_policy_set_aes_cm_128_hmac_sha1_32(&value.rtp);
            srtp_crypto_policy_set_rtcp_default(&value.rtcp); // SRTCP keeps 80 bits (RFC 4568 6.2.2)
            break;
        case api::suite::aes_256_cm_hmac_sha1_80:
            srtp_crypto_policy_set_aes_cm_256_hmac_sha1_80(&value.rtp);
            srtp_crypto_policy_set_aes_cm_256_hmac_sha1_80(&value.rtcp);
            break;
        case api::suite::aes_256_cm_hmac_sha1_32:
            srtp_crypto_policy_set_aes_cm_256_hmac_sha1_32(&value.rtp);
            srtp_crypto_policy_set_aes_cm_256_hmac_sha1_80(&value.rtcp);
            break;
        case api::suite::aead_aes_128_gcm:
            srtp_crypto_policy_set_aes_gcm_128_16_auth(&value.rtp);
            srtp_crypto_policy_set_aes_gcm_128_16_auth(&value.rtcp);
            break;
        case api::suite::aead_aes_256_gcm:
            srtp_crypto_policy_set_aes_gcm_256_16_auth(&value.rtp);
            srtp_crypto_policy_set_aes_gcm_256_16_auth(&value.rtcp);
            break;
        case api::suite::clear:
            break;
        }
        master.key = const_cast<unsigned char*>(key.view().data()); // read only, but libsrtp2 has no const here
        master.mki_id = mki.data();
        master.mki_size = mki_length;
        value.ssrc = ssrc;
        value.keys = masters;
        value.num_master_keys = 1;
        value.window_size = replay_window;
    }
};

bool key_fits(api::suite suite, const protocol::secret& key) noexcept {
    const api::suite_info& row = api::info(suite);
    return row.key_length != 0 && key.size() == std::size_t{row.key_length} + row.salt_length;
}

std::uint32_t read32(std::span<const std::uint8_t> bytes, std::size_t at) noexcept {
    return static_cast<std::uint32_t>(bytes[at]) << 24 | static_cast<std::uint32_t>(bytes[at + 1]) << 16 |
           static_cast<std::uint32_t>(bytes[at + 2]) << 8 | bytes[at + 3];
}

constexpr std::size_t least_header(packet_class what) noexcept {
    return what == packet_class::rtp ? 12 : 8;
}
constexpr std::size_t ssrc_at(packet_class what) noexcept {
    return what == packet_class::rtp ? 8 : 4;
}

bool sane(packet_class what, std::span<const std::uint8_t> packet) noexcept {
    return packet.size() >= least_header(what) && packet[0] >> 6 == 2;
}

srtp_error to_error(srtp_err_status_t status) noexcept {
    switch (status) {
    case srtp_err_status_auth_fail:
    case srtp_err_status_cipher_fail:
        return srtp_error::auth;
    case srtp_err_status_replay_fail:
    case srtp_err_status_replay_old:
    case srtp_err_status_pkt_idx_old:
        return srtp_error::replay;
    case srtp_err_status_bad_param:
    case srtp_err_status_parse_err:
    case srtp_err_status_cant_check:
        return srtp_error::malformed;
    case srtp_err_status_bad_mki:
        return srtp_error::unknown_epoch;
    case srtp_err_status_key_expired:
        return srtp_error::key_limit;
    default:
        return srtp_error::internal;
    }
}

} // namespace

void srtp_deleter::operator()(srtp_ctx_t_* session) const noexcept {
    srtp_dealloc(session);
}

std::uint64_t guess_index(std::uint64_t highest, std::uint16_t sequence) noexcept {
    const std::uint64_t roc = highest >> 16;
    const auto last = static_cast<std::uint16_t>(highest);
    std::uint64_t guess = roc;
    if (last < 0x8000U) {
        if (sequence > last + 0x8000U && roc > 0)
            guess = roc - 1;
    } else if (sequence < last - 0x8000U) {
        guess = roc + 1;
    }
    return guess << 16 | sequence;
}

std::unique_ptr<srtp_sender> srtp_sender::create(api::suite suite, const protocol::secret& key, std::uint32_t epoch) {
    if (!library_ready() || !key_fits(suite, key))
        return nullptr;
    policy wanted(suite, key, epoch, {ssrc_any_outbound, 0});
    srtp_t session = nullptr;
    if (srtp_create(&session, &wanted.value) != srtp_err_status_ok)
        return nullptr;
    std::unique_ptr<srtp_sender> sender(new srtp_sender(suite));
    sender->session_.reset(session);
    sender->epoch_ = epoch;
    return sender;
}

bool srtp_sender::rekey(const protocol::secret& key, std::uint32_t epoch) {
    if (!key_fits(suite_, key))
        return false;
    policy wanted(suite_, key, epoch, {ssrc_any_outbound, 0});
    if (srtp_update(session_.get(), &wanted.value) != srtp_err_status_ok)
        return false;
    // A stream may only be forgotten when its key is: else its indices would begin again under the same key.
    if (streams_.size() > max_streams / 2)
        std::erase_if(streams_, [this](const auto& stream) {
            const bool idle = stream.second != epoch_;
            if (idle)
                srtp_remove_stream(session_.get(), stream.first);
            return idle;
        });
    epoch_ = epoch;
    return true;
}

tl::expected<std::size_t, srtp_error> srtp_sender::protect(packet_class what, std::span<std::uint8_t> buffer,
                                                           std::size_t length) {
    if (buffer.size() < length + max_trailer || !sane(what, buffer.first(length)))
        return tl::unexpected(srtp_error::malformed);
    const std::uint32_t ssrc = read32(buffer, ssrc_at(what));
    auto stream = streams_.find(ssrc);
    if (stream == streams_.end() && streams_.size() >= max_streams)
        return tl::unexpected(srtp_error::ssrc_limit);
    int size = static_cast<int>(length);
    const auto status = what == packet_class::rtp ? srtp_protect_mki(session_.get(), buffer.data(), &size, 1, 0)
                                                  : srtp_protect_rtcp_mki(session_.get(), buffer.data(), &size, 1, 0);
    if (status != srtp_err_status_ok)
        return tl::unexpected(to_error(status));
    if (stream == streams_.end())
        streams_.emplace(ssrc, epoch_);
    else
        stream->second = epoch_;
    return static_cast<std::size_t>(size);
}

bool srtp_receiver::install(const protocol::secret& key, std::uint32_t epoch) {
    if (!library_ready() || !key_fits(suite_, key) || find(epoch) != nullptr)
        return false;
    policy wanted(suite_, key, epoch, {ssrc_any_inbound, 0});
    srtp_t session = nullptr;
    if (srtp_create(&session, &wanted.value) != srtp_err_status_ok)
        return false;
    if (epochs_.size() >= max_epochs)
        epochs_.erase(epochs_.begin());
    epoch_state state;
    state.epoch = epoch;
    state.key = key.copy();
    state.session.reset(session);
    epochs_.push_back(std::move(state));
    return true;
}

void srtp_receiver::retire_below(std::uint32_t epoch) noexcept {
    std::erase_if(epochs_, [epoch](const epoch_state& state) { return state.epoch < epoch; });
}

srtp_receiver::epoch_state* srtp_receiver::find(std::uint32_t epoch) noexcept {
    const auto found =
        std::find_if(epochs_.begin(), epochs_.end(), [epoch](const auto& s) { return s.epoch == epoch; });
    return found == epochs_.end() ? nullptr : &*found;
}

bool srtp_receiver::holds(const protocol::secret& key, std::uint32_t epoch) const noexcept {
    for (const epoch_state& state : epochs_)
        if (state.epoch == epoch)
            return state.key.size() == key.size() &&
                   CRYPTO_memcmp(state.key.view().data(), key.view().data(), key.size()) == 0;
    return false;
}

bool srtp_receiver::heard(std::uint32_t epoch) const noexcept {
    return std::any_of(epochs_.begin(), epochs_.end(),
                       [epoch](const auto& state) { return state.epoch == epoch && state.heard > 0; });
}

std::uint64_t srtp_receiver::heard_below(std::uint32_t epoch) const noexcept {
    std::uint64_t sum = 0;
    for (const epoch_state& state : epochs_)
        sum += state.epoch < epoch ? state.heard : 0;
    return sum;
}

// A stream that was already heard goes on with its ROC in this epoch's session. A new one comes in by the session's
// template, which libsrtp2 clones only after the tag was right, so a forger makes no state.
bool srtp_receiver::carry_roc(epoch_state& state, std::uint32_t ssrc, std::uint64_t index) {
    if (std::find(state.streams.begin(), state.streams.end(), ssrc) == state.streams.end()) {
        policy wanted(suite_, state.key, state.epoch, {ssrc_specific, ssrc});
        if (srtp_add_stream(state.session.get(), &wanted.value) != srtp_err_status_ok)
            return false;
        state.streams.push_back(ssrc);
    }
    return srtp_set_stream_roc(state.session.get(), ssrc, static_cast<std::uint32_t>(index >> 16)) ==
           srtp_err_status_ok;
}

void srtp_receiver::note(std::uint32_t ssrc, std::uint64_t index) {
    if (streams_.size() >= max_streams && !streams_.contains(ssrc)) {
        const auto oldest = std::min_element(streams_.begin(), streams_.end(), [](const auto& a, const auto& b) {
            return a.second.used < b.second.used;
        });
        streams_.erase(oldest);
    }
    stream_state& stream = streams_[ssrc];
    stream.highest = std::max(stream.highest, index);
    stream.used = ++clock_;
}

tl::expected<std::size_t, srtp_error> srtp_receiver::unprotect(packet_class what, std::span<std::uint8_t> buffer,
                                                               std::size_t length) {
    if (length > buffer.size() || !sane(what, buffer.first(length)))
        return tl::unexpected(srtp_error::malformed);
    // RFC 3711 3.1, 3.4: MKI before the tag; RFC 7714: the AEAD tag belongs to the ciphertext, the MKI ends the packet.
    const api::suite_info& row = api::info(suite_);
    const std::size_t tag = what == packet_class::rtp ? row.rtp_tag_length : row.rtcp_tag_length;
    const std::size_t index_field = what == packet_class::rtp ? 0 : 4;
    if (length < least_header(what) + index_field + tag + mki_length)
        return tl::unexpected(srtp_error::malformed);
    const std::size_t after_mki = row.aead ? 0 : tag;
    epoch_state* state = find(read32(buffer, length - mki_length - after_mki));
    if (state == nullptr)
        return tl::unexpected(srtp_error::unknown_epoch);
    // The MKI has chosen the session and is not authenticated (RFC 3711 3.1): it is cut out here, because libsrtp2 2.5
    // looks for SRTCP's with the length of SRTP's tag, which is another one under AES_CM_128_HMAC_SHA1_32.
    std::memmove(buffer.data() + length - mki_length - after_mki, buffer.data() + length - after_mki, after_mki);
    int size = static_cast<int>(length - mki_length);
    if (what == packet_class::rtcp) { // its index is in the packet: nothing to carry
        const auto status = srtp_unprotect_rtcp(state->session.get(), buffer.data(), &size);
        if (status != srtp_err_status_ok)
            return tl::unexpected(to_error(status));
        state->heard++;
        return static_cast<std::size_t>(size);
    }
    const std::uint32_t ssrc = read32(buffer, 8);
    const auto sequence = static_cast<std::uint16_t>(buffer[2] << 8 | buffer[3]);
    std::uint64_t index = sequence;
    const auto known = streams_.find(ssrc);
    const bool carried = known != streams_.end();
    if (carried) {
        index = guess_index(known->second.highest, sequence);
        if (!carry_roc(*state, ssrc, index))
            return tl::unexpected(srtp_error::internal);
    }
    const auto status = srtp_unprotect(state->session.get(), buffer.data(), &size);
    if (status != srtp_err_status_ok)
        return tl::unexpected(to_error(status));
    if (!carried) { // libsrtp2 has a stream for it now, or had one that we forgot: its ROC counts
        std::uint32_t roc = 0;
        if (srtp_get_stream_roc(state->session.get(), ssrc, &roc) == srtp_err_status_ok)
            index |= std::uint64_t{roc} << 16;
        if (std::find(state->streams.begin(), state->streams.end(), ssrc) == state->streams.end())
            state->streams.push_back(ssrc);
    }
    note(ssrc, index);
    state->heard++;
    return static_cast<std::size_t>(size);
}

} // namespace tandem::agent
