// SPDX-License-Identifier: Apache-2.0
// See perimeter.hpp.
#include "dataplane/app/perimeter.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <string_view>
#include <unistd.h>

#include <spdlog/spdlog.h>

#include "bpf/loader/edge.hpp"

namespace tandem::app {

namespace {

bool may_come_by(const api::inner_perimeter& p, std::string_view interface) {
    const auto* const end = p.from + p.ports;
    return std::any_of(
        p.from, end, [&](const auto& name) { return interface == std::string_view(name, strnlen(name, sizeof name)); });
}

// The host's own processes are inside.
bpf::result apply(const api::inner_perimeter& p, const io::port& port) {
    std::vector<bpf::edge::network> networks;
    for (std::size_t i = 0; i < p.networks && !port.loopback && !may_come_by(p, port.name); ++i) {
        bpf::edge::network n{{}, p.network[i].prefix_length};
        std::copy(std::begin(p.network[i].ip), std::end(p.network[i].ip), n.ip.begin());
        networks.push_back(n);
    }
    return port.edge->set_inner(networks);
}

} // namespace

bool is_sound(const api::inner_perimeter& p) noexcept {
    return p.networks <= api::max_inner_networks && p.ports <= api::max_inner_from &&
           std::all_of(p.network, p.network + p.networks, [](const auto& n) { return n.prefix_length <= 128; });
}

void perimeter::set_up(const io::port& port) const {
    const auto known = port.edge ? read() : std::nullopt;
    if (!known)
        return;
    if (const auto done = apply(*known, port); !done)
        spdlog::error("{}: {}", port.name, done.error());
}

api::status perimeter::change(const api::inner_perimeter& to, const std::vector<io::port>& ports,
                              std::uint32_t& named) const {
    if (!is_sound(to))
        return api::status::bad_message;
    if (!write(to))
        return api::status::not_possible;
    auto status = api::status::ok;
    for (const io::port& port : ports) {
        named += may_come_by(to, port.name) ? 1U : 0U;
        if (!port.edge)
            continue;
        if (const auto done = apply(to, port); !done) {
            spdlog::error("{}: {}", port.name, done.error());
            status = api::status::not_possible;
        }
    }
    return status;
}

std::optional<api::inner_perimeter> perimeter::read() const {
    const int fd = open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return std::nullopt;
    api::inner_perimeter p{};
    const ssize_t got = ::read(fd, &p, sizeof p);
    close(fd);
    if (got == sizeof p && is_sound(p))
        return p;
    spdlog::warn("{} is not of this release: the inner network is guarded once the control plane has told it again",
                 path_);
    return std::nullopt;
}

bool perimeter::write(const api::inner_perimeter& what) const {
    const std::string fresh = path_ + ".new";
    const int fd = open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    const bool written = fd >= 0 && ::write(fd, &what, sizeof what) == sizeof what;
    const int why = errno;
    if (fd >= 0)
        close(fd);
    if (written && std::rename(fresh.c_str(), path_.c_str()) == 0)
        return true;
    spdlog::error("{}: {}", path_, std::strerror(written ? errno : why));
    return false;
}

} // namespace tandem::app
