// SPDX-License-Identifier: Apache-2.0
// The TUN device: made while privileged, given its addresses when the gateway's CONFIG arrives (needs CAP_NET_ADMIN).
// Linux tuntap (IFF_TUN, IFF_NO_PI), rtnetlink for addresses. Owner: the agent's only thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <tl/expected.hpp>

#include "controlplane/netfilter/table.hpp"
#include "tools/agent/device/packet.hpp"

namespace tandem::agent {

struct inner_address {
    ip_bytes ip{};
    std::uint8_t prefix = 0; // of the route into the tunnel
    friend bool operator==(const inner_address&, const inner_address&) = default;
};

class tun_device {
public:
    // The error is a sentence that says what to do.
    [[nodiscard]] static tl::expected<tun_device, std::string> open(const std::string& name);

    tun_device(tun_device&& other) noexcept;
    tun_device& operator=(tun_device&&) = delete;
    ~tun_device();

    // Sets addresses (with their routes) and MTU and brings the device up. What it had before from us is taken away.
    [[nodiscard]] tl::expected<void, std::string> configure(const std::vector<inner_address>& addresses,
                                                            std::uint16_t mtu);

    // From now on packets to these addresses come from this host itself or out of the tunnel, never from a network that
    // the device is in: rules of nf_tables that go with this process. Needs CAP_NET_ADMIN.
    [[nodiscard]] tl::expected<void, std::string> guard(const std::vector<inner_address>& addresses);

    [[nodiscard]] int fd() const noexcept { return fd_; }
    // Gives the descriptor away (to asio); the device lives as long as it does.
    [[nodiscard]] int release() noexcept;
    [[nodiscard]] const std::string& name() const noexcept { return name_; }

private:
    tun_device(int fd, std::string name) : fd_(fd), name_(std::move(name)) {}
    int fd_ = -1;
    std::string name_;
    std::vector<inner_address> set_;
    std::unique_ptr<netfilter::table> guard_;
};

} // namespace tandem::agent
