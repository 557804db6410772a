// SPDX-License-Identifier: Apache-2.0
// A point in time by two clocks: the wall's, which people read and anybody may set, and the time since the machine
// started, which nobody can. How long something took is asked of the second, over restarts of the program too; the
// first only where the machine itself started anew between the two.
#pragma once

#include <chrono>
#include <cstdint>

namespace tandem::protocol {

struct moment {
    std::chrono::system_clock::time_point wall; // 1970: it never was
    std::chrono::milliseconds up{};             // CLOCK_BOOTTIME; 0: not known
    std::uint32_t boot = 0;                     // which start of the machine; 0: not known

    [[nodiscard]] static moment now() noexcept;
    [[nodiscard]] bool was() const noexcept { return wall.time_since_epoch().count() > 0; }
    friend bool operator==(const moment&, const moment&) = default;
};

// Of this start of the machine, from the kernel's boot id.
[[nodiscard]] std::uint32_t this_boot() noexcept;

[[nodiscard]] bool earlier(const moment& one, const moment& other) noexcept;

// Never below zero.
[[nodiscard]] std::chrono::milliseconds between(const moment& from, const moment& to) noexcept;

// By how much the wall's clock was set in between, either way; 0 where it cannot be known, and below two seconds: that
// much a time daemon slews.
[[nodiscard]] std::chrono::milliseconds clock_set(const moment& from, const moment& to) noexcept;

} // namespace tandem::protocol
