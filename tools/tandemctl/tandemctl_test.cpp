// SPDX-License-Identifier: Apache-2.0
// The display layer, the key file and the stats segment's reader, without a gateway.
#include <array>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dataplane/api/edge_maps.h"
#include "dataplane/api/stats.hpp"
#include "tools/tandemctl/display.hpp"
#include "tools/tandemctl/psk_file.hpp"
#include "tools/tandemctl/stats_view.hpp"

namespace {

using namespace tandem;
using namespace tandem::ctl;

class Tandemctl : public testing::Test {
protected:
    Tandemctl() {
        char name[] = "/tmp/tandemctl-test-XXXXXX";
        dir_ = mkdtemp(name);
    }
    ~Tandemctl() override { std::filesystem::remove_all(dir_); }
    [[nodiscard]] std::string file(const std::string& name) const { return dir_ + "/" + name; }
    void write(const std::string& name, const std::string& text, mode_t mode = 0600) const {
        std::ofstream(file(name)) << text;
        chmod(file(name).c_str(), mode);
    }
    std::string dir_;
};

TEST_F(Tandemctl, TableAlignsAndSaysWhatIsMissing) {
    constexpr std::array<column, 3> c{{{"NAME", "name"}, {"N", "deep/n", form::number}, {"UP", "up", form::yes_no}}};
    const json rows =
        json::array({{{"name", "alice"}, {"deep", {{"n", 12345}}}, {"up", true}}, {{"name", "b\033[2J"}}});
    EXPECT_EQ(table(rows, c, "none"), "NAME       N  UP\nalice  12345  yes\nb?[2J      -  -\n");
    EXPECT_EQ(table(json::array(), c, "none"), "none\n");
}

TEST_F(Tandemctl, CellsAreForPeople) {
    EXPECT_EQ(cell(1234567, form::bytes), "1.2 MB");
    EXPECT_EQ(cell(999, form::bytes), "999 B");
    EXPECT_EQ(cell(3723, form::duration), "1h 02m");
    EXPECT_EQ(cell(61, form::duration), "1m 01s");
    EXPECT_EQ(cell(-1, form::duration), "-");
    EXPECT_EQ(cell(json::array({"10.64.0.2", "fd64::2"}), form::text), "10.64.0.2 fd64::2");
    EXPECT_EQ(cell(nullptr, form::number), "-");
}

TEST_F(Tandemctl, PskIsMadeOnceThenKept) {
    const auto made = read_or_make_psk(file("a.psk"));
    ASSERT_TRUE(made);
    EXPECT_TRUE(made->made);
    EXPECT_EQ(made->hex.size(), 64U);
    struct stat about {};
    ASSERT_EQ(stat(file("a.psk").c_str(), &about), 0);
    EXPECT_EQ(about.st_mode & 0777U, 0600U);
    const auto again = read_or_make_psk(file("a.psk"));
    ASSERT_TRUE(again);
    EXPECT_FALSE(again->made);
    EXPECT_EQ(again->hex, made->hex);
    const auto other = read_or_make_psk(file("b.psk"));
    ASSERT_TRUE(other);
    EXPECT_NE(other->hex, made->hex);
}

TEST_F(Tandemctl, BadPskFilesAreRefusedWithARemedy) {
    write("open", std::string(64, 'a'), 0644);
    write("odd", std::string(33, 'a'));
    write("short", std::string(30, 'a'));
    write("long", std::string(130, 'a'));
    write("text", "not a key at all, is it? no, it is not.....");
    EXPECT_NE(read_or_make_psk(file("open")).error().text.find("chmod 600"), std::string::npos);
    for (const auto* name : {"odd", "short", "long", "text"}) {
        const auto key = read_or_make_psk(file(name));
        ASSERT_FALSE(key) << name;
        EXPECT_NE(key.error().text.find("hex digits"), std::string::npos) << name;
    }
    EXPECT_FALSE(read_or_make_psk(file("no/such/dir/key")));
}

class Stats : public Tandemctl {
protected:
    void make(std::uint16_t version = api::stats_version, std::uint16_t workers = 2) {
        api::stats_header h{};
        h.magic = api::stats_magic;
        h.version = version;
        h.workers = workers;
        h.worker_offset = sizeof h;
        h.flow_offset = sizeof h + 2 * sizeof(api::worker_stats);
        h.edge[static_cast<std::size_t>(api::drop::edge_closed_port)] = 7;
        h.edge[TANDEM_EDGE_TO_WORKER] = 100;
        std::array<api::worker_stats, 2> w{};
        w[0].counters[static_cast<std::size_t>(api::counter::rx_packets)] = 3;
        w[1].counters[static_cast<std::size_t>(api::counter::rx_packets)] = 4;
        w[1].drops[static_cast<std::size_t>(api::drop::srtp_auth)] = 5;
        std::string bytes(sizeof h + sizeof w, '\0');
        std::memcpy(bytes.data(), &h, sizeof h);
        std::memcpy(bytes.data() + sizeof h, w.data(), sizeof w);
        write("stats", bytes);
    }
    static json row(const json& rows, const char* key, const char* name) {
        for (const auto& r : rows)
            if (r[key] == name)
                return r;
        return {};
    }
};

TEST_F(Stats, CountersAndDropsAreSummedOverWorkers) {
    make();
    const auto view = stats_view::open(file("stats"));
    ASSERT_TRUE(view);
    const auto rx = row(view->counters()["counters"], "name", "rx_packets");
    EXPECT_EQ(rx["total"], 7);
    EXPECT_EQ(rx["per_worker"], json::array({3, 4}));
    const auto drops = view->drops();
    EXPECT_EQ(row(drops["drops"], "reason", "srtp_auth")["packets"], 5);
    EXPECT_EQ(row(drops["drops"], "reason", "edge_closed_port")["packets"], 7);
    EXPECT_EQ(row(drops["edge"], "verdict", "to_worker")["packets"], 100);
    EXPECT_TRUE(row(drops["drops"], "reason", "edge_end").is_null());
}

TEST_F(Stats, WrongSegmentsAreRefused) {
    EXPECT_EQ(stats_view::open(file("none")).error().kind, failure::unreachable);
    write("short", "TST1");
    EXPECT_EQ(stats_view::open(file("short")).error().kind, failure::failed);
    make(api::stats_version + 1);
    EXPECT_NE(stats_view::open(file("stats")).error().text.find("version"), std::string::npos);
    make(api::stats_version, 500); // says more workers than there is room for
    EXPECT_EQ(stats_view::open(file("stats")).error().kind, failure::failed);
}

} // namespace
