// SPDX-License-Identifier: Apache-2.0
// The reference engine, on OpenSSL EVP: simple, slow, works on every CPU, and instrumented: an observer sees each (key,
// IV) that encrypts, which is how tests prove that no pair is used twice.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "dataplane/crypto/engine.hpp"

namespace tandem::crypto {

class iv_observer {
public:
    iv_observer() = default;
    iv_observer(const iv_observer&) = delete;
    iv_observer& operator=(const iv_observer&) = delete;
    virtual ~iv_observer() = default;
    virtual void encrypting(std::span<const std::uint8_t> key, std::span<const std::uint8_t> iv) = 0;
};

[[nodiscard]] bool probe_openssl() noexcept;
// `observer` may be null; it outlives the engine.
[[nodiscard]] std::unique_ptr<engine> make_openssl(iv_observer* observer);

} // namespace tandem::crypto
