// SPDX-License-Identifier: Apache-2.0
// The engine on Intel IPsec-MB; engines() in engine.hpp is the way to it, benchmarks may name it.
#pragma once

#include <memory>

#include "dataplane/crypto/engine.hpp"

namespace tandem::crypto {

[[nodiscard]] bool probe_ipsecmb() noexcept;
[[nodiscard]] std::unique_ptr<engine> make_ipsecmb();

} // namespace tandem::crypto
