// SPDX-License-Identifier: Apache-2.0
#include "bpf/loader/object.hpp"

#include <cerrno>
#include <cstring>
#include <filesystem>

#include <fmt/format.h>
#include <unistd.h>

namespace tandem::bpf {

tl::expected<std::string, std::string> readable_object(std::string_view name, std::string_view what) {
    std::error_code ignored;
    const auto self = std::filesystem::read_symlink("/proc/self/exe", ignored).string();
    const auto path = fmt::format(
        "{}/{}.bpf.o", self.starts_with(TANDEM_BUILD_ROOT "/") ? TANDEM_BPF_BUILT : TANDEM_BPF_INSTALLED, name);
    if (::access(path.c_str(), R_OK) != 0)
        return tl::unexpected(
            fmt::format("the {} program {} cannot be read ({}): install Tandem completely, or build it with ninja",
                        what, path, std::strerror(errno)));
    return path;
}

} // namespace tandem::bpf
