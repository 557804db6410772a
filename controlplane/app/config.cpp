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
#include <sstream>

#include <fmt/format.h>

#include "controlplane/app/ops_protocol.hpp"
#include "controlplane/policy/config_file.hpp"
#include "controlplane/policy/config_tables.hpp"
#include "controlplane/policy/toml_reader.hpp"
#include "controlplane/protocol/interface_name.hpp"
#include "controlplane/store/shared/postgres.hpp"

namespace tandem::control {

namespace {

using reader = policy::toml_reader;
using policy::toml_fault;

template <class Endpoint>
void read_endpoints(const reader& r, const toml::table& table, std::string_view key, std::vector<Endpoint>& to) {
    const auto* items = r.list(table, key);
    if (items == nullptr)
        return;
    for (const auto& item : *items) {
        if (!item.is_string())
            r.fail(item, fmt::format("{} holds \"address:port\" strings", key));
        const auto where = parse_address_port(item.as_string()->get());
        if (!where)
            r.fail(item, fmt::format("{}: {}", key, where.error()));
        to.emplace_back(where->first, where->second);
    }
}

// Who may reach the inner network.
void read_perimeter(const reader& r, const toml::table& table, session::config& to) {
    r.flag(table, "isolate", to.isolate);
    r.flag(table, "nftables", to.nftables);
    const auto* names = r.list(table, "inner_from");
    if (names == nullptr)
        return;
    if (names->size() > api::max_inner_from)
        r.fail(*names, fmt::format("inner_from names more than {} interfaces", api::max_inner_from));
    for (const auto& name : *names) {
        const std::string text = name.is_string() ? name.as_string()->get() : std::string();
        if (!protocol::valid_interface(text))
            r.fail(name,
                   "inner_from holds names of interfaces such as \"eth1\": `tandemctl port` lists the data plane's");
        to.inner_from.push_back(text);
    }
}

void read_tunnel(const reader& r, const toml::table& root, session::config& to) {
    const auto* table = r.table(root, "tunnel");
    if (table == nullptr)
        r.fail("no [tunnel] table; add: [tunnel] listen = [\"192.0.2.1:4433\"] inner4 = \"10.64.0.0/16\"");
    r.only(*table, " in [tunnel]",
           {"listen", "tun", "inner4", "inner6", "keepalive_ms", "lifetime_s", "grace_ms", "linger_ms", "mtu",
            "certificate", "key", "ca", "crl", "servers", "services", "inner_from", "isolate", "nftables"});
    read_endpoints(r, *table, "listen", to.listen);
    if (to.listen.empty())
        r.fail(*table, "[tunnel] needs listen = [\"192.0.2.1:4433\"]: where units connect to");
    r.text(*table, "tun", to.tun);
    if (!protocol::valid_interface(to.tun))
        r.fail(*table->get("tun"), "tun must be an interface name of 1 to 15 letters, such as \"tandem0\"");
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
    r.text(*table, "crl", to.certificates.crl);
    if (!to.certificates.crl.empty() && to.certificates.ca.empty())
        r.fail(*table->get("crl"), "crl is for units with certificates: give certificate, key and ca, too");
    read_perimeter(r, *table, to);
    if (const auto* services = r.list(*table, "services"))
        for (const auto& service : *services) {
            const auto* text = service.as_string();
            const auto rule = text == nullptr ? std::nullopt : session::parse_service(text->get());
            if (!rule)
                r.fail(service, "a service is written \"address:port\" or \"network/bits:port\", such as "
                                "\"198.51.100.0/24:80\"; IPv6 in brackets, \"[2001:db8::/32]:443\"; any port is *; "
                                "UDP is said behind it, \"198.51.100.7:53/udp\"");
            to.services.push_back(*rule);
        }
    if (const auto* servers = r.list(*table, "servers"))
        for (const auto& server : *servers) {
            if (!server.is_string() || !parse_address_port(server.as_string()->get()))
                r.fail(server, "servers holds \"address:port\" strings");
            to.servers.push_back(server.as_string()->get());
        }
}

// endpoint_learning = "once", or by interface: { default = "once", trunk = "off" }
void read_learning(const reader& r, const toml::table& media, media::settings& to) {
    const auto* given = media.get("endpoint_learning");
    if (given == nullptr)
        return;
    const auto read = [&](const toml::node& node) {
        const auto how = node.is_string() ? media::learning_of(node.as_string()->get()) : std::nullopt;
        if (!how)
            r.fail(node, "endpoint_learning is off, once or always, or by interface: { default = \"once\", NAME = "
                         "\"off\" }");
        return *how;
    };
    if (!given->is_table()) {
        to.endpoint_learning = read(*given);
        return;
    }
    for (const auto& [name, node] : *given->as_table()) {
        if (name.str() == "default")
            to.endpoint_learning = read(node);
        else
            to.learning_of[std::string(name.str())] = read(node);
    }
}

void read_media(const reader& r, const toml::table& root, media::settings& to) {
    const auto* table = r.table(root, "media");
    if (table == nullptr)
        return;
    r.only(*table, " in [media]",
           {"ports", "access", "core", "timeout_s", "hold_timeout_s", "quarantine_ms", "endpoint_learning"});
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
    read_learning(r, *table, to);
}

void read_store(const reader& r, const toml::table& root, store_settings& to) {
    const auto* table = r.table(root, "store");
    if (table == nullptr)
        return;
    r.only(*table, " in [store]", {"kind", "conninfo", "keep_days", "log_mib"});
    std::string kind = "sqlite";
    r.text(*table, "kind", kind);
    if (kind != "sqlite" && kind != "postgresql")
        r.fail(*table->get("kind"), fmt::format("kind \"{}\" is not known; known: sqlite, postgresql", kind));
    to.shared = kind == "postgresql";
    r.text(*table, "conninfo", to.conninfo);
    if (to.shared != !to.conninfo.empty())
        r.fail(*table, to.shared ? "kind postgresql needs conninfo = \"host=/run/postgresql dbname=tandem\" or "
                                   "\"service=tandem\"; never a password"
                                 : "conninfo is for kind = \"postgresql\"; the local store is `database`");
    if (const auto fine = to.shared ? store::check_conninfo(to.conninfo) : tl::expected<void, std::string>(); !fine)
        r.fail(*table->get("conninfo"), fine.error());
    r.number(*table, "keep_days", 0, 36'500, to.keep_days);
    r.number(*table, "log_mib", 1, 65'536, to.log_mib);
}

// Levels and policy: here, or in the file that `levels` names.
void read_policy(const reader& r, const toml::table& root, config& to) {
    const policy::limits bounds{to.tunnel.lifetime};
    auto read = policy::read_tables(root, r, bounds);
    if (!read)
        throw toml_fault{read.error()};
    to.levels_file = read->file;
    to.policy = std::move(read->values);
}

config read_all(const reader& r, const toml::table& root) {
    config to;
    std::vector<std::string_view> known{"version",         "instance",  "run_dir", "dataplane", "database",
                                        "master_key_file", "log_level", "tunnel",  "ng",        "media",
                                        "store",           "sip",       "policy"};
    known.insert(known.end(), policy::main_file_keys.begin(), policy::main_file_keys.end());
    r.only(root, "", known);
    const auto* version = root.get("version");
    if (version == nullptr)
        r.fail("no version; the first line must be: version = 1");
    static_cast<void>(r.in_range(*version, "version", 1, 1));
    r.text(root, "instance", to.instance);
    to.media.gateway = to.instance;
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
    read_tunnel(r, root, to.tunnel);
    if (const auto* ng = r.table(root, "ng")) {
        r.only(*ng, " in [ng]",
               {"listen", "max_calls", "max_media", "offer_timeout_s", "cookie_lifetime_s", "unit_reserve_percent",
                "source_share_percent", "received_from", "from"});
        read_endpoints(r, *ng, "listen", to.ng);
        r.number(*ng, "max_calls", 0, 10'000'000, to.max_calls);
        r.number(*ng, "max_media", 1, 32, to.max_media);
        r.number(*ng, "offer_timeout_s", 1, 86'400, to.offer_timeout);
        r.number(*ng, "cookie_lifetime_s", 1, 600, to.cookie_lifetime);
        r.number(*ng, "unit_reserve_percent", 0, 90, to.unit_reserve);
        r.number(*ng, "source_share_percent", 1, 100, to.source_share);
        if (const auto* prefixes = r.list(*ng, "from"))
            for (const auto& item : *prefixes) {
                const auto one = item.is_string() ? callcontrol::read_network(item.as_string()->get()) : std::nullopt;
                if (!one)
                    r.fail(item,
                           "from holds addresses or prefixes such as \"198.51.100.0/24\": the proxies that may ask");
                to.ng_from.push_back(*one);
            }
        std::string word = "required";
        r.text(*ng, "received_from", word);
        to.received_from_optional = word == "optional";
        if (word != "required" && word != "optional")
            r.fail(*ng->get("received_from"), "received_from is required, or optional for tests of signalling alone");
    }
    if (to.ng.empty())
        to.ng.emplace_back(asio::ip::address_v4::loopback(), std::uint16_t{2223});
    read_media(r, root, to.media);
    to.media.unit_reserve = to.unit_reserve / 100.0;
    read_store(r, root, to.store);
    if (const auto* sip = r.table(root, "sip")) {
        r.only(*sip, " in [sip]", {"directory"});
        r.text(*sip, "directory", to.sip_directory);
    }
    if (const auto* policy = r.table(root, "policy")) {
        r.only(*policy, " in [policy]", {"strict_names"});
        r.flag(*policy, "strict_names", to.strict_names);
    }
    read_policy(r, root, to);
    return to;
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
        auto read = read_all(r, r.parse(text));
        read.file = path;
        return read;
    } catch (const toml_fault& error) {
        return tl::unexpected(error.text);
    }
}

tl::expected<policy::config, std::string> load_levels(const config& settings) {
    return policy::load_config(settings.levels_file, {settings.tunnel.lifetime});
}

tl::expected<config, std::string> load_config(const std::string& path) {
    std::ifstream file(path);
    if (!file || (file.peek(), file.bad())) // a directory opens, and cannot be read
        return tl::unexpected(
            fmt::format("{}: cannot be read: {}; give the configuration by --config FILE", path, std::strerror(errno)));
    std::stringstream text;
    text << file.rdbuf();
    auto read = parse_config(text.str(), path);
    if (!read || read->levels_file.empty())
        return read;
    auto levels = load_levels(*read);
    if (!levels)
        return tl::unexpected(levels.error());
    read->policy = std::move(*levels);
    return read;
}

} // namespace tandem::control
