// SPDX-License-Identifier: Apache-2.0
// See name_stub.hpp.
#include "tools/agent/names/name_stub.hpp"

#include <algorithm>

#include <asio/read.hpp>
#include <asio/steady_timer.hpp>
#include <asio/write.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <openssl/rand.h>

#include "controlplane/link/with.hpp"
#include "controlplane/protocol/spawn.hpp"

namespace tandem::agent {
namespace {

using namespace std::chrono_literals;
constexpr auto server_patience = 2s; // with a server, before the next one is asked
constexpr auto client_idle = 10s;    // of a connection

// Closes a socket that takes too long; whatever waits for it ends with an error.
template <class Socket>
class limited {
public:
    limited(Socket& socket, std::chrono::milliseconds time) : timer_(socket.get_executor(), time) {
        timer_.async_wait([&socket, over = over_](const std::error_code& cancelled) {
            std::error_code ignored;
            if (!cancelled && !*over)
                socket.close(ignored);
        });
    }
    ~limited() { *over_ = true; } // the timer may have run out already
    limited(const limited&) = delete;
    limited& operator=(const limited&) = delete;

private:
    std::shared_ptr<bool> over_ = std::make_shared<bool>(false);
    asio::steady_timer timer_;
};

std::array<std::uint8_t, 2> length_of(std::size_t size) {
    return {static_cast<std::uint8_t>(size >> 8), static_cast<std::uint8_t>(size)};
}

} // namespace

tl::expected<void, std::string> name_stub::listen() {
    const auto& at = *settings_.listen;
    std::error_code error;
    const udp::endpoint own(at.address, at.port);
    socket_.open(own.protocol(), error);
    if (!error)
        socket_.bind(own, error);
    if (!error)
        error = acceptor_.open(at);
    if (error)
        return tl::unexpected(
            fmt::format("[names] listen {}: {}; choose an address and a port that are free for UDP and TCP",
                        link::text_of(at), error.message()));
    return {};
}

void name_stub::start() {
    const auto self = shared_from_this();
    protocol::spawn(io_, "name server", [self] { return self->receive(); });
    protocol::spawn(io_, "name server's acceptor", [self] { return self->accept(); });
}

void name_stub::stop() {
    std::error_code ignored;
    socket_.close(ignored);
    acceptor_.close();
}

name_stub::message name_stub::decide(std::span<const std::uint8_t> query, bool& pass) {
    auto [what, reply] = settings_.answers.look_at(query);
    pass = what == name_answers::fate::passed_on;
    count_.answered += what == name_answers::fate::answered;
    count_.malformed += what == name_answers::fate::malformed;
    if (pass && asking_ >= most_passed_on) {
        ++count_.no_room;
        pass = false;
    }
    return reply;
}

// ---- UDP
// ------------------------------------------------------------------------------------------------------------------

asio::awaitable<void> name_stub::receive() {
    while (socket_.is_open()) {
        udp::endpoint from;
        std::error_code error, ignored;
        const auto length = co_await socket_.async_receive_from(asio::buffer(in_), from, link::with(error));
        if (error)
            continue; // an ICMP error of a reply, or the end
        const auto query = std::span(in_).first(length);
        bool pass = false;
        const auto reply = decide(query, pass);
        if (!reply.empty())
            socket_.send_to(asio::buffer(reply), from, 0, ignored);
        if (pass)
            protocol::spawn_contained(
                io_, "question to a name server",
                [self = shared_from_this(), query = message(query.begin(), query.end()), from] {
                    return self->pass_on(query, from);
                },
                [self = shared_from_this()] { --self->asking_; });
    }
}

asio::awaitable<void> name_stub::pass_on(message query, udp::endpoint from) {
    ++asking_;
    ++count_.passed_on;
    const std::array id{query[0], query[1]};
    message reply;
    for (auto server = settings_.servers.begin(); reply.empty() && server != settings_.servers.end(); ++server)
        reply = co_await ask(*server, query);
    --asking_;
    if (reply.empty()) {
        ++count_.unanswered;
        co_return;
    }
    std::ranges::copy(id, reply.begin());
    std::error_code ignored;
    if (socket_.is_open())
        socket_.send_to(asio::buffer(reply), from, 0, ignored);
}

// From a port and with an id that nobody else can know.
asio::awaitable<name_stub::message> name_stub::ask(const link::endpoint& server, message& query) {
    udp::socket socket(io_);
    std::error_code error;
    const udp::endpoint to(server.address, server.port);
    socket.connect(to, error);
    if (error || RAND_bytes(query.data(), 2) != 1)
        co_return message{};
    const limited within(socket, server_patience);
    socket.send(asio::buffer(query), 0, error);
    message reply(65535);
    while (!error) {
        const auto length = co_await socket.async_receive(asio::buffer(reply), link::with(error));
        if (!error && is_answer_to(query, std::span(reply).first(length))) {
            reply.resize(length);
            co_return reply;
        }
    }
    co_return message{};
}

// ---- TCP (RFC 7766)
// -------------------------------------------------------------------------------------------------------

namespace {

asio::awaitable<std::vector<std::uint8_t>> read_message(asio::ip::tcp::socket& from, std::error_code& error) {
    std::array<std::uint8_t, 2> length{};
    co_await asio::async_read(from, asio::buffer(length), link::with(error));
    std::vector<std::uint8_t> out(error ? 0U : static_cast<std::size_t>(length[0] << 8 | length[1]));
    if (!error)
        co_await asio::async_read(from, asio::buffer(out), link::with(error));
    co_return out;
}

asio::awaitable<void> write_message(asio::ip::tcp::socket& to, const std::vector<std::uint8_t>& octets,
                                    std::error_code& error) {
    const auto length = length_of(octets.size());
    co_await asio::async_write(to, std::array{asio::buffer(length), asio::buffer(octets)}, link::with(error));
}

} // namespace

asio::awaitable<void> name_stub::accept() {
    const auto take = [self = shared_from_this()](tcp::socket connected) {
        if (self->connections_ >= most_connections) {
            ++self->count_.no_room;
            return;
        }
        const auto socket = std::make_shared<tcp::socket>(std::move(connected));
        ++self->connections_;
        protocol::spawn_contained(
            self->io_, "connection to the name server", [self, socket] { return self->serve(socket); },
            [self] { --self->connections_; });
    };
    co_await acceptor_.each(take);
}

asio::awaitable<void> name_stub::serve(std::shared_ptr<tcp::socket> client) {
    for (std::error_code error; !error;) {
        const limited within(*client, client_idle);
        const auto query = co_await read_message(*client, error);
        bool pass = false;
        auto reply = error ? message{} : decide(query, pass);
        if (pass) {
            ++count_.passed_on;
            for (auto server = settings_.servers.begin(); reply.empty() && server != settings_.servers.end(); ++server)
                reply = co_await ask_by_tcp(*server, query);
            count_.unanswered += reply.empty();
        }
        if (reply.empty())
            break;
        co_await write_message(*client, reply, error);
    }
    --connections_;
}

asio::awaitable<name_stub::message> name_stub::ask_by_tcp(const link::endpoint& server, const message& query) {
    tcp::socket socket(io_);
    const limited within(socket, server_patience);
    std::error_code error;
    message reply;
    co_await socket.async_connect({server.address, server.port}, link::with(error));
    if (!error)
        co_await write_message(socket, query, error);
    if (!error)
        reply = co_await read_message(socket, error);
    co_return error || !is_answer_to(query, reply) ? message{} : reply;
}

nlohmann::json name_stub::describe() const {
    return {{"listen", link::text_of(*settings_.listen)},
            {"answered", count_.answered},
            {"passed_on", count_.passed_on},
            {"unanswered", count_.unanswered},
            {"malformed", count_.malformed},
            {"no_room", count_.no_room}};
}

} // namespace tandem::agent
