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
    std::uint8_t mki_length = 0;     // 0 = none
    std::uint64_t mki = 0;
    bool unsupported = false; // session parameters that we cannot honour, a wrong key length, several keys

    [[nodiscard]] bool usable() const noexcept { return suite && !unsupported && !key.empty() && mki_length == 0; }
    [[nodiscard]] crypto copy() const;
};

// Text after "crypto:". Nothing where it is not RFC 4568 at all.
[[nodiscard]] std::optional<crypto> parse_crypto(std::string_view text);
// "crypto:1 AES_CM_128_HMAC_SHA1_80 inline:..." (the text of an a= line).
[[nodiscard]] std::string print_crypto(std::uint32_t tag, api::suite, const protocol::secret& key);

// Overwrites and empties.
void wipe(std::string&) noexcept;

} // namespace tandem::callcontrol::sdp
