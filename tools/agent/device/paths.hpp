// SPDX-License-Identifier: Apache-2.0
// Which radio a secondary leaves by (RIM-33): policy names wlan, wwan or either; the unit knows which of its interfaces
// is of which kind (agent.toml, [paths]), and which are up and have an address and a route for the gateway.
//
// choose() is pure; survey_links() asks the kernel (getifaddrs, RTM_GETROUTE), bind_to() binds a socket. Owner: the
// agent's thread; nothing here waits.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <asio/io_context.hpp>
#include <asio/posix/stream_descriptor.hpp>

#include "controlplane/protocol/types.hpp"
#include "tools/agent/device/packet.hpp"

namespace tandem::agent {

using protocol::path_choice;                               // what is asked for
enum class path_kind : std::uint8_t { wlan, wwan, other }; // what an interface is; other: neither radio
[[nodiscard]] const char* name_of(path_kind kind) noexcept;

// Names of interfaces, a last * stands for any end.
struct path_names {
    std::vector<std::string> wlan{"wl*"}, wwan{"ww*"};
    [[nodiscard]] path_kind kind_of(const std::string& interface) const noexcept;
};

struct net_link {
    std::string interface;
    path_kind kind = path_kind::other;
    bool usable = false; // up with carrier, an address of the gateway's family, a route to it
    bool up = false, carrier = false;
    std::vector<ip_bytes> addresses{}; // of the gateway's family; link-local ones are none
};
struct links {
    std::vector<net_link> all; // loopback is none, and the primary's own TUN is none
    std::string kernels_own;   // what an unbound socket would leave by now; empty: no route
    bool kernels_up = false;   // and that one is up with carrier
    std::string preferred{};   // the choice's ([[path]] of agent.toml); empty: none
};

struct chosen_path {
    std::string bind_to;   // interface; empty: unbound, the kernel's routes decide
    std::string interface; // that it leaves by; empty: none that is known
    path_kind in_use = path_kind::other;
    bool fallback = false; // not what was asked for
    friend bool operator==(const chosen_path&, const chosen_path&) = default;
};
// The one asked for where one such is usable (the one in use rather than another); else the choice's; else the kernel's
// own; else any.
[[nodiscard]] chosen_path choose(path_choice wanted, const links& known, const path_names& names,
                                 const std::string& in_use);

[[nodiscard]] links survey_links(const ip_bytes& gateway, const path_names& names, const std::string& tun);

// The address that the kernel would send from over this interface; nothing: it has no route there.
[[nodiscard]] std::optional<ip_bytes> source_towards(const ip_bytes& gateway, const std::string& interface);

// Whether an interface's name fits one of them; a last * stands for any end.
[[nodiscard]] bool any_fits(const std::vector<std::string>& patterns, const std::string& name) noexcept;

// SO_BINDTODEVICE on a socket that was not bound so before: needs no privilege since Linux 5.7. Re-binding would need
// CAP_NET_RAW, which the agent has not: a media that moves gets a new socket. Returns errno, or 0.
[[nodiscard]] int bind_to(int socket, const std::string& interface) noexcept;

// Tells when links, addresses or routes change (rtnetlink groups); silent where the kernel refuses: the caller polls,
// too.
class link_watch {
public:
    link_watch(asio::io_context& io, std::function<void()> changed);
    void start();
    void stop();

private:
    void wait();
    asio::posix::stream_descriptor stream_;
    std::function<void()> changed_;
};

} // namespace tandem::agent
