// SPDX-License-Identifier: Apache-2.0
// [capture] of agent.toml: whose connections, and which of them.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "bpf/loader/capture.hpp"

namespace tandem::agent {

struct capture_settings {
    std::string cgroup; // below where cgroup2 is mounted; empty: nothing is captured
    std::vector<bpf::capture_rule> rules;
    std::chrono::seconds udp_idle{60}; // after which a program's datagram socket, or a destination, is forgotten
    [[nodiscard]] bool any() const noexcept { return !cgroup.empty(); }
};

// "192.0.2.0/24", "2001:db8::1" into the rule's address and length; false where it is none, or has bits behind its
// length.
[[nodiscard]] bool read_prefix(std::string_view text, bpf::capture_rule& rule);

// Two rules of the same prefix, port and protocol.
[[nodiscard]] bool same_destinations(const bpf::capture_rule& a, const bpf::capture_rule& b) noexcept;

} // namespace tandem::agent
