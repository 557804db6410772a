// SPDX-License-Identifier: Apache-2.0
// Proofs of a session's secret. See proof.hpp.
#include "controlplane/session_layer/proof.hpp"

#include <algorithm>
#include <openssl/crypto.h>
#include <string_view>

#include "controlplane/protocol/message.hpp"
#include "controlplane/protocol/seed_keys.hpp"

namespace tandem::session_layer {

proof prove(const protocol::secret& secret, prover who, std::uint64_t tsid, std::uint32_t group,
            std::span<const std::uint8_t> binding) noexcept {
    static constexpr std::string_view label = "tandem session link v1";
    std::array<std::uint8_t, label.size() + 1 + 8 + 4> info{};
    const std::span all(info);
    std::ranges::copy(label, info.begin());
    info[label.size()] = static_cast<std::uint8_t>(who);
    protocol::store_be(all.subspan(label.size() + 1, 8), tsid);
    protocol::store_be(all.last(4), group);
    proof out{};
    if (secret.view().empty() || binding.empty() || !protocol::hkdf_sha256(binding, secret.view(), info, out))
        out.fill(0);
    return out;
}

bool matches(const proof& expected, std::span<const std::uint8_t> told) noexcept {
    static constexpr proof nothing{};
    return told.size() == expected.size() && CRYPTO_memcmp(expected.data(), told.data(), told.size()) == 0 &&
           CRYPTO_memcmp(expected.data(), nothing.data(), nothing.size()) != 0;
}

} // namespace tandem::session_layer
