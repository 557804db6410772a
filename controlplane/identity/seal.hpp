// SPDX-License-Identifier: Apache-2.0
// Keys at rest: AES-256-GCM (NIST SP 800-38D) under the key of master_key_file, so that a stolen database gives no PSK.
// sealed = version (1) || nonce (12, random) || ciphertext || tag (16); the context (say "psk:alice") is authenticated,
// so a sealed value moved to another row does not open. Any thread; holds no state but the key.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <tl/expected.hpp>

#include "controlplane/protocol/secret.hpp"

namespace tandem::identity {

class sealer {
public:
    // Reads the 32-byte key; makes the file (0600, random) where there is none. The error is a sentence for the
    // operator.
    [[nodiscard]] static tl::expected<sealer, std::string> open(const std::string& master_key_file);

    // Empty where OpenSSL fails.
    [[nodiscard]] std::vector<std::uint8_t> seal(std::span<const std::uint8_t> plain, std::string_view context) const;
    // Nothing where the bytes, the context or the master key are not the ones of seal(), or the plain text is over 96
    // bytes.
    [[nodiscard]] std::optional<protocol::secret> unseal(std::span<const std::uint8_t> sealed,
                                                         std::string_view context) const;

private:
    explicit sealer(protocol::secret key) : key_(std::move(key)) {}
    protocol::secret key_;
};

// `size` bytes from OpenSSL's generator (seeded by the kernel's); empty where it fails.
[[nodiscard]] protocol::secret random_secret(std::size_t size);

} // namespace tandem::identity
