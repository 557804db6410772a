// SPDX-License-Identifier: Apache-2.0
// The edge loaded for tests, with the maps set as the data plane would, run on one frame at a time by
// BPF_PROG_TEST_RUN.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <linux/if_xdp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <edge.skel.h>

#include "bpf/loader/edge.hpp"
#include "bpf/loader/testing/packet_builder.hpp"
#include "dataplane/api/drops.hpp"
#include "dataplane/api/edge_maps.h"

namespace tandem::bpf::testing {

inline constexpr const char* far4 = "198.51.100.7";
inline constexpr const char* media4 = "192.0.2.1";
inline constexpr const char* host4 = "192.0.2.9"; // ours, but no media address
inline constexpr const char* far6 = "2001:db8:1:2:3:4:5:6";
inline constexpr const char* media6 = "2001:db8::1";
inline constexpr const char* host6 = "2001:db8::9";
inline constexpr std::uint16_t open_port = 40000;
inline constexpr std::uint16_t closed_port = 40002;
inline constexpr std::uint16_t tunnel = 4433;

inline packet udp4(std::uint16_t port = open_port) {
    return packet().eth().ipv4(far4, media4).udp(5004, port).payload(20);
}
inline packet udp6(std::uint16_t port = open_port) {
    return packet().eth().ipv6(far6, media6).udp(5004, port).payload(20);
}

constexpr unsigned number(api::drop reason) {
    return static_cast<unsigned>(reason);
}

inline edge::address address(const char* text) {
    edge::address out{};
    if (inet_pton(AF_INET6, text, out.data()) != 1) {
        out[10] = out[11] = 0xff;
        inet_pton(AF_INET, text, out.data() + 12);
    }
    return out;
}

struct outcome {
    int action;       // XDP_*
    unsigned verdict; // the one counter that moved
    friend bool operator==(const outcome&, const outcome&) = default;
    friend std::ostream& operator<<(std::ostream& out, const outcome& o) {
        static constexpr const char* names[] = {"ABORTED", "DROP", "PASS", "TX", "REDIRECT"};
        out << names[o.action] << " / ";
        if (o.verdict < api::drop_count)
            return out << api::drop_table[o.verdict].name;
        return out << o.verdict;
    }
};

inline constexpr outcome to_kernel{XDP_PASS, TANDEM_EDGE_TO_KERNEL};
inline constexpr outcome handshake{XDP_PASS, TANDEM_EDGE_HANDSHAKE};
inline constexpr outcome to_worker{XDP_REDIRECT, TANDEM_EDGE_TO_WORKER};
constexpr outcome dropped(api::drop reason) {
    return {XDP_DROP, number(reason)};
}

class edge_test : public ::testing::Test {
protected:
    void SetUp() override {
        libbpf_set_print(nullptr);
        skeleton_ = edge_bpf__open_and_load();
        if (skeleton_ == nullptr && errno == EPERM)
            GTEST_SKIP() << "needs CAP_BPF and CAP_NET_ADMIN";
        ASSERT_NE(skeleton_, nullptr) << "the verifier refuses the edge";
        program_ = bpf_program__fd(skeleton_->progs.tandem_edge);
        bpf_prog_info info{};
        std::uint32_t length = sizeof(info);
        ASSERT_EQ(bpf_obj_get_info_by_fd(program_, &info, &length), 0);
        auto opened = edge::open_program(info.id);
        ASSERT_TRUE(opened) << opened.error();
        edge_.emplace(std::move(*opened));
        ASSERT_TRUE(edge_->add_media_address(address(media4), 0));
        ASSERT_TRUE(edge_->add_media_address(address(media6), 1));
        edge_->open_port(0, open_port);
        edge_->open_port(1, open_port);
        ASSERT_TRUE(edge_->add_tunnel_port(tunnel, IPPROTO_TCP));
        ASSERT_TRUE(edge_->add_tunnel_port(tunnel, IPPROTO_UDP));
    }
    void TearDown() override {
        if (socket_ >= 0)
            ::close(socket_);
        edge_.reset();
        edge_bpf::destroy(skeleton_);
    }

    // A socket for queue 0, enough for the program to redirect to.
    void give_socket() {
        socket_ = ::socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
        int entries = 64;
        std::uint32_t queue = 0;
        ASSERT_EQ(::setsockopt(socket_, SOL_XDP, XDP_RX_RING, &entries, sizeof(entries)), 0);
        ASSERT_EQ(bpf_map_update_elem(bpf_map__fd(skeleton_->maps.xsks_map), &queue, &socket_, BPF_ANY), 0)
            << strerror(errno);
    }

    outcome run(const frame& in) {
        auto before = edge_->verdicts().value();
        LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = in.data(),
                    .data_size_in = static_cast<std::uint32_t>(in.size()));
        int rc = bpf_prog_test_run_opts(program_, &options);
        EXPECT_EQ(rc, 0) << strerror(-rc);
        auto after = edge_->verdicts().value();
        outcome o{static_cast<int>(options.retval), 0};
        std::uint64_t counted = 0;
        for (unsigned v = 0; v < after.size(); ++v)
            if (after[v] != before[v]) {
                counted += after[v] - before[v];
                o.verdict = v;
            }
        EXPECT_EQ(counted, 1u) << "each frame is counted once";
        return o;
    }

    struct row {
        const char* description;
        frame input;
        outcome expected;
    };
    void check(const std::vector<row>& rows) {
        for (const row& r : rows)
            EXPECT_EQ(run(r.input), r.expected) << r.description;
    }

    edge_bpf* skeleton_ = nullptr;
    int program_ = -1;
    int socket_ = -1;
    std::optional<edge> edge_;
};

} // namespace tandem::bpf::testing
