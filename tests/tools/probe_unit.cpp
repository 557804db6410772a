// SPDX-License-Identifier: Apache-2.0
// probe_unit: many units in one process, for tests that must know what a real agent never tells.
//
// Speaks the real control protocol over real TLS 1.3 (external PSK), answers MEDIA_OPEN, SEED and MEDIA_CLOSE, sends
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
#include <poll.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <csignal>
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

volatile std::sig_atomic_t stopping = 0;

void run(std::vector<std::unique_ptr<probe>>& units) {
    using namespace std::chrono_literals;
    auto next_packet = clock_type::now(), next_keepalive = next_packet + 1s;
    while (stopping == 0) {
        std::vector<pollfd> wait;
        for (const auto& unit : units)
            unit->watch(wait);
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(next_packet - clock_type::now());
        ::poll(wait.data(), wait.size(), static_cast<int>(std::max<std::int64_t>(left.count(), 0)));
        for (const auto& unit : units)
            unit->work();
        const auto now = clock_type::now();
        if (now >= next_packet) {
            next_packet += 20ms;
            for (const auto& unit : units)
                unit->tick();
        }
        if (now >= next_keepalive) {
            next_keepalive += 1s;
            for (const auto& unit : units)
                unit->keepalive();
        }
    }
}

} // namespace

int main(int argc, char** argv) {
    CLI::App app("probe_unit: many units in one process, for tests");
    options o;
    std::string gateway, reveal_to;
    std::uint16_t first_sequence = 1;
    std::vector<std::string> ids;
    app.add_option("--gateway", gateway, "address:port of the primary")->required();
    app.add_option("--keys", o.keys, "directory of ID.psk files")->required();
    app.add_option("--units", ids, "id codes")->required()->delimiter(',');
    app.add_option("--reveal", reveal_to, "file for seeds and master keys (tests only)");
    app.add_option("--advice", o.advice, "[UNIT/]PEER=LEVEL[:PROFILE_LEVEL[:KEY_SOURCE]]");
    app.add_option("--contact", o.contact, "ok, silent or refuse");
    app.add_option("--seed-make", o.seed_make, "ok, long, repeat, silent or refuse");
    app.add_option("--first-sequence", first_sequence, "RTP sequence number to begin with");
    CLI11_PARSE(app, argc, argv);
    const auto colon = gateway.rfind(':');
    o.address = gateway.substr(0, colon);
    o.port = static_cast<std::uint16_t>(std::stoul(gateway.substr(colon + 1)));

    std::signal(SIGPIPE, SIG_IGN);
    for (const int s : {SIGINT, SIGTERM})
        std::signal(s, [](int) { stopping = 1; });
    std::ofstream reveal;
    if (!reveal_to.empty()) {
        reveal.open(reveal_to);
        o.reveal = &reveal;
    }
    o.make_media = [&](const message& open, std::uint64_t tsid) {
        return std::make_unique<probe_media>(open, tsid, o.reveal, first_sequence);
    };
    SSL_CTX* context = tls_context();
    std::vector<std::unique_ptr<probe>> units;
    for (const auto& id : ids)
        units.push_back(std::make_unique<probe>(id, psk_of(o, id), o, context));
    run(units);
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
    units.clear();
    SSL_CTX_free(context);
}
