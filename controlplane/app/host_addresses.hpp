// SPDX-License-Identifier: Apache-2.0
// Peers on the gateway's own host: an address of its kernel is reached by the data plane's port on lo, where it has one
// (dataplane.toml, host_peers). Owner thread: the control plane's io_context.
#pragma once

#include <asio/awaitable.hpp>
#include <asio/ip/address.hpp>
#include <chrono>
#include <set>
#include <string>

#include "controlplane/dataplane_client/client.hpp"
#include "controlplane/media/types.hpp"

namespace tandem::control {

class host_addresses {
public:
    host_addresses(dataplane_client::client& dataplane, std::uint16_t first_port, std::uint16_t last_port)
        : dataplane_(dataplane), first_port_(first_port), last_port_(last_port) {}

    // Why media cannot be sent there, a sentence with the remedy; empty = as far as this host goes, they can.
    [[nodiscard]] std::string unreachable(const media::endpoint& where);
    // At each connect to the data plane: whether it has the port.
    asio::awaitable<void> look_at_ports();

private:
    [[nodiscard]] bool is_media_address(const asio::ip::address& where) const;
    void look();

    static constexpr std::chrono::seconds good_for{1};
    dataplane_client::client& dataplane_;
    std::uint16_t first_port_, last_port_; // of calls' media
    std::set<asio::ip::address> own_;
    std::set<std::string> loopbacks_; // interfaces
    std::chrono::steady_clock::time_point looked_{};
    bool has_port_ = true; // until the data plane has said otherwise
};

} // namespace tandem::control
