// SPDX-License-Identifier: Apache-2.0
// [[forward]]: local ports whose connections go on as streams through the gateway to a service; captured programs'
// connections and datagrams likewise. The session layer that carries them rides on the primary and moves with it:
// nothing of a stream is lost or doubled. Owner: the agent's io_context, one thread.
#pragma once

#include <list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <nlohmann/json_fwd.hpp>
#include <tl/expected.hpp>

#include "controlplane/link/tcp_acceptor.hpp"
#include "controlplane/session_layer/tcp_streams.hpp"
#include "tools/agent/capture/taker.hpp"
#include "tools/agent/config.hpp"
#include "tools/agent/link/connection.hpp"
#include "tools/agent/streams/datagram_ways.hpp"

namespace tandem::agent {

class forwards final : public taker {
public:
    struct counters {
        std::uint64_t accepted = 0;
        std::uint64_t refused = 0;     // no session with the gateway yet, or it has no room
        std::uint64_t not_allowed = 0; // by the gateway's rules
        std::uint64_t sessions = 0;
    };

    // captured: there is a [capture], too.
    forwards(asio::io_context& io, const std::vector<forward>& all, bool captured)
        : io_(io), all_(all), captured_(captured) {}

    [[nodiscard]] bool any() const noexcept { return captured_ || !all_.empty(); }
    // Binds, while the agent still may. The error is a sentence.
    [[nodiscard]] tl::expected<void, std::string> listen();
    void start();
    // A connected socket goes on as a stream to there; it is reset where it cannot.
    void take(asio::ip::tcp::socket connected, const asio::ip::tcp::endpoint& to) override;
    [[nodiscard]] std::unique_ptr<datagram_way> take_datagrams(const asio::ip::udp&, datagram_return back) override {
        return datagrams_.take(std::move(back));
    }
    // What CONFIG is to say: 1 where this session's streams go on, 0 where they begin.
    [[nodiscard]] std::uint8_t wish(std::uint64_t tsid) const noexcept;
    // The gateway's answer (TLV streams; nothing: it has none). They move to this connection.
    void carried_by(connection&, std::uint64_t tsid, std::optional<std::uint8_t> answer);
    void stop();
    // Octets went either way since it was asked last.
    [[nodiscard]] bool used();
    [[nodiscard]] nlohmann::json describe() const;

private:
    struct port {
        forward rule;
        link::tcp_acceptor acceptor;
    };
    asio::awaitable<void> accept(port&);
    void take(asio::ip::tcp::socket connected, const asio::ip::tcp::endpoint& to, session_layer::stream_kind);
    void begin(connection& on, std::uint64_t tsid);
    void end(const char* why);
    void on(const session_layer::event&);
    void say_why(std::uint16_t reset_code);
    [[nodiscard]] session_layer::tcp_streams::counters sum() const;

    asio::io_context& io_;
    std::vector<forward> all_;
    bool captured_;
    std::list<port> ports_;
    std::uint64_t tsid_ = protocol::no_tsid;
    std::shared_ptr<session_layer::driver> driver_; // none: no session
    std::shared_ptr<session_layer::tcp_streams> streams_;
    datagram_ways datagrams_;
    session_layer::tcp_streams::counters past_; // of sessions before
    counters count_;
    std::uint64_t seen_ = 0; // octets, by used()
    session_layer::moves moves_;
    bool told_off_ = false; // that the gateway has no streams
};

} // namespace tandem::agent
