// SPDX-License-Identifier: Apache-2.0
// The contract client over a real socket: greeting, batches beyond one message, pages, events, reconnect, a data plane
// that does not answer or refuses.
#include "controlplane/dataplane_client/fake_dataplane.hpp"
#include "controlplane/dataplane_client/stats_reader.hpp"

#include <algorithm>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <functional>
#include <gtest/gtest.h>

namespace tandem::dataplane_client {
namespace {

using namespace std::chrono_literals;

struct client_test : testing::Test {
    asio::io_context io{1};
    timeline log;
    fake_dataplane dataplane{log};
    client under{io, dataplane.path()};
    unsigned connects = 0, lost = 0, disconnects = 0;
    std::vector<api::flow_event> events;

    void SetUp() override {
        under.on_connect = [this](const greeting&, bool flows_lost) {
            ++connects;
            lost += flows_lost ? 1 : 0;
        };
        under.on_disconnect = [this](const std::string&) { ++disconnects; };
        under.on_event = [this](const api::flow_event& event) { events.push_back(event); };
        under.start();
        ASSERT_TRUE(until([&] { return under.connected(); }));
    }
    void TearDown() override {
        under.stop();
        io.restart();
        io.run_for(20ms);
    }
    bool until(const std::function<bool()>& done, std::chrono::milliseconds limit = 8s) {
        const auto end = std::chrono::steady_clock::now() + limit;
        while (!done() && std::chrono::steady_clock::now() < end) {
            io.restart();
            io.run_for(2ms);
        }
        return done();
    }
    template <class T>
    T wait(asio::awaitable<T> work) {
        std::optional<T> out;
        asio::co_spawn(
            io,
            [](asio::awaitable<T> w, std::optional<T>* to) -> asio::awaitable<void> {
                *to = co_await std::move(w);
            }(std::move(work), &out),
            asio::detached);
        EXPECT_TRUE(until([&] { return out.has_value(); }));
        return std::move(*out);
    }
    static std::vector<api::flow_config> some(std::uint16_t count) {
        std::vector<api::flow_config> flows(count);
        for (std::uint16_t i = 0; i < count; ++i)
            flows[i].id = api::make_flow_id(0, static_cast<std::uint16_t>(20000 + i));
        return flows;
    }
};

TEST_F(client_test, GreetingNamesAddressesAndTheSegmentOpens) {
    ASSERT_EQ(under.hello()->addresses.size(), 4u);
    EXPECT_EQ(under.hello()->addresses[1].name, "core");
    EXPECT_EQ(under.hello()->addresses[1].ip.to_string(), "198.51.100.1");
    EXPECT_TRUE(under.hello()->addresses[2].ip.is_v6());
    stats_reader stats;
    EXPECT_TRUE(stats.open(under.hello()->stats_path));
    EXPECT_EQ(stats.workers(), 1u);
    EXPECT_FALSE(stats.open("/etc/passwd"));
    EXPECT_FALSE(stats.open("/nowhere"));
}

TEST_F(client_test, BatchesAnswerItemByItemInOrder) {
    const auto flows = some(40);
    const auto added = wait(under.flow_add(flows));
    ASSERT_TRUE(added);
    ASSERT_EQ(added->size(), 40u);
    EXPECT_EQ((*added)[39].id, flows[39].id);
    const auto again = wait(under.flow_add(flows));
    ASSERT_TRUE(again);
    EXPECT_EQ((*again)[7].status, api::status::flow_exists);
    const auto listed = wait(under.flow_list());
    ASSERT_TRUE(listed);
    EXPECT_EQ(listed->size(), 40u);
}

TEST_F(client_test, ManyItemsTravelInSeveralMessages) {
    std::vector<api::flow_ref> none(5000);
    for (std::uint32_t i = 0; i < none.size(); ++i)
        none[i].id = i;
    const auto removed = wait(under.flow_remove(none));
    ASSERT_TRUE(removed);
    ASSERT_EQ(removed->size(), 5000u);
    EXPECT_EQ((*removed)[4999].id, 4999u);
    EXPECT_EQ((*removed)[4999].status, api::status::unknown_flow);
    EXPECT_EQ(log.count("remove"), 3u);
}

// Groups are not cut apart between messages, and two callers' groups of the same number are two.
TEST_F(client_test, GroupsStayTogetherAndApart) {
    const auto flows = some(40);
    ASSERT_TRUE(wait(under.flow_add(flows)));
    constexpr std::size_t fits =
        (api::contract_max_message - sizeof(api::contract_header)) / sizeof(api::flow_replacement);
    std::vector<api::flow_replacement> items(fits + 2); // the group across the end of the first message is of four
    for (std::size_t i = 0; i < items.size(); ++i) {
        items[i].config = flows[i % 40];
        items[i].in_from[0] = items[i].config.id;
        items[i].group = static_cast<std::uint32_t>(i / 4);
    }
    items[fits].in_from[0] = 9; // is not there: refuses its group, which begins before `fits`
    items[fits].group = items[fits + 1].group = items[fits - 1].group;
    const auto said = wait(under.flow_replace(items));
    ASSERT_TRUE(said);
    ASSERT_EQ(said->size(), items.size());
    EXPECT_EQ(log.count("replace"), 2u);
    for (std::size_t i = 0; i < items.size(); ++i)
        EXPECT_EQ((*said)[i].status == api::status::ok, items[i].group != items[fits].group) << i;

    std::optional<client::statuses> answers[2];
    for (std::size_t i = 0; i < 2; ++i) {
        items[i].group = 1;
        items[i].in_from[0] = i == 0 ? 9 : items[i].config.id;
        asio::co_spawn(
            io,
            [](client* c, std::span<const api::flow_replacement> what,
               std::optional<client::statuses>* to) -> asio::awaitable<void> {
                *to = co_await c->flow_replace(what);
            }(&under, std::span(items).subspan(i, 1), &answers[i]),
            asio::detached);
    }
    ASSERT_TRUE(until([&] { return answers[0] && answers[1]; }));
    EXPECT_EQ((*answers[0])->at(0).status, api::status::unknown_flow);
    EXPECT_EQ((*answers[1])->at(0).status, api::status::ok);
    EXPECT_EQ(log.count("replace"), 3u) << "they share a message";
}

TEST_F(client_test, StreamsComeAndGo) {
    const auto flows = some(2);
    ASSERT_TRUE(wait(under.flow_add(flows)));
    {
        const std::lock_guard guard(dataplane.lock);
        for (std::uint32_t i = 0; i < 3; ++i)
            dataplane.streams.push_back({flows[i / 2].id, api::side::out, {}, {i, 7, 0, {70'000, {1, 0}}, {}}});
    }
    const auto listed = wait(under.stream_list());
    ASSERT_TRUE(listed);
    ASSERT_EQ(listed->size(), 3u);
    EXPECT_EQ(listed->at(2).state.rtp.next, 70'000u);
    const auto said = wait(under.stream_put(*listed));
    ASSERT_TRUE(said);
    EXPECT_EQ(said->size(), 3u);
    const std::lock_guard guard(dataplane.lock);
    EXPECT_EQ(dataplane.put_streams.size(), 3u);
}

// What several callers ask in one turn travels together, in the order asked; each gets its own items' answers.
TEST_F(client_test, CallersOfOneTurnShareMessagesAndNothingOvertakes) {
    std::vector<std::optional<client::statuses>> answers(7);
    const auto ask = [&](std::size_t i, asio::awaitable<client::statuses> work) {
        asio::co_spawn(
            io,
            [](asio::awaitable<client::statuses> w, std::optional<client::statuses>* to) -> asio::awaitable<void> {
                *to = co_await std::move(w);
            }(std::move(work), &answers[i]),
            asio::detached);
    };
    const auto all = some(10);
    std::vector<std::vector<api::flow_config>> flows;
    for (std::ptrdiff_t i = 0; i < 5; ++i)
        flows.push_back({all.begin() + 2 * i, all.begin() + 2 * i + 2});
    const std::vector<api::flow_ref> first{{flows[0][0].id}}, second{{flows[4][1].id}, {7}};
    for (std::size_t i = 0; i < 3; ++i)
        ask(i, under.flow_add(flows[i]));
    ask(3, under.flow_remove(first)); // after its add, before the next ones
    ask(4, under.flow_add(flows[3]));
    ask(5, under.flow_add(flows[4]));
    ask(6, under.flow_remove(second));
    ASSERT_TRUE(until([&] { return std::ranges::all_of(answers, [](const auto& a) { return a.has_value(); }); }));
    for (const std::size_t i : {0U, 1U, 2U, 4U, 5U}) {
        const auto& flow = flows[i < 3 ? i : i - 1];
        ASSERT_TRUE(*answers[i] && (*answers[i])->size() == 2) << i;
        for (std::size_t item = 0; item < 2; ++item) {
            EXPECT_EQ((**answers[i])[item].id, flow[item].id);
            EXPECT_EQ((**answers[i])[item].status, api::status::ok);
        }
    }
    EXPECT_EQ((**answers[3])[0].status, api::status::ok);
    ASSERT_EQ((*answers[6])->size(), 2u);
    EXPECT_EQ((**answers[6])[0].status, api::status::ok);
    EXPECT_EQ((**answers[6])[1].status, api::status::unknown_flow);
    EXPECT_EQ(log.count("add"), 2u);
    EXPECT_EQ(log.count("remove"), 2u);
}

TEST_F(client_test, EventsArrive) {
    dataplane.send(api::event_type::flow_latched, 20000, 9, to_net_address(asio::ip::make_address("203.0.113.5"), 5));
    ASSERT_TRUE(until([&] { return events.size() == 1; }));
    EXPECT_EQ(events[0].tag, 9u);
    EXPECT_EQ(from_net_ip(events[0].address.ip).to_string(), "203.0.113.5");
}

TEST_F(client_test, PacketsComeUpAndGoDown) {
    std::vector<std::vector<std::uint8_t>> up;
    under.on_packet = [&](const punted_packet& p) { up.emplace_back(p.bytes.begin(), p.bytes.end()); };
    std::vector<std::uint8_t> items(sizeof(api::packet_in) + 8);
    const api::packet_in about{1, 2, 20000, 3, api::packet_kind::dtls, 0, {}};
    std::memcpy(items.data(), &about, sizeof about);
    items[sizeof about] = 22;
    dataplane.send_packets(items, 1);
    ASSERT_TRUE(until([&] { return up.size() == 1; }));
    EXPECT_EQ(up[0], (std::vector<std::uint8_t>{22, 0, 0}));

    ASSERT_TRUE(wait(under.flow_add(some(1))));
    const auto to = to_net_address(asio::ip::make_address("203.0.113.5"), 5);
    const std::vector<std::uint8_t> answer(1201, 22);
    EXPECT_EQ(wait(under.send_packet(20000, to, answer)), api::status::ok);
    EXPECT_EQ(wait(under.send_packet(1, to, answer)), api::status::unknown_flow);
    EXPECT_EQ(wait(under.send_packet(20000, to, {})), api::status::bad_message);
    // More in one turn than a message holds.
    constexpr std::size_t many = 100;
    std::vector<std::optional<result<api::status>>> said(many);
    for (std::size_t i = 0; i < many; ++i)
        asio::co_spawn(
            io,
            [](asio::awaitable<result<api::status>> w,
               std::optional<result<api::status>>* to_) -> asio::awaitable<void> {
                *to_ = co_await std::move(w);
            }(under.send_packet(i % 2 == 0 ? 20000 : 1, to, answer), &said[i]),
            asio::detached);
    ASSERT_TRUE(until([&] { return std::ranges::all_of(said, [](const auto& s) { return s.has_value(); }); }));
    for (std::size_t i = 0; i < many; ++i)
        EXPECT_EQ(**said[i], i % 2 == 0 ? api::status::ok : api::status::unknown_flow) << i;
    const std::lock_guard guard(dataplane.lock);
    ASSERT_EQ(dataplane.packets.size(), many + 2);
    EXPECT_EQ(dataplane.packets[0].second, answer);
    EXPECT_EQ(dataplane.packets[0].first.destination.port, 5);
}

TEST_F(client_test, ReconnectsAndSaysWhetherFlowsWereLost) {
    dataplane.stop();
    ASSERT_TRUE(until([&] { return !under.connected(); }));
    EXPECT_EQ(disconnects, 1u);
    EXPECT_NE(under.trouble().find("data plane"), std::string::npos);
    const auto refused = wait(under.flow_add(some(1)));
    ASSERT_FALSE(refused);
    EXPECT_FALSE(refused.error().connected);
    dataplane.start();
    ASSERT_TRUE(until([&] { return connects == 2; }));
    EXPECT_EQ(lost, 0u);
    dataplane.stop();
    dataplane.forget_flows();
    dataplane.start();
    ASSERT_TRUE(until([&] { return connects == 3; }));
    EXPECT_EQ(lost, 1u);
}

TEST_F(client_test, RequestsOnTheWayFailWhenTheConnectionIsLost) {
    dataplane.ignore.insert(api::message_type::flow_add);
    std::optional<client::statuses> answer;
    const auto flows = some(1);
    asio::co_spawn(
        io,
        [](client* c, const std::vector<api::flow_config>* f, std::optional<client::statuses>* to)
            -> asio::awaitable<void> { *to = co_await c->flow_add(*f); }(&under, &flows, &answer),
        asio::detached);
    (void)until([] { return false; }, 50ms);
    EXPECT_FALSE(answer);
    dataplane.stop();
    ASSERT_TRUE(until([&] { return answer.has_value(); }, 1s));
    EXPECT_FALSE(answer->has_value());
}

TEST_F(client_test, SilentDataPlaneTimesOut) {
    dataplane.ignore.insert(api::message_type::flow_list);
    const auto listed = wait(under.flow_list());
    ASSERT_FALSE(listed);
    EXPECT_TRUE(listed.error().connected);
    EXPECT_NE(listed.error().text.find("did not answer in time"), std::string::npos);
}

TEST_F(client_test, AnErrorInsideTheReaderLeavesRunInsteadOfVanishing) {
    under.on_event = [](const api::flow_event&) { throw std::runtime_error("thrown by a test"); };
    dataplane.send(api::event_type::flow_latched, 1, 1);
    EXPECT_THROW((void)until([] { return false; }), std::runtime_error);
}

} // namespace
} // namespace tandem::dataplane_client
