// SPDX-License-Identifier: Apache-2.0
// RTM_NEWLINK to a port and VLAN.
#include "dataplane/io/link.hpp"

#include <algorithm>
#include <cstring>

#include <linux/if_link.h>
#include <net/if.h>
#include <netinet/in.h>

#include "dataplane/io/netlink.hpp"

namespace tandem::io {

std::optional<link> read_link(const nlmsghdr* message, std::span<const unsigned> port_ifindexes) {
    const auto* header = static_cast<const ifinfomsg*>(mnl_nlmsg_get_payload(message));
    if (header->ifi_family != AF_UNSPEC)
        return {}; // a bridge's view of its port
    auto lower = static_cast<unsigned>(header->ifi_index);
    attributes a(message, sizeof(ifinfomsg));
    attributes info(a[IFLA_LINKINFO]);
    link l{};
    if (const nlattr* kind = info[IFLA_INFO_KIND];
        kind != nullptr && std::strcmp(mnl_attr_get_str(kind), "vlan") == 0) {
        attributes vlan(info[IFLA_INFO_DATA]);
        constexpr std::uint16_t dot1q = 0x8100;
        // With a namespace id the index below is another namespace's.
        if (vlan.u16(IFLA_VLAN_PROTOCOL, htons(dot1q)) != htons(dot1q) || a[IFLA_LINK_NETNSID] != nullptr)
            return {};
        lower = a.u32(IFLA_LINK);
        l.vlan = vlan.u16(IFLA_VLAN_ID);
    }
    auto port = std::find(port_ifindexes.begin(), port_ifindexes.end(), lower);
    if (lower == 0 || port == port_ifindexes.end())
        return {};
    l.port = static_cast<std::uint16_t>(port - port_ifindexes.begin());
    l.mtu = static_cast<std::uint16_t>(std::min<std::uint32_t>(a.u32(IFLA_MTU), 65535));
    l.up = (header->ifi_flags & IFF_UP) != 0 && (header->ifi_flags & IFF_RUNNING) != 0;
    l.loopback = (header->ifi_flags & IFF_LOOPBACK) != 0;
    if (auto mac = a.bytes(IFLA_ADDRESS); mac.size() == l.mac.size())
        std::copy(mac.begin(), mac.end(), l.mac.begin());
    return l;
}

} // namespace tandem::io
