// SPDX-License-Identifier: Apache-2.0
// What the tests of the primary and its media share: a small gateway in the same process (real TLS 1.3 on loopback,
// real control messages, a gateway's end of a secondary on a UDP socket) and a unit against it. For tests only.
#pragma once

#include "tools/agent/link/primary.hpp"

#include <gtest/gtest.h>

#include <deque>

#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/ip/udp.hpp>
#include <nlohmann/json.hpp>

#include "controlplane/link/tcp_acceptor.hpp"
#include "controlplane/protocol/tls.hpp"

using namespace tandem;
using namespace tandem::agent;
using namespace std::chrono_literals;
using asio::ip::tcp;
using asio::ip::udp;
using protocol::exchange;
using protocol::message;
using protocol::status;
using protocol::tlv;
using bytes = std::vector<std::uint8_t>;

namespace agent_test {

inline constexpr std::uint64_t session_id = 0x1234;
inline const bytes right_key(32, 7);

inline endpoint mapped(std::uint8_t a, std::uint8_t b, std::uint8_t c, std::uint8_t d, std::uint16_t port) {
    return {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d}, port};
}
inline protocol::endpoint wire(const endpoint& from) {
    return {{from.ip}, from.port};
}

// One connection that the fake gateway accepted, a link of a control channel of its own.
struct peer final : protocol::channel_link, std::enable_shared_from_this<peer> {
    explicit peer(std::unique_ptr<link::tls_tcp> from)
        : carrier(std::move(from)),
          channel(std::make_shared<protocol::channel_driver>(carrier->executor(), protocol::role::gateway)) {}
    void begin(std::function<void(const message&)> handler) {
        on_request = std::move(handler);
        id = channel->attach(carrier->kind(), weak_from_this());
    }
    void send(protocol::wiped_bytes control, bool) override { send_frame(control); }
    void serve(message request) override { on_request(request); }
    void hang_up(protocol::ending) override { carrier->close(); }
    void count(std::optional<status>) override {}

    void send_frame(std::span<const std::uint8_t> frame) {
        out.emplace_back(frame.begin(), frame.end());
        if (!writing && !held)
            asio::co_spawn(carrier->executor(), write(), asio::detached);
    }
    asio::awaitable<void> write() {
        const auto self = shared_from_this();
        std::error_code error;
        for (writing = true; !out.empty() && !error;) {
            while (!out.empty() && carrier->add(out.front()))
                out.pop_front();
            co_await carrier->flush(error);
        }
        writing = false;
    }
    // What was sent while held goes out as one TLS record.
    void release() {
        held = false;
        if (!writing)
            asio::co_spawn(carrier->executor(), write(), asio::detached);
    }

    std::unique_ptr<link::tls_tcp> carrier;
    std::shared_ptr<protocol::channel_driver> channel;
    protocol::link_id id = 0;
    std::function<void(const message&)> on_request;
    std::deque<bytes> out;
    bool writing = false, held = false;
    bool ended = false; // by the unit
};

struct fake_gateway {
    asio::io_context& io;
    protocol::ssl_context tls;
    link::tcp_acceptor acceptor;
    std::vector<std::shared_ptr<peer>> peers;
    std::deque<message> requests, responses;
    std::vector<bytes> packets, undecoded;
    std::function<void(peer&)> behind_config; // more that goes out with the CONFIG's answer
    std::uint32_t lifetime = 86400, keepalive = 200;
    std::uint64_t tsid = session_id;
    bool silent = false;

    explicit fake_gateway(asio::io_context& context)
        : io(context), tls(protocol::make_server_context(
                               [](std::string_view id) -> std::optional<protocol::secret> {
                                   if (id != "alice")
                                       return std::nullopt;
                                   return protocol::secret(right_key);
                               },
                               {})
                               .value()),
          acceptor(io) {
        EXPECT_FALSE(acceptor.open({asio::ip::address_v4::loopback(), 0}));
        asio::co_spawn(io, accept(), asio::detached);
    }
    asio::awaitable<void> accept() {
        for (;;) {
            std::error_code error;
            auto arrived = co_await acceptor.accept(error);
            if (error)
                co_return;
            asio::co_spawn(io, serve(std::make_shared<peer>(std::move(arrived))), asio::detached);
        }
    }
    asio::awaitable<void> serve(std::shared_ptr<peer> p) {
        std::error_code error;
        co_await p->carrier->handshake(tls.get(), link::side::server, error);
        if (error)
            co_return;
        peers.push_back(p);
        p->begin([this, p = p.get()](const message& request) { answer(*p, request); });
        const link::transport::frame_handler handler = [&](const protocol::frame& frame) { take(p, frame); };
        while (!error)
            co_await p->carrier->receive(handler, error);
        p->ended = true;
    }
    void take(const std::shared_ptr<peer>& p, const protocol::frame& frame) {
        if (frame.kind != protocol::frame_kind::control) {
            packets.emplace_back(frame.bytes.begin(), frame.bytes.end());
            return;
        }
        if (auto got = protocol::decode(frame.bytes); !got) // the answer to a type that does not exist
            undecoded.emplace_back(frame.bytes.begin(), frame.bytes.end());
        else
            (got->is_response() ? responses : requests).push_back(std::move(*got));
        p->channel->receive(p->id, frame.bytes);
    }
    void answer(peer& p, const message& request) {
        if (silent)
            return;
        auto response = request.response(status::ok);
        p.held = request.is(exchange::config);
        if (p.held) {
            response.set_tsid(tsid);
            response.add<tlv::inner_address>({mapped(10, 64, 0, 2, 0).ip});
            response.add<tlv::inner_prefix>(16);
            response.add<tlv::inner_gateway>({mapped(10, 64, 0, 1, 0).ip});
            response.add<tlv::keepalive_ms>(keepalive);
            response.add<tlv::lifetime_s>(std::min(lifetime, request.get<tlv::lifetime_s>().value_or(lifetime)));
        }
        p.channel->answer(p.id, response);
        if (!p.held)
            return;
        if (behind_config)
            behind_config(p);
        p.release();
    }
    // Whatever the rules say.
    void send(const std::shared_ptr<peer>& p, std::span<const std::uint8_t> frame) { p->send_frame(frame); }
    void forge(message what, std::uint64_t session, std::uint32_t sequence) {
        what.set_tsid(session);
        what.set_sequence(sequence);
        send(peers.back(), what.encode());
    }
    void request(message what) { request(*peers.back(), std::move(what)); } // on the newest connection
    void request(peer& p, message what) { asio::co_spawn(io, p.channel->request(std::move(what), 5s), asio::detached); }
    std::size_t count(exchange what) const {
        return static_cast<std::size_t>(
            std::count_if(requests.begin(), requests.end(), [&](const auto& m) { return m.is(what); }));
    }
};

class Primary : public ::testing::Test {
protected:
    asio::io_context io{1};
    fake_gateway gateway{io};
    udp::socket gateway_media{io, udp::endpoint(asio::ip::address_v4::loopback(), 0)};
    std::vector<bytes> to_phone;
    media_table media{io, [this](std::span<const std::uint8_t> packet) {
                          to_phone.emplace_back(packet.begin(), packet.end());
                          return true;
                      }};
    agent_config config;
    std::unique_ptr<primary> unit;
    int configured = 0;
    std::vector<std::pair<std::string, bool>> reached; // interface, up
    std::function<message(const message&)> contact;    // CONTACT's answer
    const endpoint inner = mapped(10, 64, 0, 1, 20000), inner_rtcp = mapped(10, 64, 0, 1, 20001),
                   phone = mapped(10, 64, 0, 2, 7078), phone_rtcp = mapped(10, 64, 0, 2, 7079);

    void start(const bytes& key = right_key) {
        config.id = "alice";
        if (config.gateways.empty())
            config.gateways.push_back(gateway.acceptor.local());
        gateway_media.non_blocking(true);
        unit = std::make_unique<primary>(
            io, config, protocol::make_client_context("alice", protocol::secret(key)).value(), media,
            primary::hooks{
                .packet = [this](auto packet) { to_phone.emplace_back(packet.begin(), packet.end()); },
                .configured =
                    [this](const session_settings&) {
                        configured++;
                        return tl::expected<void, std::string>{};
                    },
                .contact = contact,
                .reached = [this](const path_place& over, bool up) { reached.emplace_back(over.interface, up); }});
        unit->start();
    }
    bool until(const std::function<bool()>& done, std::chrono::milliseconds patience = 5s) {
        const auto end = clock::now() + patience;
        while (!done() && clock::now() < end)
            io.run_one_for(20ms);
        return done();
    }
    void TearDown() override {
        asio::co_spawn(io, unit->stop(), asio::detached);
        io.run_for(50ms);
        gateway.acceptor.close();
    }
    message open_request(std::uint32_t epoch = 0) {
        auto request = message::request(exchange::media_open).add<tlv::media_id>(5).add<tlv::epoch>(epoch);
        request.add<tlv::suite>(static_cast<std::uint16_t>(api::suite::aead_aes_128_gcm));
        request.add<tlv::seed>(bytes(16, static_cast<std::uint8_t>(epoch)));
        request.add<tlv::gateway_media>(wire(mapped(127, 0, 0, 1, gateway_media.local_endpoint().port())));
        request.add<tlv::inner_media>(wire(inner)).add<tlv::inner_rtcp>(wire(inner_rtcp));
        request.add<tlv::phone_media>(wire(phone)).add<tlv::phone_rtcp>(wire(phone_rtcp));
        request.add<tlv::overlap_ms>(100);
        return request;
    }
    message seed_request(std::uint32_t epoch) {
        return message::request(exchange::seed)
            .add<tlv::media_id>(5)
            .add<tlv::epoch>(epoch)
            .add<tlv::seed>(bytes(16, static_cast<std::uint8_t>(epoch)));
    }
    status ask(message what) {
        return answer_of([&] { gateway.request(std::move(what)); });
    }
    status answer_of(const std::function<void()>& asked) {
        const auto before = gateway.responses.size();
        asked();
        EXPECT_TRUE(until([&] { return gateway.responses.size() > before; }));
        return gateway.responses.back().code();
    }
    // The gateway's end of the secondary, under this seed.
    std::unique_ptr<secondary> end_with(const bytes& seed, std::uint32_t epoch = 0) {
        secondary_config end;
        end.media = 5;
        end.tsid = gateway.tsid;
        end.suite = api::suite::aead_aes_128_gcm;
        end.sends = protocol::direction::to_unit;
        end.inner_media = end.inner_rtcp = end.phone_media = end.phone_rtcp = phone;
        epoch_seeds seeds;
        seeds.epoch = epoch;
        seeds.seeds.emplace_back(seed);
        return secondary::open(end, seeds).value();
    }
    std::unique_ptr<secondary> gateway_end(std::uint32_t epoch = 0) {
        return end_with(bytes(16, static_cast<std::uint8_t>(epoch)), epoch);
    }
    bytes rtp(std::uint16_t sequence) {
        bytes packet(172, 0x55);
        packet[0] = 0x80, packet[1] = 0;
        packet[2] = static_cast<std::uint8_t>(sequence >> 8), packet[3] = static_cast<std::uint8_t>(sequence);
        return packet;
    }
    bytes phone_packet(const endpoint& from, const endpoint& to, const bytes& payload) {
        bytes out(payload.size() + 28);
        out.resize(build_udp(from, to, payload, out));
        return out;
    }
    // The next datagram at the gateway's media port.
    bytes from_unit(udp::endpoint& sender) {
        bytes datagram(2000);
        std::size_t got = 0;
        EXPECT_TRUE(until([&] {
            asio::error_code error;
            if (got == 0)
                got = gateway_media.receive_from(asio::buffer(datagram), sender, 0, error);
            return got != 0;
        }));
        datagram.resize(got);
        return datagram;
    }
};

} // namespace agent_test
using namespace agent_test;
