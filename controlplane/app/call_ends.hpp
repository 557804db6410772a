// SPDX-License-Identifier: Apache-2.0
// Each call's end as a line of JSON, to whoever is connected to call-ends.sock: for the SIP proxy, which must end the
// dialogue of a call whose media ended by themselves, and for others that count or watch. Owner thread: io_context.
//
//   {"event":"call ended","call_id":"...","from_tag":"...","to_tag":"...","caller":"alice","callee":"bob",
//    "cause":"media timeout: unit alice was silent","seconds":12.3}
// What is not UTF-8 is replaced; then there is call_id_hex, too. A client that does not read is let go of.
#pragma once

#include <deque>
#include <list>
#include <memory>
#include <string>

#include "controlplane/app/local_listener.hpp"
#include "controlplane/callcontrol/ng_server.hpp"

namespace tandem::control {

[[nodiscard]] std::string call_end_line(const callcontrol::ended_call& call);

class call_ends {
public:
    // Who leaves more than `most_waiting` lines unread, and none taken for as long as `patience`, is closed: thousands
    // of calls may end in one turn, in which nobody could read.
    call_ends(asio::io_context& io, std::string path, std::chrono::milliseconds patience = std::chrono::seconds(5));
    [[nodiscard]] tl::expected<void, std::string> start() { return listener_.start(); }
    void stop() { listener_.stop(); }
    void tell(const callcontrol::ended_call& call);

private:
    struct client;
    asio::awaitable<void> serve(local_listener::socket socket);

    static constexpr std::size_t most_waiting = 1024; // lines
    asio::io_context& io_;
    const std::chrono::milliseconds patience_;
    std::list<std::weak_ptr<client>> clients_;
    local_listener listener_;
};

} // namespace tandem::control
