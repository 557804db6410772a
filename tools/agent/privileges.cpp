// SPDX-License-Identifier: Apache-2.0
// Capabilities by libcap-ng; prctl(2), setrlimit(2), mlockall(2).
#include "tools/agent/privileges.hpp"

#include <cerrno>
#include <cstring>

#include <cap-ng.h>
#include <fmt/format.h>
#include <pwd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

namespace tandem::agent {

std::string harden() {
    const rlimit none{0, 0};
    if (::setrlimit(RLIMIT_CORE, &none) != 0 || ::prctl(PR_SET_DUMPABLE, 0) != 0)
        return fmt::format("cannot switch off core dumps: {}", std::strerror(errno));
    return {};
}

std::string lock_memory() {
    // MCL_FUTURE only without a limit: once CAP_IPC_LOCK is gone, a limit would turn every later allocation into a
    // failure.
    const rlimit all{RLIM_INFINITY, RLIM_INFINITY};
    const bool unlimited = ::setrlimit(RLIMIT_MEMLOCK, &all) == 0;
    if (::mlockall(unlimited ? MCL_CURRENT | MCL_FUTURE : MCL_CURRENT) != 0)
        return fmt::format(
            "memory is not locked ({}): keys could reach the swap; start as root, or set LimitMEMLOCK=infinity",
            std::strerror(errno));
    if (!unlimited)
        return "only the memory of now is locked, not what comes: keys could reach the swap; set LimitMEMLOCK=infinity";
    return {};
}

tl::expected<void, std::string> become(const std::string& user) {
    if (user.empty() || ::geteuid() != 0)
        return {};
    const passwd* entry = ::getpwnam(user.c_str());
    if (entry == nullptr)
        return tl::unexpected(
            fmt::format("no such user '{}'; set user = in the configuration to one that exists", user));
    capng_clear(CAPNG_SELECT_BOTH);
    const auto kinds = static_cast<capng_type_t>(CAPNG_EFFECTIVE | CAPNG_PERMITTED);
    if (capng_update(CAPNG_ADD, kinds, CAP_NET_ADMIN) != 0)
        return tl::unexpected(std::string("cannot prepare capabilities"));
    const auto flags = static_cast<capng_flags_t>(CAPNG_DROP_SUPP_GRP | CAPNG_CLEAR_BOUNDING);
    const int result = capng_change_id(static_cast<int>(entry->pw_uid), static_cast<int>(entry->pw_gid), flags);
    if (result != 0)
        return tl::unexpected(
            fmt::format("cannot become user '{}' (step {}): {}", user, -result, std::strerror(errno)));
    ::prctl(PR_SET_DUMPABLE, 0); // a change of user sets it anew
    return {};
}

tl::expected<void, std::string> drop_all() {
    capng_clear(CAPNG_SELECT_CAPS);
    if (capng_apply(CAPNG_SELECT_CAPS) != 0)
        return tl::unexpected(fmt::format("cannot drop capabilities: {}", std::strerror(errno)));
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || ::prctl(PR_SET_DUMPABLE, 0) != 0)
        return tl::unexpected(fmt::format("prctl: {}", std::strerror(errno)));
    return {};
}

tl::expected<void, std::string> prepare_run_dir(const std::string& directory, const std::string& user) {
    const bool made = ::mkdir(directory.c_str(), 0755) == 0;
    if (!made && errno != EEXIST)
        return tl::unexpected(fmt::format("run_dir {}: {}; make its parent first", directory, std::strerror(errno)));
    if (!made || user.empty() || ::geteuid() != 0)
        return {}; // one that was there keeps its owner: others may live in it
    const passwd* entry = ::getpwnam(user.c_str());
    if (entry == nullptr)
        return tl::unexpected(
            fmt::format("no such user '{}'; set user = in the configuration to one that exists", user));
    if (::chown(directory.c_str(), entry->pw_uid, entry->pw_gid) != 0)
        return tl::unexpected(fmt::format("run_dir {}: {}", directory, std::strerror(errno)));
    return {};
}

} // namespace tandem::agent
