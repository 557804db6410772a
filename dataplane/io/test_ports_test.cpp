// SPDX-License-Identifier: Apache-2.0
// The ports of tests and benchmarks: frames in by a ring or file, out by a ring or file. No privileges, no hugepages.
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_ring.h>
#include <unistd.h>

#include "bpf/loader/edge.hpp"
#include "dataplane/io/eal.hpp"
#include "dataplane/io/port.hpp"

namespace tandem::io {

namespace {

eal& environment() {
    static eal running = [] {
        eal_config config;
        config.instance = "io-test";
        config.pages = hugepages::never;
        config.descriptors = 4 * 2048;
        auto started = eal::start(config);
        if (!started) {
            std::fprintf(stderr, "%s\n", started.error().c_str());
            std::abort();
        }
        return std::move(*started);
    }();
    return running;
}

rte_mbuf* frame(std::uint8_t value, std::uint16_t length = 60) {
    rte_mbuf* m = rte_pktmbuf_alloc(environment().pool());
    std::memset(rte_pktmbuf_append(m, length), value, length);
    return m;
}

TEST(TestPorts, EalHasItsWorkersAndPool) {
    EXPECT_EQ(environment().worker_lcores().size(), 1u);
    EXPECT_FALSE(environment().uses_hugepages());
    rte_mbuf* m = frame(1);
    EXPECT_EQ(rte_pktmbuf_headroom(m), mbuf_headroom);
    EXPECT_GE(m->buf_len, mbuf_data_room);
    rte_pktmbuf_free(m);
    auto lcore = environment().worker_lcores().front();
    static std::atomic<unsigned> ran_on{0};
    rte_eal_remote_launch(
        [](void*) {
            ran_on = rte_lcore_id();
            return 0;
        },
        nullptr, lcore);
    rte_eal_wait_lcore(lcore);
    EXPECT_EQ(ran_on, lcore);
}

TEST(TestPorts, RingCarriesBothWays) {
    auto opened = open_port({.kind = port_kind::ring, .interface = "wire0", .queues = 2}, environment().pool(), 1);
    ASSERT_TRUE(opened) << opened.error();
    port p = std::move(*opened);
    EXPECT_EQ(p.mode, xdp_mode::none);
    EXPECT_EQ(p.edge, nullptr);
    ASSERT_EQ(p.to_worker.size(), 2u);
    ASSERT_EQ(rte_ring_enqueue(p.to_worker[1], frame(7)), 0);
    rte_mbuf* got[4];
    EXPECT_EQ(rte_eth_rx_burst(p.id, 0, got, 4), 0);
    ASSERT_EQ(rte_eth_rx_burst(p.id, 1, got, 4), 1);
    EXPECT_EQ(*rte_pktmbuf_mtod(got[0], std::uint8_t*), 7);
    ASSERT_EQ(rte_eth_tx_burst(p.id, 0, got, 1), 1);
    void* out = nullptr;
    ASSERT_EQ(rte_ring_dequeue(p.from_worker[0], &out), 0);
    EXPECT_EQ(out, got[0]);
    rte_pktmbuf_free(got[0]);

    api::port_entry entry = describe(p);
    EXPECT_STREQ(entry.name, "wire0");
    EXPECT_STREQ(entry.xdp_mode, "none");
    EXPECT_EQ(entry.queues, 2u);
    close_port(p);
    close_port(p); // once more does nothing
    EXPECT_EQ(p.id, port::no_id);
    EXPECT_TRUE(open_port({.kind = port_kind::ring, .interface = "wire0"}, environment().pool(), 1))
        << "the name is free again";
}

TEST(TestPorts, NullAlwaysReceives) {
    auto p = open_port({.kind = port_kind::null, .interface = "n0"}, environment().pool(), 1);
    ASSERT_TRUE(p) << p.error();
    rte_mbuf* got[8];
    ASSERT_EQ(rte_eth_rx_burst(p->id, 0, got, 8), 8);
    EXPECT_EQ(rte_eth_tx_burst(p->id, 0, got, 8), 8);
}

TEST(TestPorts, PcapReadsWhatPcapWrote) {
    std::string file = std::filesystem::temp_directory_path() / ("tandem-io-" + std::to_string(::getpid()) + ".pcap");
    {
        auto writer =
            open_port({.kind = port_kind::pcap, .interface = "w0", .pcap_out = file}, environment().pool(), 1);
        ASSERT_TRUE(writer) << writer.error();
        rte_mbuf* out[2] = {frame(1, 100), frame(2, 200)};
        ASSERT_EQ(rte_eth_tx_burst(writer->id, 0, out, 2), 2);
    }
    auto reader = open_port({.kind = port_kind::pcap, .interface = "r0", .pcap_in = file}, environment().pool(), 1);
    ASSERT_TRUE(reader) << reader.error();
    rte_mbuf* got[4];
    ASSERT_EQ(rte_eth_rx_burst(reader->id, 0, got, 4), 2);
    EXPECT_EQ(got[0]->pkt_len, 100u);
    EXPECT_EQ(got[1]->pkt_len, 200u);
    EXPECT_EQ(*rte_pktmbuf_mtod(got[1], std::uint8_t*), 2);
    rte_pktmbuf_free(got[0]);
    rte_pktmbuf_free(got[1]);
    std::filesystem::remove(file);
}

TEST(TestPorts, MissingPcapIsSaid) {
    auto p =
        open_port({.kind = port_kind::pcap, .interface = "r1", .pcap_in = "/no/such/file"}, environment().pool(), 1);
    ASSERT_FALSE(p);
    EXPECT_TRUE(p.error().starts_with("r1: ")) << p.error();
}

TEST(Eal, RequiredHugepagesAreMissed) {
    eal_config config;
    config.pages = hugepages::require;
    config.descriptors = 200'000'000; // more than any machine that runs this has free
    auto started = eal::start(config);
    ASSERT_FALSE(started);
    EXPECT_NE(started.error().find("hugepages = \"require\""), std::string::npos) << started.error();
    EXPECT_NE(started.error().find("sysctl vm.nr_hugepages="), std::string::npos) << started.error();
    EXPECT_FALSE(eal::start({.workers = 0}));
    EXPECT_FALSE(eal::start({.workers = 100'000}));
}

} // namespace

} // namespace tandem::io
