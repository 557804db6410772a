// SPDX-License-Identifier: Apache-2.0
// How often a packet with a wrong tag may be tried under another roll-over counter (flow::has_another_index): whoever
// sends forged packets of made-up SSRCs chooses that, and each try costs as much as a packet. So a source's network has
// `tries` at once and as many a second, whatever it sends. A true stream needs one. Owner: one worker. No allocation.
#pragma once

#include "dataplane/pipeline/shares.hpp"

namespace tandem::pipeline {

class second_tries {
public:
    static constexpr std::uint64_t tries = 32;

    [[nodiscard]] bool take(const api::net_address& from, std::uint64_t now_ns) noexcept {
        return networks_.take(network_of(from), now_ns);
    }

private:
    shares<256, tries> networks_;
};

} // namespace tandem::pipeline
