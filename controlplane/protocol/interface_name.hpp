// SPDX-License-Identifier: Apache-2.0
// What the kernel takes as the name of a new interface (dev_valid_name()); also without %, which it would number.
#pragma once

#include <string_view>

namespace tandem::protocol {

[[nodiscard]] constexpr bool valid_interface(std::string_view name) noexcept {
    return !name.empty() && name.size() < 16 && name.find_first_of("/ \t\n%:") == std::string_view::npos &&
           name != "." && name != "..";
}

} // namespace tandem::protocol
