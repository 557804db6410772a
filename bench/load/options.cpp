// SPDX-License-Identifier: Apache-2.0
// See options.hpp.
#include "bench/load/options.hpp"

#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fcntl.h>
#include <sstream>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

namespace tandem::load {

namespace {

struct suite_row {
    std::string_view name;
    std::size_t bytes;
};
constexpr std::array<suite_row, 7> suites{{{"clear", 0},
                                           {"AES_CM_128_HMAC_SHA1_80", 30},
                                           {"AES_CM_128_HMAC_SHA1_32", 30},
                                           {"AEAD_AES_128_GCM", 28},
                                           {"AEAD_AES_256_GCM", 44},
                                           {"AES_256_CM_HMAC_SHA1_80", 46},
                                           {"AES_256_CM_HMAC_SHA1_32", 46}}};

unsigned number(std::string_view text, std::string_view option, unsigned low, unsigned high) {
    unsigned value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size() || value < low || value > high)
        throw usage_error(fmt::format("{}: \"{}\" is not a number from {} to {}", option, text, low, high));
    return value;
}

void add_ports(std::vector<std::uint16_t>& to, std::string_view text, std::string_view option) {
    unsigned step = 1;
    if (const auto slash = text.find('/'); slash != std::string_view::npos) {
        step = number(text.substr(slash + 1), option, 1, 65535);
        text = text.substr(0, slash);
    }
    const auto dash = text.find('-');
    const unsigned first = number(text.substr(0, dash), option, 1, 65535);
    const unsigned last = dash == std::string_view::npos ? first : number(text.substr(dash + 1), option, first, 65535);
    for (unsigned port = first; port <= last; port += step)
        to.push_back(static_cast<std::uint16_t>(port));
}

bool parse_hex(std::string_view text, secret& to) {
    if (text.size() % 2 != 0)
        return false;
    to.resize(text.size() / 2);
    for (std::size_t i = 0; i < to.size(); ++i) {
        const char* at = text.data() + 2 * i;
        if (const auto [end, error] = std::from_chars(at, at + 2, to[i], 16); error != std::errc{} || end != at + 2)
            return false;
    }
    return true;
}

} // namespace

sockaddr_storage port_range::at(unsigned i) const noexcept {
    sockaddr_storage a = base;
    const in_port_t port = htons(ports[i % ports.size()]);
    if (a.ss_family == AF_INET6)
        reinterpret_cast<sockaddr_in6&>(a).sin6_port = port;
    else
        reinterpret_cast<sockaddr_in&>(a).sin_port = port;
    return a;
}

port_range parse_range(std::string_view text, std::string_view option) {
    const auto colon = text.rfind(':');
    if (colon == std::string_view::npos)
        throw usage_error(fmt::format("{}: \"{}\" is not ADDRESS:PORT or ADDRESS:PORT-PORT", option, text));
    std::string host(text.substr(0, colon));
    std::string_view ports = text.substr(colon + 1);
    port_range r;
    if (host.size() > 1 && host.front() == '[' && host.back() == ']')
        host = host.substr(1, host.size() - 2);
    auto& v6 = reinterpret_cast<sockaddr_in6&>(r.base);
    auto& v4 = reinterpret_cast<sockaddr_in&>(r.base);
    if (inet_pton(AF_INET6, host.c_str(), &v6.sin6_addr) == 1) {
        r.base.ss_family = AF_INET6;
        r.length = sizeof v6;
    } else if (inet_pton(AF_INET, host.c_str(), &v4.sin_addr) == 1) {
        r.base.ss_family = AF_INET;
        r.length = sizeof v4;
    } else {
        throw usage_error(fmt::format("{}: \"{}\" is not an IPv4 or IPv6 address", option, host));
    }
    for (std::size_t comma = 0; comma != std::string_view::npos;) {
        comma = ports.find(',');
        add_ports(r.ports, ports.substr(0, comma), option);
        ports.remove_prefix(comma == std::string_view::npos ? ports.size() : comma + 1);
    }
    return r;
}

srtp_suite parse_suite(const std::string& name) {
    std::string known;
    for (std::size_t i = 0; i < suites.size(); ++i) {
        if (suites[i].name == name)
            return static_cast<srtp_suite>(i);
        known += fmt::format("{}{}", i == 0 ? "" : ", ", suites[i].name);
    }
    throw usage_error(fmt::format("no suite is called \"{}\"; there are {}", name, known));
}

std::size_t key_bytes(srtp_suite s) noexcept {
    return suites[static_cast<std::size_t>(s)].bytes;
}

void wipe(secret& s) noexcept {
    explicit_bzero(s.data(), s.size());
}

key_file::~key_file() {
    for (auto& [name, key] : keys_)
        wipe(key);
}

void key_file::load(const std::string& path) {
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat status {};
    if (fd < 0 || fstat(fd, &status) != 0)
        throw failure(fmt::format("{}: {}", path, std::strerror(errno)));
    if ((status.st_mode & 077) != 0) {
        close(fd);
        throw failure(fmt::format("{} can be read by others; it holds keys: chmod 600 {}", path, path));
    }
    secret bytes(static_cast<std::size_t>(status.st_size));
    const auto got = read(fd, bytes.data(), bytes.size());
    close(fd);
    if (got != status.st_size)
        throw failure(fmt::format("{}: could not be read whole", path));
    std::istringstream lines(std::string(bytes.begin(), bytes.end()));
    wipe(bytes);
    unsigned at = 0;
    for (std::string line; std::getline(lines, line);) {
        ++at;
        std::istringstream words(line);
        std::string which, stream, hex;
        if (!(words >> which) || which[0] == '#')
            continue;
        secret key;
        if (!(words >> stream >> hex) || (which != "send" && which != "receive") || !parse_hex(hex, key))
            throw failure(
                fmt::format("{}:{}: write \"send N HEX\" or \"receive N HEX\" (N a stream from 0, or *)", path, at));
        keys_[{which == "send", stream}] = key;
        wipe(key);
        explicit_bzero(hex.data(), hex.size());
        explicit_bzero(line.data(), line.size());
    }
}

const secret& key_file::find(bool send, unsigned stream, srtp_suite suite) const {
    auto found = keys_.find({send, std::to_string(stream)});
    if (found == keys_.end())
        found = keys_.find({send, "*"});
    const char* word = send ? "send" : "receive";
    if (found == keys_.end())
        throw failure(fmt::format("--keys-file has no \"{} {} HEX\" and no \"{} * HEX\"", word, stream, word));
    if (found->second.size() != key_bytes(suite))
        throw failure(fmt::format("--keys-file: the {} key of stream {} has {} bytes, {} needs {} (key and salt)", word,
                                  stream, found->second.size(), suites[static_cast<std::size_t>(suite)].name,
                                  key_bytes(suite)));
    return found->second;
}

} // namespace tandem::load
