// SPDX-License-Identifier: Apache-2.0
// fuzz: dep_session_layer dep_session_driver
// Frames of the session layer from the wire: what is read is written the same. Then the same octets, cut into frames by
// their first, at a session that has streams under way: nothing but counted errors, and bounds that hold (COL-28).
#include <algorithm>
#include <cstdlib>

#include "controlplane/session_layer/pair_fixture.hpp"
#include "controlplane/session_layer/placed_datagram.hpp"

namespace {

using namespace tandem::session_layer;

void require(bool holds) {
    if (!holds)
        std::abort();
}

void check_frame(std::span<const std::uint8_t> frame) {
    std::vector<std::uint8_t> again;
    frame_writer out(again, 1 << 20);
    frame_reader in(frame);
    while (const auto m = in.next())
        require(out.put(*m));
    require(again.empty() || std::ranges::equal(again, frame.first(again.size())));
    require(in.bad() || again.size() == frame.size() || frame.size() == 1);
}

void check_placed(std::span<const std::uint8_t> all) {
    const auto placed = read_placed(all);
    if (!placed)
        return;
    std::vector<std::uint8_t> again;
    write_placed(placed->peer, placed->octets, again);
    require(std::ranges::equal(again, all));
}

// A session with a stream each way and one of datagrams; nothing of the other end but what is said here.
testing::world& joined() {
    static testing::world w = [] {
        testing::world one;
        one.connect(0, carrier::stream, 1, true, reason::start);
        (void)one.open(0);
        (void)one.open(1);
        (void)one.open(1, stream_kind::datagrams);
        one.settle();
        (void)one.write(0, 1, 5000);
        return one;
    }();
    return w;
}

void drain(session& s, link_id on) {
    std::vector<std::uint8_t> frame;
    for (int i = 0; i < 100 && s.pull(on, frame, 16384, {}) > 0; ++i)
        frame.clear();
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 2)
        return 0;
    std::span<const std::uint8_t> rest(data + 1, size - 1);
    check_frame(rest);
    check_placed(rest);
    auto s = joined().ends[0];
    const auto on = joined().wires[0].link[0];
    while (!rest.empty()) {
        const auto frame = rest.first(std::min<std::size_t>(rest.size(), std::size_t{data[0]} + 1));
        rest = rest.subspan(frame.size());
        s.receive(on, frame, {});
        for (const auto& e : s.take())
            if (const auto* r = std::get_if<received>(&e))
                require(r->octets.data() >= frame.data() && r->octets.size() <= frame.size());
        drain(s, on);
        require(s.buffered() <= limits{}.buffered && s.streams() <= 2 * limits{}.streams && s.links() <= 1);
    }
    return 0;
}
