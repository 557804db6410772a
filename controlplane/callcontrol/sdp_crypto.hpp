// SPDX-License-Identifier: Apache-2.0
// a=crypto (RFC 4568): tag, suite, one or more inline keys with lifetime and MKI, session parameters. Pure; any thread.
// Keys live in protocol::secret; text that held them is wiped by wipe().
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "controlplane/protocol/secret.hpp"
#include "dataplane/api/suites.hpp"

namespace tandem::callcontrol::sdp {

struct crypto {
    std::uint32_t tag = 0; // 1 to 9 digits
    std::string suite_name;
    std::optional<api::suite> suite; // nothing where we do not know it
    protocol::secret key;            // master key || salt of the first inline key; empty where suite is unknown
    std::uint8_t mki_length = 0;     // 0 = none; 1 to 4
    std::uint32_t mki = 0;
    std::string refused; // why we cannot do as it says: "asks for UNENCRYPTED_SRTP"; empty where we can

    [[nodiscard]] bool usable() const noexcept { return suite && refused.empty() && !key.empty(); }
    [[nodiscard]] crypto copy() const;
};

// Text after "crypto:". Nothing where it is not RFC 4568 at all.
[[nodiscard]] std::optional<crypto> parse_crypto(std::string_view text);
// What is ours of a line.
struct crypto_line {
    std::uint32_t tag = 0;
    api::suite suite{};
    protocol::kept_secret key;
    std::uint8_t mki_length = 0;
    std::uint32_t mki = 0;
};
// "crypto:1 AES_CM_128_HMAC_SHA1_80 inline:...|2^31|1:4" (the text of an a= line).
[[nodiscard]] std::string print_crypto(const crypto_line&, bool lifetime);

// Overwrites and empties.
void wipe(std::string&) noexcept;

} // namespace tandem::callcontrol::sdp
