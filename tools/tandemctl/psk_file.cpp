// SPDX-License-Identifier: Apache-2.0
// The pre-shared key's file.
#include "tools/tandemctl/psk_file.hpp"

#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fmt/core.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

namespace tandem::ctl {
namespace {

constexpr std::size_t new_key_bytes = 32, longest_hex = 128;

result<psk> read_existing(int fd, const std::string& path) {
    struct stat about {};
    if (fstat(fd, &about) != 0 || !S_ISREG(about.st_mode))
        return failed(fmt::format("{}: is not a plain file", path));
    if ((about.st_mode & 077) != 0)
        return failed(fmt::format("{}: group or others may read it; run `chmod 600 {}`", path, path));
    std::array<char, longest_hex + 2> buffer{};
    const auto n = read(fd, buffer.data(), buffer.size());
    psk key;
    key.hex.reserve(longest_hex + 2);
    key.hex.assign(buffer.data(), n > 0 ? static_cast<std::size_t>(n) : 0);
    explicit_bzero(buffer.data(), buffer.size());
    while (!key.hex.empty() && (key.hex.back() == '\n' || key.hex.back() == ' '))
        key.hex.pop_back();
    const bool hex = key.hex.find_first_not_of("0123456789abcdefABCDEF") == std::string::npos;
    if (!hex || key.hex.size() % 2 != 0 || key.hex.size() < 32 || key.hex.size() > longest_hex) {
        wipe(key.hex);
        return failed(fmt::format("{}: must hold one line of 32 to 128 hex digits (16 to 64 bytes)", path));
    }
    return key;
}

result<psk> make_new(const std::string& path) {
    std::array<unsigned char, new_key_bytes> bytes{};
    if (getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()))
        return failed("the kernel gives no random bytes");
    psk key;
    key.made = true;
    key.hex.reserve(2 * new_key_bytes + 1);
    static constexpr char digits[] = "0123456789abcdef";
    for (const auto b : bytes) {
        key.hex += digits[b >> 4];
        key.hex += digits[b & 15];
    }
    explicit_bzero(bytes.data(), bytes.size());
    const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        wipe(key.hex);
        return failed(fmt::format("{}: cannot be made: {}", path, std::strerror(errno)));
    }
    key.hex += '\n';
    const bool written =
        write(fd, key.hex.data(), key.hex.size()) == static_cast<ssize_t>(key.hex.size()) && fsync(fd) == 0;
    const int why = errno;
    close(fd);
    key.hex.pop_back();
    if (!written) {
        unlink(path.c_str());
        wipe(key.hex);
        return failed(fmt::format("{}: cannot be written: {}", path, std::strerror(why)));
    }
    return key;
}

} // namespace

void wipe(std::string& text) noexcept {
    explicit_bzero(text.data(), text.capacity());
    text.clear();
}

result<psk> read_or_make_psk(const std::string& path) {
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? make_new(path)
                               : result<psk>(failed(fmt::format("{}: {}", path, std::strerror(errno))));
    auto key = read_existing(fd, path);
    close(fd);
    return key;
}

} // namespace tandem::ctl
