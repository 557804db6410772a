// SPDX-License-Identifier: Apache-2.0
// session_bench [MEGABYTES]: what the session layer itself costs: both its ends in one thread, frames handed from one
// to the other in memory, no TLS and no socket. One stream and 500, which write in turn; then a hard handover in the
// midst of 500: how long both ends need for it.
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "controlplane/session_layer/session.hpp"

namespace {

using namespace tandem::session_layer;
using clock_type = std::chrono::steady_clock;

struct pair {
    pair() {
        const tandem::protocol::secret secret(std::vector<std::uint8_t>(32, 1));
        limits l;
        l.buffered = std::size_t{512} << 20;
        for (const auto end : {role::creator, role::accepter})
            ends.emplace_back(end, 7, secret, l, clock_type::now());
        connect(reason::start);
    }
    void connect(reason why) {
        const std::vector<std::uint8_t> binding(32, 2);
        link[1] = ends[1].accept(carrier::stream, binding, clock_type::now());
        link[0] = ends[0].dial(carrier::stream, 1, binding, clock_type::now());
        ends[0].move(link[0], why, clock_type::now());
        run();
        if (!ends[0].current() || !ends[1].current()) {
            std::fprintf(stderr, "session_bench: the link was not joined\n");
            std::exit(1);
        }
    }
    // Until neither has anything to say.
    void run() {
        for (bool some = true; some;) {
            some = false;
            for (const std::size_t end : {0U, 1U}) {
                frame.clear();
                if (ends[end].pull(link[end], frame, 16384, clock_type::now()) == 0)
                    continue;
                some = true;
                ends[1 - end].receive(link[1 - end], frame, clock_type::now());
                for (const auto& e : ends[1 - end].take())
                    if (const auto* r = std::get_if<received>(&e)) {
                        came += r->octets.size();
                        ends[1 - end].consumed(r->stream, r->octets.size());
                    }
            }
        }
    }
    std::vector<session> ends;
    link_id link[2]{};
    std::vector<std::uint8_t> frame;
    std::uint64_t came = 0;
};

double since(clock_type::time_point begin) {
    return std::chrono::duration<double>(clock_type::now() - begin).count();
}

std::vector<stream_id> open(pair& p, std::size_t count) {
    std::vector<stream_id> all;
    for (std::size_t i = 0; i < count; ++i)
        all.push_back(*p.ends[0].open(stream_kind::octets, "bench"));
    p.run();
    return all;
}

double throughput(std::size_t streams, std::uint64_t octets) {
    pair p;
    const auto all = open(p, streams);
    const std::vector<std::uint8_t> chunk(65536, 5);
    const auto begin = clock_type::now();
    for (std::size_t i = 0; p.came < octets; ++i) {
        (void)p.ends[0].write(all[i % all.size()], chunk);
        if (i % all.size() == all.size() - 1)
            p.run();
    }
    return static_cast<double>(p.came) / since(begin) / 1e6;
}

void hard_handover(std::size_t streams) {
    pair p;
    const std::vector<std::uint8_t> chunk(4096, 5);
    for (const auto id : open(p, streams))
        (void)p.ends[0].write(id, chunk);
    for (const std::size_t end : {0U, 1U})
        p.ends[end].lost(p.link[end], clock_type::now());
    const auto begin = clock_type::now();
    p.connect(reason::lost);
    std::printf("hard handover, %zu streams of 4096 octets each: %.3f ms, both ends, octets sent too\n", streams,
                since(begin) * 1e3);
}

} // namespace

int main(int argc, char** argv) {
    const auto octets = (argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 2000U) * 1'000'000;
    const double one = throughput(1, octets), many = throughput(500, octets);
    std::printf("1 stream: %.0f MB/s, both ends in one thread\n500 streams: %.0f MB/s (%.2f of 1)\n", one, many,
                many / one);
    hard_handover(500);
    return 0;
}
