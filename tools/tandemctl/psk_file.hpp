// SPDX-License-Identifier: Apache-2.0
// The pre-shared key's file: read where it exists, made where it does not. Argv is public, so a key travels only by
// file.
#pragma once

#include <string>

#include "tools/tandemctl/ops_client.hpp"

namespace tandem::ctl {

struct psk {
    std::string hex; // the holder wipes it
    bool made = false;
};

// An existing file must hold 16 to 64 bytes as hex digits and be closed to group and others. A new one gets 32 bytes
// from the kernel's RNG, mode 0600.
[[nodiscard]] result<psk> read_or_make_psk(const std::string& path);

void wipe(std::string& text) noexcept;

} // namespace tandem::ctl
