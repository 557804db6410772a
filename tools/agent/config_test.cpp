// SPDX-License-Identifier: Apache-2.0
// agent.toml and the key file: what is accepted, and that every refusal names file, line and remedy.
#include "tools/agent/config.hpp"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>

#include <sys/stat.h>
#include <unistd.h>

using namespace tandem::agent;

namespace {

const std::string good = "version = 1\nid = \"alice\"\ngateway = [\"192.0.2.1:4433\", \"[2001:db8::1]:4434\"]\n"
                         "psk_file = \"/etc/tandem/psk\"\n";

std::string error_of(const std::string& text) {
    const auto config = parse_config(text, "agent.toml");
    return config ? "" : config.error();
}
bool has(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

struct key_file {
    std::string name = "/tmp/tandem-agent-test-XXXXXX";
    explicit key_file(const std::string& text, mode_t mode = 0600) {
        const int fd = ::mkstemp(name.data());
        EXPECT_GE(fd, 0);
        EXPECT_EQ(::write(fd, text.data(), text.size()), static_cast<ssize_t>(text.size()));
        ::fchmod(fd, mode);
        ::close(fd);
    }
    key_file(const key_file&) = delete;
    key_file& operator=(const key_file&) = delete;
    ~key_file() { ::unlink(name.c_str()); }
};

} // namespace

TEST(Rim37Config, GoodOneWithDefaults) {
    const auto config = parse_config(good, "agent.toml");
    ASSERT_TRUE(config) << config.error();
    EXPECT_EQ(config->id, "alice");
    ASSERT_EQ(config->gateways.size(), 2U);
    EXPECT_EQ(config->gateways[1].port, 4434);
    EXPECT_TRUE(config->gateways[1].address.is_v6());
    EXPECT_EQ(config->tun, "tandem0");
    EXPECT_EQ(config->user, "nobody");
    EXPECT_TRUE(config->uses_psk());
    EXPECT_FALSE(config->lifetime_s);
}

TEST(Rim03Config, LifetimeWish) {
    EXPECT_EQ(parse_config(good + "lifetime_s = 60\n", "f")->lifetime_s, 60U);
    EXPECT_TRUE(has(error_of(good + "lifetime_s = 1\n"), "agent.toml:5: lifetime_s must be a number from 10"));
}

TEST(Rim37Config, RefusalsNameLineAndRemedy) {
    EXPECT_TRUE(has(error_of(good + "gatway = 1\n"), "agent.toml:5: unknown key 'gatway'; known are"));
    EXPECT_TRUE(has(error_of("id = \"a\"\n"), "version is missing; write version = 1"));
    EXPECT_TRUE(has(error_of("version = 2\n"), "agent.toml:1: version must be"));
    EXPECT_TRUE(has(error_of("version = 1\nid = \"a\"\npsk_file = \"x\"\n"), "gateway is missing; write"));
    EXPECT_TRUE(has(error_of("version = 1\nid = \"a\"\npsk_file = \"x\"\ngateway = [\"gw.example:1\"]\n"),
                    "agent.toml:4: a gateway is written"));
    EXPECT_TRUE(
        has(error_of("version = 1\nid = \"a\"\ngateway = [\"192.0.2.1:1\"]\n"), "no credentials; set psk_file"));
    EXPECT_TRUE(has(error_of(good + "ca = \"x\"\n"), "agent.toml:4: psk_file and certificate/key/ca exclude"));
    EXPECT_TRUE(has(error_of("version = 1\nid = \"a\"\ngateway = [\"192.0.2.1:1\"]\nca = \"x\"\n"), "belong together"));
    EXPECT_TRUE(has(error_of(good + "tun = \"a name that is too long\"\n"), "agent.toml:5: tun must be"));
    EXPECT_TRUE(has(error_of(good + "user = 3\n"), "agent.toml:5: user must be text"));
    EXPECT_TRUE(has(error_of("version = 1\nid = \n"), "agent.toml:2: not TOML"));
    EXPECT_TRUE(
        has(error_of("version = 1\nid = \"a b\"\n" + good.substr(good.find("gateway"))), "agent.toml:2: id must be"));
    EXPECT_TRUE(has(load_config("/nonexistent/agent.toml").error(), "No such file or directory; give"));
}

TEST(Rim37Config, Gateways) {
    EXPECT_TRUE(tandem::link::parse_endpoint("192.0.2.1:4433"));
    EXPECT_TRUE(tandem::link::parse_endpoint("[::1]:1"));
    for (const char* bad :
         {"", ":", "192.0.2.1", "192.0.2.1:0", "192.0.2.1:65536", "192.0.2.1:1x", "::1:1", "[192.0.2.1]:1", "a:1"})
        EXPECT_FALSE(tandem::link::parse_endpoint(bad)) << bad;
}

TEST(Rim04Psk, HexFileOfTheRightMode) {
    const key_file file("000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F\n");
    const auto psk = read_psk(file.name);
    ASSERT_TRUE(psk) << psk.error();
    ASSERT_EQ(psk->size(), 32U);
    EXPECT_EQ(psk->view()[31], 0x1f);
}

TEST(Rim04Psk, RefusalsSayWhatToDo) {
    const key_file open_to_all(std::string(64, 'a'), 0644);
    EXPECT_TRUE(has(read_psk(open_to_all.name).error(), "mode 0644 lets others read the key; run chmod 600"));
    const key_file too_short("aabb\n"), odd(std::string(33, 'a')), no_hex(std::string(64, 'g')),
        too_long(std::string(200, 'a'));
    for (const auto* file : {&too_short, &odd, &no_hex, &too_long})
        EXPECT_TRUE(has(read_psk(file->name).error(), "must hold 32 to 128 hex digits"));
    EXPECT_TRUE(has(read_psk("/nonexistent/psk").error(), "No such file or directory; put the unit's key there"));
    EXPECT_TRUE(has(read_psk("/tmp").error(), "not a regular file"));
}

TEST(Rim27Config, ProfilesRefuseWhatMakesNoSense) {
    const auto config = parse_config(good + "state_dir = \"/var/lib/tandem-agent\"\n[profiles]\nof = \"mean\"\n"
                                            "least_calls = 5\nage_days = 30\nduration = [{at_least_s = 300, level = "
                                            "\"elevated\"}, {at_least_s = 900, level = \"high\"}]\n",
                                     "agent.toml");
    ASSERT_TRUE(config) << config.error();
    EXPECT_EQ(config->state_dir, "/var/lib/tandem-agent");
    EXPECT_EQ(config->profiles.of, expectation::mean);
    EXPECT_EQ(config->profiles.least_calls, 5U);
    EXPECT_EQ(config->profiles.age, std::chrono::hours(30 * 24));
    ASSERT_EQ(config->profiles.duration.size(), 2U);
    EXPECT_EQ(config->profiles.duration[1].level, "high");
    const auto bad = [](const std::string& text) { return error_of(good + "[profiles]\n" + text); };
    EXPECT_TRUE(has(bad("off = 1\n"), "agent.toml:6: unknown key 'off'"));
    EXPECT_TRUE(has(bad("of = \"mode\"\n"), "agent.toml:6: of must be"));
    EXPECT_TRUE(has(bad("least_calls = 0\n"), "agent.toml:6: least_calls must be"));
    EXPECT_TRUE(has(bad("duration = 300\n"), "agent.toml:6: duration must be a list"));
    EXPECT_TRUE(has(bad("duration = [{at_least_s = 300}]\n"), "needs its level"));
    const auto no_value = bad("duration = [{level = \"high\"}]\n");
    EXPECT_TRUE(has(no_value, "needs at_least_s"));
    EXPECT_TRUE(has(no_value, "agent.toml:6: ")) << no_value;
    EXPECT_TRUE(
        has(bad("duration = [{at_least_s = 9, level = \"a\"}, {at_least_s = 9, level = \"b\"}]\n"), "must rise"));
    EXPECT_TRUE(has(error_of(good + "profiles = 3\n"), "agent.toml:5: profiles must be a table"));
}

TEST(Rim28Config, TheWishForKeys) {
    EXPECT_FALSE(parse_config(good, "f")->keys);
    EXPECT_EQ(parse_config(good + "keys = \"device\"\n", "f")->keys, key_source::unit);
    EXPECT_EQ(parse_config(good + "keys = \"both\"\n", "f")->keys, key_source::both);
    EXPECT_EQ(parse_config(good + "keys = \"gateway\"\n", "f")->keys, key_source::gateway);
    EXPECT_TRUE(has(error_of(good + "keys = \"me\"\n"), "agent.toml:5: keys must be"));
    EXPECT_TRUE(has(error_of(good + "keys = 1\n"), "agent.toml:5: keys must be"));
}

TEST(Col09Config, PathsInOrderOfPreference) {
    EXPECT_TRUE(parse_config(good, "f")->path_classes.empty());
    const auto forwarding =
        parse_config(good + "[[forward]]\nlisten = \"127.0.0.1:8080\"\nto = \"[2001:db8::7]:80\"\n", "f");
    ASSERT_TRUE(forwarding) << forwarding.error();
    ASSERT_EQ(forwarding->forwards.size(), 1U);
    EXPECT_EQ(tandem::link::text_of(forwarding->forwards[0].to), "[2001:db8::7]:80");
    EXPECT_FALSE(forwarding->forwards[0].compress);
    const auto compressed =
        parse_config(good + "[[forward]]\nlisten = \"127.0.0.1:8080\"\nto = \"192.0.2.7:80\"\ncompress = true\n", "f");
    EXPECT_TRUE(compressed && compressed->forwards[0].compress);
    const auto refused = [](const std::string& text) { return error_of(good + "[[forward]]\n" + text); };
    EXPECT_TRUE(has(refused("listen = \"127.0.0.1:8080\"\n"), "a [[forward]] needs to as \"address:port\""));
    EXPECT_TRUE(has(refused("listen = \"localhost:1\"\nto = \"192.0.2.1:1\"\n"), "a [[forward]] needs listen as"));
    for (const char* no_address : {"0.0.0.0", "[::]", "224.0.0.1"})
        EXPECT_TRUE(has(refused(std::string("listen = \"") + no_address +
                                ":80\"\nto = \"192.0.2.1:1\"\nname = \"app.example.org\"\n"),
                        "a [[forward]] with a name listens at the one address that the name has"));
    EXPECT_TRUE(has(refused("from = 1\n"), "unknown key 'from'"));
    const auto config = parse_config(good + "[paths]\nsignal_poll_s = 0\n[[path]]\nname = \"wifi\"\ninterface = "
                                            "[\"wl*\"]\nthreshold_dbm = -75\nhysteresis_s = 8\n[[path]]\nname = "
                                            "\"circuit\"\ninterface = [\"cs0\"]\ncost = \"time\"\nidle_s = 40\n",
                                     "agent.toml");
    ASSERT_TRUE(config) << config.error();
    EXPECT_EQ(config->signal_poll.count(), 0);
    ASSERT_EQ(config->path_classes.size(), 2U);
    EXPECT_EQ(config->path_classes[0].threshold_dbm, -75);
    EXPECT_EQ(config->path_classes[0].hysteresis.count(), 8);
    EXPECT_EQ(config->path_classes[1].cost, billing::time);
    EXPECT_EQ(config->path_classes[1].idle->count(), 40);
}

TEST(Col09Config, PathsRefuseWhatMakesNoSense) {
    const auto bad = [](const std::string& text) { return error_of(good + "[[path]]\n" + text); };
    const std::string whole = "name = \"a\"\ninterface = [\"x\"]\n";
    EXPECT_TRUE(has(bad(whole + "costs = 1\n"), "agent.toml:8: unknown key 'costs'; known are name, interface"));
    EXPECT_TRUE(has(bad("interface = [\"x\"]\n"), "agent.toml:5: a [[path]] needs its name"));
    EXPECT_TRUE(has(bad("name = \"a\"\n"), "agent.toml:5: a [[path]] needs its interfaces"));
    EXPECT_TRUE(has(bad("name = \"home wifi\"\n"), "1 to 32 letters, digits"));
    for (const char* never : {"w*n0", "wl/ 0", "", "**"})
        EXPECT_TRUE(has(bad(std::string("name = \"a\"\ninterface = [\"") + never + "\"]\n"), "a last * stands"))
            << never;
    EXPECT_TRUE(has(bad("name = \"a\"\ninterface = \"wlan0\"\n"), "such as [\"wlan0\"]"));
    EXPECT_TRUE(has(bad(whole + "cost = \"much\"\n"), "agent.toml:8: cost must be \"flat\""));
    EXPECT_TRUE(has(bad(whole + "idle_s = 30\n"), "agent.toml:8: idle_s is for what is billed by time"));
    EXPECT_TRUE(has(bad(whole + "threshold_dbm = 5\n"), "agent.toml:8: threshold_dbm must be a number from -120"));
    EXPECT_TRUE(has(bad(whole + "hysteresis_s = -1\n"), "agent.toml:8: hysteresis_s must be"));
    EXPECT_TRUE(has(bad(whole + "[[path]]\n" + whole), "agent.toml:9: there is a [[path]] of the name \"a\" already"));
    EXPECT_TRUE(has(error_of(good + "path = 3\n"), "agent.toml:5: path must be up to 16 tables"));
}

TEST(Rim33Config, Paths) {
    EXPECT_EQ(parse_config(good, "f")->paths.kind_of("wlp1s0"), path_kind::wlan);
    const auto config = parse_config(good + "[paths]\nwlan = [\"radio0\"]\nwwan = []\n", "f");
    ASSERT_TRUE(config) << config.error();
    EXPECT_EQ(config->paths.kind_of("radio0"), path_kind::wlan);
    EXPECT_EQ(config->paths.kind_of("wwan0"), path_kind::other);
    EXPECT_TRUE(has(error_of(good + "[paths]\nlte = [\"x\"]\n"), "agent.toml:6: unknown key 'lte'"));
    EXPECT_TRUE(has(error_of(good + "[paths]\nwlan = \"wlan0\"\n"), "agent.toml:6: wlan must be a list"));
    EXPECT_TRUE(has(error_of(good + "[paths]\nwlan = [\"a name that is too long\"]\n"), "1 to 15 letters"));
}

TEST(CaptureConfig, RulesInTheirOrder) {
    EXPECT_FALSE(parse_config(good, "f")->capture.any());
    const auto config =
        parse_config(good + "[capture]\ncgroup = \"captured\"\nrule = [{to = \"192.0.2.0/24\", port = 443},\n"
                            "{to = \"2001:db8::1\"}, {to = \"192.0.2.7\", leave = true}]\n",
                     "f");
    ASSERT_TRUE(config) << config.error();
    EXPECT_TRUE(config->capture.any());
    const auto& rules = config->capture.rules;
    ASSERT_EQ(rules.size(), 3U);
    EXPECT_EQ(rules[0].prefix_length, 24);
    EXPECT_EQ(rules[0].port, 443);
    EXPECT_EQ(rules[0].ip[0], 192);
    EXPECT_TRUE(rules[1].ip6);
    EXPECT_EQ(rules[1].prefix_length, 128);
    EXPECT_EQ(rules[1].port, 0);
    EXPECT_TRUE(rules[2].leave);
    const auto both = parse_config(good + "[capture]\ncgroup = \"c\"\nudp_idle_s = 5\nrule = [{to = \"192.0.2.1\"}, "
                                          "{to = \"192.0.2.1\", protocol = \"udp\"}]\n",
                                   "f");
    ASSERT_TRUE(both) << both.error();
    EXPECT_EQ(both->capture.rules[1].kind, tandem::bpf::capture_rule::protocol::udp);
    EXPECT_EQ(both->capture.udp_idle.count(), 5);
    EXPECT_TRUE(
        parse_config(good + "[capture]\ncgroup = \"c\"\nrule = [{to = \"0.0.0.0/0\"}, {to = \"::/0\"}]\n", "f"));
}

TEST(CaptureConfig, RefusesWhatMakesNoSense) {
    const auto with = [](const std::string& text) { return error_of(good + "[capture]\n" + text); };
    const std::string group = "cgroup = \"c\"\n";
    EXPECT_TRUE(has(with("rule = [{to = \"192.0.2.1\"}]\n"), "agent.toml:5: [capture] needs the cgroup"));
    EXPECT_TRUE(has(with("cgroup = \"/sys/fs/cgroup/c\"\n"), "named from where cgroup2 is mounted"));
    EXPECT_TRUE(has(with("cgroup = \"../c\"\n"), "agent.toml:6: [capture] needs the cgroup"));
    EXPECT_TRUE(has(with(group), "[capture] needs a rule"));
    EXPECT_TRUE(has(with(group + "rule = [{to = \"192.0.2.1\", leave = true}]\n"), "[capture] needs a rule"));
    for (const auto* to :
         {"", "host.example", "192.0.2.1/24", "192.0.2.0/33", "192.0.2.0/", "192.0.2.0/x", "::ffff:192.0.2.1",
          "2001:db8::1/64", "fe80::1%eth0", "2001:db8::/129", "192.0.2.0/-1", "192.0.2.0/24 "})
        EXPECT_TRUE(
            has(with(group + "rule = [{to = \"" + to + "\"}]\n"), "agent.toml:7: a rule of [capture] needs where to"))
            << to;
    EXPECT_TRUE(has(with(group + "rule = [{to = \"192.0.2.1\", port = 0}]\n"), "port must be a number from 1"));
    EXPECT_TRUE(has(with(group + "rule = [{to = \"192.0.2.1\", protocol = \"sctp\"}]\n"), "protocol must be"));
    EXPECT_TRUE(has(with(group + "rule = [{to = \"192.0.2.1\"}, {to = \"192.0.2.1/32\", leave = true}]\n"),
                    "there is a rule of [capture] for 192.0.2.1/32"));
    EXPECT_TRUE(has(with(group + "rule = [{to = \"192.0.2.1\", host = \"x\"}]\n"), "unknown key 'host'"));
    EXPECT_TRUE(has(with("rules = []\n"), "unknown key 'rules'"));
}
