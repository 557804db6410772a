// SPDX-License-Identifier: Apache-2.0
// `tandemctl sip` (sip_commands.hpp).
#include "tools/tandemctl/sip_commands.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fcntl.h>
#include <fmt/core.h>
#include <grp.h>
#include <openssl/evp.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "controlplane/sip/tables.hpp"
#include "tools/tandemctl/display.hpp"
#include "tools/tandemctl/psk_file.hpp"

namespace tandem::ctl {
namespace {

constexpr std::size_t longest_password = 256;
constexpr unsigned directory_mode = 02750, table_mode = 0640, location_mode = 0660;

// As Kamailio 5.6 ships them (dbtext/kamailio); the versions are what its modules ask for.
constexpr const char* location_columns =
    "id(int,auto) ruid(string) username(string) domain(string,null) contact(string) received(string,null) "
    "path(string,null) expires(int) q(double) callid(string) cseq(int) last_modified(int) flags(int) cflags(int) "
    "user_agent(string) socket(string,null) methods(int,null) instance(string,null) reg_id(int) server_id(int) "
    "connection_id(int) keepalive(int) partition(int)";
constexpr const char* version_columns = "table_name(string) table_version(int)";
constexpr const char* route_key_columns =
    "id(int,auto) key_name(string) key_type(int) value_type(int) key_value(string) expires(int)";

std::string path_of(const sip_options& o, std::string_view table) {
    return fmt::format("{}/{}", o.directory, table);
}

std::string hex(const unsigned char* bytes, std::size_t size) {
    std::string out;
    for (std::size_t i = 0; i < size; ++i)
        out += fmt::format("{:02x}", bytes[i]);
    return out;
}

// Changes a table under the directory's lock; `change` says whether there is something to write.
template <class Change>
result<void> edit(const sip_options& o, std::string_view name, Change&& change) {
    const sip::lock alone(o.directory);
    if (!alone.held())
        return failed(
            fmt::format("{}: {}; run `tandemctl sip prepare` as root first", o.directory, std::strerror(errno)));
    auto found = sip::read_table(path_of(o, name));
    if (!found)
        return failed(found.error());
    const result<bool> changed = change(found->rows);
    if (!changed)
        return tl::unexpected(changed.error());
    if (!*changed)
        return {};
    if (auto written = sip::write_table(path_of(o, name), *found); !written)
        return failed(written.error());
    return {};
}

result<std::string> read_password(const std::string& file) {
    const int fd = file.empty() ? STDIN_FILENO : ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return failed(fmt::format("{}: {}", file, std::strerror(errno)));
    std::array<char, longest_password + 2> buffer{};
    std::size_t have = 0;
    ssize_t n = 0;
    while (have < buffer.size() && std::memchr(buffer.data(), '\n', have) == nullptr &&
           (n = ::read(fd, buffer.data() + have, buffer.size() - have)) > 0)
        have += static_cast<std::size_t>(n);
    if (!file.empty())
        ::close(fd);
    std::string password;
    password.reserve(buffer.size());
    password.assign(buffer.data(), have);
    explicit_bzero(buffer.data(), buffer.size());
    if (const auto end = password.find_first_of("\r\n"); end != std::string::npos)
        password.resize(end);
    if (password.empty() || password.size() > longest_password) {
        wipe(password);
        return failed(fmt::format("{}: its first line must be the password, 1 to {} octets",
                                  file.empty() ? "stdin" : file, longest_password));
    }
    return password;
}

// RFC 2617: what digest authentication needs of a password. Who has it may speak as the user, in this realm alone.
result<std::string> ha1_of(const sip_options& o, std::string password) {
    std::string text;
    text.reserve(o.name.size() + o.realm.size() + password.size() + 2);
    (((text += o.name) += ':') += o.realm) += ':';
    text += password;
    wipe(password);
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned size = 0;
    const bool done = EVP_Digest(text.data(), text.size(), digest.data(), &size, EVP_md5(), nullptr) == 1;
    wipe(text);
    if (!done)
        return failed("OpenSSL has no MD5 here (FIPS mode?), which digest authentication needs");
    return hex(digest.data(), size);
}

result<void> check_user(const sip_options& o) {
    const auto plain = [](const std::string& text, const char* more) {
        return !text.empty() && text.size() <= 64 && std::ranges::all_of(text, [more](char c) {
            return std::isalnum(static_cast<unsigned char>(c)) != 0 || std::strchr(more, c) != nullptr;
        });
    };
    if (!plain(o.name, "._-+"))
        return tl::unexpected(error{failure::usage, "a SIP user's name has 1 to 64 letters, digits or . _ - +"});
    if (!plain(o.realm, "._-"))
        return tl::unexpected(error{failure::usage, "a realm has 1 to 64 letters, digits or . _ -"});
    return {};
}

bool good_prefix(const std::string& text) {
    const auto slash = text.find('/');
    const auto host = text.substr(0, slash);
    std::array<unsigned char, 16> bytes{};
    const bool v4 = ::inet_pton(AF_INET, host.c_str(), bytes.data()) == 1;
    if (!v4 && ::inet_pton(AF_INET6, host.c_str(), bytes.data()) != 1)
        return false;
    if (slash == std::string::npos)
        return true;
    unsigned bits = 0;
    const auto [end, bad] = std::from_chars(text.data() + slash + 1, text.data() + text.size(), bits);
    return bad == std::errc{} && end == text.data() + text.size() && bits >= 1 && bits <= (v4 ? 32U : 128U);
}

result<void> make_directory(const sip_options& o) {
    if (::mkdir(o.directory.c_str(), 0700) != 0 && errno != EEXIST)
        return failed(fmt::format("{}: cannot be made: {}", o.directory, std::strerror(errno)));
    const auto* group = ::getgrnam(o.group.c_str());
    if (group != nullptr && ::chown(o.directory.c_str(), static_cast<uid_t>(-1), group->gr_gid) != 0)
        return failed(fmt::format("{}: cannot be given to group {}: {}", o.directory, o.group, std::strerror(errno)));
    if (::chmod(o.directory.c_str(), directory_mode) != 0)
        return failed(fmt::format("{}: {}", o.directory, std::strerror(errno)));
    return {};
}

// A table that is missing, or does not begin with its columns, is made; the latter is kept under another name.
result<void> make_table(const sip_options& o, std::string_view name, sip::table fresh, unsigned mode) {
    const auto path = path_of(o, name);
    const auto there = sip::read_table(path);
    if (there && there->columns == fresh.columns) { // Kamailio may have come later than the table
        struct stat about {};
        if (::stat(o.directory.c_str(), &about) != 0 ||
            ::chown(path.c_str(), static_cast<uid_t>(-1), about.st_gid) != 0 || ::chmod(path.c_str(), mode) != 0)
            return failed(fmt::format("{}: {}", path, std::strerror(errno)));
        return {};
    }
    if (there && ::rename(path.c_str(), (path + ".bad").c_str()) != 0)
        return failed(fmt::format("{}: cannot be put aside: {}", path, std::strerror(errno)));
    if (auto written = sip::write_table(path, fresh, mode); !written)
        return failed(written.error());
    return {};
}

void say(const settings& s, const json& r, const std::string& text) {
    fmt::print("{}", s.as_json ? r.dump(s.watch ? -1 : 2, ' ', false, json::error_handler_t::replace) + "\n" : text);
    std::fflush(stdout);
}

struct names {
    const char *rows, *first, *second; // of JSON
};

result<void> list(const settings& s, const std::string& path, const names& as, std::span<const column> shown,
                  const char* empty) {
    return repeat(s, [&]() -> result<void> {
        const auto found = sip::read_table(path);
        if (!found)
            return failed(found.error());
        json all = json::array();
        for (const auto& row : found->rows)
            if (row.size() >= 2)
                all.push_back({{as.first, row[0]}, {as.second, row[1]}});
        say(s, {{as.rows, all}}, table(all, shown, empty) + "\n");
        return {};
    });
}

} // namespace

result<void> sip_prepare(const settings& s, const sip_options& o) {
    if (auto made = make_directory(o); !made)
        return made;
    const sip::lock alone(o.directory);
    std::array<unsigned char, 32> key{};
    if (getrandom(key.data(), key.size(), 0) != static_cast<ssize_t>(key.size()))
        return failed("the kernel gives no random bytes");
    const std::array<std::tuple<std::string_view, sip::table, unsigned>, 6> tables{{
        {"version", {version_columns, {{"subscriber", "7"}, {"location", "9"}, {"route_key", "2"}}}, table_mode},
        {sip::users_table, {sip::users_columns, {}}, table_mode},
        {sip::peers_table, {sip::peers_columns, {}}, table_mode},
        {sip::names_table, {sip::names_columns, {}}, table_mode},
        {"location", {location_columns, {}}, location_mode},
        {"route_key", {route_key_columns, {{"1", "route", "0", "0", hex(key.data(), key.size()), "0"}}}, table_mode},
    }};
    for (const auto& [name, fresh, mode] : tables)
        if (auto made = make_table(o, name, fresh, mode); !made)
            return made;
    say(s, {{"directory", o.directory}}, fmt::format("the SIP gateway's tables are in {}\n", o.directory));
    return {};
}

result<void> sip_user_add(const settings& s, const sip_options& o) {
    if (auto fine = check_user(o); !fine)
        return fine;
    auto password = read_password(o.password_file);
    if (!password)
        return tl::unexpected(password.error());
    auto ha1 = ha1_of(o, std::move(*password));
    if (!ha1)
        return tl::unexpected(ha1.error());
    auto done = edit(o, sip::users_table, [&](std::vector<sip::row>& rows) -> result<bool> {
        std::erase_if(rows, [&](const sip::row& r) { return r.size() == 3 && r[0] == o.name && r[1] == o.realm; });
        rows.push_back({o.name, o.realm, *ha1});
        return true;
    });
    wipe(*ha1);
    if (done)
        say(s, {{"user", o.name}, {"realm", o.realm}},
            fmt::format("SIP user {} of realm {} may register and call on the core side\n", o.name, o.realm));
    return done;
}

result<void> sip_user_remove(const settings& s, const sip_options& o) {
    auto done = edit(o, sip::users_table, [&](std::vector<sip::row>& rows) -> result<bool> {
        if (std::erase_if(rows,
                          [&](const sip::row& r) { return r.size() == 3 && r[0] == o.name && r[1] == o.realm; }) == 0)
            return failed(
                fmt::format("there is no SIP user {} of realm {}: see `tandemctl sip user list`", o.name, o.realm));
        return true;
    });
    if (done)
        say(s, {{"user", o.name}, {"realm", o.realm}},
            fmt::format("SIP user {} of realm {} is removed; what it registered runs out by itself\n", o.name,
                        o.realm));
    return done;
}

result<void> sip_user_list(const settings& s, const sip_options& o) {
    static constexpr std::array shown{column{"USER", "user"}, column{"REALM", "realm"}};
    return list(s, path_of(o, sip::users_table), {"users", "user", "realm"}, shown,
                "no SIP users; `tandemctl sip user add NAME` enrols one");
}

result<void> sip_peer_add(const settings& s, const sip_options& o) {
    if (!good_prefix(o.prefix))
        return tl::unexpected(error{failure::usage, "a peer is an address or a prefix: 198.51.100.7, 2001:db8::/64"});
    auto done = edit(o, sip::peers_table, [&](std::vector<sip::row>& rows) -> result<bool> {
        if (std::ranges::any_of(rows, [&](const sip::row& r) { return r.size() == 2 && r[1] == o.prefix; }))
            return false;
        rows.push_back({"core", o.prefix});
        return true;
    });
    if (done)
        say(s, {{"peer", o.prefix}}, fmt::format("requests from {} on the core side need no digest\n", o.prefix));
    return done;
}

result<void> sip_peer_remove(const settings& s, const sip_options& o) {
    auto done = edit(o, sip::peers_table, [&](std::vector<sip::row>& rows) -> result<bool> {
        if (std::erase_if(rows, [&](const sip::row& r) { return r.size() == 2 && r[1] == o.prefix; }) == 0)
            return failed(fmt::format("there is no trusted peer {}: see `tandemctl sip peer list`", o.prefix));
        return true;
    });
    if (done)
        say(s, {{"peer", o.prefix}}, fmt::format("{} is trusted no more\n", o.prefix));
    return done;
}

result<void> sip_peer_list(const settings& s, const sip_options& o) {
    static constexpr std::array shown{column{"PEER", "prefix"}};
    return list(s, path_of(o, sip::peers_table), {"peers", "list", "prefix"}, shown,
                "no trusted peers: everybody on the core side needs digest");
}

} // namespace tandem::ctl
