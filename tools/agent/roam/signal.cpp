// SPDX-License-Identifier: Apache-2.0
// nl80211: CTRL_CMD_GETFAMILY, then NL80211_CMD_GET_STATION as a dump. Group "mlme" tells of roaming, of links that are
// lost, and (where somebody asked the driver for it) of the signal's thresholds. linux/nl80211.h, linux/genetlink.h.
#include "tools/agent/roam/signal.hpp"

#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

#include <libmnl/libmnl.h>
#include <linux/genetlink.h>
#include <linux/nl80211.h>
#include <sys/socket.h>
#include <sys/time.h>

namespace tandem::agent {

namespace {

constexpr std::size_t largest = 32768; // of an answer's datagram
constexpr timeval patience{0, 200000};

using message_buffer = std::array<char, 256>;

nlmsghdr* begin(message_buffer& buffer, std::uint16_t family, std::uint8_t command, std::uint16_t flags) {
    auto* message = mnl_nlmsg_put_header(buffer.data());
    message->nlmsg_type = family;
    message->nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
    auto* generic = static_cast<genlmsghdr*>(mnl_nlmsg_put_extra_header(message, sizeof(genlmsghdr)));
    generic->cmd = command;
    generic->version = 1;
    return message;
}

// An attribute of this type, long enough; null where there is none. The kernel's words are not believed blindly.
const nlattr* find(const nlattr* first, std::size_t length, unsigned type, std::size_t least) {
    const auto* at = first;
    auto left = static_cast<int>(length);
    for (; mnl_attr_ok(at, left); left -= MNL_ALIGN(at->nla_len), at = mnl_attr_next(at))
        if (mnl_attr_get_type(at) == type)
            return mnl_attr_get_payload_len(at) >= least ? at : nullptr;
    return nullptr;
}
const nlattr* of_message(const nlmsghdr* message, unsigned type, std::size_t least) {
    constexpr std::size_t headers = MNL_NLMSG_HDRLEN + MNL_ALIGN(sizeof(genlmsghdr));
    if (message->nlmsg_len < headers)
        return nullptr;
    const auto* first = reinterpret_cast<const nlattr*>(reinterpret_cast<const char*>(message) + headers);
    return find(first, message->nlmsg_len - headers, type, least);
}
const nlattr* within(const nlattr* nest, unsigned type, std::size_t least) {
    if (nest == nullptr)
        return nullptr;
    return find(static_cast<const nlattr*>(mnl_attr_get_payload(nest)), mnl_attr_get_payload_len(nest), type, least);
}

std::uint32_t group_named(const nlattr* groups, std::string_view wanted) {
    if (groups == nullptr)
        return 0;
    const auto* one = static_cast<const nlattr*>(mnl_attr_get_payload(groups));
    auto left = static_cast<int>(mnl_attr_get_payload_len(groups));
    for (; mnl_attr_ok(one, left); left -= MNL_ALIGN(one->nla_len), one = mnl_attr_next(one)) {
        const auto* name = within(one, CTRL_ATTR_MCAST_GRP_NAME, wanted.size());
        const auto* id = within(one, CTRL_ATTR_MCAST_GRP_ID, 4);
        if (name != nullptr && id != nullptr &&
            std::string_view(static_cast<const char*>(mnl_attr_get_payload(name)), wanted.size()) == wanted)
            return mnl_attr_get_u32(id);
    }
    return 0;
}

// A beacon's average where the driver has one, else the last frame's.
std::optional<int> signal_of(const nlmsghdr* message) {
    const auto* station = of_message(message, NL80211_ATTR_STA_INFO, 0);
    for (const unsigned type : {NL80211_STA_INFO_SIGNAL_AVG, NL80211_STA_INFO_SIGNAL})
        if (const auto* dbm = within(station, type, 1))
            return static_cast<std::int8_t>(mnl_attr_get_u8(dbm));
    return std::nullopt;
}

descriptor open_generic(int flags) {
    return descriptor(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | flags, NETLINK_GENERIC));
}

} // namespace

nl80211_source::nl80211_source(descriptor requests, descriptor news)
    : requests_(std::move(requests)), news_(std::move(news)) {
    ::setsockopt(requests_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
}

std::unique_ptr<nl80211_source> nl80211_source::open() {
    auto requests = open_generic(0), news = open_generic(SOCK_NONBLOCK);
    if (!requests || !news)
        return nullptr;
    return std::make_unique<nl80211_source>(std::move(requests), std::move(news));
}

template <class Each>
bool nl80211_source::ask(void* request, Each each) {
    auto* message = static_cast<nlmsghdr*>(request);
    message->nlmsg_seq = ++sequence_;
    const bool dump = (message->nlmsg_flags & NLM_F_DUMP) != 0;
    if (::send(requests_.get(), message, message->nlmsg_len, MSG_NOSIGNAL) < 0)
        return false;
    alignas(nlmsghdr) std::array<char, largest> answer;
    for (int datagrams = 0; datagrams < 64; datagrams++) {
        const ssize_t got = ::recv(requests_.get(), answer.data(), answer.size(), 0);
        if (got <= 0)
            return false;
        auto left = static_cast<int>(got);
        for (const auto* one = reinterpret_cast<const nlmsghdr*>(answer.data()); mnl_nlmsg_ok(one, left);
             one = mnl_nlmsg_next(one, &left)) {
            if (one->nlmsg_seq != sequence_)
                continue; // a late answer to an earlier one
            if (one->nlmsg_type == NLMSG_DONE)
                return true;
            if (one->nlmsg_type == NLMSG_ERROR)
                return false;
            each(one);
            if (!dump)
                return true;
        }
    }
    return false;
}

bool nl80211_source::find_family() {
    if (family_ != 0)
        return true;
    message_buffer buffer{};
    auto* request = begin(buffer, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, 0);
    mnl_attr_put_strz(request, CTRL_ATTR_FAMILY_NAME, NL80211_GENL_NAME);
    std::uint32_t group = 0;
    const bool known = ask(request, [&](const nlmsghdr* answer) {
        if (const auto* id = of_message(answer, CTRL_ATTR_FAMILY_ID, 2))
            family_ = mnl_attr_get_u16(id);
        group = group_named(of_message(answer, CTRL_ATTR_MCAST_GROUPS, 0), NL80211_MULTICAST_GROUP_MLME);
    });
    if (known && group != 0)
        join(group);
    return family_ != 0;
}

// Where the kernel refuses it, what is polled is enough.
void nl80211_source::join(std::uint32_t group) noexcept {
    (void)::setsockopt(news_.get(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group);
}

std::optional<int> nl80211_source::read(unsigned interface) {
    if (interface == 0 || !find_family())
        return std::nullopt;
    message_buffer buffer{};
    auto* request = begin(buffer, family_, NL80211_CMD_GET_STATION, NLM_F_DUMP);
    mnl_attr_put_u32(request, NL80211_ATTR_IFINDEX, interface);
    std::optional<int> strongest;
    const bool whole = ask(request, [&](const nlmsghdr* answer) {
        const auto dbm = signal_of(answer);
        if (dbm && (!strongest || *dbm > *strongest))
            strongest = dbm;
    });
    if (!whole)
        family_ = 0; // the driver went, perhaps: it may come back under another number
    return strongest;
}

void nl80211_source::news() {
    std::array<char, largest> ignored; // whatever it says: everything is read anew
    for (int i = 0; i < 64; i++)
        if (::recv(news_.get(), ignored.data(), ignored.size(), MSG_DONTWAIT) < 0 && errno != ENOBUFS)
            return;
}

} // namespace tandem::agent
