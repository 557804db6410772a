// SPDX-License-Identifier: Apache-2.0
// Where inner IP packets enter and leave the gateway's host: the kernel's TUN device, or a fake in tests.
// Owner thread: the io_context's.
#pragma once

#include <asio/io_context.hpp>
#include <asio/ip/network_v4.hpp>
#include <asio/ip/network_v6.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <tl/expected.hpp>

namespace tandem::tunnel {

class inner_device {
public:
    using packet_handler = std::function<void(std::span<const std::uint8_t>)>;

    virtual ~inner_device() = default;
    // Packets for units come to the handler from now on. The error is a sentence: what is wrong, what to do.
    [[nodiscard]] virtual tl::expected<void, std::string> start(packet_handler) = 0;
    // To the host's IP stack. False where it did not take the packet.
    virtual bool write(std::span<const std::uint8_t> packet) = 0;
    virtual void stop() = 0;
    // Looks whether the host still keeps strangers from the inner network, and sees to it. Why it does not; empty =
    // it does.
    [[nodiscard]] virtual std::string guard() { return {}; }
};

struct tun_settings {
    std::string name;
    std::optional<asio::ip::network_v4> inner4; // the device's own address in its network
    std::optional<asio::ip::network_v6> inner6;
    std::uint16_t mtu = 1280;
    bool guarded = true;             // rules of nf_tables keep the inner network apart (inner_guard.hpp)
    std::vector<std::string> from{}; // interfaces by which it may be reached beside the TUN
    bool isolate = true;             // no packet from one unit to another
};

// A TUN device of that name, made at start() and gone at stop(); needs CAP_NET_ADMIN.
[[nodiscard]] std::unique_ptr<inner_device> make_kernel_tun(asio::io_context&, tun_settings);

} // namespace tandem::tunnel
