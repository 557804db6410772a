// SPDX-License-Identifier: Apache-2.0
// link_bench [CONNECTIONS] [MEGABYTES]: controlplane/link beside asio's TLS stream, as connections of a gateway use
// them, both ends in one thread over loopback: octets of heap of an idle end, and inner packets that pass in a second
// of CPU time. Each contender runs in a process of its own, twice in turn.
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <malloc.h>
#include <memory>
#include <optional>
#include <string>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/io_context.hpp>
#include <asio/ssl/context.hpp>
#include <asio/ssl/stream.hpp>
#include <asio/write.hpp>
#include <fmt/format.h>
#include <netinet/tcp.h>

#include "controlplane/link/tls_tcp.hpp"
#include "controlplane/link/with.hpp"

namespace {

using namespace tandem;
using asio::ip::tcp;
using link::side;
using link::with;
using bytes = std::vector<std::uint8_t>;

struct contexts {
    protocol::ssl_context server =
        protocol::make_server_context([](std::string_view) { return std::optional(protocol::secret(bytes(32, 7))); },
                                      {})
            .value();
    protocol::ssl_context client = protocol::make_client_context("alice", protocol::secret(bytes(32, 7))).value();
    SSL_CTX* of(side which) const { return which == side::server ? server.get() : client.get(); }
};

const bytes inner_packet = [] {
    bytes p(1400, 3);
    p[0] = 0x45;
    return p;
}();

// As connections were before the link.
class asio_end {
public:
    asio_end(tcp::socket socket, SSL_CTX* context) : context_(hold(context)), stream_(std::move(socket), context_) {
        batch_.reserve(16384);
        std::error_code ignored;
        stream_.lowest_layer().set_option(tcp::no_delay(true), ignored);
        using unsent_limit = asio::detail::socket_option::integer<IPPROTO_TCP, TCP_NOTSENT_LOWAT>;
        stream_.lowest_layer().set_option(unsent_limit(16384), ignored);
    }
    asio::awaitable<void> handshake(side which, std::error_code& error) {
        co_await stream_.async_handshake(
            which == side::server ? asio::ssl::stream_base::server : asio::ssl::stream_base::client, with(error));
    }
    bool add(std::span<const std::uint8_t> frame) {
        if (!batch_.empty() && batch_.size() + 2 + frame.size() > 16384)
            return false;
        return protocol::append_frame(batch_, frame);
    }
    asio::awaitable<void> flush(std::error_code& error) {
        co_await asio::async_write(stream_, asio::buffer(batch_.data(), batch_.size()), with(error));
        protocol::wipe(batch_.data(), batch_.size());
        batch_.clear();
    }
    asio::awaitable<void> receive(const link::transport::frame_handler& take, std::error_code& error) {
        const auto room = framer_.prepare();
        const auto n = co_await stream_.async_read_some(asio::buffer(room.data(), room.size()), with(error));
        framer_.commit(n);
        while (const auto frame = framer_.next())
            take(*frame);
    }

private:
    static SSL_CTX* hold(SSL_CTX* context) {
        SSL_CTX_up_ref(context);
        return context;
    }
    asio::ssl::context context_;
    asio::ssl::stream<tcp::socket> stream_;
    protocol::framer framer_;
    protocol::wiped_bytes batch_;
};

class link_end {
public:
    link_end(tcp::socket socket, SSL_CTX* context) : context_(context), tls_(std::move(socket)) {}
    asio::awaitable<void> handshake(side which, std::error_code& error) {
        return tls_.handshake(context_, which, error);
    }
    bool add(std::span<const std::uint8_t> frame) { return tls_.add(frame); }
    asio::awaitable<void> flush(std::error_code& error) { return tls_.flush(error); }
    asio::awaitable<void> receive(const link::transport::frame_handler& take, std::error_code& error) {
        return tls_.receive(take, error);
    }

private:
    SSL_CTX* context_;
    link::tls_tcp tls_;
};

template <class End>
class run {
public:
    explicit run(std::size_t count) : count_(count) {}

    // Octets of heap of each end when both have sent and received, and wait.
    double idle() {
        const auto before = ::mallinfo2().uordblks;
        for (std::size_t i = 0; i < count_; ++i) {
            connect();
            send(20, 1);
        }
        return static_cast<double>(::mallinfo2().uordblks - before) / static_cast<double>(ends_.size());
    }
    // Megabits of inner packets in a second of CPU time, both ends, one way, `each` of them waiting together.
    double pass(std::size_t megabytes, std::size_t each) {
        connect();
        const auto begin = std::clock();
        const auto packets = megabytes * 1'000'000 / inner_packet.size();
        send(packets, 0, each);
        const double took = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC; // of the CPU, both ends
        return static_cast<double>(packets * inner_packet.size()) * 8e-6 / took;
    }

private:
    void connect() {
        tcp::acceptor door(io_, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
        tcp::socket from(io_);
        from.connect(door.local_endpoint());
        ends_.push_back(std::make_unique<End>(std::move(from), tls_.of(side::client)));
        ends_.push_back(std::make_unique<End>(door.accept(), tls_.of(side::server)));
        std::size_t ready = 0;
        for (const std::size_t back : {2U, 1U})
            asio::co_spawn(io_, serve(*ends_[ends_.size() - back], back == 1 ? side::server : side::client, ready),
                           asio::detached);
        while (ready < 2)
            io_.run_one();
    }
    asio::awaitable<void> serve(End& end, side which, std::size_t& ready) {
        std::error_code error;
        co_await end.handshake(which, error);
        if (error)
            std::abort();
        ++ready;
        const link::transport::frame_handler take = [this](const protocol::frame&) { ++got_; };
        while (!error)
            co_await end.receive(take, error);
    }
    // Through the newest connection; also the other way, where `both` is 1.
    void send(std::size_t packets, std::size_t both, std::size_t each = 11) {
        const auto wanted = got_ + packets * (1 + both);
        for (std::size_t back = 1; back <= 1 + both; ++back)
            asio::co_spawn(io_, write(*ends_[ends_.size() - back], packets, each), asio::detached);
        while (got_ < wanted)
            io_.run_one();
        while (io_.poll_one() > 0)
            ;
    }
    static asio::awaitable<void> write(End& end, std::size_t packets, std::size_t each) {
        std::error_code error;
        while (packets > 0) {
            for (std::size_t i = 0; i < each && packets > 0 && end.add(inner_packet); ++i)
                --packets;
            co_await end.flush(error);
        }
    }

    std::size_t count_, got_ = 0;
    contexts tls_;
    asio::io_context io_{1};
    std::vector<std::unique_ptr<End>> ends_;
};

template <class End>
void show(const char* name, std::size_t connections, std::size_t megabytes) {
    std::fflush(stdout);
    const pid_t child = ::fork();
    if (child == 0) {
        const double heap = run<End>(connections).idle();
        const double full = run<End>(0).pass(megabytes, 11), single = run<End>(0).pass(megabytes / 4, 1);
        fmt::print("  {:6} {:>8.0f} octets an idle end; {:>7.0f} Mbit a CPU second in records of 11 packets, {:>7.0f} "
                   "in records "
                   "of one\n",
                   name, heap, full, single);
        std::fflush(stdout);
        ::_exit(0);
    }
    ::waitpid(child, nullptr, 0);
}

} // namespace

int main(int argc, char** argv) {
    const auto argument = [&](int i, std::size_t otherwise) {
        return argc > i ? std::strtoul(argv[i], nullptr, 10) : otherwise;
    };
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
    for (int round = 0; round < 2; ++round) {
        show<asio_end>("asio", argument(1, 1000), argument(2, 400));
        show<link_end>("link", argument(1, 1000), argument(2, 400));
    }
}
