// SPDX-License-Identifier: Apache-2.0
// A table of rules in the kernel's nf_tables, by nfnetlink (linux/netfilter/nf_tables.h): what `nft -f` would do, for
// the few rules that Tandem's programs need. One change is one transaction: all of it is in force, or none.
// Needs CAP_NET_ADMIN in the network namespace. Blocking, some 100 us; no thread of its own.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <tl/expected.hpp>

#include "base/descriptor.hpp"

namespace tandem::netfilter {

enum class hook : std::uint8_t { prerouting = 0, input = 1, forward = 2 }; // NF_INET_*
inline constexpr std::int32_t priority_raw = -300;                         // before connection tracking
inline constexpr std::int32_t priority_filter = 0;

struct prefix {
    std::array<std::uint8_t, 16> ip{}; // IPv4: the first four
    std::uint8_t length = 0;
    bool ipv4 = true;
};

// What a packet must be for the rule to count: all of it. In the order in which it was said.
class rule {
public:
    rule& from_interface(std::string_view name); // iifname
    rule& not_from_interface(std::string_view name);
    rule& to_interface(std::string_view name); // oifname
    rule& from(const prefix& addresses);
    rule& to(const prefix& addresses);
    rule& not_from_this_host(); // fib saddr type != local
    rule& accept();
    rule& drop();

    using bytes = std::vector<std::uint8_t>;
    [[nodiscard]] const std::vector<std::pair<std::string, bytes>>& expressions() const noexcept { return parts_; }

private:
    rule& interface(std::uint32_t key, std::uint32_t comparison, std::string_view name);
    rule& address(const prefix& addresses, bool source);
    rule& verdict(std::uint32_t what);
    std::vector<std::pair<std::string, bytes>> parts_; // name and attributes
};

struct chain {
    std::string name;
    hook at = hook::prerouting;
    std::int32_t priority = priority_filter;
    std::vector<rule> rules{};
};

// Family inet. Its chains go by themselves: what others have in a table of that name stays.
class table {
public:
    enum class life : std::uint8_t {
        lasting, // until somebody removes it: also when this process is gone
        own,     // nobody else may change it, and it goes with this object or process (Linux 5.12)
    };
    // The error is a sentence.
    [[nodiscard]] static tl::expected<table, std::string> open(std::string name, life how);

    // Made where they are missing; their rules take the place of those before.
    [[nodiscard]] tl::expected<void, std::string> put(const std::vector<chain>& chains);
    [[nodiscard]] bool has(std::string_view chain);
    [[nodiscard]] std::size_t rules(std::string_view chain); // how many it holds now

private:
    table(std::string name, life how, descriptor fd) noexcept
        : name_(std::move(name)), life_(how), fd_(std::move(fd)) {}
    std::string name_;
    life life_;
    descriptor fd_;
};

} // namespace tandem::netfilter
