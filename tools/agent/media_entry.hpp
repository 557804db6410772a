// SPDX-License-Identifier: Apache-2.0
// What media_table keeps per media: the secondary, its outer socket, its timer. Private to media*.cpp.
#pragma once

#include <deque>

#include <asio/ip/udp.hpp>
#include <asio/steady_timer.hpp>

#include "tools/agent/media.hpp"

namespace tandem::agent {

struct media_table::entry {
    explicit entry(asio::io_context& io) : socket(io), timer(io) {}

    void stop() {
        stopped = true;
        asio::error_code ignored;
        socket.close(ignored);
        timer.cancel();
    }

    struct retirement {
        clock::time_point when;
        std::uint32_t below;
    };

    std::unique_ptr<secondary> tunnel;
    asio::ip::udp::socket socket;
    asio::steady_timer timer;
    std::deque<retirement> retirements;
    std::chrono::milliseconds overlap{2000};
    clock::time_point opened = clock::now();
    clock::time_point last_received = clock::now();
    std::uint8_t traffic_class = 0;
    bool stopped = false;
};

} // namespace tandem::agent
