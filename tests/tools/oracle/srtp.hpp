// SPDX-License-Identifier: Apache-2.0
// One SSRC under one key by libsrtp2 (another implementation than the data plane's), beginning at a given rollover
// counter; and what the oracle reads of packets.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "dataplane/api/suites.hpp"

struct srtp_ctx_t_;

namespace tandem::oracle {

using bytes = std::vector<std::uint8_t>;

// Test keys: nothing here is secret.
struct srtp_key {
    api::suite suite{};
    std::string material;             // key || salt
    std::optional<std::uint32_t> mki; // on the wire, four bytes
    friend bool operator==(const srtp_key&, const srtp_key&) = default;
};
// Throws where key and salt have not the suite's length: said where a key is told, since it is used at any later
// moment.
void check_key(const srtp_key& key);

// What RTP and SRTP have in clear.
struct packet_head {
    bool rtcp = false;
    std::uint32_t ssrc = 0;
    std::uint16_t sequence = 0; // RTP
};
[[nodiscard]] std::optional<packet_head> read_head(std::span<const std::uint8_t> packet) noexcept;

[[nodiscard]] std::uint32_t get32(std::span<const std::uint8_t> from, std::size_t at) noexcept;
[[nodiscard]] std::uint64_t get64(std::span<const std::uint8_t> from, std::size_t at) noexcept;
void put32(std::span<std::uint8_t> to, std::size_t at, std::uint32_t value) noexcept;
void put64(std::span<std::uint8_t> to, std::size_t at, std::uint64_t value) noexcept;

// Takes the MKI out of a protected packet, or puts it in (RFC 3711 3.1: before the tag; RFC 7714: at the end).
[[nodiscard]] std::optional<std::uint32_t> take_mki(bytes& packet, api::suite suite, bool rtcp);
void put_mki(bytes& packet, api::suite suite, bool rtcp, std::uint32_t mki);
// SRTCP's own index, of a packet without MKI.
[[nodiscard]] std::uint32_t srtcp_index(std::span<const std::uint8_t> packet, api::suite suite) noexcept;

class srtp_stream {
public:
    // Throws where libsrtp2 refuses the key.
    srtp_stream(const srtp_key& key, std::uint32_t ssrc, std::uint32_t roc);

    [[nodiscard]] bool protect(bytes& packet, bool rtcp);
    // Nothing where the tag is wrong or libsrtp2 calls it a replay. The packet is without MKI.
    [[nodiscard]] std::optional<bytes> open(const bytes& packet, bool rtcp);

private:
    struct closer {
        void operator()(srtp_ctx_t_* session) const noexcept;
    };
    std::unique_ptr<srtp_ctx_t_, closer> session_;
};

} // namespace tandem::oracle
