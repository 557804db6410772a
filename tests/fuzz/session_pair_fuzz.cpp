// SPDX-License-Identifier: Apache-2.0
// fuzz: dep_session_layer
// Two ends of a session: each octet of the input is what the applications or the network do next. No octet is wrong,
// lost or twice, and when harm ends everything comes to its end (COL-08, COL-15 to COL-17, COL-36).
#include <algorithm>
#include <cstdlib>

#include "controlplane/session_layer/pair_fixture.hpp"

namespace {

using namespace tandem::session_layer;
using namespace std::chrono_literals;

class driven : public testing::world {
public:
    driven() : world(narrow()) {
        connect(0, carrier::stream, 1, true, reason::start);
        settle();
    }
    void step(std::uint8_t octet) {
        const std::size_t end = octet & 1U, which = octet >> 4;
        switch (octet >> 1 & 7U) {
        case 0:
            if (wires.size() < 12)
                connect(end, which % 4 == 3 ? carrier::datagrams : carrier::stream, octet >> 6,
                        which % 2 == 0 || !ends[end].current()); // who has none moves to what it dials
            return;
        case 1:
            ends[end].move(wires[which % wires.size()].link[end], reason::asked, now);
            return pump();
        case 2:
            return cut(which % wires.size());
        case 3:
            if (const auto w = which % wires.size(); wires[w].broken && wires[w].up[end])
                see(w, end);
            return;
        case 4:
            return on_stream(end, which);
        case 5:
            if (due() && *due() - now < 1h)
                tick();
            return;
        default:
            return arrive(which % wires.size(), end, octet >> 3 & 1U);
        }
    }
    void rest() {
        for (std::size_t w = 0; w < wires.size(); ++w)
            for (const std::size_t end : {0U, 1U})
                if (wires[w].broken && wires[w].up[end])
                    see(w, end);
        if (std::ranges::none_of(wires, &testing::wire::whole))
            connect(0, carrier::stream, 9);
        for (int i = 0; i < 300; ++i) {
            settle();
            if (!due() || *due() - now >= 1h)
                break;
            tick();
        }
        at_the_end();
    }

private:
    static limits narrow() {
        limits l;
        l.window = 30;
        l.first_window = 20;
        l.stream_buffer = 100;
        l.turn = 10;
        return l;
    }
    void on_stream(std::size_t end, std::size_t which) {
        if (stories.size() <= which / 4) {
            open(end);
            return;
        }
        auto at = stories.begin();
        std::advance(at, static_cast<std::ptrdiff_t>(which / 4));
        auto& [id, s] = *at;
        const bool knows = (id % 2 == 1) == (end == 0) || s.opened;
        if (!knows || s.closed[end] || s.gone[end] || s.reset[end])
            return;
        if (which % 4 == 0)
            close(end, id);
        else if (which == 15)
            reset(end, id);
        else
            write(end, id, 7 * (which % 4));
    }
    void arrive(std::size_t w, std::size_t from, bool twice) {
        if (wires[w].pipe[from].empty())
            return;
        if (wires[w].kind == carrier::stream)
            return deliver(w, from);
        deliver(w, from, wires[w].pipe[from].size() - 1, twice && wires[w].pipe[from].size() < 50);
    }
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    driven d;
    try {
        for (const auto octet : std::span(data, std::min<std::size_t>(size, 600)))
            d.step(octet);
        d.rest();
    } catch (const testing::failure& f) {
        std::fprintf(stderr, "%s\n", f.what());
        std::abort();
    }
    return 0;
}
