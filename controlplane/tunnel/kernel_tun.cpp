// SPDX-License-Identifier: Apache-2.0
// The kernel's TUN device (Documentation/networking/tuntap.rst), set up by ioctl: no program is started.
// Owner thread: the io_context's.
#include "controlplane/tunnel/inner_device.hpp"

#include <array>
#include <asio/posix/stream_descriptor.hpp>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/ipv6.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utility>

#include "base/descriptor.hpp"
#include "controlplane/tunnel/inner_guard.hpp"

namespace tandem::tunnel {
namespace {

constexpr int packets_per_turn = 64; // before other work of the io_context gets its turn

ifreq request_for(const std::string& name) {
    ifreq request{};
    name.copy(request.ifr_name, IFNAMSIZ - 1);
    return request;
}

void put_address(ifreq& request, asio::ip::address_v4 address) {
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_addr.s_addr = htonl(address.to_uint());
    std::memcpy(&request.ifr_addr, &in, sizeof(in));
}

class kernel_tun final : public inner_device {
public:
    kernel_tun(asio::io_context& io, tun_settings settings) : settings_(std::move(settings)), device_(io) {}

    tl::expected<void, std::string> start(packet_handler handler) override {
        if (settings_.name.empty() || settings_.name.size() >= IFNAMSIZ)
            return tl::unexpected(fmt::format("TUN device name '{}' must have 1 to 15 characters", settings_.name));
        descriptor made(::open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK));
        const int fd = made.get();
        if (fd < 0)
            return failed("open /dev/net/tun", "load the tun module, and give this program access to the device");
        ifreq request = request_for(settings_.name);
        request.ifr_flags = IFF_TUN | IFF_NO_PI;
        if (::ioctl(fd, TUNSETIFF, &request) != 0)
            return failed("make it", errno == EBUSY
                                         ? "another program has a device of that name: choose another in `tun`"
                                         : "this program needs CAP_NET_ADMIN");
        if (auto done = keep_apart(); !done) // before it is up
            return done;
        quiet_ipv6();
        if (auto done = set_link(); !done)
            return done;
        if (auto done = set_ipv6(); !done)
            return done;
        handler_ = std::move(handler);
        // Not before TUNSETIFF: epoll asks the file once where it will be woken, and without a device that is nowhere.
        device_.assign(made.release());
        wait();
        return {};
    }

    bool write(std::span<const std::uint8_t> packet) override {
        return device_.is_open() &&
               ::write(device_.native_handle(), packet.data(), packet.size()) == static_cast<ssize_t>(packet.size());
    }

    void stop() override {
        std::error_code ignored;
        device_.close(ignored);
    }

    std::string guard() override {
        if (!settings_.guarded || guard_.in_force(settings_))
            return {};
        auto done = guard_.set(settings_);
        return done ? std::string() : done.error();
    }

private:
    tl::expected<void, std::string> keep_apart() {
        if (!settings_.guarded)
            return {};
        if (auto done = guard_.set(settings_); !done)
            return tl::unexpected(fmt::format("{}; without its rules anybody beside this host reaches the inner "
                                              "network: see to it yourself and say [tunnel] nftables = false",
                                              done.error()));
        return {};
    }

    tl::unexpected<std::string> failed(const char* what, const char* remedy) const {
        return tl::unexpected(
            fmt::format("TUN device '{}': cannot {}: {}; {}", settings_.name, what, std::strerror(errno), remedy));
    }

    // The kernel would otherwise give it a link-local address and send router solicitations to nobody.
    void quiet_ipv6() const {
        const descriptor file(::open(fmt::format("/proc/sys/net/ipv6/conf/{}/addr_gen_mode", settings_.name).c_str(),
                                     O_WRONLY | O_CLOEXEC));
        if (file && ::write(file.get(), "1\n", 2) != 2)
            errno = 0; // only noise follows
    }

    tl::expected<void, std::string> set_link() const {
        const descriptor control(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        if (!control)
            return failed("set it up", "this kernel needs IPv4");
        ifreq request = request_for(settings_.name);
        request.ifr_mtu = settings_.mtu;
        if (::ioctl(control.get(), SIOCSIFMTU, &request) != 0)
            return failed("set its MTU", "`mtu` must be 1280 to 9000 for IPv6 and IPv4");
        if (settings_.inner4) {
            request = request_for(settings_.name);
            put_address(request, settings_.inner4->address());
            if (::ioctl(control.get(), SIOCSIFADDR, &request) != 0)
                return failed("set its IPv4 address", "see `inner4`");
            put_address(request, settings_.inner4->netmask());
            if (::ioctl(control.get(), SIOCSIFNETMASK, &request) != 0)
                return failed("set its IPv4 netmask", "see `inner4`");
        }
        request = request_for(settings_.name);
        if (::ioctl(control.get(), SIOCGIFFLAGS, &request) != 0)
            return failed("read its flags", "the device is gone");
        request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP | IFF_RUNNING);
        if (::ioctl(control.get(), SIOCSIFFLAGS, &request) != 0)
            return failed("bring it up", "this program needs CAP_NET_ADMIN");
        return {};
    }

    tl::expected<void, std::string> set_ipv6() const {
        if (!settings_.inner6)
            return {};
        const descriptor control(::socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        ifreq index = request_for(settings_.name);
        if (!control || ::ioctl(control.get(), SIOCGIFINDEX, &index) != 0)
            return failed("set its IPv6 address", "this kernel has no IPv6: leave `inner6` out");
        in6_ifreq request{};
        const auto bytes = settings_.inner6->address().to_bytes();
        std::memcpy(&request.ifr6_addr, bytes.data(), bytes.size());
        request.ifr6_prefixlen = settings_.inner6->prefix_length();
        request.ifr6_ifindex = index.ifr_ifindex;
        if (::ioctl(control.get(), SIOCSIFADDR, &request) != 0 && errno != EEXIST)
            return failed("set its IPv6 address", "see `inner6`, or leave it out where IPv6 is disabled");
        return {};
    }

    void wait() {
        device_.async_wait(asio::posix::stream_descriptor::wait_read,
                           [this, alive = std::weak_ptr(alive_)](std::error_code error) {
                               if (error || alive.expired())
                                   return; // stop()
                               for (int i = 0; i < packets_per_turn && device_.is_open(); ++i) {
                                   const auto n = ::read(device_.native_handle(), buffer_.data(), buffer_.size());
                                   if (n <= 0)
                                       break;
                                   handler_(std::span(buffer_).first(static_cast<std::size_t>(n)));
                               }
                               if (device_.is_open())
                                   wait();
                           });
    }

    tun_settings settings_;
    asio::posix::stream_descriptor device_;
    inner_guard guard_;
    packet_handler handler_;
    std::shared_ptr<int> alive_ = std::make_shared<int>(0); // a wake-up may already be queued when this object goes
    std::array<std::uint8_t, 65536> buffer_{};
};

} // namespace

std::unique_ptr<inner_device> make_kernel_tun(asio::io_context& io, tun_settings settings) {
    return std::make_unique<kernel_tun>(io, std::move(settings));
}

} // namespace tandem::tunnel
