// SPDX-License-Identifier: Apache-2.0
// SRTP of a secondary by libsrtp2, with epochs: the MKI on the wire (4 bytes, network order) is the epoch.
//
// Why two shapes (libsrtp2 2.5): srtp_update() keeps a stream's ROC and its SRTCP index but forgets the bits of its
// replay window, and it replaces the key at once. So the sender is one libsrtp2 session that srtp_update() re-keys (ROC
// and SRTCP index go on, RFC 3711 3.3.1 and 3.4), and the receiver is one session per epoch, chosen by the MKI, into
// which the ROC is carried: a packet that comes late under the old epoch still finds its key and its own replay window.
//
// Owner: the agent's only thread. Buffers are worked on in place and must have room for max_trailer more bytes.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include <tl/expected.hpp>

#include "controlplane/protocol/secret.hpp"
#include "dataplane/api/suites.hpp"

struct srtp_ctx_t_;

namespace tandem::agent {

inline constexpr std::size_t mki_length = 4;
inline constexpr std::size_t max_trailer = 4 + mki_length + 16; // SRTCP index, MKI, tag

enum class srtp_error : std::uint8_t {
    malformed,     // not RTP/RTCP, or shorter than its tag and MKI
    unknown_epoch, // MKI names no epoch in force
    auth,          // tag wrong
    replay,        // index already seen, or behind the window
    ssrc_limit,    // more SSRCs than a media may have
    key_limit,     // the key's packets are used up
    internal,
};

enum class packet_class : std::uint8_t { rtp, rtcp };

struct srtp_deleter {
    void operator()(srtp_ctx_t_* session) const noexcept; // srtp_dealloc wipes the session keys
};
using srtp_session = std::unique_ptr<srtp_ctx_t_, srtp_deleter>;

class srtp_sender {
public:
    static constexpr std::size_t max_streams = 64;

    // Nothing where libsrtp2 refuses suite or key.
    [[nodiscard]] static std::unique_ptr<srtp_sender> create(api::suite suite, const protocol::secret& key,
                                                             std::uint32_t epoch);

    // From now on under this epoch's key. False leaves the old key in use.
    [[nodiscard]] bool rekey(const protocol::secret& key, std::uint32_t epoch);

    // The length after protection.
    [[nodiscard]] tl::expected<std::size_t, srtp_error> protect(packet_class what, std::span<std::uint8_t> buffer,
                                                                std::size_t length);

    [[nodiscard]] std::uint32_t epoch() const noexcept { return epoch_; }

private:
    explicit srtp_sender(api::suite suite) : suite_(suite) {}
    api::suite suite_;
    std::uint32_t epoch_ = 0;
    srtp_session session_;
    std::unordered_map<std::uint32_t, std::uint32_t> streams_; // SSRC -> epoch of its last packet
};

class srtp_receiver {
public:
    static constexpr std::size_t max_streams = 16;
    static constexpr std::size_t max_epochs = 4;

    explicit srtp_receiver(api::suite suite) : suite_(suite) {}

    // Packets with this MKI are accepted from now on. The oldest epoch goes where max_epochs are in force.
    [[nodiscard]] bool install(const protocol::secret& key, std::uint32_t epoch);
    // Epochs below this one are forgotten and their keys wiped.
    void retire_below(std::uint32_t epoch) noexcept;
    // True where this epoch is in force under this very key (a SEED that was repeated).
    [[nodiscard]] bool holds(const protocol::secret& key, std::uint32_t epoch) const noexcept;
    void clear() noexcept { epochs_.clear(); }
    [[nodiscard]] bool heard(std::uint32_t epoch) const noexcept;
    [[nodiscard]] std::uint64_t heard_below(std::uint32_t epoch) const noexcept; // packets of the epochs in force
    [[nodiscard]] std::size_t epochs() const noexcept { return epochs_.size(); }

    // The length without protection.
    [[nodiscard]] tl::expected<std::size_t, srtp_error> unprotect(packet_class what, std::span<std::uint8_t> buffer,
                                                                  std::size_t length);

private:
    struct epoch_state {
        std::uint32_t epoch = 0;
        protocol::secret key; // for streams that are added with a ROC
        srtp_session session;
        std::vector<std::uint32_t> streams; // SSRCs that libsrtp2 has a stream for here
        std::uint64_t heard = 0;            // packets that authenticated
    };
    struct stream_state {
        std::uint64_t highest = 0; // authenticated index: ROC || SEQ
        std::uint64_t used = 0;    // for "oldest unused goes"
    };

    [[nodiscard]] epoch_state* find(std::uint32_t epoch) noexcept;
    [[nodiscard]] bool carry_roc(epoch_state& state, std::uint32_t ssrc, std::uint64_t index);
    void note(std::uint32_t ssrc, std::uint64_t index);

    api::suite suite_;
    std::vector<epoch_state> epochs_; // oldest first
    std::unordered_map<std::uint32_t, stream_state> streams_;
    std::uint64_t clock_ = 0;
};

// The index that RFC 3711 3.3.1 and appendix A guess for `sequence`, after `highest` was the highest one authenticated.
[[nodiscard]] std::uint64_t guess_index(std::uint64_t highest, std::uint16_t sequence) noexcept;

} // namespace tandem::agent
