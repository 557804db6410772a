// SPDX-License-Identifier: Apache-2.0
// One Tandem per interface: a lock file named by network namespace and interface.
#include <cerrno>
#include <cstring>
#include <utility>

#include <fmt/format.h>
#include <sys/stat.h>

#include "bpf/loader/edge.hpp"

namespace tandem::bpf {

tl::expected<interface_claim, std::string> interface_claim::take(unsigned ifindex, std::string_view name) {
    struct stat space {};
    if (::stat("/proc/thread-self/ns/net", &space) != 0)
        return tl::unexpected(fmt::format("cannot claim {}: its network namespace: {}", name, std::strerror(errno)));
    auto lock = lock_file::take(fmt::format("interface-{}-{}", space.st_ino, ifindex));
    if (lock)
        return interface_claim(std::move(*lock));
    if (lock.error().held)
        return tl::unexpected(fmt::format(
            "another Tandem data plane already uses {}: stop it first, or give this one another interface", name));
    return tl::unexpected(fmt::format("cannot claim {}: {}", name, lock.error().text));
}

} // namespace tandem::bpf
