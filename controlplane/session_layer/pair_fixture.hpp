// SPDX-License-Identifier: Apache-2.0
// Two ends of a session and what is between them, for tests: wires that lose, double, reorder and break as they are
// told, and an oracle that knows each octet of each stream. A value: explored and walked by copies. For tests only.
#pragma once

#include <array>
#include <string>
#include <unordered_map>

#include "controlplane/protocol/explore_fixture.hpp"
#include "controlplane/session_layer/session.hpp"

namespace tandem::session_layer::testing {

using bytes = std::vector<std::uint8_t>;

using protocol::exploring::failure;
using protocol::exploring::require;

inline protocol::secret test_secret(std::uint8_t filling = 9) {
    return protocol::secret(bytes(32, filling));
}

// One connection between them.
struct wire {
    carrier kind;
    bool broken = false;
    std::array<bool, 2> up{};                 // at the creator's end, at the other one
    std::array<link_id, 2> link{};            // as each end calls it
    std::array<std::vector<bytes>, 2> pipe{}; // that this end has sent

    [[nodiscard]] bool whole() const noexcept { return !broken && up[0] && up[1]; }
};

// What went over one stream, seen from outside.
struct story {
    std::array<std::uint64_t, 2> written{}, read{}; // by each end
    std::array<bool, 2> closed{}, end_seen{}, reset{}, gone{};
    bool opened = false; // the other end knows of it
};

struct world {
    explicit world(const limits& l = {}, std::uint64_t tsid = 77)
        : ends{session(role::creator, tsid, test_secret(), l, {}),
               session(role::accepter, tsid, test_secret(), l, {})} {}

    std::array<session, 2> ends;
    instant now{};
    std::vector<wire> wires;
    std::map<stream_id, story> stories;
    std::vector<handover> handovers[2];
    std::vector<stall> stalls[2];
    std::vector<std::string> trace; // of the procedures' messages, where `tracing`
    bool tracing = false;
    std::size_t largest = 16384; // frame
    std::uint64_t data_sent = 0; // octets of DATA, on all wires

    static std::uint8_t octet(stream_id id, std::size_t by, std::uint64_t offset) noexcept {
        return static_cast<std::uint8_t>((offset * 131 + offset / 251) ^ (id * 29 + by * 101));
    }

    // ---- what the ends' owners do

    std::size_t connect(std::size_t by, carrier kind, std::uint32_t group, bool move = true,
                        reason why = reason::better) {
        wire w{.kind = kind};
        w.up = {true, true};
        const auto number = static_cast<std::uint8_t>(wires.size());
        const std::array<std::uint8_t, 2> binding{7, number};
        w.link[by] = ends[by].dial(kind, group, binding, now);
        w.link[1 - by] = ends[1 - by].accept(kind, binding, now);
        wires.push_back(w);
        if (move)
            ends[by].move(w.link[by], why, now);
        pump();
        return wires.size() - 1;
    }
    stream_id open(std::size_t by, stream_kind kind = stream_kind::octets, std::string_view label = "echo") {
        const auto id = ends[by].open(kind, label);
        require(id.has_value(), "no stream could be opened");
        stories[*id];
        pump();
        return *id;
    }
    std::size_t write(std::size_t by, stream_id id, std::size_t count) {
        auto& s = stories[id];
        bytes octets(count);
        for (std::size_t i = 0; i < count; ++i)
            octets[i] = octet(id, by, s.written[by] + i);
        const auto took = ends[by].write(id, octets);
        s.written[by] += took;
        pump();
        return took;
    }
    void close(std::size_t by, stream_id id) {
        stories[id].closed[by] = true;
        ends[by].close(id);
        pump();
    }
    void reset(std::size_t by, stream_id id, std::uint16_t code = 300) {
        stories[id].reset[by] = stories[id].gone[by] = true;
        ends[by].reset(id, code);
        pump();
    }

    // ---- what the network does

    void deliver(std::size_t w, std::size_t from, std::size_t which = 0, bool keep = false) {
        const auto frame = wires[w].pipe[from][which];
        if (!keep)
            wires[w].pipe[from].erase(wires[w].pipe[from].begin() + static_cast<std::ptrdiff_t>(which));
        ends[1 - from].receive(wires[w].link[1 - from], frame, now);
        act(1 - from);
        pump();
    }
    void lose(std::size_t w, std::size_t from, std::size_t which) {
        wires[w].pipe[from].erase(wires[w].pipe[from].begin() + static_cast<std::ptrdiff_t>(which));
    }
    // What is on it may still arrive, until that end sees that it is broken.
    void cut(std::size_t w) { wires[w].broken = true; }
    void see(std::size_t w, std::size_t end) {
        hang_up(w, end);
        ends[end].lost(wires[w].link[end], now);
        act(end);
        pump();
    }
    void tick() {
        now = std::max(now, due().value_or(now));
        for (const std::size_t end : {0U, 1U}) {
            ends[end].poll(now);
            act(end);
        }
        pump();
    }
    [[nodiscard]] std::optional<instant> due() const {
        const auto a = ends[0].due(), b = ends[1].due();
        return a && b ? std::min(*a, *b) : a ? a : b;
    }
    // All that is under way arrives, in order, until nothing is.
    void settle() {
        for (bool some = true; some;) {
            some = false;
            for (std::size_t w = 0; w < wires.size(); ++w)
                for (const std::size_t from : {0U, 1U})
                    if (!wires[w].pipe[from].empty()) {
                        deliver(w, from);
                        some = true;
                    }
        }
    }
    void pass(std::chrono::milliseconds time) {
        const auto until = now + time;
        for (auto at = due(); at && *at <= until; at = due()) {
            tick();
            settle();
        }
        now = until;
    }

    // ---- between

    void hang_up(std::size_t w, std::size_t end) {
        wires[w].up[end] = false;
        wires[w].broken = true;
        wires[w].pipe[1 - end].clear(); // nobody reads it any more
    }
    void pump() {
        for (std::size_t w = 0; w < wires.size(); ++w)
            for (const std::size_t end : {0U, 1U})
                while (wires[w].up[end]) {
                    bytes frame;
                    if (ends[end].pull(wires[w].link[end], frame, largest, now) == 0)
                        break;
                    note(w, end, frame);
                    if (wires[w].whole())
                        wires[w].pipe[end].push_back(std::move(frame));
                }
        act(0);
        act(1);
    }
    void note(std::size_t w, std::size_t end, std::span<const std::uint8_t> frame) {
        frame_reader in(frame);
        while (const auto m = in.next()) {
            if (m->what() == verb::data)
                data_sent += m->tail().size();
            if (tracing && m->what() != verb::ack && m->what() != verb::window)
                trace.push_back(said(end, w, *m));
        }
        require(!in.bad(), "a frame of ours is none");
    }
    static std::string said(std::size_t end, std::size_t w, const message& m) {
        auto text = std::string(end == 0 ? "a" : "b") + std::to_string(w) + " " + name_of(m.what());
        if (m.what() >= verb::announce)
            text += " " + std::to_string(m[field::number]) + (m[field::hard] != 0 ? " hard" : "");
        return text;
    }
    void act(std::size_t end) {
        for (const auto& e : ends[end].take())
            std::visit([&](const auto& one) { on(end, one); }, e);
    }
    void on(std::size_t end, const received& r) {
        auto& s = stories[r.stream];
        require(!s.end_seen[end], "octets after the end");
        require(!s.gone[end], "octets of a stream that is gone");
        for (const auto o : r.octets)
            require(o == octet(r.stream, 1 - end, s.read[end]++), "a wrong octet");
        require(s.read[end] <= s.written[1 - end], "octets that nobody wrote");
        ends[end].consumed(r.stream, r.octets.size());
    }
    void on(std::size_t, const opened& o) {
        require(stories.contains(o.stream), "a stream that nobody opened");
        require(std::ranges::equal(o.label, std::string_view("echo")), "another label");
        require(!std::exchange(stories[o.stream].opened, true), "a stream opened twice");
    }
    void on(std::size_t end, const closed& c) {
        auto& s = stories[c.stream];
        require(!std::exchange(s.end_seen[end], true), "ended twice");
        require(s.closed[1 - end] && s.read[end] == s.written[1 - end], "ended before its end");
    }
    void on(std::size_t end, const was_reset& r) {
        auto& s = stories[r.stream];
        require(s.reset[1 - end], "reset by nobody");
        require(!std::exchange(s.gone[end], true), "gone twice");
    }
    void on(std::size_t end, const finished& f) {
        auto& s = stories[f.stream];
        require(s.closed[0] && s.closed[1], "finished, and not closed");
        require(!std::exchange(s.gone[end], true), "gone twice");
    }
    void on(std::size_t end, const close_link& c) {
        for (std::size_t w = 0; w < wires.size(); ++w)
            if (wires[w].link[end] == c.link)
                hang_up(w, end);
    }
    void on(std::size_t end, const handover& h) { handovers[end].push_back(h); }
    void on(std::size_t end, const stall& s) { stalls[end].push_back(s); }
    template <class Other>
    void on(std::size_t, const Other&) {}

    // Every octet has come, every stream has ended, nobody waits for anything, both ends are on the same wire.
    void at_the_end() const {
        for (const auto& [id, s] : stories)
            for (const std::size_t end : {0U, 1U})
                if (!s.reset[0] && !s.reset[1]) {
                    require(s.read[end] == s.written[1 - end], "octets were lost");
                    require(s.end_seen[end] == s.closed[1 - end], "an end was lost");
                }
        require(!ends[0].handing_over() && !ends[1].handing_over(), "a procedure without its end");
        require(ends[0].current().has_value() && ends[1].current().has_value(), "no current link");
        for (const auto& w : wires)
            if (w.whole())
                require((w.link[0] == ends[0].current()) == (w.link[1] == ends[1].current()), "two current links");
    }
    [[nodiscard]] std::uint64_t fingerprint() const {
        std::uint64_t h = ends[0].fingerprint(now) * 31 + ends[1].fingerprint(now);
        const auto mix = [&](std::uint64_t v) { h = (h ^ v) * 0x9E3779B97F4A7C15U, h ^= h >> 31; };
        for (const auto& w : wires) {
            mix(std::uint64_t{w.broken} | std::uint64_t{w.up[0]} << 1 | std::uint64_t{w.up[1]} << 2);
            for (const auto& pipe : w.pipe) {
                std::uint64_t sum = pipe.size();
                for (const auto& f : pipe) {
                    const auto one = std::hash<std::string_view>{}({reinterpret_cast<const char*>(f.data()), f.size()});
                    sum = w.kind == carrier::stream ? sum * 1099511628211U + one : sum + one * 2654435761U;
                }
                mix(sum);
            }
        }
        for (const auto& [id, s] : stories)
            for (const std::size_t end : {0U, 1U})
                mix(id | s.read[end] << 8 | s.written[end] << 24 | std::uint64_t{s.closed[end]} << 40 |
                    std::uint64_t{s.end_seen[end]} << 41 | std::uint64_t{s.reset[end]} << 42 |
                    std::uint64_t{s.gone[end]} << 43);
        return h;
    }
};

} // namespace tandem::session_layer::testing
