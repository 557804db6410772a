// SPDX-License-Identifier: Apache-2.0
// Configuration and stats file. The contract server, the control thread and the programs are tested by
// tests/system/dataplane_*.py.
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dataplane/app/config.hpp"
#include "dataplane/app/stats_file.hpp"

namespace tandem::app {
namespace {

const std::string good =
    "version = 1\n[[address]]\nname = \"access\"\nip = \"192.0.2.1\"\n[[port]]\ninterface = \"ue0\"\n";

TEST(Config, DefaultsAndEverything) {
    const auto c = parse_config(good, "x.toml");
    ASSERT_TRUE(c.has_value());
    EXPECT_EQ(c->socket_path(), "/run/tandem/dataplane.sock");
    EXPECT_EQ(c->stats_path(), "/dev/shm/tandem-main.stats");
    EXPECT_EQ(c->max_flows, 4096u);
    EXPECT_EQ(c->handshakes_per_second, 100u);
    EXPECT_EQ(c->addresses[0].ip[15], 1);
    EXPECT_EQ(c->own_host, config::host_peers::where_possible);
    const auto full = parse_config(
        "version = 1\ninstance = \"b\"\nrun_dir = \"/tmp/r\"\nworkers = 2\ncpus = [3, 2]\nhugepages = \"never\"\n"
        "engine = \"openssl\"\nidle = \"poll\"\ncontroller_uid = 0\nmax_flows = 9\n"
        "[[address]]\nname = \"six\"\nip = \"2001:db8::1\"\n[[port]]\ninterface = \"a\"\n"
        "[[port]]\ninterface = \"b\"\nverify_checksum = true\n[edge]\ntunnel_tcp = [4433, 4434]\nhandshakes_per_second "
        "= 5\n"
        "handshake_burst = 6\n",
        "x.toml");
    ASSERT_TRUE(full.has_value()) << full.error();
    EXPECT_EQ(full->memory, config::hugepages::never);
    EXPECT_EQ(full->crypto, config::engine::openssl);
    EXPECT_EQ(full->when_idle, config::idle::poll);
    EXPECT_EQ(full->cpus, (std::vector<unsigned>{3, 2}));
    EXPECT_EQ(full->tunnel_tcp, (std::vector<std::uint16_t>{4433, 4434}));
    EXPECT_EQ(full->ports.size(), 2u);
    EXPECT_EQ(full->own_host, config::host_peers::no) << "lo has one queue";
    EXPECT_EQ(full->checked_ports, std::vector<std::string>{"b"});
    EXPECT_EQ(full->total_handshakes_per_second, 20'000u);
}

TEST(Config, ErrorsNameFileLineAndRemedy) {
    const std::pair<std::string, std::string> cases[] = {
        {good + "color = 1\n", "x.toml:7: unknown key \"color\" in [[port]]; known here: interface"},
        {"version = 1\nrun_dir = \"relative\"\n", "x.toml:2: run_dir must be an absolute path"},
        {"version = 1\n[[address]]\nname = \"toolonganame\"\nip = \"1.2.3.4\"\n", "needs a name of 1 to 11"},
        {"version = 1\n[[address]]\nname = \"a\"\nip = \"1.2.3.4\"\n[[address]]\nname = \"b\"\nip = \"1.2.3.4\"\n",
         "given twice"},
        {"version = 1\n[[address]]\nname = \"a\"\nip = \"239.1.1.1\"\n", "ip 239.1.1.1 is no address of one host"},
        {"version = 1\n[[address]]\nname = \"a\"\nip = \"0.0.0.0\"\n", "ip 0.0.0.0 is no address of one host"},
        {"version = 1\n[[address]]\nname = \"a\"\nip = \"::1\"\n", "ip ::1 is no address of one host"},
        {"version = 1\n[[address]]\nname = \"a\"\nip = \"ff02::1\"\n", "ip ff02::1 is no address of one host"},
        {"instance = \"x\"\n", "the first line must be: version = 1"},
        {good + "[edge]\ntunnel_tcp = [70000]\n", "tunnel_tcp must be a whole number from 1 to 65535"},
        {"version = 1\ncpus = [2, 3]\n", "x.toml:2: cpus names 2 CPU(s) and workers = 1: name one for each worker"},
        {"version = 1\nworkers = 2\ncpus = [2, 2]\n", "x.toml:3: cpus names CPU 2 twice"},
        {"version = 1\ncpus = 2\n", "x.toml:2: cpus must be a list"},
        {"version = 1\nidle = \"lazy\"\n", "x.toml:2: idle must be one of: adaptive, poll, interrupt"},
        {"version = 1\ncontroller_uid = -1\n", "x.toml:2: controller_uid must be a whole number"},
        {"version = 1\nworkers = 2\nhost_peers = true\n", "x.toml:3: host_peers needs workers = 1"},
        {"version = 1\nhost_peers = 1\n", "x.toml:2: host_peers must be true or false"},
        {good + "[[port]]\ninterface = \"lo\"\n", "write host_peers = true"},
        {"version = 1\ninstance = \"../x\"\n", "x.toml:2: instance must be"},
    };
    for (const auto& [text, words] : cases) {
        const auto c = parse_config(text, "x.toml");
        ASSERT_FALSE(c.has_value()) << text;
        EXPECT_NE(c.error().find(words), std::string::npos) << c.error();
        EXPECT_EQ(c.error().find('\n'), std::string::npos);
    }
    for (const auto* unreadable : {"/nonexistent/x.toml", "/tmp"})
        EXPECT_NE(load_config(unreadable).error().find("cannot be read"), std::string::npos) << unreadable;
}

TEST(Config, IdleModesByName) {
    EXPECT_EQ(*parse_idle("adaptive"), config::idle::adaptive);
    EXPECT_EQ(*parse_idle("poll"), config::idle::poll);
    EXPECT_EQ(*parse_idle("interrupt"), config::idle::interrupt);
    EXPECT_EQ(parse_idle("").error(), "idle must be one of: adaptive, poll, interrupt; not \"\"");
    EXPECT_EQ(parse_config("version = 1\nidle = \"interrupt\"\n" + good.substr(12), "x")->when_idle,
              config::idle::interrupt);
}

struct Stats : ::testing::Test {
    std::string path = "/dev/shm/tandem-unit-" + std::to_string(getpid()) + ".stats";
    ~Stats() override { unlink(path.c_str()); }
};

TEST_F(Stats, CountersGoOnAfterACrash) {
    {
        auto s = stats_file::open(path, 2, 10);
        ASSERT_TRUE(s.has_value()) << s.error();
        s->workers()[1].counters[0] = 42;
        s->flows()[9].rx_packets = 7;
        struct stat status {};
        ASSERT_EQ(stat(path.c_str(), &status), 0);
        EXPECT_EQ(status.st_mode & 0777, 0644u);
        EXPECT_FALSE(stats_file::open(path, 2, 10).has_value()); // in use
        s->in_service();
    }
    auto again = stats_file::open(path, 2, 10);
    ASSERT_TRUE(again.has_value());
    EXPECT_EQ(again->workers()[1].counters[0], 42u);
    EXPECT_EQ(again->flows()[9].rx_packets, 7u);
    again->remove();
    EXPECT_FALSE(std::filesystem::exists(path));
}

TEST_F(Stats, AFailedStartLeavesNothing) {
    (void)stats_file::open(path, 1, 10);
    EXPECT_FALSE(std::filesystem::exists(path));
}

TEST_F(Stats, AnotherShapeStartsAnew) {
    {
        auto s = stats_file::open(path, 1, 10);
        s->workers()[0].counters[0] = 1;
        s->in_service();
    }
    auto s = stats_file::open(path, 1, 20);
    ASSERT_TRUE(s.has_value());
    EXPECT_EQ(s->workers()[0].counters[0], 0u);
    EXPECT_EQ(s->header().max_flows, 20u);
}

TEST_F(Stats, LinksAreNotFollowed) {
    const std::string target = path + ".target";
    std::ofstream(target) << "precious";
    ASSERT_EQ(symlink(target.c_str(), path.c_str()), 0);
    auto s = stats_file::open(path, 1, 10);
    ASSERT_TRUE(s.has_value());
    std::string text;
    std::ifstream(target) >> text;
    EXPECT_EQ(text, "precious");
    unlink(target.c_str());
}

} // namespace
} // namespace tandem::app
