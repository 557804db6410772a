// SPDX-License-Identifier: Apache-2.0
// agent.toml by toml++, and the key file. Every refusal says what to do.
#include "tools/agent/config.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
// A malformed file is an error with its line, not an assertion of the parser.
#define TOML_ASSERT(condition) static_cast<void>(0)
#include <toml++/toml.h>
#include <unistd.h>

#include "controlplane/protocol/interface_name.hpp"
#include "controlplane/protocol/tls.hpp"
#include "tools/agent/advice/contacts.hpp"

namespace tandem::agent {

namespace {

using names = std::vector<std::string>;
const names known_keys{"version", "id",       "gateway",      "psk_file",   "certificate", "key",     "ca",
                       "tun",     "user",     "run_dir",      "lifetime_s", "state_dir",   "keys",    "profiles",
                       "paths",   "nftables", "gateway_name", "path",       "capture",     "forward", "names"};
const names known_profile_keys{"of", "least_calls", "age_days", "duration"},
    known_threshold_keys{"at_least_s", "level"}, known_radio_keys{"wlan", "wwan", "signal_poll_s"},
    known_forward_keys{"listen", "to", "name", "compress"}, known_name_keys{"listen", "servers"},
    known_path_keys{"name", "interface", "cost", "hysteresis_s", "threshold_dbm", "idle_s"},
    known_capture_keys{"cgroup", "rule", "udp_idle_s"}, known_rule_keys{"to", "port", "protocol", "leave"};

// Collects the first error; later reads then do nothing.
class reader {
public:
    reader(const toml::table& table, const std::string& file, const toml::node* whole = nullptr)
        : table_(table), file_(file), whole_(whole) {}

    // Where a key is missing, the place is its table's; the file as a whole has none.
    void fail(const toml::node* where, const std::string& what) {
        if (!error_.empty())
            return;
        where = where == nullptr ? whole_ : where;
        error_ = where == nullptr ? fmt::format("{}: {}", file_, what)
                                  : fmt::format("{}:{}: {}", file_, where->source().begin.line, what);
    }
    void check_keys(const names& known) {
        for (const auto& [key, node] : table_)
            if (std::find(known.begin(), known.end(), key.str()) == known.end())
                fail(&node, fmt::format("unknown key '{}'; known are {}", key.str(), fmt::join(known, ", ")));
    }
    // A table in this one, read by `read`; its first error is this one's.
    template <class Function>
    void within(const toml::node* node, const char* what, Function read) {
        if (node == nullptr)
            return;
        const auto* inner = node->as_table();
        if (inner == nullptr)
            return fail(node, fmt::format("{} must be a table", what));
        reader in(*inner, file_, node);
        read(in);
        if (error_.empty())
            error_ = in.error_;
    }
    void text(const char* key, std::string& out) {
        const toml::node* node = table_.get(key);
        if (node == nullptr)
            return;
        if (!node->is_string())
            return fail(node, fmt::format("{} must be text in quotes", key));
        out = node->as_string()->get();
    }
    std::optional<std::int64_t> number(const char* key, std::int64_t low, std::int64_t high) {
        const toml::node* node = table_.get(key);
        if (node == nullptr)
            return std::nullopt;
        const auto* value = node->as_integer();
        if (value == nullptr || value->get() < low || value->get() > high) {
            fail(node, fmt::format("{} must be a number from {} to {}", key, low, high));
            return std::nullopt;
        }
        return value->get();
    }
    void flag(const char* key, bool& out) {
        const toml::node* node = table_.get(key);
        if (node != nullptr && !node->is_boolean())
            return fail(node, fmt::format("{} must be true or false", key));
        if (node != nullptr)
            out = node->as_boolean()->get();
    }
    [[nodiscard]] const toml::node* get(const char* key) const { return table_.get(key); }
    [[nodiscard]] const std::string& error() const { return error_; }

private:
    const toml::table& table_;
    const std::string& file_;
    const toml::node* whole_;
    std::string error_;
};

void read_gateways(reader& in, agent_config& config) {
    const toml::node* node = in.get("gateway");
    if (node == nullptr)
        return in.fail(nullptr, "gateway is missing; write gateway = [\"192.0.2.1:4433\"]");
    const toml::array* list = node->as_array();
    if (list == nullptr || list->empty())
        return in.fail(node, "gateway must be a list such as [\"192.0.2.1:4433\", \"[2001:db8::1]:4433\"]");
    for (const auto& item : *list) {
        const auto* text = item.as_string();
        const auto gateway = text == nullptr ? std::nullopt : link::parse_endpoint(text->get());
        if (!gateway)
            return in.fail(&item, "a gateway is written \"address:port\", IPv6 as \"[address]:port\"; host names are "
                                  "not looked up, write the address");
        config.gateways.push_back(*gateway);
    }
}

// A level's name; whether the gateway has such a level, it alone knows.
void read_threshold(reader& in, profile_rules& rules) {
    in.check_keys(known_threshold_keys);
    profile_rules::threshold one{};
    const auto at_least = in.number("at_least_s", 0, 30LL * 86400);
    in.text("level", one.level);
    if (!at_least)
        return in.fail(in.get("at_least_s"), "a threshold of [profiles] needs at_least_s, such as at_least_s = 300");
    one.at_least = std::chrono::seconds(*at_least);
    if (!valid_label(one.level))
        return in.fail(in.get("level"), "a threshold of [profiles] needs its level, such as level = \"elevated\"");
    if (!rules.duration.empty() && one.at_least <= rules.duration.back().at_least)
        return in.fail(in.get("at_least_s"), "at_least_s must rise from threshold to threshold");
    rules.duration.push_back(std::move(one));
}

// Of up to 16, or `most`; null where there is none, or what stands there is none, which is said.
const toml::array* list_of(reader& in, const char* key, std::string_view wanted, std::size_t most = 16) {
    const toml::node* node = in.get(key);
    if (node == nullptr)
        return nullptr;
    const auto* list = node->as_array();
    if (list != nullptr && list->size() <= most)
        return list;
    in.fail(node, std::string(wanted));
    return nullptr;
}

void read_profiles(reader& in, profile_rules& rules) {
    in.check_keys(known_profile_keys);
    std::string of = "median";
    in.text("of", of);
    if (of != "median" && of != "mean" && of != "last")
        in.fail(in.get("of"), "of must be \"median\", \"mean\" or \"last\"");
    rules.of = of == "mean" ? expectation::mean : of == "last" ? expectation::last : expectation::median;
    rules.least_calls =
        static_cast<std::size_t>(in.number("least_calls", 1, protocol::profile::most_calls).value_or(3));
    rules.age = std::chrono::hours(24 * in.number("age_days", 1, 3650).value_or(90));
    if (const auto* list = list_of(
            in, "duration", "duration must be a list of up to 16, such as [{at_least_s = 300, level = \"elevated\"}]"))
        for (const auto& item : *list)
            in.within(&item, "a threshold", [&rules](reader& inner) { read_threshold(inner, rules); });
}

// A name, or the begin of one and a *.
bool is_pattern(std::string_view text) {
    if (text == "*")
        return true;
    if (text.ends_with('*'))
        text.remove_suffix(1);
    return protocol::valid_interface(text) && text.find('*') == std::string_view::npos;
}

void read_interfaces(reader& in, const char* key, names& out) {
    const auto* list = list_of(in, key, fmt::format("{} must be a list of interfaces, such as [\"wlan0\"]", key));
    if (list == nullptr)
        return;
    out.clear();
    for (const auto& item : *list) {
        const auto* text = item.as_string();
        if (text == nullptr || !is_pattern(text->get()))
            return in.fail(
                &item, fmt::format("{}: an interface's name has 1 to 15 letters; a last * stands for any end", key));
        out.push_back(text->get());
    }
}

void read_cost(reader& in, path_class& one) {
    std::string cost = "flat";
    in.text("cost", cost);
    if (cost != "flat" && cost != "volume" && cost != "time")
        in.fail(in.get("cost"), "cost must be \"flat\", \"volume\" or \"time\"");
    one.cost = cost == "time" ? billing::time : cost == "volume" ? billing::volume : billing::flat;
    if (const auto idle = in.number("idle_s", 1, 86400))
        one.idle = std::chrono::seconds(*idle);
    if (one.idle && one.cost != billing::time)
        in.fail(in.get("idle_s"), "idle_s is for what is billed by time; write cost = \"time\" too, or leave it out");
    if (one.cost == billing::time && !one.idle)
        one.idle = std::chrono::seconds(30);
}

void read_path_class(reader& in, std::vector<path_class>& classes) {
    in.check_keys(known_path_keys);
    path_class one;
    in.text("name", one.name);
    if (!valid_label(one.name))
        in.fail(in.get("name"),
                "a [[path]] needs its name, such as name = \"wifi\": 1 to 32 letters, digits, '-' and '_'");
    for (const auto& other : classes)
        if (other.name == one.name)
            in.fail(in.get("name"), fmt::format("there is a [[path]] of the name \"{}\" already", one.name));
    read_interfaces(in, "interface", one.interfaces);
    if (one.interfaces.empty())
        in.fail(in.get("interface"), "a [[path]] needs its interfaces, such as interface = [\"wlan0\"] or [\"wl*\"]");
    read_cost(in, one);
    one.hysteresis = std::chrono::seconds(in.number("hysteresis_s", 0, 3600).value_or(5));
    if (const auto threshold = in.number("threshold_dbm", -120, 0))
        one.threshold_dbm = static_cast<int>(*threshold);
    classes.push_back(std::move(one));
}

void read_path_classes(reader& in, std::vector<path_class>& classes) {
    if (const auto* list = list_of(in, "path", "path must be up to 16 tables, each under a line [[path]]"))
        for (const auto& item : *list)
            in.within(&item, "a path", [&classes](reader& inner) { read_path_class(inner, classes); });
}

void read_capture_rule(reader& in, std::vector<bpf::capture_rule>& rules) {
    in.check_keys(known_rule_keys);
    bpf::capture_rule rule;
    std::string to, protocol = "tcp";
    in.text("to", to);
    if (!read_prefix(to, rule))
        in.fail(in.get("to"),
                "a rule of [capture] needs where to, an address or a prefix without bits behind its length, "
                "such as to = \"192.0.2.0/24\"; host names are not looked up");
    rule.port = static_cast<std::uint16_t>(in.number("port", 1, 65535).value_or(0));
    in.text("protocol", protocol);
    if (protocol != "tcp" && protocol != "udp")
        in.fail(in.get("protocol"), "protocol must be \"tcp\" or \"udp\"");
    rule.kind = protocol == "udp" ? bpf::capture_rule::protocol::udp : bpf::capture_rule::protocol::tcp;
    in.flag("leave", rule.leave);
    for (const auto& other : rules)
        if (same_destinations(rule, other))
            in.fail(in.get("to"), fmt::format("there is a rule of [capture] for {} with that port already", to));
    rules.push_back(rule);
}

void read_capture(reader& in, capture_settings& capture) {
    in.check_keys(known_capture_keys);
    in.text("cgroup", capture.cgroup);
    if (capture.cgroup.empty() || capture.cgroup.front() == '/' || capture.cgroup.find("..") != std::string::npos)
        in.fail(in.get("cgroup"),
                "[capture] needs the cgroup of the programs that are captured, named from where cgroup2 "
                "is mounted, such as cgroup = \"captured\"");
    if (const auto* list =
            list_of(in, "rule", "rule must be a list of up to 256, such as [{to = \"192.0.2.0/24\", port = 443}]",
                    bpf::capture::most_rules))
        for (const auto& item : *list)
            in.within(&item, "a rule", [&capture](reader& inner) { read_capture_rule(inner, capture.rules); });
    capture.udp_idle = std::chrono::seconds(in.number("udp_idle_s", 2, 3600).value_or(60));
    if (std::ranges::all_of(capture.rules, &bpf::capture_rule::leave))
        in.fail(in.get("rule"), "[capture] needs a rule of what is captured, such as rule = [{to = \"192.0.2.0/24\"}]");
}

void read_forward(reader& in, std::vector<forward>& all) {
    in.check_keys(known_forward_keys);
    const auto place = [&](const char* key, const char* example) {
        std::string text;
        in.text(key, text);
        const auto read = link::parse_endpoint(text);
        if (!read)
            in.fail(in.get(key), fmt::format("a [[forward]] needs {} as \"address:port\", such as {} = \"{}\"; IPv6 in "
                                             "brackets, no names",
                                             key, key, example));
        return read.value_or(link::endpoint{});
    };
    forward one{place("listen", "127.0.0.1:8080"), place("to", "198.51.100.7:80"), {}, false};
    in.text("name", one.name);
    if (!one.name.empty() && !is_host_name(one.name))
        in.fail(in.get("name"), "name must be a host name, such as \"app.example.org\"");
    if (!one.name.empty() && (one.listen.address.is_unspecified() || one.listen.address.is_multicast()))
        in.fail(in.get("listen"), "a [[forward]] with a name listens at the one address that the name has, such as "
                                  "\"127.0.0.10:80\"");
    in.flag("compress", one.compress);
    for (const auto& other : all)
        if (other.listen == one.listen)
            in.fail(in.get("listen"), "there is a [[forward]] of this address and port already");
    all.push_back(one);
}

void read_forwards(reader& in, std::vector<forward>& all) {
    if (const auto* list = list_of(in, "forward", "forward must be up to 16 tables, each under a line [[forward]]"))
        for (const auto& item : *list)
            in.within(&item, "a forward", [&all](reader& inner) { read_forward(inner, all); });
}

void read_names(reader& in, name_settings& names) {
    in.check_keys(known_name_keys);
    std::string listen;
    in.text("listen", listen);
    names.listen = link::parse_endpoint(listen);
    if (!names.listen)
        in.fail(in.get("listen"), "[names] needs listen as \"address:port\", such as listen = \"127.0.0.54:53\"");
    if (const auto* list = list_of(in, "servers", "servers must be a list of up to 16, such as [\"192.0.2.53:53\"]"))
        for (const auto& item : *list) {
            const auto* text = item.as_string();
            const auto server = text == nullptr ? std::nullopt : link::parse_endpoint(text->get());
            if (!server || server == names.listen)
                in.fail(&item, "a server of [names] is another's \"address:port\", such as \"192.0.2.53:53\"");
            names.servers.push_back(server.value_or(link::endpoint{}));
        }
    if (names.servers.empty())
        in.fail(in.get("servers"),
                "[names] needs servers that are asked for all other names, such as servers = [\"192.0.2.53:53\"]");
}

// A name has one address of each family, whatever ports it has there.
void read_answers(reader& in, agent_config& config) {
    auto& all = config.names.answers;
    for (const auto& f : config.forwards)
        if (!f.name.empty() && !all.add(f.name, f.listen.address))
            in.fail(
                in.get("forward"),
                fmt::format("{} has two addresses of one family; give its [[forward]]s one listen address", f.name));
    if (config.names.listen && all.empty())
        in.fail(in.get("names"), "[names] answers for no name; write name = \"app.example.org\" in a [[forward]]");
    if (!config.names.listen && !all.empty())
        in.fail(in.get("forward"),
                "a [[forward]] has a name, which [names] is to answer for; write [names] with listen and servers");
}

void read_keys(reader& in, agent_config& config) {
    std::string keys;
    in.text("keys", keys);
    if (keys == "gateway")
        config.keys = key_source::gateway;
    else if (keys == "device")
        config.keys = key_source::unit;
    else if (keys == "both")
        config.keys = key_source::both;
    else if (in.get("keys") != nullptr)
        in.fail(in.get("keys"), "keys must be \"gateway\", \"device\" or \"both\"");
}

void check_credentials(reader& in, const agent_config& config) {
    const bool any_certificate = !config.certificate.empty() || !config.key.empty() || !config.ca.empty();
    const bool all_certificate = !config.certificate.empty() && !config.key.empty() && !config.ca.empty();
    if (config.uses_psk() && any_certificate)
        in.fail(in.get("psk_file"), "psk_file and certificate/key/ca exclude each other; keep one of the two");
    else if (!config.uses_psk() && !any_certificate)
        in.fail(nullptr, "no credentials; set psk_file, or certificate, key and ca");
    else if (config.uses_psk() && !config.gateway_name.empty())
        in.fail(in.get("gateway_name"),
                "gateway_name is for certificates: with psk_file the gateway proves that it has "
                "the key; leave it out");
    else if (any_certificate && !all_certificate)
        in.fail(nullptr, "certificate, key and ca belong together; set all three");
}

// Closes and wipes on every way out.
struct psk_buffer {
    std::array<char, 256> bytes{};
    int fd = -1;
    ~psk_buffer() {
        protocol::wipe(bytes.data(), bytes.size());
        if (fd >= 0)
            ::close(fd);
    }
};

} // namespace

tl::expected<agent_config, config_error> parse_config(std::string_view text, const std::string& file) {
    toml::table table;
    try {
        table = toml::parse(text, file);
    } catch (const toml::parse_error& error) {
        return tl::unexpected(fmt::format("{}:{}: not TOML: {}", file, error.source().begin.line, error.description()));
    }
    agent_config config;
    reader in(table, file);
    in.check_keys(known_keys);
    if (!in.number("version", 1, 1))
        in.fail(nullptr, "version is missing; write version = 1");
    in.text("id", config.id);
    in.text("psk_file", config.psk_file);
    in.text("certificate", config.certificate);
    in.text("key", config.key);
    in.text("ca", config.ca);
    in.text("gateway_name", config.gateway_name);
    in.text("tun", config.tun);
    in.text("user", config.user);
    in.flag("nftables", config.nftables);
    in.text("run_dir", config.run_dir);
    in.text("state_dir", config.state_dir);
    read_keys(in, config);
    in.within(in.get("profiles"), "profiles", [&config](reader& inner) { read_profiles(inner, config.profiles); });
    in.within(in.get("paths"), "paths", [&config](reader& inner) {
        inner.check_keys(known_radio_keys);
        read_interfaces(inner, "wlan", config.paths.wlan);
        read_interfaces(inner, "wwan", config.paths.wwan);
        config.signal_poll = std::chrono::seconds(inner.number("signal_poll_s", 0, 60).value_or(1));
    });
    read_path_classes(in, config.path_classes);
    in.within(in.get("capture"), "capture", [&config](reader& inner) { read_capture(inner, config.capture); });
    read_forwards(in, config.forwards);
    in.within(in.get("names"), "names", [&config](reader& inner) { read_names(inner, config.names); });
    read_answers(in, config);
    if (const auto lifetime = in.number("lifetime_s", 10, 31536000))
        config.lifetime_s = static_cast<std::uint32_t>(*lifetime);
    // As the gateway takes it (controlplane/store).
    const auto plain = [](char c) {
        return std::isalnum(static_cast<unsigned char>(c)) != 0 || std::strchr("._-+@:", c);
    };
    if (config.id.empty() || config.id.size() > 64 || !std::ranges::all_of(config.id, plain))
        in.fail(in.get("id"),
                "id must be this unit's id code, 1 to 64 letters, digits or . _ - + @ :; write id = \"alice\"");
    if (!protocol::valid_interface(config.tun))
        in.fail(in.get("tun"), "tun must be an interface name of 1 to 15 characters, such as \"tandem0\"");
    read_gateways(in, config);
    check_credentials(in, config);
    if (!in.error().empty())
        return tl::unexpected(in.error());
    return config;
}

tl::expected<agent_config, config_error> load_config(const std::string& file) {
    std::string text;
    const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return tl::unexpected(fmt::format("{}: {}; give the configuration with --config", file, std::strerror(errno)));
    std::array<char, 4096> part{};
    ssize_t got = 0;
    while ((got = ::read(fd, part.data(), part.size())) > 0 && text.size() < (1U << 20))
        text.append(part.data(), static_cast<std::size_t>(got));
    const int error = errno;
    ::close(fd);
    if (got < 0)
        return tl::unexpected(fmt::format("{}: {}", file, std::strerror(error)));
    return parse_config(text, file);
}

tl::expected<protocol::secret, config_error> read_psk(const std::string& file) {
    psk_buffer buffer;
    buffer.fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
    if (buffer.fd < 0)
        return tl::unexpected(fmt::format("psk_file {}: {}; put the unit's key there as hex digits, mode 0600", file,
                                          std::strerror(errno)));
    struct stat info {};
    if (::fstat(buffer.fd, &info) != 0 || !S_ISREG(info.st_mode))
        return tl::unexpected(fmt::format("psk_file {}: not a regular file", file));
    if ((info.st_mode & 077U) != 0)
        return tl::unexpected(fmt::format("psk_file {}: mode {:04o} lets others read the key; run chmod 600 {}", file,
                                          info.st_mode & 07777U, file));
    const ssize_t got = ::read(buffer.fd, buffer.bytes.data(), buffer.bytes.size());
    auto psk = protocol::parse_psk({buffer.bytes.data(), got > 0 ? static_cast<std::size_t>(got) : 0});
    if (!psk)
        return tl::unexpected(
            fmt::format("psk_file {}: must hold 32 to 128 hex digits (16 to 64 bytes) on one line", file));
    return std::move(*psk);
}

} // namespace tandem::agent
