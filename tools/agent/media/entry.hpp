// SPDX-License-Identifier: Apache-2.0
// What media_table keeps per media: the secondary, its outer socket and path, its timer, whose call it is. Private to
// table.cpp, control.cpp, sockets.cpp.
#pragma once

#include <deque>

#include <asio/steady_timer.hpp>

#include "tools/agent/media/table.hpp"

namespace tandem::agent {

struct media_table::entry {
    explicit entry(asio::io_context& io) : timer(io) {}

    void stop() {
        stopped = true;
        asio::error_code ignored;
        for (auto* one : {&socket, &left}) {
            if (*one)
                (*one)->close(ignored);
            one->reset();
        }
        timer.cancel();
    }

    struct retirement {
        clock::time_point when;
        std::uint32_t below;
        std::uint64_t heard = 0; // under older epochs, when this was looked at last
    };

    std::unique_ptr<secondary> tunnel;
    socket_ptr socket;
    socket_ptr left; // of the path before, still read until `left_until`: what is on its way there is not lost
    clock::time_point left_until{};
    asio::steady_timer timer;
    std::deque<retirement> retirements;
    std::chrono::milliseconds overlap{2000};
    clock::time_point opened = clock::now();
    clock::time_point last_received = clock::now();
    std::uint8_t traffic_class = 0;
    bool stopped = false;
    std::string peer;                            // canonical, of the call's other end; empty: not said
    clock::time_point call_began = clock::now(); // of this call's first media
    key_source keys = key_source::gateway;
    path_choice wanted = path_choice::either;
    chosen_path path;
    bool bound = true; // to path.bind_to, where it names one
    std::uint64_t moves = 0;
};

// A MEDIA_OPEN as it was read.
struct media_table::open_request {
    const protocol::message& request;
    secondary_config config;
    epoch_seeds seeds;
    key_source keys = key_source::gateway;
    path_choice path = path_choice::either;
    std::string peer;
    bool goes_on = false;                        // says the gateway: of a media that we have
    std::optional<clock::time_point> call_began; // of a media that this one replaces
};

} // namespace tandem::agent
