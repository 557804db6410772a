// SPDX-License-Identifier: Apache-2.0
// Which local addresses trace and capture look at: a flow's, a call's, a unit's.
#include <algorithm>
#include <arpa/inet.h>
#include <cstring>
#include <fmt/core.h>
#include <string>
#include <vector>

#include "tools/tandemctl/sight.hpp"

namespace tandem::ctl {

std::string address_text(const api::net_address& a) {
    char text[INET6_ADDRSTRLEN] = "";
    static constexpr std::uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    const bool v4 = std::memcmp(a.ip, mapped, sizeof mapped) == 0;
    inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? a.ip + 12 : a.ip, text, sizeof text);
    return v4 ? fmt::format("{}:{}", text, a.port) : fmt::format("[{}]:{}", text, a.port);
}

result<api::net_address> parse_address(const std::string& text) {
    const auto wrong = [&] {
        return tl::unexpected(
            error{failure::usage, fmt::format("\"{}\" is not ADDRESS:PORT (IPv6: [ADDRESS]:PORT)", text)});
    };
    const auto colon = text.rfind(':');
    if (colon == std::string::npos || colon + 1 == text.size() || text.size() - colon > 6 ||
        text.find_first_not_of("0123456789", colon + 1) != std::string::npos)
        return wrong();
    api::net_address a{};
    const unsigned long port = std::stoul(text.substr(colon + 1));
    std::string ip = text.substr(0, colon);
    a.port = static_cast<std::uint16_t>(port);
    a.ip[10] = a.ip[11] = 0xff;
    const bool brackets = ip.size() > 2 && ip.front() == '[' && ip.back() == ']';
    if (brackets)
        ip = ip.substr(1, ip.size() - 2);
    const bool read =
        brackets ? inet_pton(AF_INET6, ip.c_str(), a.ip) == 1 : inet_pton(AF_INET, ip.c_str(), a.ip + 12) == 1;
    if (!read || port == 0 || port > 0xffff)
        return wrong();
    return a;
}

result<api::observed_places> places_in(const json& media, const std::string& unit) {
    std::vector<std::string> found;
    for (const auto& one : media) {
        const auto& legs = one.at("legs");
        if (!unit.empty() && std::ranges::none_of(legs, [&](const json& leg) { return leg.value("unit", "") == unit; }))
            continue;
        for (const auto& leg : legs)
            for (const auto* key : {"outer_rtp", "outer_rtcp"})
                if (auto text = leg.value(key, ""); std::ranges::find(found, text) == found.end())
                    found.push_back(std::move(text));
    }
    api::observed_places out{};
    if (found.size() > std::size(out.at))
        return failed(fmt::format("it has {} addresses, and {} can be looked at: name a call, or a flow by --flow",
                                  found.size(), std::size(out.at)));
    for (const auto& text : found) {
        const auto place = parse_address(text);
        if (!place)
            return tl::unexpected(place.error());
        out.at[out.count++] = *place;
    }
    return out;
}

result<api::observed_places> places_of(const settings& s, const whose& of) {
    api::observed_places out{};
    if (!of.flow.empty()) {
        const auto flow = parse_address(of.flow);
        if (!flow)
            return tl::unexpected(flow.error());
        out.at[out.count++] = *flow;
    }
    if (of.call.empty() && of.unit.empty())
        return out;
    const auto answer = ops_client(s.run_dir, s.patience)
                            .request("media list", of.call.empty() ? json::object() : json{{"call_id", of.call}});
    if (!answer)
        return tl::unexpected(answer.error());
    auto places = places_in(answer->value("media", json::array()), of.unit);
    if (places && places->count == 0)
        return failed(of.call.empty() ? fmt::format("unit {} has no media now: see `tandemctl media list`", of.unit)
                                      : fmt::format("call {} has no media now: see `tandemctl call list`", of.call));
    return places;
}

} // namespace tandem::ctl
