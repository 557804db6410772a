// SPDX-License-Identifier: Apache-2.0
// nl80211 against a small peer that speaks netlink on a socket pair: this needs no radio. Row COL-13.
#include "tools/agent/roam/signal.hpp"

#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <thread>
#include <vector>

#include <libmnl/libmnl.h>
#include <linux/genetlink.h>
#include <linux/nl80211.h>
#include <sys/socket.h>

using namespace tandem;
using namespace tandem::agent;

namespace {

constexpr std::uint16_t family = 29;

std::pair<descriptor, descriptor> pair() {
    std::array<int, 2> ends{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()), 0);
    return {descriptor(ends[0]), descriptor(ends[1])};
}

struct answer {
    std::array<char, 1024> bytes{};
    nlmsghdr* message;
    answer(const nlmsghdr& to, std::uint16_t type, std::uint8_t command) : message(mnl_nlmsg_put_header(bytes.data())) {
        message->nlmsg_type = type;
        message->nlmsg_seq = to.nlmsg_seq;
        static_cast<genlmsghdr*>(mnl_nlmsg_put_extra_header(message, sizeof(genlmsghdr)))->cmd = command;
    }
};

// The kernel's part, on a thread of its own until the other end closes.
class peer {
public:
    bool has_radio = true;
    std::vector<int> stations{-61}; // of interface 7
    bool cut_short = false;
    int requests = 0;

    explicit peer(descriptor end) : end_(std::move(end)), thread_([this] { serve(); }) {}
    ~peer() { thread_.join(); }

private:
    void put(const answer& one) const {
        const auto length = one.message->nlmsg_len - (cut_short ? 2U : 0U);
        EXPECT_EQ(::send(end_.get(), one.bytes.data(), length, MSG_NOSIGNAL), static_cast<ssize_t>(length));
    }
    void end(const nlmsghdr& to, std::uint16_t type, int error) const {
        std::array<char, 256> bytes{};
        auto* message = mnl_nlmsg_put_header(bytes.data());
        message->nlmsg_type = type;
        message->nlmsg_seq = to.nlmsg_seq;
        static_cast<nlmsgerr*>(mnl_nlmsg_put_extra_header(message, sizeof(nlmsgerr)))->error = error;
        EXPECT_GT(::send(end_.get(), bytes.data(), message->nlmsg_len, MSG_NOSIGNAL), 0);
    }
    void tell_family(const nlmsghdr& to) const {
        if (!has_radio)
            return end(to, NLMSG_ERROR, -ENOENT);
        answer one(to, GENL_ID_CTRL, CTRL_CMD_NEWFAMILY);
        mnl_attr_put_u16(one.message, CTRL_ATTR_FAMILY_ID, family);
        put(one);
    }
    void tell_stations(const nlmsghdr& to, std::uint32_t interface) const {
        for (const int dbm : interface == 7 ? stations : std::vector<int>{}) {
            answer one(to, family, NL80211_CMD_NEW_STATION);
            auto* nest = mnl_attr_nest_start(one.message, NL80211_ATTR_STA_INFO);
            mnl_attr_put_u32(one.message, NL80211_STA_INFO_INACTIVE_TIME, 4);
            mnl_attr_put_u8(one.message, NL80211_STA_INFO_SIGNAL, static_cast<std::uint8_t>(dbm));
            mnl_attr_nest_end(one.message, nest);
            put(one);
        }
        end(to, NLMSG_DONE, 0);
    }
    void serve() {
        alignas(nlmsghdr) std::array<char, 1024> bytes{};
        while (::recv(end_.get(), bytes.data(), bytes.size(), 0) > 0) {
            requests++;
            const auto& request = *reinterpret_cast<const nlmsghdr*>(bytes.data());
            if (request.nlmsg_type == GENL_ID_CTRL) {
                tell_family(request);
                continue;
            }
            EXPECT_EQ(request.nlmsg_type, family);
            const auto* interface =
                static_cast<const nlattr*>(mnl_nlmsg_get_payload_offset(&request, sizeof(genlmsghdr)));
            tell_stations(request, mnl_attr_get_u32(interface));
        }
    }
    descriptor end_;
    std::thread thread_;
};

// The source goes first, which ends the peer's thread.
struct Signal : testing::Test {
    std::pair<descriptor, descriptor> requests = pair(), events = pair();
    peer kernel{std::move(requests.second)};
    std::unique_ptr<nl80211_source> source =
        std::make_unique<nl80211_source>(std::move(requests.first), std::move(events.first));
};

} // namespace

TEST_F(Signal, Col13WhatTheRadioSaysIsRead) {
    EXPECT_EQ(source->read(7), -61);
    kernel.stations = {-90};
    EXPECT_EQ(source->read(7), -90);
    EXPECT_EQ(kernel.requests, 3) << "the family is asked for once";
}

TEST_F(Signal, Col13OfSeveralTheStrongest) {
    kernel.stations = {-80, -55, -70};
    EXPECT_EQ(source->read(7), -55);
}

TEST_F(Signal, Col14WhatIsNoRadioHasNoSignal) {
    EXPECT_EQ(source->read(8), std::nullopt);
    EXPECT_EQ(source->read(0), std::nullopt);
    kernel.stations.clear(); // with no access point
    EXPECT_EQ(source->read(7), std::nullopt);
}

TEST_F(Signal, Col13ADriverThatComesLaterIsFound) {
    kernel.has_radio = false;
    EXPECT_EQ(source->read(7), std::nullopt);
    kernel.has_radio = true;
    EXPECT_EQ(source->read(7), -61);
}

TEST_F(Signal, AnAnswerCutShortIsNone) {
    EXPECT_EQ(source->read(7), -61);
    kernel.cut_short = true;
    EXPECT_EQ(source->read(7), std::nullopt);
}

TEST_F(Signal, Col13NewsAreTakenWithoutWaiting) {
    source->news();
    ASSERT_EQ(::send(events.second.get(), "news", 4, 0), 4);
    EXPECT_GE(source->fd(), 0);
    source->news();
    char more = 0;
    EXPECT_LT(::recv(source->fd(), &more, 1, MSG_DONTWAIT), 0) << "all of it was taken";
}

TEST(SignalOfTheKernel, NoRadioIsNoError) {
    const auto source = nl80211_source::open();
    EXPECT_EQ(source ? source->read(1) : std::nullopt, std::nullopt); // loopback
}
