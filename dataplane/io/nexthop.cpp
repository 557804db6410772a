// SPDX-License-Identifier: Apache-2.0
// The kernel's routes are asked (RTM_GETROUTE, one per pair, cached), its links and neighbours are mirrored (dump, then
// news). A neighbour in use is asked for by RTM_NEWNEIGH with NTF_USE: the kernel probes it as if it had a packet to
// send.
#include "dataplane/io/nexthop.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <set>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <linux/neighbour.h>
#include <netinet/in.h>

#include "dataplane/io/link.hpp"
#include "dataplane/io/netlink.hpp"

namespace tandem::io {

namespace {

using ip_bytes = std::array<std::uint8_t, 16>; // IPv4 as ::ffff:a.b.c.d
using mac_bytes = std::array<std::uint8_t, 6>;

constexpr std::uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

bool is_ipv4(const std::uint8_t* ip) {
    return std::memcmp(ip, mapped_prefix, sizeof(mapped_prefix)) == 0;
}

// 4 or 16 bytes; all zero otherwise.
ip_bytes to_ip(std::span<const std::uint8_t> raw) {
    ip_bytes ip{};
    if (raw.size() == 4) {
        std::copy_n(mapped_prefix, sizeof(mapped_prefix), ip.begin());
        std::copy_n(raw.begin(), 4, ip.begin() + 12);
    } else if (raw.size() == 16) {
        std::copy_n(raw.begin(), 16, ip.begin());
    }
    return ip;
}

std::uint64_t hash(const void* data, std::size_t length) {
    return std::hash<std::string_view>{}({static_cast<const char*>(data), length});
}

struct pair_key {
    ip_bytes local;
    ip_bytes remote;
    bool operator==(const pair_key&) const = default;
};

struct neighbour_key {
    ip_bytes ip;
    unsigned ifindex;
    bool operator==(const neighbour_key&) const = default;
};

struct key_hash {
    std::size_t operator()(const pair_key& k) const noexcept { return hash(&k, sizeof(k)); }
    std::size_t operator()(const neighbour_key& k) const noexcept { return hash(&k, sizeof(k)); }
};
static_assert(sizeof(pair_key) == 32 && sizeof(neighbour_key) == 20, "hashed as bytes");

struct route {
    unsigned ifindex;
    ip_bytes next; // gateway, or the destination itself
    std::uint32_t mtu;
};

enum class answer : std::uint8_t { unknown, asked, usable, failed };

struct neighbour {
    answer state = answer::unknown;
    mac_bytes mac{};
    std::uint64_t used_s = 0; // 0 = nobody here asked for it
};

struct cached {
    hop_result result;
    route way;
    bool routed; // `way` is the kernel's answer
    std::uint64_t generation;
    std::uint64_t routes; // generation of routes and links that it was asked in
    std::uint64_t used_s;
};

std::uint64_t now_s() {
    auto now = std::chrono::steady_clock::now().time_since_epoch();
    return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::seconds>(now).count()) + 1;
}

// A request of `type` in the buffer, its family header zeroed.
template <typename Header>
std::pair<nlmsghdr*, Header*> compose(std::span<char> buffer, std::uint16_t type, int flags) {
    nlmsghdr* message = mnl_nlmsg_put_header(buffer.data());
    message->nlmsg_type = type;
    message->nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
    auto* header = static_cast<Header*>(mnl_nlmsg_put_extra_header(message, sizeof(Header)));
    return {message, header};
}

void put_ip(nlmsghdr* message, std::uint16_t type, const ip_bytes& ip) {
    if (is_ipv4(ip.data()))
        mnl_attr_put(message, type, 4, ip.data() + 12);
    else
        mnl_attr_put(message, type, 16, ip.data());
}

class kernel_resolver final : public nexthop_resolver {
public:
    kernel_resolver(netlink_socket news, netlink_socket requests, std::span<const unsigned> ifindexes)
        : news_(std::move(news)), requests_(std::move(requests)), ports_(ifindexes.begin(), ifindexes.end()) {}

    int read_all();

    hop_result resolve(const api::net_address& local, const api::net_address& remote) override;
    [[nodiscard]] std::optional<std::uint16_t> vlan_of(const ip_bytes& ip) const override;
    [[nodiscard]] int fd() const noexcept override { return news_.fd(); }
    bool process() override;
    [[nodiscard]] std::uint64_t generation() const noexcept override { return generation_; }
    void refresh() override;

private:
    [[nodiscard]] bool is_local(const ip_bytes& ip) const;
    int find_route(const pair_key& pair, route& found);
    void look_up(const pair_key& pair, cached& entry);
    void ask(const neighbour_key& key);
    void take(const nlmsghdr* message);
    void take_link(const nlmsghdr* message);
    void take_address(const nlmsghdr* message);
    void take_neighbour(const nlmsghdr* message);

    netlink_socket news_;
    netlink_socket requests_;
    std::vector<unsigned> ports_;
    std::unordered_map<unsigned, link> links_;
    std::set<std::pair<ip_bytes, unsigned>> addresses_; // the kernel's own, with their interface
    std::unordered_map<neighbour_key, neighbour, key_hash> neighbours_;
    std::unordered_map<pair_key, cached, key_hash> cache_;
    std::uint64_t generation_ = 1;
    std::uint64_t routes_ = 1; // moves with routes, rules, addresses and links only, not with a neighbour's answer
    std::uint64_t forgotten_s_ = 0;
    bool changed_ = false;        // since process() began
    bool routes_changed_ = false; // likewise
};

// Links and neighbours from the start; errno, 0 = done.
int kernel_resolver::read_all() {
    links_.clear();
    addresses_.clear();
    std::erase_if(neighbours_, [](const auto& n) { return n.second.used_s == 0; });
    for (auto& [key, n] : neighbours_)
        n.state = answer::unknown; // and in use
    char buffer[256];
    auto each = [this](const nlmsghdr* m) { take(m); };
    if (int code = requests_.request(compose<ifinfomsg>(buffer, RTM_GETLINK, NLM_F_DUMP).first, each); code != 0)
        return code;
    if (int code = requests_.request(compose<ifaddrmsg>(buffer, RTM_GETADDR, NLM_F_DUMP).first, each); code != 0)
        return code;
    if (int code = requests_.request(compose<ndmsg>(buffer, RTM_GETNEIGH, NLM_F_DUMP).first, each); code != 0)
        return code;
    for (auto& [key, n] : neighbours_)
        if (n.state == answer::unknown && n.used_s != 0)
            ask(key);
    ++generation_;
    ++routes_;
    return 0;
}

bool kernel_resolver::is_local(const ip_bytes& ip) const {
    auto at = addresses_.lower_bound({ip, 0});
    return at != addresses_.end() && at->first == ip;
}

std::optional<std::uint16_t> kernel_resolver::vlan_of(const ip_bytes& ip) const {
    std::optional<std::uint16_t> found;
    for (auto at = addresses_.lower_bound({ip, 0}); at != addresses_.end() && at->first == ip; ++at) {
        const auto l = links_.find(at->second);
        if (l == links_.end() || (found && *found != l->second.vlan))
            return std::nullopt;
        found = l->second.vlan;
    }
    return found;
}

int kernel_resolver::find_route(const pair_key& pair, route& found) {
    char buffer[256];
    auto [message, header] = compose<rtmsg>(buffer, RTM_GETROUTE, 0);
    bool v4 = is_ipv4(pair.remote.data());
    header->rtm_family = v4 ? AF_INET : AF_INET6;
    header->rtm_dst_len = v4 ? 32 : 128;
    put_ip(message, RTA_DST, pair.remote);
    // The source matters to policy routing, but the kernel refuses one that it does not have itself: a media address
    // that is only announced by routing.
    if (is_local(pair.local)) {
        header->rtm_src_len = header->rtm_dst_len;
        put_ip(message, RTA_SRC, pair.local);
    }
    int code = ENETUNREACH;
    int rc = requests_.request(message, [&](const nlmsghdr* reply) {
        if (reply->nlmsg_type != RTM_NEWROUTE)
            return;
        const auto* r = static_cast<const rtmsg*>(mnl_nlmsg_get_payload(reply));
        attributes a(reply, sizeof(rtmsg));
        const bool own = r->rtm_type == RTN_LOCAL && is_local(pair.remote); // 0.0.0.0 is local, too
        if ((r->rtm_type != RTN_UNICAST && !own) || a[RTA_OIF] == nullptr)
            return;
        found = {a.u32(RTA_OIF), pair.remote, attributes(a[RTA_METRICS]).u32(RTAX_MTU)};
        if (a[RTA_GATEWAY] != nullptr)
            found.next = to_ip(a.bytes(RTA_GATEWAY));
        else if (auto via = a.bytes(RTA_VIA);
                 via.size() > sizeof(std::uint16_t)) // RFC 5549: IPv4 via an IPv6 neighbour
            found.next = to_ip(via.subspan(sizeof(std::uint16_t)));
        code = 0;
    });
    return rc != 0 ? rc : code;
}

// The route is asked for only where routes may have changed since: news of a neighbour touch every flow behind it, and
// there may be a million.
void kernel_resolver::look_up(const pair_key& pair, cached& entry) {
    entry.result = {hop_state::no_route, {}};
    entry.generation = generation_;
    if (is_ipv4(pair.local.data()) != is_ipv4(pair.remote.data()))
        return;
    if (!entry.routed || entry.routes != routes_) {
        entry.routes = routes_;
        entry.routed = find_route(pair, entry.way) == 0;
    }
    if (!entry.routed)
        return;
    auto l = links_.find(entry.way.ifindex);
    if (l == links_.end()) {
        entry.result.state = hop_state::not_a_port;
        return;
    }
    if (!l->second.up)
        return;
    if (l->second.loopback) {
        entry.result = {hop_state::resolved, {l->second.port, 0, l->second.mac, l->second.mac, l->second.mtu}};
        return;
    }

    const neighbour_key via{entry.way.next, entry.way.ifindex};
    neighbour& n = neighbours_[via];
    n.used_s = entry.used_s;
    if (n.state == answer::unknown) {
        n.state = answer::asked;
        ask(via);
    }
    entry.result.hop = {l->second.port, l->second.vlan, l->second.mac, n.mac, l->second.mtu};
    if (entry.way.mtu != 0)
        entry.result.hop.mtu = static_cast<std::uint16_t>(std::min<std::uint32_t>(entry.way.mtu, l->second.mtu));
    entry.result.state = n.state == answer::usable   ? hop_state::resolved
                         : n.state == answer::failed ? hop_state::failed
                                                     : hop_state::pending;
}

hop_result kernel_resolver::resolve(const api::net_address& local, const api::net_address& remote) {
    pair_key pair{to_ip(local.ip), to_ip(remote.ip)};
    cached& entry = cache_.try_emplace(pair).first->second;
    const std::uint64_t now = now_s();
    if (entry.generation != generation_) {
        entry.used_s = now;
        look_up(pair, entry);
    } else if (entry.used_s != now) {
        entry.used_s = now;
        if (entry.routed)
            if (auto n = neighbours_.find({entry.way.next, entry.way.ifindex}); n != neighbours_.end())
                n->second.used_s = now;
    }
    return entry.result;
}

void kernel_resolver::ask(const neighbour_key& key) {
    char buffer[256];
    auto [message, header] = compose<ndmsg>(buffer, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_ACK);
    header->ndm_family = is_ipv4(key.ip.data()) ? AF_INET : AF_INET6;
    header->ndm_ifindex = static_cast<int>(key.ifindex);
    header->ndm_flags = NTF_USE;
    put_ip(message, NDA_DST, key.ip);
    requests_.request(message, [](const nlmsghdr*) {}); // what comes of it is news
}

bool kernel_resolver::process() {
    changed_ = routes_changed_ = false;
    if (!news_.drain([this](const nlmsghdr* m) { take(m); })) {
        if (read_all() == 0)
            return true;
        routes_changed_ = true;
    }
    routes_ += routes_changed_ ? 1 : 0;
    changed_ |= routes_changed_;
    generation_ += changed_ ? 1 : 0;
    return changed_;
}

void kernel_resolver::take(const nlmsghdr* message) {
    switch (message->nlmsg_type) {
    case RTM_NEWLINK:
    case RTM_DELLINK:
        take_link(message);
        break;
    case RTM_NEWADDR:
    case RTM_DELADDR:
        take_address(message);
        break;
    case RTM_NEWNEIGH:
    case RTM_DELNEIGH:
        take_neighbour(message);
        break;
    case RTM_NEWROUTE:
    case RTM_DELROUTE:
    case RTM_NEWRULE:
    case RTM_DELRULE:
        routes_changed_ = true;
        break;
    default:
        break;
    }
}

void kernel_resolver::take_link(const nlmsghdr* message) {
    auto ifindex = static_cast<unsigned>(static_cast<const ifinfomsg*>(mnl_nlmsg_get_payload(message))->ifi_index);
    auto l = read_link(message, ports_);
    if (!l)
        return;
    if (message->nlmsg_type == RTM_DELLINK) {
        routes_changed_ |= links_.erase(ifindex) != 0;
        return;
    }
    // The kernel does not tell of IPv4 routes that go with a link that goes down: the link's own news must do.
    auto known = links_.find(ifindex);
    if (known == links_.end() || known->second != *l) {
        links_.insert_or_assign(ifindex, *l);
        routes_changed_ = true;
    }
}

void kernel_resolver::take_address(const nlmsghdr* message) {
    const auto* header = static_cast<const ifaddrmsg*>(mnl_nlmsg_get_payload(message));
    attributes a(message, sizeof(ifaddrmsg));
    // On a point-to-point link IFA_ADDRESS is the other end's; IPv6 without a peer has only IFA_ADDRESS.
    std::pair key{to_ip(a.bytes(a[IFA_LOCAL] != nullptr ? IFA_LOCAL : IFA_ADDRESS)), unsigned{header->ifa_index}};
    routes_changed_ |= message->nlmsg_type == RTM_DELADDR ? addresses_.erase(key) != 0 : addresses_.insert(key).second;
}

void kernel_resolver::take_neighbour(const nlmsghdr* message) {
    const auto* header = static_cast<const ndmsg*>(mnl_nlmsg_get_payload(message));
    if ((header->ndm_family != AF_INET && header->ndm_family != AF_INET6) ||
        !links_.contains(static_cast<unsigned>(header->ndm_ifindex)))
        return;
    attributes a(message, sizeof(ndmsg));
    neighbour_key key{to_ip(a.bytes(NDA_DST)), static_cast<unsigned>(header->ndm_ifindex)};
    constexpr unsigned answers = NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE;
    auto mac = a.bytes(NDA_LLADDR);

    auto known = neighbours_.find(key);
    bool wanted = known != neighbours_.end() && known->second.used_s != 0;
    bool gone = message->nlmsg_type == RTM_DELNEIGH;
    if (gone && !wanted) {
        if (known != neighbours_.end())
            neighbours_.erase(known);
        return;
    }
    neighbour& n = neighbours_[key];
    neighbour before = n;
    if (!gone && (header->ndm_state & answers) != 0 && mac.size() == n.mac.size()) {
        n.state = answer::usable;
        std::copy(mac.begin(), mac.end(), n.mac.begin());
    } else if (!gone && (header->ndm_state & NUD_FAILED) != 0) {
        n.state = answer::failed;
    } else if (n.state != answer::failed) { // one that failed and is asked again has not answered yet
        n.state = wanted ? answer::asked : answer::unknown;
    }
    // Deleted by hand, or just lost: we still need it. One that does not answer is asked again by refresh().
    if (wanted && before.state != answer::failed && (gone || n.state == answer::failed))
        ask(key);
    if (wanted && (n.state != before.state || n.mac != before.mac))
        changed_ = true;
}

void kernel_resolver::refresh() {
    std::uint64_t now = now_s();
    for (auto& [key, n] : neighbours_) {
        if (n.used_s == 0)
            continue;
        if (n.used_s + use_timeout_s < now)
            n.used_s = 0;
        else
            ask(key);
    }
    if (forgotten_s_ + use_timeout_s / 4 > now)
        return; // a walk over every pair in use: rarely
    forgotten_s_ = now;
    std::erase_if(cache_, [now](const auto& c) { return c.second.used_s + use_timeout_s < now; });
}

} // namespace

tl::expected<std::unique_ptr<nexthop_resolver>, std::string>
nexthop_resolver::make(std::span<const unsigned> ifindexes) {
    constexpr unsigned groups[] = {RTNLGRP_LINK,      RTNLGRP_NEIGH,     RTNLGRP_IPV4_ROUTE,  RTNLGRP_IPV6_ROUTE,
                                   RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_RULE, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR};
    auto news = netlink_socket::open(groups); // first, so that nothing falls between the dump and the news
    if (!news)
        return tl::unexpected(news.error());
    auto requests = netlink_socket::open({});
    if (!requests)
        return tl::unexpected(requests.error());
    auto resolver = std::make_unique<kernel_resolver>(std::move(*news), std::move(*requests), ifindexes);
    if (int code = resolver->read_all(); code != 0)
        return tl::unexpected(std::string("netlink: cannot read links and neighbours: ") + std::strerror(code));
    return resolver;
}

} // namespace tandem::io
