// SPDX-License-Identifier: Apache-2.0
// What worker, trace and capture make of the data plane's numbers, without a gateway; pcapng block by block.
#include <array>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <iterator>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/tandemctl/pcapng.hpp"
#include "tools/tandemctl/sight.hpp"

namespace {

using namespace tandem;
using namespace tandem::ctl;

TEST(Address, IsReadAsItIsWritten) {
    for (const auto* text : {"192.0.2.1:4000", "[2001:db8::1]:65535", "0.0.0.0:1"}) {
        const auto a = parse_address(text);
        ASSERT_TRUE(a) << text;
        EXPECT_EQ(address_text(*a), text);
    }
    for (const auto* text : {"", ":", "192.0.2.1", "192.0.2.1:", "192.0.2.1:0", "192.0.2.1:65536", "192.0.2.1:-1",
                             "192.0.2.1: 5", "192.0.2.1:123456", "2001:db8::1:5", "[192.0.2.1]:5", "host:5", "[]:5"}) {
        const auto a = parse_address(text);
        ASSERT_FALSE(a) << text;
        EXPECT_EQ(a.error().kind, failure::usage);
    }
}

json media_of(const char* unit, int first_port) {
    const auto place = [&](int port) { return "192.0.2.1:" + std::to_string(port); };
    return {{"legs",
             {{{"unit", unit}, {"outer_rtp", place(first_port)}, {"outer_rtcp", place(first_port)}}, // muxed
              {{"unit", ""}, {"outer_rtp", place(first_port + 2)}, {"outer_rtcp", place(first_port + 3)}}}}};
}

TEST(Places, AreThoseOfBothLegs) {
    const json two{media_of("alice", 4000), media_of("bob", 5000)};
    const auto of = [](const json& media, const char* unit) {
        std::vector<std::string> out;
        const auto places = places_in(media, unit);
        EXPECT_TRUE(places);
        for (std::size_t i = 0; places && i < places->count; ++i)
            out.push_back(address_text(places->at[i]));
        return out;
    };
    EXPECT_EQ(of(two, "bob"), (std::vector<std::string>{"192.0.2.1:5000", "192.0.2.1:5002", "192.0.2.1:5003"}));
    EXPECT_EQ(of(two, "").size(), 6u);
    EXPECT_TRUE(of(two, "carol").empty());
    EXPECT_TRUE(of(json::array(), "").empty());
}

TEST(Places, AreNotMoreThanTheDataPlaneTakes) {
    json many = json::array();
    for (int i = 0; i < 11; ++i)
        many.push_back(media_of("alice", 4000 + 10 * i));
    const auto got = places_in(many, "alice");
    ASSERT_FALSE(got);
    EXPECT_NE(got.error().text.find("33 addresses"), std::string::npos) << got.error().text;
    many.erase(0);
    EXPECT_EQ(places_in(many, "alice")->count, 30u);
}

json worker_at(double busy, std::uint64_t packets, std::uint64_t started = 1000) {
    return {{"lcore", 1},
            {"cpu", 3},
            {"started_tsc", started},
            {"busy_tsc", busy},
            {"longest_gap_tsc", 5000},
            {"longest_gap_second_tsc", 1000},
            {"stage_tsc", {packets * 10, packets * 20, packets * 30, packets * 40, packets * 50}},
            {"stage_packets", {packets, packets, packets, packets / 2, packets / 2}},
            {"burst_sizes", {0, packets / 2, 0, 0, 0, 0, 0}},
            {"sleeps", packets},
            {"wakeups", 0},
            {"handed_over", 7}};
}
json look(std::uint64_t tsc, json worker) {
    return {
        {"tsc", tsc}, {"tsc_hz", 1'000'000}, {"heartbeat_age_s", 0.0}, {"workers", json::array({std::move(worker)})}};
}

TEST(Worker, RatesAreOfTheIntervalAndTotalsSinceTheStart) {
    const auto r = worker_rates(look(1'001'000, worker_at(100'000, 100)), look(2'001'000, worker_at(350'000, 300)));
    EXPECT_DOUBLE_EQ(r["interval_s"].get<double>(), 1.0);
    const json& w = r["workers"][0];
    EXPECT_DOUBLE_EQ(w["up_s"].get<double>(), 2.0);
    EXPECT_DOUBLE_EQ(w["longest_gap_us"].get<double>(), 5000.0);
    EXPECT_DOUBLE_EQ(w["now"]["busy_percent"].get<double>(), 25.0);
    EXPECT_DOUBLE_EQ(w["now"]["packets_per_s"].get<double>(), 200.0);
    EXPECT_DOUBLE_EQ(w["now"]["tsc_per_packet"].get<double>(), 1250.0);
    EXPECT_DOUBLE_EQ(w["now"]["stages"]["send"].get<double>(), 100.0); // half of them got there
    EXPECT_DOUBLE_EQ(w["now"]["mean_burst"].get<double>(), 2.0);
    EXPECT_EQ(w["now"]["bursts"]["2-3"], 100);
    EXPECT_DOUBLE_EQ(w["now"]["sleeps_per_s"].get<double>(), 200.0);
    EXPECT_DOUBLE_EQ(w["total"]["busy_percent"].get<double>(), 17.5);
    EXPECT_EQ(w["total"]["packets"], 300);
}

TEST(Worker, AnotherLifeBeginsAtNothingAndSilenceIsNoFigure) {
    const auto r =
        worker_rates(look(1'000'000, worker_at(900'000, 900)), look(2'000'000, worker_at(50'000, 100, 1'500'000)));
    EXPECT_EQ(r["workers"][0]["now"]["packets"], 100);
    const auto idle = worker_rates(look(1'000'000, worker_at(5, 10)), look(2'000'000, worker_at(5, 10)));
    EXPECT_TRUE(idle["workers"][0]["now"]["tsc_per_packet"].is_null());
    EXPECT_TRUE(idle["workers"][0]["now"]["mean_burst"].is_null());
    EXPECT_DOUBLE_EQ(idle["workers"][0]["now"]["busy_percent"].get<double>(), 0.0);
}

TEST(Trace, VerdictsFollowTheStages) {
    api::trace_record r{};
    r.last = api::stage::lookup;
    r.reason = api::drop::no_flow;
    r.source = *parse_address("192.0.2.9:7000");
    r.destination = *parse_address("192.0.2.1:4000");
    json j = trace_json(r, "acc0", "core0");
    EXPECT_EQ(j["stages"], (json{{"receive", "received"}, {"lookup", "no_flow"}}));
    EXPECT_EQ(j["dropped"], "no_flow");
    EXPECT_FALSE(j.contains("flow") || j.contains("sent") || j.contains("ssrc"));
    EXPECT_NE(trace_text(j).find("lookup     DROPPED: no_flow"), std::string::npos);

    r.reason = api::drop::none;
    r.flags = api::trace_handed;
    EXPECT_EQ(trace_json(r, "a", "b")["stages"]["lookup"], "handed_over");

    r.last = api::stage::send;
    r.flow = 4000;
    r.out_suite = api::suite::aead_aes_128_gcm;
    r.flags = api::trace_media | api::trace_accepted | api::trace_latched | api::trace_out_index | api::trace_sent;
    r.ssrc = 0xabcdef01;
    r.out_index = 0x10001;
    r.out_epoch = 3;
    r.out_destination = *parse_address("[2001:db8::9]:6000");
    j = trace_json(r, "acc0", "core0");
    EXPECT_EQ(j["stages"], (json{{"receive", "received"},
                                 {"lookup", "flow_found"},
                                 {"unprotect", "accepted"},
                                 {"protect", "protected"},
                                 {"send", "sent"}}));
    EXPECT_EQ(j["out"], (json{{"index", 0x10001}, {"epoch", 3}}));
    EXPECT_TRUE(j["dropped"].is_null());
    const auto text = trace_text(j);
    EXPECT_NE(text.find("SSRC 0xabcdef01 sequence 0; the leg is here now"), std::string::npos) << text;
    EXPECT_NE(text.find("core0: - -> [2001:db8::9]:6000"), std::string::npos) << text;

    r.last = static_cast<api::stage>(200); // what a foreign data plane might say
    r.reason = static_cast<api::drop>(250);
    EXPECT_EQ(trace_json(r, "a", "b")["stages"].size(), 5U);
}

std::uint32_t word(const std::string& bytes, std::size_t at) {
    std::uint32_t v = 0;
    std::memcpy(&v, bytes.data() + at, sizeof v);
    return v;
}

TEST(Pcapng, BlocksAreWhole) {
    char dir[] = "/tmp/tandemctl-test-XXXXXX";
    ASSERT_NE(mkdtemp(dir), nullptr);
    const std::string path = std::string(dir) + "/x.pcapng";
    {
        auto w = pcapng_writer::create(path);
        ASSERT_TRUE(w);
        constexpr std::array<std::uint8_t, 6> mac{2, 0, 0, 0, 0, 1};
        w->interface("acc0", mac, 2048);
        constexpr std::array<std::byte, 5> data{};
        w->write({0x1122334455667788, 0, 99, true, "why", data});
        w->write({1, 0, 5, false, "", data});
        ASSERT_TRUE(w->flush());
    }
    std::ifstream in(path, std::ios::binary);
    const std::string all{std::istreambuf_iterator<char>(in), {}};
    std::vector<std::string> blocks;
    for (std::size_t at = 0; at < all.size();) {
        const std::uint32_t length = word(all, at + 4);
        ASSERT_TRUE(length % 4 == 0 && length >= 12 && at + length <= all.size());
        EXPECT_EQ(word(all, at + length - 4), length);
        blocks.push_back(all.substr(at, length));
        at += length;
    }
    ASSERT_EQ(blocks.size(), 4U);
    EXPECT_EQ(word(blocks[0], 0), 0x0a0d0d0aU);
    EXPECT_EQ(word(blocks[0], 8), 0x1a2b3c4dU);
    EXPECT_EQ(word(blocks[1], 0), 1U);
    EXPECT_NE(blocks[1].find("acc0"), std::string::npos);
    EXPECT_EQ(word(blocks[2], 0), 6U);
    EXPECT_EQ(word(blocks[2], 12), 0x11223344U);
    EXPECT_EQ(word(blocks[2], 16), 0x55667788U);
    EXPECT_EQ(word(blocks[2], 20), 5U);
    EXPECT_EQ(word(blocks[2], 24), 99U);
    EXPECT_NE(blocks[2].find("why"), std::string::npos);
    EXPECT_EQ(word(blocks[2], blocks[2].size() - 12), 2U); // flags: outbound
    EXPECT_EQ(word(blocks[3], blocks[3].size() - 12), 1U);
    struct stat about {};
    ASSERT_EQ(stat(path.c_str(), &about), 0);
    EXPECT_EQ(about.st_mode & 0777U, 0600U);
    EXPECT_FALSE(pcapng_writer::create(std::string(dir) + "/no/such/dir"));
    std::filesystem::remove_all(dir);
}

} // namespace
