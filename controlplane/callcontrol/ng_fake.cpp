// SPDX-License-Identifier: Apache-2.0
// Test program: the real ng server over the fake relay and directory, so that ng clients, Kamailio and rtpengine's
// answers can be set beside ours without a gateway. No media flows. Usage: ng_fake <address> <port> [core address]
#include <asio/signal_set.hpp>
#include <asio/steady_timer.hpp>
#include <asio/this_coro.hpp>
#include <asio/use_awaitable.hpp>
#include <cstdio>
#include <cstdlib>

#include "controlplane/callcontrol/fakes.hpp"

int main(int count, char** arguments) {
    using namespace tandem;
    if (count < 3) {
        std::fputs("usage: ng_fake <address> <port> [core address]\n", stderr);
        return 2;
    }
    asio::io_context io;
    callcontrol::fake_relay relay;
    callcontrol::fake_directory units;
    callcontrol::no_call_store store;
    if (count > 3)
        relay.core4 = asio::ip::make_address(arguments[3]);
    callcontrol::config settings;
    settings.received_from_optional = true;
    settings.listen.emplace_back(asio::ip::make_address(arguments[1]),
                                 static_cast<std::uint16_t>(std::atoi(arguments[2])));
    callcontrol::server server(io, settings, relay, units, store);
    if (const auto started = server.start(); !started) {
        std::fprintf(stderr, "%s\n", started.error().c_str());
        return 1;
    }
    asio::signal_set ended(io, SIGINT, SIGTERM);
    ended.async_wait([&](const asio::error_code&, int) {
        server.stop();
        for (const auto& line : relay.log)
            std::printf("%s\n", line.c_str());
        io.stop();
    });
    io.run();
}
