// SPDX-License-Identifier: Apache-2.0
// Reads controlplane.toml with toml++; every table is checked against its list of known keys, every value against its
// range.
#include "controlplane/app/config.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <fstream>
#include <initializer_list>
#include <sstream>

#include <fmt/format.h>
// Its assertions fire on malformed files ("[[[") that it goes on to report as the errors they are.
#define TOML_ASSERT(condition) static_cast<void>(0)
#include <toml++/toml.h>

#include "controlplane/app/ops_protocol.hpp"

namespace tandem::control {

namespace {

// Thrown inside this file only; parse_config turns it into a value.
struct bad {
    std::string text;
};

class reader {
public:
    explicit reader(std::string file) : file_(std::move(file)) {}

    [[noreturn]] void fail(const toml::node& at, std::string_view what) const {
        throw bad{fmt::format("{}:{}: {}", file_, at.source().begin.line, what)};
    }
    [[noreturn]] void fail_at(std::size_t line, std::string_view what) const {
        throw bad{fmt::format("{}:{}: {}", file_, line, what)};
    }
    [[noreturn]] void fail(std::string_view what) const { throw bad{fmt::format("{}: {}", file_, what)}; }

    void only(const toml::table& table, std::string_view where, std::initializer_list<std::string_view> known) const {
        for (const auto& [key, value] : table)
            if (std::find(known.begin(), known.end(), key.str()) == known.end())
                throw bad{fmt::format("{}:{}: unknown key \"{}\"{}; known here: {}", file_, key.source().begin.line,
                                      key.str(), where, fmt::join(known, ", "))};
    }
    const toml::table* table(const toml::table& root, std::string_view key) const {
        const auto* node = root.get(key);
        if (node != nullptr && !node->is_table())
            fail(*node, fmt::format("{} must be a table: [{}]", key, key));
        return node == nullptr ? nullptr : node->as_table();
    }
    void text(const toml::table& table, std::string_view key, std::string& to) const {
        if (const auto* node = table.get(key)) {
            if (!node->is_string())
                fail(*node, fmt::format("{} must be a string in quotes", key));
            to = node->as_string()->get();
        }
    }
    void flag(const toml::table& table, std::string_view key, bool& to) const {
        if (const auto* node = table.get(key)) {
            if (!node->is_boolean())
                fail(*node, fmt::format("{} must be true or false", key));
            to = node->as_boolean()->get();
        }
    }
    std::int64_t in_range(const toml::node& node, std::string_view key, std::int64_t low, std::int64_t high) const {
        if (!node.is_integer() || node.as_integer()->get() < low || node.as_integer()->get() > high)
            fail(node, fmt::format("{} must be a whole number from {} to {}", key, low, high));
        return node.as_integer()->get();
    }
    template <class T>
    void number(const toml::table& table, std::string_view key, std::int64_t low, std::int64_t high, T& to) const {
        if (const auto* node = table.get(key))
            to = T(in_range(*node, key, low, high));
    }
    // Seconds, whole or with a fraction.
    void seconds(const toml::table& table, std::string_view key, std::chrono::milliseconds& to) const {
        if (const auto* node = table.get(key)) {
            const auto value = node->value<double>();
            if (!value || *value < 0 || *value > 1e7)
                fail(*node, fmt::format("{} must be a number of seconds", key));
            to = std::chrono::milliseconds(std::llround(*value * 1000));
        }
    }
    const toml::array* list(const toml::table& table, std::string_view key) const {
        const auto* node = table.get(key);
        if (node != nullptr && !node->is_array())
            fail(*node, fmt::format("{} must be a list in brackets", key));
        return node == nullptr ? nullptr : node->as_array();
    }
    template <class Endpoint>
    void endpoints(const toml::table& table, std::string_view key, std::vector<Endpoint>& to) const {
        const auto* items = list(table, key);
        if (items == nullptr)
            return;
        for (const auto& item : *items) {
            if (!item.is_string())
                fail(item, fmt::format("{} holds \"address:port\" strings", key));
            const auto where = parse_address_port(item.as_string()->get());
            if (!where)
                fail(item, fmt::format("{}: {}", key, where.error()));
            to.emplace_back(where->first, where->second);
        }
    }

private:
    std::string file_;
};

void read_tunnel(const reader& r, const toml::table& root, session::config& to) {
    const auto* table = r.table(root, "tunnel");
    if (table == nullptr)
        r.fail("no [tunnel] table; add: [tunnel] listen = [\"192.0.2.1:4433\"] inner4 = \"10.64.0.0/16\"");
    r.only(*table, " in [tunnel]",
           {"listen", "tun", "inner4", "inner6", "keepalive_ms", "lifetime_s", "grace_ms", "linger_ms", "mtu",
            "certificate", "key", "ca", "servers"});
    r.endpoints(*table, "listen", to.listen);
    if (to.listen.empty())
        r.fail(*table, "[tunnel] needs listen = [\"192.0.2.1:4433\"]: where units connect to");
    r.text(*table, "tun", to.tun);
    if (to.tun.empty() || to.tun.size() > 15)
        r.fail(*table->get("tun"), "tun must be an interface name of 1 to 15 letters");
    std::string prefix;
    r.text(*table, "inner4", prefix);
    asio::error_code error;
    if (!prefix.empty()) {
        const auto network = asio::ip::make_network_v4(prefix, error);
        if (error || network.prefix_length() < 8 || network.prefix_length() > 30)
            r.fail(*table->get("inner4"),
                   fmt::format("inner4 \"{}\" must be an IPv4 prefix of /8 to /30 such as 10.64.0.0/16", prefix));
        to.inner4 = network.canonical();
    }
    prefix.clear();
    r.text(*table, "inner6", prefix);
    if (!prefix.empty()) {
        const auto network = asio::ip::make_network_v6(prefix, error);
        if (error || network.prefix_length() < 32 || network.prefix_length() > 120)
            r.fail(*table->get("inner6"),
                   fmt::format("inner6 \"{}\" must be an IPv6 prefix of /32 to /120 such as fd64::/64", prefix));
        to.inner6 = network.canonical();
    }
    if (!to.inner4 && !to.inner6)
        r.fail(*table, "[tunnel] needs inner4 or inner6: the units' inner addresses");
    r.number(*table, "keepalive_ms", 100, 600'000, to.keepalive);
    r.number(*table, "lifetime_s", 10, 31'536'000, to.lifetime);
    r.number(*table, "grace_ms", 0, 3'600'000, to.grace);
    r.number(*table, "linger_ms", 0, 86'400'000, to.linger);
    r.number(*table, "mtu", 1280, 9000, to.mtu);
    r.text(*table, "certificate", to.certificates.certificate);
    r.text(*table, "key", to.certificates.key);
    r.text(*table, "ca", to.certificates.ca);
    if (const auto* servers = r.list(*table, "servers"))
        for (const auto& server : *servers) {
            if (!server.is_string() || !parse_address_port(server.as_string()->get()))
                r.fail(server, "servers holds \"address:port\" strings");
            to.servers.push_back(server.as_string()->get());
        }
}

void read_media(const reader& r, const toml::table& root, media::settings& to) {
    const auto* table = r.table(root, "media");
    if (table == nullptr)
        return;
    r.only(*table, " in [media]", {"ports", "access", "core", "timeout_s", "hold_timeout_s", "quarantine_ms"});
    if (const auto* ports = r.list(*table, "ports")) {
        if (ports->size() != 2)
            r.fail(*ports, "ports holds the first and the last port: ports = [20000, 40000]");
        to.first_port = static_cast<std::uint16_t>(r.in_range((*ports)[0], "first of ports", 1024, 65534));
        to.last_port = static_cast<std::uint16_t>(r.in_range((*ports)[1], "last of ports", 1025, 65535));
        if (((to.first_port + 1) & ~1) + 1 > to.last_port)
            r.fail(*ports, "ports holds no pair of an even and the following odd port; widen it");
    }
    r.text(*table, "access", to.access);
    r.text(*table, "core", to.core);
    r.number(*table, "timeout_s", 1, 65535, to.timeout);
    r.number(*table, "hold_timeout_s", 1, 65535, to.hold_timeout);
    r.number(*table, "quarantine_ms", 0, 600'000, to.quarantine);
}

void read_levels(const reader& r, const toml::table& root, config& to) {
    const auto* levels = r.table(root, "levels");
    if (levels == nullptr)
        return;
    for (const auto& [key, node] : *levels) {
        const std::string name(key.str());
        if (!node.is_table())
            r.fail(node, fmt::format("a level is a table: [levels.{}]", name));
        const auto& table = *node.as_table();
        r.only(table, fmt::format(" in [levels.{}]", name),
               {"suite", "seed_bytes", "rekey_s", "overlap_s", "seed_is_key"});
        const auto* known = to.levels.find(name);
        policy::level row = known != nullptr ? *known : policy::level{};
        row.name = name;
        std::string suite;
        r.text(table, "suite", suite);
        if (!suite.empty()) {
            const auto* found = api::find_suite(std::string_view(suite));
            if (found == nullptr) {
                std::vector<std::string_view> names;
                for (const auto& s : api::suite_table)
                    if (s.key_length > 0)
                        names.push_back(s.name);
                r.fail(*table.get("suite"),
                       fmt::format("suite \"{}\" is not known; known: {}", suite, fmt::join(names, ", ")));
            }
            row.suite = found->id;
        }
        r.number(table, "seed_bytes", 0, 1000, row.seed_bytes); // policy::check has the real bounds
        r.seconds(table, "rekey_s", row.rekey);
        if (!table.contains("overlap_s") && row.overlap >= row.rekey)
            row.overlap = row.rekey / 4;
        r.seconds(table, "overlap_s", row.overlap);
        r.flag(table, "seed_is_key", row.seed_is_key);
        if (auto fine = policy::check(row, {to.tunnel.lifetime}); !fine)
            r.fail(node, fine.error());
        to.levels.set(std::move(row));
    }
}

config read_all(const reader& r, const toml::table& root) {
    config to;
    r.only(root, "",
           {"version", "instance", "run_dir", "dataplane", "database", "master_key_file", "log_level", "default_level",
            "tunnel", "ng", "media", "levels"});
    const auto* version = root.get("version");
    if (version == nullptr)
        r.fail("no version; the first line must be: version = 1");
    r.in_range(*version, "version", 1, 1);
    r.text(root, "instance", to.instance);
    if (to.instance.empty() || to.instance.size() > 32 || to.instance.find('/') != std::string::npos)
        r.fail(*root.get("instance"), "instance must be a name of 1 to 32 letters without /");
    r.text(root, "run_dir", to.run_dir);
    to.dataplane = to.run_dir + "/dataplane.sock";
    r.text(root, "dataplane", to.dataplane);
    for (const auto& path : {to.dataplane, to.ops_socket()})
        if (path.size() > 107)
            r.fail(fmt::format("socket path {} is longer than 107 bytes; choose a shorter run_dir", path));
    r.text(root, "database", to.database);
    to.master_key_file = to.database.substr(0, to.database.rfind('/') + 1) + "master.key";
    r.text(root, "master_key_file", to.master_key_file);
    r.text(root, "log_level", to.log_level);
    if (const auto names = {"debug", "info", "warning", "error"};
        std::none_of(names.begin(), names.end(), [&](const char* name) { return to.log_level == name; }))
        r.fail(*root.get("log_level"), "log_level must be one of: debug, info, warning, error");
    r.text(root, "default_level", to.default_level);
    read_tunnel(r, root, to.tunnel);
    if (const auto* ng = r.table(root, "ng")) {
        r.only(*ng, " in [ng]", {"listen"});
        r.endpoints(*ng, "listen", to.ng);
    }
    if (to.ng.empty())
        to.ng.emplace_back(asio::ip::address_v4::loopback(), std::uint16_t{2223});
    read_media(r, root, to.media);
    read_levels(r, root, to);
    if (auto fine = to.levels.check_all({to.tunnel.lifetime}, to.default_level); !fine)
        r.fail(fine.error());
    return to;
}

// toml++ 3.3 reaches an unreachable point on some letters outside of ASCII in a bare key; names, addresses and paths
// need none.
void plain_letters_only(const reader& r, std::string_view text) {
    std::size_t number = 0;
    while (!text.empty()) {
        ++number;
        const auto end = std::min(text.find('\n'), text.size());
        const auto line = text.substr(0, end);
        text.remove_prefix(std::min(end + 1, text.size()));
        const auto first = line.find_first_not_of(" \t");
        if (line.find("\"\"\"") != std::string_view::npos || line.find("'''") != std::string_view::npos)
            r.fail_at(number, "strings over several lines are not used here: write it on one line");
        if (first != std::string_view::npos && line[first] != '#' &&
            std::any_of(line.begin(), line.end(), [](char c) { return static_cast<unsigned char>(c) >= 0x80; }))
            r.fail_at(number, "only plain (ASCII) letters are allowed outside of comments that fill their line");
    }
}

} // namespace

std::string config::ops_socket() const {
    return run_dir + "/" + std::string(ops::socket_name);
}

tl::expected<std::pair<asio::ip::address, std::uint16_t>, std::string> parse_address_port(std::string_view text) {
    const auto colon = text.rfind(':');
    const auto wrong = [&] {
        return tl::unexpected(
            fmt::format("\"{}\" is not address:port, such as 192.0.2.1:4433 or [2001:db8::1]:4433", text));
    };
    if (colon == std::string_view::npos || colon == 0)
        return wrong();
    auto host = text.substr(0, colon);
    const auto digits = text.substr(colon + 1);
    const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
    if (bracketed)
        host = host.substr(1, host.size() - 2);
    std::uint16_t port = 0;
    const auto [end, failed] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
    asio::error_code error;
    const auto address = asio::ip::make_address(std::string(host), error);
    if (error || failed != std::errc{} || end != digits.data() + digits.size() || address.is_v6() != bracketed)
        return wrong();
    return std::pair{address, port};
}

tl::expected<config, std::string> parse_config(std::string_view text, const std::string& path) {
    try {
        const reader r(path);
        plain_letters_only(r, text);
        return read_all(r, toml::parse(text, path));
    } catch (const toml::parse_error& error) {
        return tl::unexpected(fmt::format("{}:{}: {}", path, error.source().begin.line, error.description()));
    } catch (const bad& error) {
        return tl::unexpected(error.text);
    }
}

tl::expected<config, std::string> load_config(const std::string& path) {
    std::ifstream file(path);
    if (!file)
        return tl::unexpected(
            fmt::format("{}: cannot be read: {}; give the configuration by --config FILE", path, std::strerror(errno)));
    std::stringstream text;
    text << file.rdbuf();
    return parse_config(text.str(), path);
}

} // namespace tandem::control
