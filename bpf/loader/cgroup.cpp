// SPDX-License-Identifier: Apache-2.0
// Which cgroup is meant, and whether programs of it can be captured: what is refused before anything is loaded.
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <sstream>

#include <fmt/format.h>
#include <sys/stat.h>

#include "bpf/loader/capture.hpp"

namespace tandem::bpf {

namespace {

std::string content_of(const char* file) {
    std::ifstream in(file);
    return {std::istreambuf_iterator<char>(in), {}};
}

// This process's own, as cgroup2 names it: "/a/b".
std::string own_cgroup() {
    std::istringstream lines(content_of("/proc/self/cgroup"));
    for (std::string line; std::getline(lines, line);)
        if (line.starts_with("0::"))
            return line.substr(3);
    return {};
}

bool is_below(std::string_view path, std::string_view top) {
    return path.starts_with(top) && (path.size() == top.size() || path[top.size()] == '/');
}

} // namespace

std::string cgroup2_mount(std::string_view mounts) {
    std::istringstream lines{std::string(mounts)};
    for (std::string line; std::getline(lines, line);) {
        std::istringstream fields(line);
        std::string device, where, kind;
        if (fields >> device >> where >> kind && kind == "cgroup2")
            return where;
    }
    return {};
}

tl::expected<std::string, std::string> capture::find_cgroup(std::string_view name) {
    while (name.starts_with('/'))
        name.remove_prefix(1);
    while (name.ends_with('/'))
        name.remove_suffix(1);
    if (name.empty() || name.find("..") != std::string_view::npos)
        return tl::unexpected(std::string("capture needs a cgroup below the root, such as \"captured\""));
    const auto mount = cgroup2_mount(content_of("/proc/mounts"));
    if (mount.empty())
        return tl::unexpected(
            std::string("there is no cgroup2 here, by which programs are captured: mount it (mount -t "
                        "cgroup2 none /sys/fs/cgroup/unified), or leave [capture] out"));
    auto path = fmt::format("{}/{}", mount, name);
    struct stat info {};
    if (::stat(path.c_str(), &info) != 0 || !S_ISDIR(info.st_mode))
        return tl::unexpected(
            fmt::format("there is no cgroup {}: make it (mkdir {}) and start programs in it", path, path));
    if (is_below(own_cgroup(), fmt::format("/{}", name)))
        return tl::unexpected(
            fmt::format("this process is itself in the cgroup {}, and would capture what it sends: start "
                        "it in another one",
                        path));
    return path;
}

std::string attach_refusal(std::string_view hook, std::string_view cgroup, int code) {
    switch (code) {
    case EPERM:
    case EACCES:
        return fmt::format(
            "cannot capture {} in {}: not permitted; run as root, or with CAP_BPF and CAP_NET_ADMIN, and "
            "see that no program is attached there without BPF_F_ALLOW_MULTI (bpftool cgroup show {})",
            hook, cgroup, cgroup);
    case EBADF:
        return fmt::format("cannot capture {} in {}: it is no cgroup2 directory; see /proc/mounts", hook, cgroup);
    case EINVAL:
    case EOPNOTSUPP:
        return fmt::format(
            "this kernel cannot capture {} (cgroup BPF of Linux 5.19 is needed, with CONFIG_CGROUP_BPF): "
            "use another kernel, or leave [capture] out",
            hook);
    case E2BIG:
        return fmt::format("cannot capture {} in {}: too many programs are attached there; detach one (bpftool cgroup "
                           "show {})",
                           hook, cgroup, cgroup);
    default:
        return fmt::format("cannot capture {} in {}: {}", hook, cgroup, std::strerror(code));
    }
}

} // namespace tandem::bpf
