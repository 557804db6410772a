// SPDX-License-Identifier: Apache-2.0
// Test support: a gateway on loopback with a fake TUN and stores in memory, and units that speak the protocol over real
// TLS, all on one io_context. Only for *_test.cpp.
#pragma once

#include <asio/awaitable.hpp>
#include <asio/co_spawn.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/read.hpp>
#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/write.hpp>
#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "controlplane/link/tls_tcp.hpp"
#include "controlplane/protocol/channel.hpp"
#include "controlplane/session/manager.hpp"
#include "controlplane/tunnel/inner_device.hpp"

namespace tandem::session::testing {

using namespace std::chrono_literals;
using protocol::exchange;
using protocol::message;
using protocol::status;
using protocol::tlv;
using bytes = std::vector<std::uint8_t>;

inline protocol::secret key_of(const std::string& unit) {
    bytes key(32, 0x42);
    std::copy(unit.begin(), unit.end(), key.begin());
    return protocol::secret(key);
}

struct fake_units : identity::psk_store {
    std::set<std::string, std::less<>> ids;
    std::set<std::string, std::less<>> without_psk; // certificate only
    std::optional<protocol::secret> psk(std::string_view id) override {
        return ids.contains(id) ? std::optional(key_of(std::string(id))) : std::nullopt;
    }
    std::map<std::string, bytes, std::less<>> pins;
    bool by_certificate(std::string_view id, std::span<const std::uint8_t> key) override {
        const auto pin = pins.find(id);
        return without_psk.contains(id) && (pin == pins.end() || std::ranges::equal(pin->second, key));
    }
    bool known(std::string_view id) override { return ids.contains(id) || without_psk.contains(id); }
};

struct memory_store : session_store {
    std::map<std::string, stored_session> rows;
    std::vector<stored_session> load() override {
        std::vector<stored_session> all;
        for (const auto& [unit, row] : rows)
            all.push_back(row);
        return all;
    }
    void save(const stored_session& row) override { rows[row.unit] = row; }
    void forget(const std::string& unit) override { rows.erase(unit); }
};

struct fake_inner : tunnel::inner_device {
    packet_handler to_units;
    std::vector<bytes> from_units;
    tl::expected<void, std::string> start(packet_handler handler) override {
        to_units = std::move(handler);
        return {};
    }
    bool write(std::span<const std::uint8_t> p) override {
        from_units.emplace_back(p.begin(), p.end());
        return true;
    }
    void stop() override {}
};

inline bytes ip_packet(const asio::ip::address& from, const asio::ip::address& to, std::size_t size = 100) {
    bytes p(size);
    if (from.is_v4()) {
        p[0] = 0x45;
        p[2] = static_cast<std::uint8_t>(size >> 8);
        p[3] = static_cast<std::uint8_t>(size);
        std::ranges::copy(from.to_v4().to_bytes(), p.begin() + 12);
        std::ranges::copy(to.to_v4().to_bytes(), p.begin() + 16);
    } else {
        p[0] = 0x60;
        p[4] = static_cast<std::uint8_t>((size - 40) >> 8);
        p[5] = static_cast<std::uint8_t>(size - 40);
        std::ranges::copy(from.to_v6().to_bytes(), p.begin() + 8);
        std::ranges::copy(to.to_v6().to_bytes(), p.begin() + 24);
    }
    return p;
}

// A unit's end of a primary: the control channel's CONFIG, and a judge of what the gateway asks. What it sends itself,
// a test may write as it likes.
class unit {
public:
    unit(asio::io_context& io, std::string id) : unit(io, id, protocol::make_client_context(id, key_of(id))) {}
    unit(asio::io_context& io, std::string id, tl::expected<protocol::ssl_context, std::string> context)
        : id_(std::move(id)), context_(std::move(context.value())),
          tls_(std::make_unique<link::tls_tcp>(io.get_executor())) {}

    asio::awaitable<std::error_code> connect(link::endpoint gateway, int receive_buffer = 0) {
        std::error_code error;
        const auto prepare = [receive_buffer](int socket) {
            if (receive_buffer > 0) // of a peer that does not read
                ::setsockopt(socket, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
            return std::error_code();
        };
        co_await tls_->connect(gateway, error, prepare);
        if (!error)
            co_await tls_->handshake(context_.get(), link::side::client, error);
        co_return error;
    }

    asio::awaitable<void> send_frame(bytes frame) {
        std::error_code error;
        EXPECT_TRUE(tls_->add(frame));
        co_await tls_->flush(error);
    }
    asio::awaitable<void> send(const message& m) {
        const auto wire = m.encode();
        co_await send_frame(bytes(wire.begin(), wire.end()));
    }

    // The next frame; nothing when the gateway closed the tunnel.
    asio::awaitable<std::optional<bytes>> receive_frame() {
        const link::transport::frame_handler keep = [this](const protocol::frame& f) {
            came_.emplace_back(f.bytes.begin(), f.bytes.end());
        };
        std::error_code error;
        while (came_.empty() && !error)
            co_await tls_->receive(keep, error);
        if (came_.empty())
            co_return std::nullopt;
        auto first = std::move(came_.front());
        came_.pop_front();
        co_return first;
    }
    asio::awaitable<std::optional<message>> receive() {
        for (;;) { // no co_await in a condition: g++ 12 gets its temporaries wrong
            const auto frame = co_await receive_frame();
            if (!frame)
                co_return std::nullopt;
            if (protocol::kind_of(*frame) != protocol::frame_kind::control)
                continue;
            auto m = protocol::decode(*frame);
            EXPECT_TRUE(m);
            if (!m)
                continue;
            EXPECT_TRUE(m->is_response() || serves(*frame)) << protocol::name_of(m->what()) << " against the rules";
            co_return std::move(*m);
        }
    }
    asio::awaitable<bool> closed_by_gateway() {
        for (;;) {
            const auto frame = co_await receive_frame();
            if (!frame)
                co_return true;
        }
    }

    message next(exchange what) {
        auto m = message::request(what);
        m.set_tsid(tsid_).set_sequence(++sequence_);
        return m;
    }
    asio::awaitable<std::optional<message>> ask(message request) {
        co_await send(request);
        co_return co_await receive();
    }
    // CONFIG; nothing unless the gateway answers ok.
    asio::awaitable<std::optional<message>> configure(std::optional<tsid> resume = {}, std::uint32_t lifetime = 0) {
        auto request = message::request(exchange::config).add<tlv::id_code>(id_);
        if (resume)
            request.add<tlv::resume_tsid>(*resume);
        if (lifetime > 0)
            request.add<tlv::lifetime_s>(lifetime);
        protocol::conversation after; // what was sent here already
        after.next_sequence = sequence_ + 1;
        channel_ = protocol::channel(protocol::role::unit, {}, std::move(after));
        link_ = channel_.attach(protocol::carrier::stream, now());
        tsid_ = protocol::no_tsid;
        auto asked = channel_.configure(link_, 1, std::move(request), 60s, now());
        sequence_ = channel_.talk().next_sequence - 1;
        const auto& wire = std::get<protocol::to_send>(asked.front()).bytes;
        co_await send_frame(bytes(wire.begin(), wire.end()));
        const auto frame = co_await receive_frame();
        if (!frame)
            co_return std::nullopt;
        auto told = channel_.receive(link_, *frame, now());
        auto* done = told.empty() ? nullptr : std::get_if<protocol::to_finish>(&told.front());
        if (done == nullptr || !done->response || done->response->code() != status::ok)
            co_return std::nullopt;
        auto answer = std::move(done->response);
        tsid_ = answer->tsid();
        inner_.clear();
        for (std::size_t i = 0; i < answer->count<tlv::inner_address>(); ++i) {
            const auto wire = *answer->get<tlv::inner_address>(i);
            const asio::ip::address_v6 v6(wire.bytes);
            inner_.push_back(v6.is_v4_mapped() ? asio::ip::address(asio::ip::make_address_v4(asio::ip::v4_mapped, v6))
                                               : asio::ip::address(v6));
        }
        co_return answer;
    }

    [[nodiscard]] tsid id() const { return tsid_; }
    [[nodiscard]] std::uint32_t sequence() const { return sequence_; }
    [[nodiscard]] const std::vector<asio::ip::address>& inner() const { return inner_; }
    [[nodiscard]] link::tls_tcp& tls() { return *tls_; }
    void cut() { tls_->close(); }

private:
    static protocol::instant now() { return std::chrono::steady_clock::now(); }
    bool serves(const bytes& frame) {
        const auto told = channel_.receive(link_, frame, now());
        return told.size() == 1 && std::holds_alternative<protocol::to_serve>(told.front());
    }

    std::string id_;
    protocol::ssl_context context_;
    std::unique_ptr<link::tls_tcp> tls_;
    std::deque<bytes> came_;
    protocol::channel channel_{protocol::role::unit};
    protocol::link_id link_ = 0;
    tsid tsid_ = protocol::no_tsid;
    std::uint32_t sequence_ = 0;
    std::vector<asio::ip::address> inner_;
};

class Gateway : public ::testing::Test {
public:
    asio::awaitable<tl::expected<message, request_error>> request(tsid id, message m, std::chrono::milliseconds time) {
        return gateway_->request(id, std::move(m), time);
    }

protected:
    Gateway() {
        units_.ids = {"alice", "bob", "carol"};
        config_.listen = {{asio::ip::make_address("127.0.0.1"), 0}};
        config_.inner4 = asio::ip::make_network_v4("10.64.0.0/16");
        config_.inner6 = asio::ip::make_network_v6("fd64::/64");
        config_.servers = {"192.0.2.1:4433"};
    }
    ~Gateway() override { stop(); }

    void start() {
        auto inner = std::make_unique<fake_inner>();
        inner_ = inner.get();
        gateway_ = std::make_unique<manager>(io_, config_, units_, store_, std::move(inner));
        gateway_->on_up = [this](const session_info& i) { events_.push_back("up " + i.unit); };
        gateway_->on_down = [this](const session_info& i, bool final) {
            events_.push_back((final ? "end " : "down ") + i.unit);
        };
        const auto ok = gateway_->start();
        ASSERT_TRUE(ok) << ok.error();
        at_ = gateway_->listening().front();
    }
    void stop() {
        if (gateway_)
            gateway_->stop();
        settle();
        gateway_.reset();
    }
    // For who comes without TLS.
    [[nodiscard]] asio::ip::tcp::endpoint raw_at() const { return {at_.address, at_.port}; }
    // Lets what is queued run.
    void settle(std::chrono::milliseconds time = 20ms) {
        io_.restart();
        io_.run_for(time);
    }
    // Runs a test's coroutine to its end.
    void run(asio::awaitable<void> body, std::chrono::seconds limit = 20s) {
        bool done = false;
        asio::co_spawn(io_, std::move(body), [&](std::exception_ptr error) {
            done = true;
            io_.stop();
            if (error)
                std::rethrow_exception(error);
        });
        io_.restart();
        io_.run_for(limit);
        ASSERT_TRUE(done) << "the test's coroutine did not end in time";
    }
    asio::awaitable<void> pause(std::chrono::milliseconds time) {
        asio::steady_timer timer(io_, time);
        co_await timer.async_wait(asio::use_awaitable);
    }
    asio::awaitable<bool> within(std::chrono::milliseconds limit, std::function<bool()> condition) {
        const auto end = std::chrono::steady_clock::now() + limit;
        while (!condition()) {
            if (std::chrono::steady_clock::now() > end)
                co_return false;
            co_await pause(5ms);
        }
        co_return true;
    }

    asio::io_context io_;
    fake_units units_;
    memory_store store_;
    config config_;
    fake_inner* inner_ = nullptr;
    std::unique_ptr<manager> gateway_;
    link::endpoint at_;
    std::vector<std::string> events_;
};

} // namespace tandem::session::testing
