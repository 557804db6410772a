// SPDX-License-Identifier: Apache-2.0
// ORA-04 to ORA-16 over real TLS: what a unit may send, what it is answered, what closes its tunnel.
#include <asio/detached.hpp>

#include <unordered_set>

#include "controlplane/session/channel.hpp"
#include "controlplane/session/test_unit.hpp"
#include "controlplane/session/tsid.hpp"

namespace tandem::session::testing {
namespace {

using Ora = Gateway;

TEST_F(Ora, Ora04ConfigurationIsReturned) {
    start();
    run([this]() -> asio::awaitable<void> {
        unit alice(io_, "alice");
        EXPECT_FALSE(co_await alice.connect(at_));
        const auto answer = co_await alice.configure();
        EXPECT_TRUE(answer);
        if (!answer)
            co_return;
        EXPECT_EQ(answer->count<tlv::inner_address>(), 2U);
        EXPECT_EQ(alice.inner().at(0), asio::ip::make_address("10.64.0.2"));
        EXPECT_EQ(alice.inner().at(1), asio::ip::make_address("fd64::2"));
        EXPECT_EQ(answer->get<tlv::inner_prefix>(0), 16);
        EXPECT_EQ(answer->get<tlv::inner_prefix>(1), 64);
        EXPECT_EQ(answer->get<tlv::inner_gateway>(0)->bytes[15], 1);
        EXPECT_EQ(answer->get<tlv::keepalive_ms>(), 5000U);
        EXPECT_EQ(answer->get<tlv::lifetime_s>(), 86400U);
        EXPECT_EQ(answer->get<tlv::mtu>(), 1480);
        EXPECT_EQ(answer->get<tlv::server>(), "192.0.2.1:4433");
        const auto info = gateway_->by_unit("alice");
        EXPECT_TRUE(info && info->up);
        EXPECT_EQ(info->cipher, "TLS_AES_256_GCM_SHA384");
        EXPECT_EQ(info->id, alice.id());
        EXPECT_EQ(info->inner_gateway, asio::ip::make_address("10.64.0.1"));
        EXPECT_EQ(gateway_->by_inner(asio::ip::make_address("fd64::2"))->unit, "alice");
        EXPECT_EQ(gateway_->by_tsid(alice.id())->outer, asio::ip::make_address("127.0.0.1"));
    }());
    EXPECT_EQ(events_, std::vector<std::string>{"up alice"});
}

TEST_F(Ora, Ora05FirstTsidMustBeAllOnes) {
    start();
    run([this]() -> asio::awaitable<void> {
        unit alice(io_, "alice");
        EXPECT_FALSE(co_await alice.connect(at_));
        for (const tsid wrong : {tsid{0}, tsid{1}, protocol::no_tsid - 1}) {
            auto request = alice.next(exchange::config);
            request.set_tsid(wrong).add<tlv::id_code>("alice");
            const auto answer = co_await alice.ask(std::move(request));
            EXPECT_EQ(answer->code(), status::bad_tsid);
        }
        EXPECT_TRUE(co_await alice.configure()); // the tunnel is still good
    }());
    EXPECT_EQ(gateway_->count().bad_tsid, 3U);
}

TEST(OraPure, Ora06HundredThousandTsidsDoNotRepeat) {
    std::unordered_set<tsid> seen;
    std::array<unsigned, 64> ones{};
    constexpr unsigned n = 100'000;
    for (unsigned i = 0; i < n; ++i) {
        const auto id = random_tsid();
        EXPECT_TRUE(seen.insert(id).second);
        for (unsigned bit = 0; bit < 64; ++bit)
            ones[bit] += static_cast<unsigned>(id >> bit & 1U);
    }
    for (const auto count : ones) // 6.3 standard deviations: a fixed or biased bit fails, chance does not
        EXPECT_NEAR(count, n / 2, 1000);
}

TEST_F(Ora, Ora08UnexpectedTsidEndsTheTunnelOnly) {
    start();
    run([this]() -> asio::awaitable<void> {
        for (const tsid wrong : {tsid{5}, protocol::no_tsid}) { // ORA-07: none at all is wrong too
            unit alice(io_, "alice");
            EXPECT_FALSE(co_await alice.connect(at_));
            EXPECT_TRUE(co_await alice.configure());
            auto request = alice.next(exchange::keepalive);
            request.set_tsid(wrong);
            const auto before = gateway_->count().bad_tsid;
            co_await alice.send(request);
            EXPECT_TRUE(co_await alice.closed_by_gateway());
            EXPECT_EQ(gateway_->count().bad_tsid, before + 1);
            EXPECT_FALSE(gateway_->by_unit("alice")->up); // it may come back and resume
        }
    }());
}

TEST_F(Ora, Ora09ReleaseEndsTheSession) {
    start();
    run([this]() -> asio::awaitable<void> {
        unit alice(io_, "alice");
        EXPECT_FALSE(co_await alice.connect(at_));
        EXPECT_TRUE(co_await alice.configure());
        const auto answer = co_await alice.ask(alice.next(exchange::release));
        EXPECT_TRUE(answer && answer->is(exchange::release) && answer->code() == status::ok);
        EXPECT_TRUE(co_await alice.closed_by_gateway());
        EXPECT_FALSE(gateway_->by_unit("alice"));
        EXPECT_FALSE(gateway_->by_inner(alice.inner()[0]));
    }());
    EXPECT_EQ(events_, (std::vector<std::string>{"up alice", "end alice"}));
    EXPECT_EQ(store_.rows.at("alice").id, 0U);
}

TEST_F(Ora, Ora10OtherFirstNibblesAreDropped) {
    start();
    run([this]() -> asio::awaitable<void> {
        unit alice(io_, "alice");
        EXPECT_FALSE(co_await alice.connect(at_));
        EXPECT_TRUE(co_await alice.configure());
        for (unsigned nibble = 0; nibble < 16; ++nibble)
            if (nibble != 1 && nibble != 4 && nibble != 6)
                co_await alice.send_frame(bytes(40, static_cast<std::uint8_t>(nibble << 4)));
        EXPECT_EQ((co_await alice.ask(alice.next(exchange::keepalive)))->code(), status::ok);
    }());
    EXPECT_EQ(gateway_->count().frame_other, 13U);
}

// Each bad request is answered by its code, changes nothing, and the tunnel lives on (ORA-11 to ORA-14, ORA-16).
TEST_F(Ora, Ora16EveryBadRequestYieldsItsCode) {
    start();
    run([this]() -> asio::awaitable<void> {
        unit alice(io_, "alice");
        EXPECT_FALSE(co_await alice.connect(at_));
        EXPECT_TRUE(co_await alice.configure());
        const auto bad = [&](std::size_t at, std::uint8_t value) {
            const auto wire = alice.next(exchange::keepalive).encode();
            bytes b(wire.begin(), wire.end());
            b[at] = value;
            return b;
        };
        struct row {
            bytes frame;
            status expected;
        };
        std::vector<row> rows;
        rows.push_back({bad(0, 0x11), status::bad_indication}); // ORA-11
        rows.push_back({bad(1, 0x80), status::bad_reserved});
        rows.push_back({bad(2, 0x70), status::unknown_type}); // ORA-12
        rows.push_back({bad(3, 1), status::bad_count});       // ORA-13
        auto extra = bad(3, 0);
        extra.push_back(0);
        rows.push_back({extra, status::bad_count});
        auto beyond = bad(3, 1);
        beyond.insert(beyond.end(), {0, 9, 0, 5, 1, 2, 3});
        rows.push_back({beyond, status::bad_tlv});
        auto wire = alice.next(exchange::service).encode();
        rows.push_back({bytes(wire.begin(), wire.end()), status::missing_tlv});
        auto service = alice.next(exchange::service);
        service.add<tlv::service_name>("ENABLE_DTTE");
        wire = service.encode();
        rows.push_back({bytes(wire.begin(), wire.end()), status::service_unavailable});
        auto close = alice.next(exchange::media_close);
        close.add<tlv::media_id>(1);
        wire = close.encode();
        rows.push_back({bytes(wire.begin(), wire.end()), status::not_permitted});
        for (auto& r : rows) {
            const auto head = *protocol::peek(r.frame);
            co_await alice.send_frame(r.frame);
            const auto answer = co_await alice.receive_frame();
            EXPECT_TRUE(answer);
            if (!answer)
                co_return;
            const auto got = protocol::peek(*answer);
            EXPECT_EQ(got->type, head.type | 1);
            EXPECT_EQ(got->sequence, head.sequence);
            // decode() refuses an unknown type's answer: read the status TLV, which comes first
            EXPECT_EQ((*answer)[17], static_cast<int>(tlv::status));
            EXPECT_EQ((*answer)[21], static_cast<int>(r.expected)) << protocol::text_of(r.expected);
        }
        EXPECT_EQ((co_await alice.ask(alice.next(exchange::keepalive)))->code(), status::ok);
        const auto& c = gateway_->count();
        EXPECT_EQ(c.bad_indication + c.bad_reserved + c.unknown_type + c.bad_count + c.bad_tlv + c.missing_tlv +
                      c.service_unavailable + c.not_permitted,
                  rows.size());
        co_await alice.send_frame(bytes(15, 0x10)); // no header to answer to: counted
        EXPECT_EQ((co_await alice.ask(alice.next(exchange::keepalive)))->code(), status::ok);
        EXPECT_EQ(c.bad_tlv, 2U);
    }());
}

TEST_F(Ora, Ora16FirstMessageMustBeConfig) {
    start();
    run([this]() -> asio::awaitable<void> {
        unit alice(io_, "alice");
        EXPECT_FALSE(co_await alice.connect(at_));
        EXPECT_EQ((co_await alice.ask(alice.next(exchange::keepalive)))->code(), status::not_configured);
        EXPECT_EQ((co_await alice.ask(alice.next(exchange::release)))->code(), status::not_configured);
        EXPECT_TRUE(co_await alice.configure());
        auto again = alice.next(exchange::config);
        again.add<tlv::id_code>("alice");
        EXPECT_EQ((co_await alice.ask(std::move(again)))->code(), status::bad_tsid);
    }());
}

TEST_F(Ora, Ora15ReplayIsRefused) {
    start();
    run([this]() -> asio::awaitable<void> {
        unit alice(io_, "alice");
        EXPECT_FALSE(co_await alice.connect(at_));
        EXPECT_TRUE(co_await alice.configure());
        auto request = alice.next(exchange::keepalive);
        request.set_sequence(1000);
        EXPECT_EQ((co_await alice.ask(request.copy()))->code(), status::ok);
        EXPECT_EQ((co_await alice.ask(request.copy()))->code(), status::bad_sequence);
        request.set_sequence(999);
        EXPECT_EQ((co_await alice.ask(request.copy()))->code(), status::bad_sequence);
        auto release = alice.next(exchange::release);
        release.set_sequence(1000);
        EXPECT_EQ((co_await alice.ask(release.copy()))->code(), status::bad_sequence);
        EXPECT_TRUE(gateway_->by_unit("alice")); // the replayed RELEASE did nothing
        request.set_sequence(1001);
        EXPECT_EQ((co_await alice.ask(request.copy()))->code(), status::ok);
    }());
    EXPECT_EQ(gateway_->count().bad_sequence, 3U);
}

// 40 requests at once: 32 go out, answered in reverse order each finds its own, then the rest.
TEST_F(Ora, Ora15ParallelRequestsAreMatched) {
    start();
    run([this]() -> asio::awaitable<void> {
        unit alice(io_, "alice");
        EXPECT_FALSE(co_await alice.connect(at_));
        EXPECT_TRUE(co_await alice.configure());
        constexpr std::uint32_t total = 40;
        std::uint32_t matched = 0;
        for (std::uint32_t i = 0; i < total; ++i)
            asio::co_spawn(
                io_,
                [](Ora& test, tsid id, std::uint32_t media, std::uint32_t& ok) -> asio::awaitable<void> {
                    auto m = message::request(exchange::seed);
                    m.add<tlv::media_id>(media).add<tlv::epoch>(media + 7).add<tlv::seed>(bytes(16, 1));
                    const auto got = co_await test.request(id, std::move(m), 5s);
                    ok += got && got->get<tlv::media_id>() == media && got->get<tlv::epoch>() == media + 7;
                }(*this, alice.id(), i, matched),
                asio::detached);
        std::vector<message> held;
        std::uint32_t last = 0;
        while (held.size() < protocol::channel_limits{}.outstanding) {
            auto m = co_await alice.receive();
            EXPECT_GT(m->sequence(), last); // strictly rising
            last = m->sequence();
            EXPECT_EQ(m->tsid(), alice.id());
            held.push_back(std::move(*m));
        }
        co_await pause(50ms);
        EXPECT_EQ(gateway_->count().requests, protocol::channel_limits{}.outstanding); // the others wait
        std::uint32_t answered = 0;
        while (answered < total) {
            if (held.empty()) {
                auto m = co_await alice.receive();
                held.push_back(std::move(*m));
            }
            const auto m = std::move(held.back());
            held.pop_back();
            auto answer = m.response(status::ok);
            answer.add<tlv::media_id>(*m.get<tlv::media_id>()).add<tlv::epoch>(*m.get<tlv::epoch>());
            co_await alice.send(answer);
            co_await alice.send(answer); // a second answer matches nothing
            ++answered;
        }
        const bool all_in = co_await within(10s, [&] { return gateway_->count().unmatched_response >= total; });
        EXPECT_TRUE(all_in);
        EXPECT_EQ(matched, total);
        EXPECT_EQ(gateway_->count().unmatched_response, total);
    }());
}

TEST_F(Ora, Ora16SilenceIsATimeoutAndErrorsAreRefusals) {
    start();
    run([this]() -> asio::awaitable<void> {
        unit alice(io_, "alice");
        EXPECT_FALSE(co_await alice.connect(at_));
        EXPECT_TRUE(co_await alice.configure());
        auto close = [] {
            auto m = message::request(exchange::media_close);
            m.add<tlv::media_id>(1);
            return m;
        };
        auto got = co_await gateway_->request(alice.id(), close(), 50ms);
        EXPECT_EQ(got.error(), request_error::timeout);
        const auto late = co_await alice.receive();
        co_await alice.send(late->response(status::ok)); // too late: matches nothing
        asio::co_spawn(
            io_,
            [](unit& u) -> asio::awaitable<void> {
                const auto m = co_await u.receive();
                co_await u.send(m->response(status::unknown_media));
            }(alice),
            asio::detached);
        got = co_await gateway_->request(alice.id(), close(), 5s);
        EXPECT_EQ(got.error(), request_error::refused);
        got = co_await gateway_->request(alice.id() ^ 1, close(), 5s);
        EXPECT_EQ(got.error(), request_error::no_session);
        asio::co_spawn(
            io_,
            [](unit& u) -> asio::awaitable<void> {
                co_await u.receive();
                u.cut();
            }(alice),
            asio::detached);
        got = co_await gateway_->request(alice.id(), close(), 5s); // lost while waiting: known at once
        EXPECT_EQ(got.error(), request_error::not_up);
        got = co_await gateway_->request(alice.id(), close(), 5s);
        EXPECT_EQ(got.error(), request_error::not_up);
    }());
    EXPECT_EQ(gateway_->count().unmatched_response, 1U);
    EXPECT_EQ(gateway_->count().request_timeouts, 1U);
    EXPECT_EQ(gateway_->count().requests_refused, 1U);
}

} // namespace
} // namespace tandem::session::testing
