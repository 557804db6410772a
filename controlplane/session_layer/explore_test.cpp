// SPDX-License-Identifier: Apache-2.0
// Every way that two ends of a session can go, step by step, with the linked session itself at both ends: streams are
// written, closed and reset while one end or both change their network, and wires break, lose, double and reorder at
// every step. In each state: no octet wrong, twice or out of place. Where nothing can happen any more: every octet has
// come, every stream has ended, no procedure is under way, both ends are on the same link. No way goes round in a
// circle. COL-08, COL-15, COL-16, COL-17, COL-36.
#include <gtest/gtest.h>

#include <functional>

#include "controlplane/session_layer/pair_fixture.hpp"

namespace tandem::session_layer::testing {
namespace {

using namespace std::chrono_literals;

// What an application does, in order, each when it likes.
enum class act : std::uint8_t { open, write, close, reset };

struct plan {
    const char* name;
    carrier kind = carrier::stream;           // of wire 0
    carrier later = carrier::stream;          // of the others
    std::array<std::vector<act>, 2> script{}; // on stream 1, which the creator opens
    std::vector<std::size_t> dials{};         // who dials wire 1, 2, ... and moves to it, whenever it likes
    int cuts = 0, losses = 0, copies = 0;
    int impatient = 0;       // times that time passes though something else could happen
    std::size_t rescuer = 0; // who dials where there is no wire left
    bool no_timers = false;  // and then it never has to
    bool back = false;       // a wire may be moved back to: wire 0, by the creator, once
    bool few = false;        // states: explored in sanitized builds, too
};

void PrintTo(const plan& p, std::ostream* out) {
    *out << p.name;
}

struct step {
    enum kind { app, dial, back, deliver, lose, copy, cut, see, tick, rescue } what;
    std::size_t at = 0, end = 0, which = 0;
};
constexpr std::array step_names{"app acts", "dials",  "moves back",     "arrives",     "is lost",
                                "doubles",  "breaks", "is seen broken", "time passes", "dials, for there is none left"};

limits small() {
    limits l;
    l.window = 5;
    l.first_window = 4;
    l.stream_buffer = 64;
    l.turn = 4;
    return l;
}

struct state : world {
    explicit state(const plan& p)
        : world(small()), of(&p), cuts(p.cuts), losses(p.losses), copies(p.copies), impatient(p.impatient),
          backs(p.back ? 1 : 0) {
        connect(0, p.kind, 1, true, reason::start);
        while (!ends[0].current() || !ends[1].current() || ends[0].handing_over() || ends[1].handing_over())
            settle();
    }

    const plan* of;
    int cuts, losses, copies, impatient, backs;
    std::array<std::size_t, 2> done{};
    std::size_t dialled = 0;

    [[nodiscard]] bool may_act(std::size_t end) const {
        if (done[end] == of->script[end].size())
            return false;
        return end == 0 || (stories.contains(1) && stories.at(1).opened);
    }

    void deliveries(std::size_t w, std::vector<step>& out) const {
        const bool ordered = wires[w].kind == carrier::stream;
        for (const std::size_t from : {0U, 1U})
            for (std::size_t i = 0; i < wires[w].pipe[from].size() && (i == 0 || !ordered); ++i) {
                out.push_back({step::deliver, w, from, i});
                if (losses > 0 && !ordered)
                    out.push_back({step::lose, w, from, i});
                if (copies > 0 && !ordered)
                    out.push_back({step::copy, w, from, i});
            }
    }
    [[nodiscard]] bool any_whole() const { return std::ranges::any_of(wires, &wire::whole); }
    [[nodiscard]] std::vector<step> steps() const {
        std::vector<step> out;
        for (const std::size_t end : {0U, 1U})
            if (may_act(end))
                out.push_back({step::app, 0, end});
        if (dialled < of->dials.size())
            out.push_back({step::dial, 0, of->dials[dialled]});
        if (backs > 0 && wires.size() > 1 && wires[0].whole())
            out.push_back({step::back});
        for (std::size_t w = 0; w < wires.size(); ++w) {
            deliveries(w, out);
            if (cuts > 0 && wires[w].whole())
                out.push_back({step::cut, w});
            for (const std::size_t end : {0U, 1U})
                if (wires[w].broken && wires[w].up[end])
                    out.push_back({step::see, w, end});
        }
        if (out.empty() && !any_whole())
            out.push_back({step::rescue});
        const auto soon = due() && *due() - now < 1h;
        if (soon && (out.empty() || impatient > 0))
            out.push_back({step::tick, 0, out.empty() ? 0U : 1U});
        return out;
    }
    void app(std::size_t end) {
        switch (of->script[end][done[end]++]) {
        case act::open:
            world::open(end);
            return;
        case act::write:
            write(end, 1, 3);
            return;
        case act::close:
            close(end, 1);
            return;
        case act::reset:
            reset(end, 1);
            return;
        }
    }
    void apply(const step& s) {
        switch (s.what) {
        case step::app:
            app(s.end);
            break;
        case step::dial:
        case step::rescue:
            connect(s.what == step::dial ? s.end : of->rescuer, of->later,
                    static_cast<std::uint32_t>(wires.size() + 1));
            dialled += s.what == step::dial ? 1 : 0;
            break;
        case step::back:
            --backs;
            ends[0].move(wires[0].link[0], reason::asked, now);
            pump();
            break;
        case step::deliver:
        case step::copy:
            copies -= s.what == step::copy ? 1 : 0;
            deliver(s.at, s.end, s.which, s.what == step::copy);
            break;
        case step::lose:
            --losses;
            lose(s.at, s.end, s.which);
            break;
        case step::cut:
            --cuts;
            cut(s.at);
            break;
        case step::see:
            see(s.at, s.end);
            break;
        case step::tick:
            impatient -= s.end == 1 ? 1 : 0;
            require(s.end == 1 || !of->no_timers, "only a timer goes on");
            tick();
            break;
        }
        check_errors();
    }
    void check_errors() const {
        if (of->kind != carrier::stream || of->later != carrier::stream)
            return;
        for (const std::size_t end : {0U, 1U})
            for (const auto e :
                 {error::gap, error::unknown_stream, error::window_exceeded, error::beyond_close, error::ack_beyond,
                  error::malformed, error::wrong_initiator, error::out_of_turn, error::not_joined})
                require(ends[end].errors(e) == 0, text_of(e));
    }
    void at_the_end() const {
        world::at_the_end();
        require(ends[0].streams() == 0 && ends[1].streams() == 0, "a stream without its end");
    }
    [[nodiscard]] std::uint64_t fingerprint() const {
        std::uint64_t h = world::fingerprint();
        for (const auto v :
             {std::uint64_t{done[0]}, std::uint64_t{done[1]}, std::uint64_t{dialled},
              static_cast<std::uint64_t>(cuts * 512 + losses * 64 + copies * 16 + impatient * 4 + backs)})
            h = (h ^ v) * 0x9E3779B97F4A7C15U, h ^= h >> 31;
        return h;
    }
};

class Explore : public ::testing::TestWithParam<plan> {};

TEST_P(Explore, NothingLostNothingTwiceAlwaysEnds) {
    const auto told = [](const step& s) {
        return "wire " + std::to_string(s.at) + " end " + std::to_string(s.end) + " " + step_names[s.what] + " " +
               std::to_string(s.which);
    };
    const auto r = protocol::exploring::explore(
        GetParam().name, [] { return state(GetParam()); }, told);
    EXPECT_EQ(r.wrong, "");
    EXPECT_GT(r.states, 100U);
}

using enum act;
const plan plans[] = {
    {.name = "soft",
     .script = {{{open, write, write, close}, {write, close}}},
     .dials = {0},
     .no_timers = true,
     .few = true},
    {.name = "soft_by_the_other",
     .script = {{{open, write, close}, {write, write, close}}},
     .dials = {1},
     .no_timers = true,
     .few = true},
    {.name = "cut_once",
     .script = {{{open, write, close}, {write, close}}},
     .dials = {0},
     .cuts = 1,
     .no_timers = true},
    {.name = "cut_twice", .script = {{{open, write, close}, {close}}}, .dials = {0}, .cuts = 2, .no_timers = true},
    {.name = "both_at_once", .script = {{{open, write, close}, {write, close}}}, .dials = {0, 1}, .no_timers = true},
    {.name = "both_at_once_cut",
     .script = {{{open, write, close}, {close}}},
     .dials = {1, 0},
     .cuts = 1,
     .no_timers = true},
    {.name = "both_at_once_cut_twice", .script = {{{open, reset}, {}}}, .dials = {0, 1}, .cuts = 2, .no_timers = true},
    {.name = "three_links", .script = {{{open, write, reset}, {}}}, .dials = {0, 1, 0}, .cuts = 1, .no_timers = true},
    {.name = "three_links_back", .script = {{{open, reset}, {}}}, .dials = {1, 0, 1}, .no_timers = true, .back = true},
    {.name = "reset_cut",
     .script = {{{open, write, reset}, {write, write}}},
     .dials = {0},
     .cuts = 1,
     .no_timers = true},
    {.name = "back",
     .script = {{{open, write, close}, {write, close}}},
     .dials = {0},
     .cuts = 1,
     .no_timers = true,
     .back = true},
    {.name = "impatient", .script = {{{open, write, close}, {close}}}, .dials = {0}, .cuts = 1, .impatient = 2},
    {.name = "impatient_both", .script = {{{open, reset}, {}}}, .dials = {0, 1}, .cuts = 1, .impatient = 1},
    {.name = "rescued_by_the_other",
     .script = {{{open, write, close}, {write, close}}},
     .dials = {0},
     .cuts = 2,
     .rescuer = 1,
     .no_timers = true},
    {.name = "datagrams_lost_and_cut",
     .kind = carrier::datagrams,
     .later = carrier::datagrams,
     .script = {{{open, reset}, {}}},
     .dials = {1},
     .cuts = 1,
     .losses = 1,
     .rescuer = 1},
    {.name = "datagrams_lost",
     .kind = carrier::datagrams,
     .later = carrier::datagrams,
     .script = {{{open, write, close}, {close}}},
     .dials = {0},
     .losses = 1},
    {.name = "datagrams_doubled",
     .kind = carrier::datagrams,
     .later = carrier::datagrams,
     .script = {{{open, write, close}, {close}}},
     .dials = {0},
     .copies = 1},
    {.name = "datagrams_both_at_once",
     .kind = carrier::datagrams,
     .later = carrier::datagrams,
     .script = {{{open, write, reset}, {}}},
     .dials = {0, 1}},
    {.name = "onto_datagrams",
     .later = carrier::datagrams,
     .script = {{{open, write, close}, {close}}},
     .dials = {0},
     .cuts = 1,
     .losses = 1},
    {.name = "off_datagrams",
     .kind = carrier::datagrams,
     .later = carrier::stream,
     .script = {{{open, write, close}, {close}}},
     .dials = {0},
     .losses = 1,
     .copies = 1},
    {.name = "datagrams_cut",
     .kind = carrier::datagrams,
     .later = carrier::datagrams,
     .script = {{{open, write, close}, {close}}},
     .dials = {0},
     .cuts = 1},
};
INSTANTIATE_TEST_SUITE_P(Session, Explore, ::testing::ValuesIn(protocol::exploring::affordable(plans)),
                         [](const auto& p) { return std::string(p.param.name); });

} // namespace
} // namespace tandem::session_layer::testing
