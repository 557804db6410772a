// SPDX-License-Identifier: Apache-2.0
// Who is a subscriber and what is its long-term key. Implemented by store/ over SQLite (keys sealed, see seal.hpp).
// Asked in the TLS handshake on the control plane's io_context: must answer in well under a millisecond.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "controlplane/protocol/secret.hpp"

namespace tandem::identity {

class psk_store {
public:
    virtual ~psk_store() = default;

    // The unit's pre-shared key (16 to 64 bytes); nothing where the unit is unknown or has none.
    [[nodiscard]] virtual std::optional<protocol::secret> psk(std::string_view id_code) = 0;
    // Is this id code a unit's, with a PSK or without (certificate)? Asked again at each CONFIG.
    [[nodiscard]] virtual bool known(std::string_view id_code) = 0;
    // Is it a unit of the kind that comes with a certificate, and may it come with this public key (SHA-256 of its
    // SubjectPublicKeyInfo)? One that was enrolled with a PSK may not.
    [[nodiscard]] virtual bool by_certificate(std::string_view id_code, std::span<const std::uint8_t> key) = 0;
};

} // namespace tandem::identity
