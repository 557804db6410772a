// SPDX-License-Identifier: Apache-2.0
// Kamailio's db_text tables (tables.hpp).
#include "controlplane/sip/tables.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <fmt/format.h>
#include <fstream>
#include <sstream>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

namespace tandem::sip {

namespace {

void append_escaped(std::string& to, const std::string& field) {
    for (const char c : field) {
        const auto* special = std::strchr("\nn\rr\tt\\\\::", c);
        if (c != '\0' && special != nullptr && (special - "\nn\rr\tt\\\\::") % 2 == 0)
            (to += '\\') += special[1];
        else if (c != '\0')
            to += c;
    }
}

row split(std::string_view line) {
    row fields(1);
    for (std::size_t i = 0; i < line.size(); ++i) {
        if (line[i] == ':') {
            fields.emplace_back();
        } else if (line[i] == '\\' && i + 1 < line.size()) {
            const char c = line[++i];
            fields.back() += c == 'n' ? '\n' : c == 'r' ? '\r' : c == 't' ? '\t' : c;
        } else {
            fields.back() += line[i];
        }
    }
    return fields;
}

tl::unexpected<std::string> failed(const std::string& path, const char* what) {
    return tl::unexpected(fmt::format("{}: {}: {}", path, what, std::strerror(errno)));
}

bool write_all(int fd, std::string_view text) {
    while (!text.empty()) {
        const auto n = ::write(fd, text.data(), text.size());
        if (n <= 0)
            return false;
        text.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
}

// Later than what is there, by a second at least.
timespec next_time(const std::string& path) {
    timespec now{std::time(nullptr), 0};
    struct stat old {};
    if (::stat(path.c_str(), &old) == 0)
        now.tv_sec = std::max(now.tv_sec, old.st_mtim.tv_sec + 1);
    return now;
}

} // namespace

tl::expected<table, std::string> read_table(const std::string& path) {
    std::ifstream file(path);
    if (!file)
        return tl::unexpected(
            fmt::format("{}: {}; run `tandemctl sip prepare` as root first, or name its directory by --dir", path,
                        std::strerror(errno)));
    table found;
    std::getline(file, found.columns);
    for (std::string line; std::getline(file, line);)
        if (!line.empty())
            found.rows.push_back(split(line));
    return found;
}

tl::expected<void, std::string> write_table(const std::string& path, const table& what, unsigned mode) {
    std::string text = what.columns + "\n";
    for (const auto& one : what.rows) {
        for (std::size_t i = 0; i < one.size(); ++i) {
            if (i != 0)
                text += ':';
            append_escaped(text, one[i]);
        }
        text += '\n';
    }
    const auto fresh = path + ".new", directory = path.substr(0, path.rfind('/') + 1);
    ::unlink(fresh.c_str());
    const int fd = ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return failed(fresh, "cannot be made");
    // Kamailio reads it by its group, which is the directory's.
    struct stat about {};
    const bool group = ::stat(directory.c_str(), &about) == 0 &&
                       ((about.st_mode & S_ISGID) != 0 || ::fchown(fd, static_cast<uid_t>(-1), about.st_gid) == 0);
    const timespec times[2] = {next_time(path), next_time(path)};
    const bool written =
        write_all(fd, text) && ::fchmod(fd, mode) == 0 && ::futimens(fd, times) == 0 && ::fsync(fd) == 0;
    const int why = errno;
    ::close(fd);
    if (!group || !written || ::rename(fresh.c_str(), path.c_str()) != 0) {
        if (!written)
            errno = why;
        auto error = failed(path, group ? "cannot be written" : "cannot be given to its directory's group");
        ::unlink(fresh.c_str());
        return error;
    }
    return {};
}

lock::lock(const std::string& directory) : fd_(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    if (fd_ && ::flock(fd_.get(), LOCK_EX) != 0)
        fd_ = {};
}

} // namespace tandem::sip
