// SPDX-License-Identifier: Apache-2.0
// Reads dataplane.toml with toml++; every table is checked against its list of known keys.
#include "dataplane/app/config.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <initializer_list>
#include <sstream>

#include <fmt/format.h>
// A malformed file is an error with its line, not an assertion of the parser.
#define TOML_ASSERT(condition) static_cast<void>(0)
#include <toml++/toml.h>

#include "dataplane/api/contract.hpp"

namespace tandem::app {

namespace {

const std::initializer_list<std::string_view> idle_names = {"adaptive", "poll", "interrupt"};

// Thrown inside this file only; load_config turns it into a value.
struct bad {
    std::string text;
};

class reader {
public:
    explicit reader(std::string file) : file_(std::move(file)) {}

    [[noreturn]] void fail(const toml::node& at, std::string_view what) const {
        throw bad{fmt::format("{}:{}: {}", file_, at.source().begin.line, what)};
    }
    [[noreturn]] void fail(std::string_view what) const { throw bad{fmt::format("{}: {}", file_, what)}; }

    void only(const toml::table& table, std::string_view where, std::initializer_list<std::string_view> known) const {
        for (const auto& [key, value] : table)
            if (std::find(known.begin(), known.end(), key.str()) == known.end())
                throw bad{fmt::format("{}:{}: unknown key \"{}\"{}; known here: {}", file_, key.source().begin.line,
                                      key.str(), where, fmt::join(known, ", "))};
    }

    void text(const toml::table& table, std::string_view key, std::string& to) const {
        if (const toml::node* node = table.get(key)) {
            if (!node->is_string())
                fail(*node, fmt::format("{} must be a string in quotes", key));
            to = node->as_string()->get();
        }
    }

    void flag(const toml::table& table, std::string_view key, bool& to) const {
        if (const toml::node* node = table.get(key)) {
            if (!node->is_boolean())
                fail(*node, fmt::format("{} must be true or false", key));
            to = node->as_boolean()->get();
        }
    }

    template <class T>
    void number(const toml::table& table, std::string_view key, std::int64_t low, std::int64_t high, T& to) const {
        if (const toml::node* node = table.get(key))
            to = static_cast<T>(in_range(*node, key, low, high));
    }

    std::int64_t in_range(const toml::node& node, std::string_view key, std::int64_t low, std::int64_t high) const {
        const auto value = node.is_integer() ? node.as_integer()->get() : low - 1;
        if (value < low || value > high)
            fail(node, fmt::format("{} must be a whole number from {} to {}", key, low, high));
        return value;
    }

    template <class E>
    void choice(const toml::table& table, std::string_view key, std::initializer_list<std::string_view> names,
                E& to) const {
        const toml::node* node = table.get(key);
        if (node == nullptr)
            return;
        const std::string value = node->is_string() ? node->as_string()->get() : std::string{};
        const auto found = std::find(names.begin(), names.end(), value);
        if (found == names.end())
            fail(*node, fmt::format("{} must be one of: {}", key, fmt::join(names, ", ")));
        to = static_cast<E>(found - names.begin());
    }

    const toml::array* tables(const toml::table& table, std::string_view key) const {
        const toml::node* node = table.get(key);
        if (node == nullptr)
            return nullptr;
        if (!node->is_array_of_tables())
            fail(*node, fmt::format("write [[{}]] tables", key));
        return node->as_array();
    }

private:
    std::string file_;
};

bool parse_ip(const std::string& text, std::array<std::uint8_t, 16>& to) {
    if (inet_pton(AF_INET6, text.c_str(), to.data()) == 1)
        return true;
    to = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    return inet_pton(AF_INET, text.c_str(), to.data() + 12) == 1;
}

// Not 0.0.0.0/8, 127.0.0.0/8, multicast and above, nor their like of IPv6.
bool of_one_host(const std::array<std::uint8_t, 16>& ip) {
    if (ip[0] != 0 || ip[10] != 0xff)
        return ip[0] != 0xff && ip[0] != 0;
    return ip[12] != 0 && ip[12] != 127 && ip[12] < 224;
}

void read_addresses(const reader& r, const toml::table& root, config& c) {
    const toml::array* list = r.tables(root, "address");
    if (list == nullptr || list->empty())
        r.fail("no media address; add: [[address]] name=\"access\" ip=\"192.0.2.1\"");
    if (list->size() > api::max_addresses)
        r.fail(*list, fmt::format("more than {} media addresses", api::max_addresses));
    for (const toml::node& node : *list) {
        const toml::table& table = *node.as_table();
        r.only(table, " in [[address]]", {"name", "ip"});
        config::address a;
        r.text(table, "name", a.name);
        r.text(table, "ip", a.text);
        if (a.name.empty() || a.name.size() >= sizeof(api::address_entry::name))
            r.fail(node,
                   fmt::format("[[address]] needs a name of 1 to {} letters", sizeof(api::address_entry::name) - 1));
        if (!parse_ip(a.text, a.ip))
            r.fail(node, fmt::format("ip \"{}\" is not an IPv4 or IPv6 address", a.text));
        if (!of_one_host(a.ip))
            r.fail(node,
                   fmt::format("ip {} is no address of one host on a wire: it must be this gateway's own for media",
                               a.text));
        for (const auto& other : c.addresses)
            if (other.ip == a.ip)
                r.fail(node, fmt::format("ip {} is given twice (\"{}\" and \"{}\")", a.text, other.name, a.name));
        c.addresses.push_back(std::move(a));
    }
}

void read_ports(const reader& r, const toml::table& root, config& c) {
    const toml::array* list = r.tables(root, "port");
    if (list == nullptr || list->empty())
        r.fail("no port; add: [[port]] interface=\"eth1\"");
    for (const toml::node& node : *list) {
        r.only(*node.as_table(), " in [[port]]", {"interface", "verify_checksum"});
        std::string name;
        bool checked = false;
        r.flag(*node.as_table(), "verify_checksum", checked);
        r.text(*node.as_table(), "interface", name);
        if (name.empty() || name.size() > 15)
            r.fail(node, "[[port]] needs interface = \"a network interface's name\"");
        if (name == "lo")
            r.fail(node,
                   "lo is no port of calls that come by a wire; for programs on this host write host_peers = true");
        if (std::find(c.ports.begin(), c.ports.end(), name) != c.ports.end())
            r.fail(node, fmt::format("interface {} is given twice", name));
        if (checked)
            c.checked_ports.push_back(name);
        c.ports.push_back(std::move(name));
    }
}

// Needs a queue of lo for each worker, and lo has one.
void read_host_peers(const reader& r, const toml::table& root, config& c) {
    bool wanted = c.workers == 1;
    r.flag(root, "host_peers", wanted);
    const toml::node* said = root.get("host_peers");
    if (wanted && c.workers != 1)
        r.fail(*said, "host_peers needs workers = 1: lo has one queue");
    c.own_host = !wanted           ? config::host_peers::no
                 : said == nullptr ? config::host_peers::where_possible
                                   : config::host_peers::yes;
}

void read_edge(const reader& r, const toml::table& root, config& c) {
    const toml::node* node = root.get("edge");
    if (node == nullptr)
        return;
    if (!node->is_table())
        r.fail(*node, "edge must be a table: [edge]");
    const toml::table& table = *node->as_table();
    r.only(table, " in [edge]",
           {"tunnel_tcp", "handshakes_per_second", "handshake_burst", "total_handshakes_per_second",
            "total_handshake_burst"});
    r.number(table, "handshakes_per_second", 0, 1'000'000, c.handshakes_per_second);
    r.number(table, "handshake_burst", 1, 1'000'000, c.handshake_burst);
    r.number(table, "total_handshakes_per_second", 0, 10'000'000, c.total_handshakes_per_second);
    r.number(table, "total_handshake_burst", 1, 10'000'000, c.total_handshake_burst);
    if (const toml::node* list = table.get("tunnel_tcp")) {
        if (!list->is_array())
            r.fail(*list, "tunnel_tcp must be a list of ports: tunnel_tcp = [4433]");
        for (const toml::node& port : *list->as_array())
            c.tunnel_tcp.push_back(static_cast<std::uint16_t>(r.in_range(port, "tunnel_tcp", 1, 65535)));
    }
}

// That they are there, and ours to use, is checked where they are used (io::eal).
void read_cpus(const reader& r, const toml::table& root, config& c) {
    const toml::node* node = root.get("cpus");
    if (node == nullptr)
        return;
    if (!node->is_array())
        r.fail(*node, "cpus must be a list with one CPU for each worker: cpus = [2, 3]");
    for (const toml::node& cpu : *node->as_array()) {
        const auto number = static_cast<unsigned>(r.in_range(cpu, "cpus", 0, 1023));
        if (std::find(c.cpus.begin(), c.cpus.end(), number) != c.cpus.end())
            r.fail(cpu, fmt::format("cpus names CPU {} twice: each worker needs one of its own", number));
        c.cpus.push_back(number);
    }
    if (c.cpus.size() != c.workers)
        r.fail(*node, fmt::format("cpus names {} CPU(s) and workers = {}: name one for each worker", c.cpus.size(),
                                  c.workers));
}

void read_root(const reader& r, const toml::table& root, config& c) {
    r.only(root, "",
           {"version", "instance", "run_dir", "workers", "cpus", "hugepages", "max_flows", "engine", "idle",
            "idle_poll_us", "controller_uid", "host_peers", "address", "port", "edge"});
    std::int64_t version = 0;
    r.number(root, "version", 1, 1, version);
    if (version != 1)
        r.fail("the first line must be: version = 1");
    r.text(root, "instance", c.instance);
    const auto plain = [](char ch) {
        return std::isalnum(static_cast<unsigned char>(ch)) != 0 || ch == '-' || ch == '_';
    };
    if (c.instance.empty() || c.instance.size() > 32 || !std::all_of(c.instance.begin(), c.instance.end(), plain))
        r.fail(*root.get("instance"), "instance must be 1 to 32 letters, digits, - or _");
    r.text(root, "run_dir", c.run_dir);
    if (c.run_dir.empty() || c.run_dir[0] != '/' || c.socket_path().size() > 100)
        r.fail(*root.get("run_dir"), "run_dir must be an absolute path of at most 85 letters");
    r.number(root, "workers", 1, 64, c.workers);
    r.number(root, "max_flows", 1, 4'194'304, c.max_flows);
    r.choice(root, "hugepages", {"auto", "never", "require"}, c.memory);
    r.choice(root, "engine", {"auto", "ipsecmb", "openssl"}, c.crypto);
    r.choice(root, "idle", idle_names, c.when_idle);
    r.number(root, "idle_poll_us", 0, 1'000'000, c.idle_poll_us);
    read_host_peers(r, root, c);
    read_cpus(r, root, c);
    if (const toml::node* uid = root.get("controller_uid"))
        c.controller_uid = static_cast<std::uint32_t>(r.in_range(*uid, "controller_uid", 0, 0xfffffffe));
    read_addresses(r, root, c);
    read_ports(r, root, c);
    read_edge(r, root, c);
}

} // namespace

tl::expected<config::idle, std::string> parse_idle(std::string_view word) {
    const auto* const found = std::find(idle_names.begin(), idle_names.end(), word);
    if (found == idle_names.end())
        return tl::unexpected(fmt::format("idle must be one of: {}; not \"{}\"", fmt::join(idle_names, ", "), word));
    return static_cast<config::idle>(found - idle_names.begin());
}

tl::expected<config, std::string> parse_config(std::string_view text, const std::string& path) {
    try {
        config c;
        read_root(reader(path), toml::parse(text, path), c);
        return c;
    } catch (const bad& wrong) {
        return tl::unexpected(wrong.text);
    } catch (const toml::parse_error& wrong) {
        return tl::unexpected(fmt::format("{}:{}: not TOML: {}", path, wrong.source().begin.line, wrong.description()));
    }
}

tl::expected<config, std::string> load_config(const std::string& path) {
    std::ifstream file(path);
    if (!file || (file.peek(), file.bad())) // a directory opens, and cannot be read
        return tl::unexpected(
            fmt::format("{}: cannot be read: {}; give the configuration by --config FILE", path, std::strerror(errno)));
    std::stringstream text;
    text << file.rdbuf();
    return parse_config(text.str(), path);
}

} // namespace tandem::app
