// SPDX-License-Identifier: Apache-2.0
// Capabilities by libcap-ng; prctl(2), setrlimit(2), mlockall(2).
#include "tools/agent/device/privileges.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

#include <cap-ng.h>
#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <pwd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

namespace tandem::agent {

namespace {

constexpr std::array<std::string_view, 5> own_files{"contacts.toml", "contacts.toml.new", "profiles.json",
                                                    "profiles.json.new", "lock"};

// Every entry by name and descriptor, so that no link leads elsewhere. The error is a sentence's end.
std::string give(int directory, const passwd& to) {
    const int copy = ::dup(directory); // closedir() takes it
    DIR* list = copy < 0 ? nullptr : ::fdopendir(copy);
    if (list == nullptr) {
        const int error = errno;
        if (copy >= 0)
            ::close(copy);
        return std::strerror(error);
    }
    std::string error;
    while (const dirent* entry = ::readdir(list)) {
        const std::string_view name = entry->d_name;
        if (name == "." || name == "..")
            continue;
        if (std::find(own_files.begin(), own_files.end(), name) == own_files.end())
            error = fmt::format("it belongs to another user and holds other files than the agent's ({}); set state_dir "
                                "to a directory of the agent's own",
                                name);
        else if (::fchownat(directory, entry->d_name, to.pw_uid, to.pw_gid, AT_SYMLINK_NOFOLLOW) != 0)
            error = std::strerror(errno);
        if (!error.empty())
            break;
    }
    ::closedir(list);
    if (error.empty() && (::fchown(directory, to.pw_uid, to.pw_gid) != 0))
        error = std::strerror(errno);
    return error;
}

tl::expected<passwd, std::string> find_user(const std::string& name) {
    if (const passwd* entry = ::getpwnam(name.c_str()); entry != nullptr)
        return *entry;
    return tl::unexpected(fmt::format("no such user '{}'; set user = in the configuration to one that exists", name));
}

} // namespace

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

tl::expected<void, std::string> check_user(const std::string& user) {
    if (user.empty())
        return {};
    return find_user(user).map([](const passwd&) {});
}

tl::expected<void, std::string> become(const std::string& user) {
    if (user.empty() || ::geteuid() != 0)
        return {};
    const auto entry = find_user(user);
    if (!entry)
        return tl::unexpected(entry.error());
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
    const auto entry = find_user(user);
    if (!entry)
        return tl::unexpected(entry.error());
    if (::chown(directory.c_str(), entry->pw_uid, entry->pw_gid) != 0)
        return tl::unexpected(fmt::format("run_dir {}: {}", directory, std::strerror(errno)));
    return {};
}

tl::expected<void, std::string> prepare_state_dir(const std::string& directory, const std::string& user) {
    if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST)
        return tl::unexpected(fmt::format("state_dir {}: {}; make its parent first", directory, std::strerror(errno)));
    if (user.empty() || ::geteuid() != 0)
        return {};
    const auto entry = find_user(user);
    if (!entry)
        return tl::unexpected(entry.error());
    struct stat info {};
    if (::lstat(directory.c_str(), &info) == 0 && S_ISDIR(info.st_mode) && info.st_uid == entry->pw_uid)
        return {}; // root without CAP_DAC_OVERRIDE could not even open it
    const int fd = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    const std::string error = fd < 0 ? std::strerror(errno) : give(fd, *entry);
    if (fd >= 0)
        ::close(fd);
    if (!error.empty())
        return tl::unexpected(fmt::format("state_dir {}: {}", directory, error));
    return {};
}

} // namespace tandem::agent
