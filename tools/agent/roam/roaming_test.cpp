// SPDX-License-Identifier: Apache-2.0
// What the kernel says becomes moves of the primary, with reasons that people can read. Rows COL-09, COL-12, COL-13.
#include "tools/agent/roam/roaming.hpp"

#include <gtest/gtest.h>

#include <net/if.h>
#include <nlohmann/json.hpp>

#include "tools/agent/roam/paths_cli.hpp"

using namespace tandem::agent;
using namespace std::chrono_literals;

namespace {

ip_bytes at(std::uint8_t net) {
    return {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, net, 2};
}
net_link link_of(const std::string& name, std::uint8_t net) {
    return {name, path_kind::other, true, true, true, {at(net)}};
}

struct fake_signals final : signal_source {
    int dbm = -50, reads = 0, taken = 0;
    std::optional<int> read(unsigned) override {
        reads++;
        return dbm;
    }
    void news() override { taken++; }
};

// "lo" is an interface that every machine has: it plays the radio.
struct Roaming : testing::Test {
    agent_config config;
    links known{{link_of("lo", 1), link_of("wwan0", 2), link_of("eth0", 3)}, "eth0", true};
    std::vector<std::pair<path_place, move_kind>> moves;
    bool already_there = false;
    fake_signals* signals = nullptr;
    std::unique_ptr<roaming> roam;
    path_time now{1h};

    void begin() {
        config.path_classes = {{"wifi", {"lo"}, billing::flat, 2s, -75, {}},
                               {"mobile", {"ww*"}, billing::volume, 2s, {}, {}}};
        auto radio = std::make_unique<fake_signals>();
        signals = radio.get();
        roam =
            std::make_unique<roaming>(config, std::move(radio),
                                      roaming::hooks{.survey = [this] { return known; },
                                                     .source = [](const std::string& name) -> std::optional<ip_bytes> {
                                                         return at(name == "lo" ? 1 : 2);
                                                     },
                                                     .move =
                                                         [this](const path_place& to, move_kind kind) {
                                                             moves.emplace_back(to, kind);
                                                             return already_there;
                                                         }});
        roam->links_changed(now);
    }
    void pass(int seconds) {
        for (int i = 0; i < seconds; i++)
            roam->check(now += 1s);
    }
    nlohmann::json last_move() { return roam->describe(now)["moves"].back(); }
};

} // namespace

TEST_F(Roaming, Col09AClassWithoutAnInterfaceIsShown) {
    begin();
    known.all.erase(known.all.begin() + 1);
    roam->links_changed(now);
    const auto paths = roam->describe(now)["paths"];
    ASSERT_EQ(paths.size(), 2U);
    EXPECT_EQ(paths[1]["class"], "mobile");
    EXPECT_EQ(paths[1]["standing"], "missing");
    EXPECT_EQ(paths[1]["interface"], "");
}

TEST_F(Roaming, Col09WhyIsKeptAndTold) {
    begin();
    ASSERT_EQ(moves.size(), 1U);
    EXPECT_EQ(moves[0].first, (path_place{"lo", at(1)}));
    EXPECT_EQ(last_move()["outcome"], "pending");
    roam->reached(moves[0].first, true, now += 40ms);
    EXPECT_EQ(last_move()["took_ms"], 40);
    known.all[0].carrier = known.all[0].usable = false;
    roam->links_changed(now += 1s);
    ASSERT_EQ(moves.size(), 2U);
    EXPECT_EQ(moves[1], (std::pair(path_place{"wwan0", at(2)}, move_kind::hard)));
    EXPECT_EQ(last_move()["text"], "lo is lost: no carrier");
    EXPECT_EQ(last_move()["from"]["class"], "wifi");
    EXPECT_EQ(roam->describe(now)["paths"].size(), 2U) << "an interface of no class is none";
    const auto text = paths_text(roam->describe(now).dump(), 16);
    EXPECT_NE(text.find("* wwan0"), std::string::npos) << text;
    EXPECT_NE(text.find("lo is lost: no carrier"), std::string::npos) << text;
}

TEST_F(Roaming, Col13PolledOrByEvent) {
    begin();
    pass(3);
    EXPECT_EQ(signals->reads, 8); // at once and each second, of both interfaces
    EXPECT_EQ(roam->describe(now)["paths"][0]["signal_dbm"], -50);
    config.signal_poll = 0s;
    begin();
    pass(3);
    EXPECT_EQ(signals->reads, 2);
    signals->dbm = -60;
    roam->signal_news(now);
    EXPECT_EQ(signals->taken, 1);
    EXPECT_EQ(roam->describe(now)["paths"][0]["signal_dbm"], -60);
}

TEST_F(Roaming, Col14HardwareThatIsOffIsNotAskedForItsSignal) {
    known.all[0].up = known.all[0].usable = false;
    begin();
    EXPECT_EQ(signals->reads, 1);
    EXPECT_EQ(roam->describe(now)["paths"][0]["standing"], "off");
    EXPECT_EQ(roam->interface(), "wwan0");
}

TEST_F(Roaming, APathThatDoesNotAnswerGivesWayToTheOther) {
    begin();
    already_there = true; // the old connection is there still
    roam->reached(moves[0].first, false, now);
    EXPECT_EQ(roam->interface(), "wwan0");
    const auto all = roam->describe(now)["moves"];
    EXPECT_EQ(all[0]["outcome"], "failed");
    EXPECT_EQ(all[1]["outcome"], "up");
    EXPECT_EQ(all[1]["text"], "no gateway answered over lo");
}

TEST_F(Roaming, Col12IdleIsToldInSeconds) {
    begin();
    std::vector<std::uint8_t> packet(28);
    packet[0] = 0x45;
    pass(3);
    EXPECT_EQ(roam->describe(now)["idle_s"], 3.0);
    roam->saw_packet(packet, now);
    EXPECT_EQ(roam->describe(now)["idle_s"], 0.0);
}

TEST_F(Roaming, TheJournalIsBounded) {
    begin();
    for (int i = 0; i < 200; i++) {
        known.all[0].carrier = known.all[0].usable = i % 2 == 1;
        roam->links_changed(now += 10s);
        roam->check(now += 10s);
    }
    EXPECT_EQ(roam->describe(now)["moves"].size(), path_journal::kept);
    EXPECT_EQ(moves.size(), 201U);
}
