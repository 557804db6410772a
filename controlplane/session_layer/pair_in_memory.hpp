// SPDX-License-Identifier: Apache-2.0
// Test support only: two drivers in one thread whose frames are handed over in memory; their sockets are real.
#pragma once

#include <gtest/gtest.h>

#include <asio/io_context.hpp>

#include "controlplane/session_layer/driver.hpp"

namespace tandem::session_layer {

class pair_in_memory : public ::testing::Test {
protected:
    struct one {
        std::shared_ptr<driver> session;
        link_id link = 0;
    };
    // What an end's session tells once they have joined: 0 is the creator, 1 the accepter.
    virtual void on(std::size_t end, const event&) = 0;

    void join() {
        const protocol::secret secret(std::vector<std::uint8_t>(32, 1));
        for (const std::size_t end : {0U, 1U})
            ends[end].session = std::make_shared<driver>(io.get_executor(),
                                                         session(end == 0 ? role::creator : role::accepter, 7, secret,
                                                                 limits{}, std::chrono::steady_clock::now()),
                                                         [this, end](const event& what) {
                                                             if (joined)
                                                                 on(end, what);
                                                         });
        connect();
        ends[0].session->move(ends[0].link, reason::start);
        run([&] { return ends[0].session->state().current() && ends[1].session->state().current(); });
        joined = true;
    }
    // Once more as they began, over a link that has nothing of the one before.
    void relink() {
        for (auto& e : ends)
            e.session->drop(e.link);
        connect();
        ends[0].session->move(ends[0].link, reason::lost);
    }
    void connect() {
        const std::vector<std::uint8_t> binding(32, ++links);
        ends[1].link = ends[1].session->accept({protocol::carrier::stream, [] {}}, binding);
        ends[0].link = ends[0].session->dial({protocol::carrier::stream, [] {}}, 1, binding);
    }
    void leave() {
        for (auto& e : ends)
            e.session->stop();
        io.poll();
    }
    // Frames and sockets, until it holds.
    template <class Condition>
    void run(Condition holds) {
        for (const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10); !holds();) {
            ASSERT_LT(std::chrono::steady_clock::now(), end);
            io.restart();
            io.run_for(std::chrono::milliseconds(1));
            exchange();
        }
    }
    void exchange() {
        std::vector<std::uint8_t> frame;
        for (const std::size_t from : {0U, 1U})
            for (; ends[from].session->pull(ends[from].link, frame); frame.clear())
                ends[1 - from].session->received(ends[1 - from].link, frame);
    }

    asio::io_context io;
    one ends[2];
    std::uint8_t links = 0;
    bool joined = false;
};

} // namespace tandem::session_layer
