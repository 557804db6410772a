// SPDX-License-Identifier: Apache-2.0
// The inner network is reached by tunnels alone: rules of the kernel's nf_tables (table `tandem`, two chains for each
// TUN). They stay when the control plane dies. The XDP edge has the same for its ports; these are for all the others.
#pragma once

#include <optional>
#include <string>

#include <tl/expected.hpp>

#include "controlplane/netfilter/table.hpp"
#include "controlplane/tunnel/inner_device.hpp"

namespace tandem::tunnel {

class inner_guard {
public:
    [[nodiscard]] tl::expected<void, std::string> set(const tun_settings& settings);
    [[nodiscard]] bool in_force(const tun_settings& settings); // nobody has removed them

private:
    std::optional<netfilter::table> table_;
};

} // namespace tandem::tunnel
