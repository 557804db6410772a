// SPDX-License-Identifier: Apache-2.0
// An interface's index, MTU and queues (ioctl; no sysfs, which may be another namespace's), and our privileges.
#include "dataplane/io/interface.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include <fmt/format.h>
#include <linux/capability.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dataplane/io/port.hpp"

namespace tandem::io {

namespace {

// One ioctl on an interface; errno in the result, 0 = done.
int interface_ioctl(const char* name, unsigned long request, ifreq& arguments) noexcept {
    int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno;
    std::strncpy(arguments.ifr_name, name, IFNAMSIZ - 1);
    int code = ::ioctl(fd, request, &arguments) == 0 ? 0 : errno;
    ::close(fd);
    return code;
}

int ethtool_channels(const std::string& name, ethtool_channels& channels) {
    ifreq arguments{};
    arguments.ifr_data = reinterpret_cast<char*>(&channels);
    return interface_ioctl(name.c_str(), SIOCETHTOOL, arguments);
}

bool read_channels(const std::string& name, struct ethtool_channels& channels) {
    channels = {};
    channels.cmd = ETHTOOL_GCHANNELS;
    return ethtool_channels(name, channels) == 0;
}

// Where the driver counts receive and transmit queues apart (veth), net_af_xdp uses the first queue only: what came to
// another would be dropped, so there must be no other.
tl::expected<std::uint16_t, std::string> single_queue(const std::string& name, struct ethtool_channels channels,
                                                      unsigned workers) {
    if (channels.rx_count > 1) {
        channels.cmd = ETHTOOL_SCHANNELS;
        channels.rx_count = channels.tx_count = 1;
        if (ethtool_channels(name, channels) != 0)
            return tl::unexpected(fmt::format(
                "{} has several receive queues, of which DPDK can use one: ethtool -L {} rx 1 tx 1", name, name));
    }
    if (workers > 1)
        return tl::unexpected(fmt::format(
            "{}: DPDK can use one queue of this driver (it has no combined queues, like veth), and each worker "
            "needs one: set workers = 1",
            name));
    return std::uint16_t{1};
}

} // namespace

tl::expected<interface_info, std::string> find_interface(const std::string& name) {
    if (name.empty() || name.size() >= IFNAMSIZ)
        return tl::unexpected(fmt::format("'{}' is no interface name", name));
    interface_info info;
    info.ifindex = ::if_nametoindex(name.c_str());
    if (info.ifindex == 0)
        return tl::unexpected(fmt::format(
            "no interface '{}' in this network namespace: see `ip link`, and [[port]] interface in the configuration",
            name));
    ifreq arguments{};
    if (int code = interface_ioctl(name.c_str(), SIOCGIFMTU, arguments); code != 0)
        return tl::unexpected(fmt::format("cannot read the MTU of {}: {}", name, std::strerror(code)));
    info.mtu = static_cast<std::uint16_t>(std::min(arguments.ifr_mtu, 65535));
    info.loopback = (interface_flags(info.ifindex).value_or(0) & IFF_LOOPBACK) != 0;
    return info;
}

std::optional<unsigned> interface_flags(unsigned ifindex) noexcept {
    char name[IFNAMSIZ] = {}; // what it is called now
    if (::if_indextoname(ifindex, name) == nullptr)
        return {};
    ifreq arguments{};
    if (interface_ioctl(name, SIOCGIFFLAGS, arguments) != 0)
        return {};
    return static_cast<unsigned short>(arguments.ifr_flags);
}

tl::expected<std::uint16_t, std::string> prepare_queues(const port_config& config, unsigned workers) {
    if (config.kind != port_kind::af_xdp)
        return config.queues;
    if (auto link = find_interface(config.interface); !link)
        return tl::unexpected(link.error());
    struct ethtool_channels channels {};
    if (!read_channels(config.interface, channels) || channels.max_combined == 0)
        return single_queue(config.interface, channels, workers);
    if (channels.combined_count < workers && channels.max_combined >= workers) {
        channels.cmd = ETHTOOL_SCHANNELS;
        channels.combined_count = workers;
        if (ethtool_channels(config.interface, channels) != 0) // the error below says what to do
            read_channels(config.interface, channels);
    }
    if (channels.combined_count < workers)
        return tl::unexpected(fmt::format(
            "{} has {} queue(s) and workers = {}: each worker needs one; set workers = {}, or give the interface "
            "more queues (ethtool -L {} combined {})",
            config.interface, channels.combined_count, workers, channels.combined_count, config.interface, workers));
    return static_cast<std::uint16_t>(channels.combined_count);
}

bool accept_own_senders() {
    constexpr const char* setting = "/proc/sys/net/ipv4/conf/lo/accept_local"; // IPv6 has no such check
    int now = 0;
    if (std::ifstream(setting) >> now && now == 1)
        return true;
    std::ofstream to(setting);
    to << 1;
    return to.flush().good();
}

tl::expected<void, std::string> check_privileges() {
    std::ifstream status("/proc/thread-self/status");
    std::string line;
    std::uint64_t effective = ~0ull; // where /proc is not there, the kernel's own errors must do
    while (std::getline(status, line))
        if (line.starts_with("CapEff:"))
            effective = std::strtoull(line.c_str() + 7, nullptr, 16);
    std::string missing;
    auto need = [&](unsigned capability, const char* name, bool other = false) {
        if (!other && (effective >> capability & 1) == 0)
            missing += (missing.empty() ? "" : ", ") + std::string(name);
    };
    bool admin = (effective >> CAP_SYS_ADMIN & 1) != 0;
    need(CAP_NET_ADMIN, "CAP_NET_ADMIN");
    need(CAP_NET_RAW, "CAP_NET_RAW");
    need(CAP_BPF, "CAP_BPF", admin);
    if (!missing.empty())
        return tl::unexpected(fmt::format(
            "missing privileges for AF_XDP: {}; start by the systemd unit, as root, or with these capabilities",
            missing));
    return {};
}

} // namespace tandem::io
