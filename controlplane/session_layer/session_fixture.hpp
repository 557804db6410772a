// SPDX-License-Identifier: Apache-2.0
// What the tests of a session and of its handovers share: both ends on one wire. For tests only.
#pragma once

#include <gtest/gtest.h>

#include "controlplane/session_layer/pair_fixture.hpp"

namespace tandem::session_layer::testing {

using namespace std::chrono_literals;
using lines = std::vector<std::string>;

class Session : public ::testing::Test {
protected:
    // Both ends on wire 0.
    void begin(carrier kind = carrier::stream) {
        w.connect(0, kind, 1, true, reason::start);
        w.settle();
        ASSERT_EQ(w.ends[0].current(), w.wires[0].link[0]);
        ASSERT_EQ(w.ends[1].current(), w.wires[0].link[1]);
        for (auto& h : w.handovers)
            h.clear();
        w.tracing = true;
    }
    // Until neither end has anything to send on wire 0; `happened` is given the end and what it was told.
    template <class Handler>
    void exchange(Handler happened) {
        for (bool some = true; some;) {
            some = false;
            for (const std::size_t end : {0U, 1U}) {
                bytes frame;
                if (w.ends[end].pull(w.wires[0].link[end], frame, 16384, w.now) == 0)
                    continue;
                some = true;
                w.ends[1 - end].receive(w.wires[0].link[1 - end], frame, w.now);
                for (const auto& e : w.ends[1 - end].take())
                    happened(1 - end, e);
            }
        }
    }
    // Breaks, and both see it.
    void cut(std::size_t wire, bool with_what_is_on_it = true) {
        w.cut(wire);
        for (const std::size_t end : {0U, 1U}) {
            if (with_what_is_on_it)
                w.wires[wire].pipe[1 - end].clear();
            w.see(wire, end);
        }
    }
    [[nodiscard]] lines procedures() const {
        lines out;
        for (const auto& t : w.trace)
            for (const char* name : {"announce", "confirm", "begin", "done", "data"})
                if (t.find(name) != std::string::npos)
                    out.push_back(t);
        return out;
    }
    void expect_whole(stream_id id) const {
        const auto& s = w.stories.at(id);
        EXPECT_EQ(s.read[1], s.written[0]);
        EXPECT_EQ(s.read[0], s.written[1]);
    }
    void expect_on(std::size_t wire) const {
        EXPECT_EQ(w.ends[0].current(), w.wires[wire].link[0]);
        EXPECT_EQ(w.ends[1].current(), w.wires[wire].link[1]);
        EXPECT_FALSE(w.ends[0].handing_over() || w.ends[1].handing_over());
    }
    world w;
};

} // namespace tandem::session_layer::testing
