// SPDX-License-Identifier: Apache-2.0
// The same two ends as random walks: a million steps with many streams, sizes and wires of both kinds at once, and an
// oracle that knows each octet. At times everything is let come to rest, and then nothing may be missing.
// COL-08, COL-15 to COL-17, COL-36.
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "controlplane/session_layer/pair_fixture.hpp"

namespace tandem::session_layer::testing {
namespace {

using namespace std::chrono_literals;

class walk : public world {
public:
    walk(std::uint64_t seed, const limits& l, bool datagrams)
        : world(l), random_(seed), with_datagrams_(datagrams), lossy_(datagrams) {
        dial(0);
        settle();
    }

    void step() {
        switch (below(16)) {
        case 0:
            return below(8) == 0 ? dial(below(2)) : go_on();
        case 1:
            return below(6) == 0 ? move(below(2)) : go_on();
        case 2:
            return below(8) == 0 ? break_one() : go_on();
        case 3:
            return see_one();
        case 4:
            return act_on_stream();
        case 5:
        case 6:
        case 7:
            return write_some();
        default:
            return go_on();
        }
    }
    // Nothing new, no more harm: everything comes.
    void rest() {
        lossy_ = false;
        for (std::size_t w = 0; w < wires.size(); ++w)
            for (const std::size_t end : {0U, 1U})
                if (wires[w].broken && wires[w].up[end])
                    see(w, end);
        if (std::ranges::none_of(wires, &wire::whole))
            dial(0);
        for (int i = 0; i < 400 && !quiet(); ++i) {
            settle();
            require(quiet() || with_datagrams_, "only a timer goes on");
            if (!quiet() && due() && *due() - now < 1h)
                tick();
        }
        settle();
        at_the_end();
        require(quiet(), "not everything came to its end");
        require(ends[0].buffered() == 0 && ends[1].buffered() == 0, "something is kept though it has come");
        lossy_ = with_datagrams_;
        forget_wires();
    }
    std::uint64_t moved = 0, cuts = 0, dials = 0, octets = 0, opened_streams = 0;

private:
    std::size_t below(std::size_t n) { return random_() % n; }

    [[nodiscard]] bool quiet() const {
        if (ends[0].handing_over() || ends[1].handing_over() || ends[0].buffered() + ends[1].buffered() > 0)
            return false;
        return std::ranges::all_of(stories, [](const auto& one) {
            const auto& s = one.second;
            if (s.reset[0] || s.reset[1] || (s.closed[0] && s.closed[1]))
                return s.gone[0] && s.gone[1];
            return s.end_seen[0] == s.closed[1] && s.end_seen[1] == s.closed[0];
        });
    }
    void dial(std::size_t by) {
        if (std::ranges::count_if(wires, &wire::whole) >= 4)
            return;
        ++dials;
        const bool datagrams = with_datagrams_ && below(3) == 0;
        connect(by, datagrams ? carrier::datagrams : carrier::stream, static_cast<std::uint32_t>(below(3)),
                below(2) == 0 || !ends[by].current());
    }
    void move(std::size_t by) {
        const auto w = below(wires.size());
        if (!wires[w].up[by])
            return;
        ++moved;
        ends[by].move(wires[w].link[by], reason::asked, now);
        pump();
    }
    void break_one() {
        const auto w = below(wires.size());
        cuts += wires[w].whole() ? 1 : 0;
        cut(w);
    }
    void see_one() {
        const auto w = below(wires.size()), end = below(2);
        if (wires[w].broken && wires[w].up[end])
            see(w, end);
        else if (std::ranges::none_of(wires, &wire::whole))
            dial(below(2));
    }
    [[nodiscard]] stream_id any_stream() {
        auto at = stories.begin();
        std::advance(at, static_cast<std::ptrdiff_t>(below(stories.size())));
        return at->first;
    }
    [[nodiscard]] bool knows(std::size_t end, stream_id id) const {
        return (id % 2 == 1) == (end == 0) || stories.at(id).opened;
    }
    void act_on_stream() {
        const auto by = below(2);
        if (stories.size() < 12) {
            open(by);
            ++opened_streams;
            return;
        }
        const auto id = any_stream();
        auto& s = stories[id];
        if (!knows(by, id) || s.gone[by] || s.reset[by])
            return;
        if (below(4) == 0)
            reset(by, id);
        else if (!s.closed[by])
            close(by, id);
        drop_ended();
    }
    void drop_ended() { // a story of which nothing more can come
        std::erase_if(stories, [](const auto& one) {
            const auto& s = one.second;
            return s.gone[0] && s.gone[1];
        });
    }
    void write_some() {
        drop_ended();
        if (stories.empty())
            return;
        const auto id = any_stream();
        const auto by = below(2);
        const auto& s = stories[id];
        if (knows(by, id) && !s.closed[by] && !s.gone[by] && !s.reset[by])
            octets += write(by, id, 1 + below(300));
    }
    void go_on() {
        auto w = below(wires.size());
        const auto from = below(2);
        for (std::size_t i = 0; i < wires.size() && wires[w].pipe[from].empty(); ++i)
            w = (w + 1) % wires.size();
        auto& pipe = wires[w].pipe[from];
        if (pipe.empty()) {
            if (below(20) == 0 && due() && *due() - now < 1h)
                tick();
            return;
        }
        if (wires[w].kind == carrier::stream)
            return deliver(w, from);
        const auto which = below(pipe.size());
        if (lossy_ && below(10) == 0)
            return lose(w, from, which);
        deliver(w, from, which, lossy_ && below(10) == 0);
    }
    void forget_wires() {
        std::erase_if(wires, [](const wire& w) { return !w.up[0] && !w.up[1]; });
        drop_ended();
    }

    std::mt19937_64 random_;
    bool with_datagrams_, lossy_;
};

void go(std::uint64_t seed, bool lossy, std::size_t steps) {
    limits l;
    l.window = 900;
    l.first_window = 500;
    l.stream_buffer = 2000;
    l.buffered = 9000;
    l.turn = 200;
    l.flight = 4000;
    walk w(seed, l, lossy);
    w.largest = 700;
    w.tracing = std::getenv("TANDEM_TRACE") != nullptr;
    std::size_t i = 0;
    try {
        for (; i < steps; ++i) {
            w.step();
            if (i % 2000 == 1999)
                w.rest();
        }
        w.rest();
    } catch (const failure& f) {
        for (auto at = w.trace.size() - std::min<std::size_t>(w.trace.size(), 60); at < w.trace.size(); ++at)
            std::printf("%s\n", w.trace[at].c_str());
        FAIL() << f.what() << " in step " << i << " of seed " << seed;
    }
    std::array<std::size_t, 4> kinds{};
    for (const auto& one : w.handovers)
        for (const auto& h : one)
            ++kinds[static_cast<std::size_t>(h.kind)];
    std::printf("%zu steps, seed %llu: %llu streams, %llu octets written, %llu in DATA; %llu links, %llu broken; "
                "procedures seen: %zu soft, %zu hard, %zu soft into hard\n",
                steps, static_cast<unsigned long long>(seed), static_cast<unsigned long long>(w.opened_streams),
                static_cast<unsigned long long>(w.octets), static_cast<unsigned long long>(w.data_sent),
                static_cast<unsigned long long>(w.dials), static_cast<unsigned long long>(w.cuts), kinds[1], kinds[2],
                kinds[3]);
    EXPECT_GT(kinds[1], 0U);
    EXPECT_GT(kinds[2], 0U);
}

std::size_t steps() {
#ifdef __SANITIZE_ADDRESS__
    return 20'000;
#else
    return 1'000'000;
#endif
}

// TANDEM_SEED: another walk than the usual one.
std::uint64_t seed() {
    const char* given = std::getenv("TANDEM_SEED");
    return given != nullptr ? std::strtoull(given, nullptr, 10) : 1;
}

TEST(Walk, StreamLinks) {
    go(seed(), false, steps());
}

TEST(Walk, LinksOfBothKinds) {
    go(seed(), true, steps());
}

} // namespace
} // namespace tandem::session_layer::testing
