// SPDX-License-Identifier: Apache-2.0
// See audit_log.hpp. Opened for every line: it may be rotated at any time.
#include "dataplane/app/audit_log.hpp"

#include <cerrno>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <unistd.h>

#include <fmt/format.h>

namespace tandem::app {

tl::expected<void, std::string> audit_log::write(std::string_view event, std::uint32_t uid, std::uint32_t pid,
                                                 std::string_view fields) const {
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    std::tm utc{};
    gmtime_r(&now.tv_sec, &utc);
    const std::string line =
        fmt::format(R"({{"time":"{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z","event":"{}","uid":{},"pid":{}{}{}}})"
                    "\n",
                    utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec,
                    now.tv_nsec / 1'000'000, event, uid, pid, fields.empty() ? "" : ",", fields);
    const int fd = open(path_.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return tl::unexpected(fmt::format("audit log {}: {}", path_, std::strerror(errno)));
    const bool written = ::write(fd, line.data(), line.size()) == static_cast<ssize_t>(line.size()) && fsync(fd) == 0;
    const int why = errno;
    close(fd);
    if (!written)
        return tl::unexpected(fmt::format("audit log {}: {}", path_, std::strerror(why)));
    return {};
}

} // namespace tandem::app
