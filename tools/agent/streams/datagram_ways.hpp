// SPDX-License-Identifier: Apache-2.0
// Captured programs' datagrams on their way through the gateway: each of a program's sockets is one stream of
// datagrams, opened when it sends, anew when the session or the gateway's end of it was lost. The io_context's thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "controlplane/session_layer/driver.hpp"
#include "tools/agent/capture/taker.hpp"

namespace tandem::agent {

class datagram_ways {
public:
    struct counters {
        std::uint64_t sent = 0, received = 0;
        // No session, the gateway has no room or no rule for datagrams, or they were pushed out of the session's queue,
        // too old in it or larger than what its link carries.
        std::uint64_t lost = 0;
    };
    // A way that must not outlive this.
    [[nodiscard]] std::unique_ptr<datagram_way> take(datagram_return back);
    void carried_by(std::shared_ptr<session_layer::driver>); // a new session; null: none
    void on(const session_layer::event&);

    [[nodiscard]] std::size_t size() const noexcept { return ways_.size(); }
    [[nodiscard]] counters count() const;

private:
    using clock = std::chrono::steady_clock;
    class way;

    [[nodiscard]] way* find(session_layer::stream_id) const;
    [[nodiscard]] bool open(way&);
    void forget_stream(way&);
    void send(way&, const asio::ip::udp::endpoint& destination, std::span<const std::uint8_t> datagram);
    void end(way&);

    std::shared_ptr<session_layer::driver> driver_;
    std::set<way*> ways_;
    std::map<session_layer::stream_id, way*> by_stream_;
    std::vector<std::uint8_t> out_;
    counters count_; // without what the current session has lost
};

} // namespace tandem::agent
