// SPDX-License-Identifier: Apache-2.0
// probe_unit: many units in one process, for tests that must know what a real agent never tells.
//
// Speaks the real control protocol over the agent's connection, answers MEDIA_OPEN, SEED and MEDIA_CLOSE, sends
// SRTP on each media at 50 packets/s and checks what returns by libsrtp2. It has no TUN: inner addresses are only told.
// On demand it writes every seed and master key that it learned or made (--reveal), so that a test can look for them in
// the gateway's memory. It makes seeds where it is asked (SEED_MAKE) and advises (CONTACT, --advice); --seed-make and
// --contact make it misbehave.
//
//   probe_unit --gateway 192.0.2.1:4433 --keys DIR --units a,b,c [--reveal FILE] [--first-sequence N]
//       [--advice [UNIT/]PEER=LEVEL[:PROFILE_LEVEL[:KEY_SOURCE]]]...  PEER * = any; levels may be empty
//       [--contact ok|silent|refuse] [--seed-make ok|long|repeat|silent|refuse]
//   DIR holds ID.psk (hex). Prints a JSON object per line: configured, contact, seed_make, media_open, seed,
//   media_close; at the end, totals.
#include <CLI/CLI.hpp>
#include <asio/signal_set.hpp>
#include <chrono>
#include <fmt/format.h>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "tests/tools/probe.hpp"
#include "tests/tools/probe_media.hpp"

namespace {

using namespace tandem;
using namespace tandem::probing;

using all_units = std::vector<std::unique_ptr<probe>>;

secret psk_of(const std::string& directory, const std::string& unit) {
    std::ifstream file(directory + "/" + unit + ".psk");
    std::string line;
    file >> line;
    return parse_psk(line).value();
}

asio::awaitable<void> beat(asio::io_context& io, const all_units& units) {
    asio::steady_timer next(io, std::chrono::steady_clock::now());
    for (;;) {
        co_await next.async_wait(asio::use_awaitable);
        for (const auto& unit : units)
            unit->tick();
        next.expires_at(next.expiry() + std::chrono::milliseconds(20));
    }
}

} // namespace

int main(int argc, char** argv) {
    CLI::App app("probe_unit: many units in one process, for tests");
    options o;
    std::string gateway, keys, reveal_to;
    std::uint16_t first_sequence = 1;
    std::vector<std::string> ids;
    app.add_option("--gateway", gateway, "address:port of the primary")->required();
    app.add_option("--keys", keys, "directory of ID.psk files")->required();
    app.add_option("--units", ids, "id codes")->required()->delimiter(',');
    app.add_option("--reveal", reveal_to, "file for seeds and master keys (tests only)");
    app.add_option("--advice", o.advice, "[UNIT/]PEER=LEVEL[:PROFILE_LEVEL[:KEY_SOURCE]]");
    app.add_option("--contact", o.contact, "ok, silent or refuse");
    app.add_option("--seed-make", o.seed_make, "ok, long, repeat, silent or refuse");
    app.add_option("--first-sequence", first_sequence, "RTP sequence number to begin with");
    CLI11_PARSE(app, argc, argv);
    o.gateway = gateway_at(gateway);

    std::ofstream reveal;
    if (!reveal_to.empty()) {
        reveal.open(reveal_to);
        o.reveal = &reveal;
    }
    o.make_media = [&](const message& open, std::uint64_t tsid) {
        return std::make_unique<probe_media>(open, tsid, o.reveal, first_sequence);
    };
    asio::io_context io(1);
    asio::signal_set stopping(io, SIGINT, SIGTERM);
    stopping.async_wait([&](auto, int) { io.stop(); });
    all_units units;
    for (const auto& id : ids)
        units.push_back(std::make_unique<probe>(io, id, psk_of(keys, id), o));
    spawn(io, "the units' clock", [&] { return beat(io, units); });
    io.run();
    totals all;
    for (const auto& unit : units) {
        all.sent += unit->sum.sent;
        all.received += unit->sum.received;
        all.refused += unit->sum.refused;
        all.seeds += unit->sum.seeds;
        all.made += unit->sum.made;
    }
    fmt::print("{{\"event\":\"totals\",\"sent\":{},\"received\":{},\"refused\":{},\"seeds\":{},\"made\":{}}}\n",
               all.sent, all.received, all.refused, all.seeds, all.made);
}
