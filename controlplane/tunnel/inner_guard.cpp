// SPDX-License-Identifier: Apache-2.0
// The rules, in their order. See inner_guard.hpp.
#include "controlplane/tunnel/inner_guard.hpp"

#include <algorithm>
#include <vector>

namespace tandem::tunnel {
namespace {

using netfilter::chain;
using netfilter::rule;

std::string entry_chain(const tun_settings& s) {
    return "entry-" + s.name;
}
std::string between_chain(const tun_settings& s) {
    return "between-units-" + s.name;
}

std::vector<netfilter::prefix> networks_of(const tun_settings& s) {
    std::vector<netfilter::prefix> all;
    if (s.inner4) {
        netfilter::prefix p{{}, static_cast<std::uint8_t>(s.inner4->prefix_length()), true};
        std::ranges::copy(s.inner4->address().to_bytes(), p.ip.begin());
        all.push_back(p);
    }
    if (s.inner6) {
        netfilter::prefix p{{}, static_cast<std::uint8_t>(s.inner6->prefix_length()), false};
        std::ranges::copy(s.inner6->address().to_bytes(), p.ip.begin());
        all.push_back(p);
    }
    return all;
}

std::vector<chain> chains_of(const tun_settings& s) {
    chain entry{entry_chain(s), netfilter::hook::prerouting, netfilter::priority_raw};
    entry.rules.push_back(rule().from_interface("lo").accept());
    entry.rules.push_back(rule().from_interface(s.name).accept());
    for (const auto& name : s.from)
        entry.rules.push_back(rule().from_interface(name).accept());
    for (const auto& network : networks_of(s)) {
        entry.rules.push_back(rule().to(network).drop());
        entry.rules.push_back(rule().from(network).drop());
    }
    chain between{between_chain(s), netfilter::hook::forward, netfilter::priority_filter};
    if (s.isolate)
        between.rules.push_back(rule().from_interface(s.name).to_interface(s.name).drop());
    return {std::move(entry), std::move(between)};
}

} // namespace

tl::expected<void, std::string> inner_guard::set(const tun_settings& s) {
    if (!table_) {
        auto opened = netfilter::table::open("tandem", netfilter::table::life::lasting);
        if (!opened)
            return tl::unexpected(opened.error());
        table_.emplace(std::move(*opened));
    }
    return table_->put(chains_of(s));
}

bool inner_guard::in_force(const tun_settings& s) {
    return table_ && std::ranges::all_of(chains_of(s), [this](const chain& c) {
               return table_->has(c.name) && table_->rules(c.name) == c.rules.size();
           });
}

} // namespace tandem::tunnel
