// SPDX-License-Identifier: Apache-2.0
// Next hops from the kernel's own routes and neighbours (rtnetlink), so that `ip route`, `ip neigh`, FRR and BIRD
// decide where media goes. The kernel also does ARP and neighbour discovery; we only ask it to and watch the outcome.
// Owner: the data plane's control thread. Not for workers: resolve() makes a system call on a cache miss.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include <tl/expected.hpp>

#include "dataplane/api/contract.hpp"

namespace tandem::io {

// Where and how a frame leaves.
struct next_hop {
    std::uint16_t port = 0; // index into the ports given to make()
    std::uint16_t vlan = 0; // 802.1Q id, 0 = untagged
    std::array<std::uint8_t, 6> source_mac{};
    std::array<std::uint8_t, 6> destination_mac{};
    std::uint16_t mtu = 0; // of the IP packet
    friend bool operator==(const next_hop&, const next_hop&) = default;
};

enum class hop_state : std::uint8_t {
    resolved,   // `hop` is usable now
    pending,    // the neighbour is being asked for; the generation moves when it answers or fails
    no_route,   // the kernel has no unicast route (it is a blackhole, a broadcast address, ...)
    not_a_port, // the route leaves by an interface that is none of ours (nor a VLAN on one); lo for the host's own
    failed,     // the neighbour does not answer; asked again by refresh()
};

struct hop_result {
    hop_state state = hop_state::no_route;
    next_hop hop{};
};

class nexthop_resolver {
public:
    // `ifindexes[i]` is the kernel's interface of port i; 0 = a port without one.
    [[nodiscard]] static tl::expected<std::unique_ptr<nexthop_resolver>, std::string>
    make(std::span<const unsigned> ifindexes);

    nexthop_resolver(const nexthop_resolver&) = delete;
    nexthop_resolver& operator=(const nexthop_resolver&) = delete;
    virtual ~nexthop_resolver() = default;

    // Answers at once; where a neighbour is not known yet the kernel is asked to find it and the answer is `pending`.
    // Call it again for every pair in use after generation() moved, and at least every few minutes (a repeated
    // call is a hash lookup): neighbours not asked for within `use_timeout_s` are no longer refreshed.
    [[nodiscard]] virtual hop_result resolve(const api::net_address& local, const api::net_address& remote) = 0;

    // The VLAN that the kernel has the address on, 0 = untagged; nothing where it is on no port, or on several.
    [[nodiscard]] virtual std::optional<std::uint16_t> vlan_of(const std::array<std::uint8_t, 16>& /*ip*/) const {
        return std::nullopt;
    }

    // Readable when the kernel has news: then call process().
    [[nodiscard]] virtual int fd() const noexcept = 0;

    // Takes the kernel's news; true where something changed that may change an answer (generation() moved).
    virtual bool process() = 0;

    // Moves whenever an earlier answer may have become wrong.
    [[nodiscard]] virtual std::uint64_t generation() const noexcept = 0;

    // To be called every `refresh_interval_s`: keeps neighbours in use fresh (the kernel does not see our packets, so
    // without it their entries would go stale and be collected), and asks again for those that failed.
    virtual void refresh() = 0;

    static constexpr unsigned refresh_interval_s = 5;
    static constexpr unsigned use_timeout_s = 600;

protected:
    nexthop_resolver() = default;
};

} // namespace tandem::io
