// SPDX-License-Identifier: Apache-2.0
// Addresses as text, for logs and the status.
#pragma once

#include <string>

#include "tools/agent/device/packet.hpp"

namespace tandem::agent {

[[nodiscard]] std::string to_text(const ip_bytes& ip);
[[nodiscard]] std::string to_text(const endpoint& point); // "192.0.2.1:4433", "[2001:db8::1]:4433"

} // namespace tandem::agent
