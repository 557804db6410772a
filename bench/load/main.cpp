// SPDX-License-Identifier: Apache-2.0
// tandem-load: many RTP or SRTP streams against any relay; verifies what returns, counts what does not. See README.md.
// Exit: 0 it ran (look at the counts), 1 it could not, 2 wrong usage.
#include <fstream>
#include <iostream>
#include <memory>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "bench/load/run.hpp"
#include "bench/load/srtp.hpp"

namespace tandem::load {
namespace {

void declare(CLI::App& cli, options& o) {
    cli.add_option("--to", o.to,
                   "the relay: ADDR:PORTS, e.g. 192.0.2.1:20000,20002-20098/2; stream i takes the i-th port");
    cli.add_option("--from", o.from, "local address to send from: ADDR:PORT or a range, one socket each");
    cli.add_option("--receive", o.receive, "local address to hear on: ADDR:PORT or a range (default: --from)");
    cli.add_option("--from-netns", o.from_netns, "network namespace of --from");
    cli.add_option("--receive-netns", o.receive_netns, "network namespace of --receive (default: --from-netns)");
    cli.add_option("--streams", o.streams, "number of streams")
        ->check(CLI::Range(1u, 1'000'000u))
        ->capture_default_str();
    auto* rate = cli.add_option("--rate", o.rate, "packets a second of all streams together (default: by --ptime)");
    auto* ptime = cli.add_option("--ptime", o.ptime, "ms between two packets of a stream")->capture_default_str();
    auto* flat = cli.add_flag("--flat-out", o.flat_out, "as fast as this host can");
    rate->excludes(ptime);
    flat->excludes(ptime);
    cli.add_option("--seconds", o.seconds, "how long to send")->check(CLI::PositiveNumber)->capture_default_str();
    cli.add_option("--linger", o.linger, "seconds of silence after which it stops listening")->capture_default_str();
    cli.add_option("--payload", o.payload, "bytes of RTP payload")
        ->check(CLI::Range(static_cast<unsigned>(stamp_bytes), 1400u))
        ->capture_default_str();
    cli.add_option("--suite", o.suite, "sent: a suite's name, or clear")->capture_default_str();
    cli.add_option("--receive-suite", o.receive_suite, "returned: a suite's name, or clear")->capture_default_str();
    cli.add_option("--keys-file", o.keys_file, "file of mode 0600 with lines \"send N|* HEX\", \"receive N|* HEX\"");
    cli.add_option("--ssrc", o.ssrc, "SSRC of the first stream; the others follow")->capture_default_str();
    cli.add_option("--first-sequence", o.first_sequence, "first sequence number (index)")->capture_default_str();
    cli.add_option("--burst", o.burst, "datagrams a system call")
        ->check(CLI::Range(1u, max_burst))
        ->capture_default_str();
    cli.add_option("--verify-every", o.verify_every, "check tag and payload of one packet in N; count all")
        ->check(CLI::Range(1u, 65536u))
        ->capture_default_str();
    cli.add_flag("--prepare", o.prepare, "make all packets beforehand (--rate says how many)");
    cli.add_flag("--xdp", o.xdp, "with --interface: the kernel makes the frames (clear RTP, IPv4); the fastest way");
    cli.add_option("--first-byte", o.first_byte,
                   "with --xdp --no-receive: instead of RTP's, for a flood of something else")
        ->check(CLI::Range(0, 255));
    cli.add_option("--sources", o.sources, "with --xdp --no-receive: from so many addresses, 10.0.0.1 and on")
        ->check(CLI::Range(1u, 1u << 24));
    cli.add_flag("--spin", o.spin, "never sleep: exact times, at the price of a core");
    cli.add_flag("--no-receive", o.no_receive, "only send");
    cli.add_option("--gaps-ms", o.gaps_ms, "tell every silence of a stream that is longer than so many ms");
    cli.add_option("--frames", o.frames, "send these frames (hex, one a line) instead of streams");
    cli.add_option("--interface", o.interface,
                   "send as frames on this interface: faster than a socket; needed by --frames");
    cli.add_option("--to-mac", o.to_mac,
                   "where --interface sends streams to: the relay's or the next router's address");
    cli.add_option("--json", o.json, "write the counts to this file (- is standard output)");
}

void check(options& o) {
    if (o.frames.empty() && (o.to.empty() || o.from.empty()))
        throw usage_error("--to and --from are needed (or --frames with --interface)");
    if (!o.frames.empty() && o.interface.empty())
        throw usage_error("--frames needs --interface");
    if (o.frames.empty() && o.interface.empty() != o.to_mac.empty())
        throw usage_error("--interface and --to-mac go together");
    if (o.xdp && (o.interface.empty() || o.prepare || parse_suite(o.suite) != srtp_suite::clear))
        throw usage_error("--xdp needs --interface and --suite clear, and cannot --prepare");
    if ((o.sources > 1 || o.first_byte >= 0) && !(o.xdp && o.no_receive))
        throw usage_error("--sources and --first-byte go with --xdp and --no-receive");
    if (!o.flat_out && o.rate == 0)
        o.rate = o.streams * 1000.0 / o.ptime;
    if (o.prepare && o.rate == 0)
        throw usage_error("--prepare needs --rate: it says how many packets are made (with --flat-out: at most)");
    const bool secret_needed = parse_suite(o.suite) != srtp_suite::clear ||
                               (parse_suite(o.receive_suite) != srtp_suite::clear && !o.no_receive);
    if (secret_needed && o.keys_file.empty())
        throw usage_error("--suite and --receive-suite need --keys-file");
}

nlohmann::json list_of(const std::vector<gap>& gaps) {
    auto list = nlohmann::json::array();
    for (const gap& g : gaps)
        list.push_back({{"stream", g.stream},
                        {"since_s", static_cast<double>(g.since_ns) * 1e-9},
                        {"ms", static_cast<double>(g.ns) * 1e-6},
                        {"missing", g.missing}});
    return list;
}

nlohmann::json report(const counts& c, const outcome& o, const histogram& latency, const options& given) {
    const auto us = [&](double share) { return static_cast<double>(latency.percentile(share)) / 1000; };
    nlohmann::json j{{"sent", c.sent},
                     {"send_errors", c.send_errors},
                     {"seconds", o.seconds},
                     {"late", o.late},
                     {"rate_sent", o.seconds > 0 ? static_cast<double>(c.sent) / o.seconds : 0.0}};
    if (given.no_receive || !given.frames.empty())
        return j;
    j.update({{"received", c.received},
              {"lost", c.sent - std::min(c.sent, c.received)},
              {"duplicates", c.duplicates},
              {"reordered", c.reordered},
              {"bad_tags", c.bad_tags},
              {"bad_content", c.bad_content},
              {"foreign", c.foreign},
              {"verified", c.verified},
              {"socket_drops", o.socket_drops},
              {"rate_received", o.seconds > 0 ? static_cast<double>(c.received) / o.seconds : 0.0},
              {"latency_us",
               {{"p50", us(0.5)},
                {"p99", us(0.99)},
                {"p99.9", us(0.999)},
                {"max", static_cast<double>(latency.max()) / 1000}}}});
    return j;
}

void say(const nlohmann::json& j) {
    fmt::print("sent {} packets in {:.2f} s ({:.0f} a second), {} errors", j["sent"].get<std::uint64_t>(),
               j["seconds"].get<double>(), j["rate_sent"].get<double>(), j["send_errors"].get<std::uint64_t>());
    if (const auto late = j["late"].get<std::uint64_t>(); late != 0)
        fmt::print("; {} not sent in time: this host cannot keep the rate", late);
    fmt::print("\n");
    if (!j.contains("received"))
        return;
    for (const char* what : {"received", "lost", "reordered", "duplicates", "bad_tags", "bad_content", "foreign",
                             "verified", "socket_drops"})
        fmt::print("  {:13} {}\n", what, j[what].get<std::uint64_t>());
    const auto& l = j["latency_us"];
    fmt::print("  latency us    p50 {:.1f}  p99 {:.1f}  p99.9 {:.1f}  max {:.1f}\n", l["p50"].get<double>(),
               l["p99"].get<double>(), l["p99.9"].get<double>(), l["max"].get<double>());
}

void run(options& given) {
    check(given);
    counts total;
    outcome o;
    nlohmann::json j;
    if (!given.frames.empty()) {
        o = run_frames(given, total);
        j = report(total, o, {}, given);
    } else {
        check_engine(parse_suite(given.suite));
        check_engine(parse_suite(given.receive_suite));
        std::unique_ptr<traffic> t;
        {
            key_file keys;
            if (!given.keys_file.empty())
                keys.load(given.keys_file);
            t = std::make_unique<traffic>(given, keys);
        }
        o = run_streams(given, *t);
        j = report(t->total, o, t->latency, given);
        if (given.gaps_ms > 0)
            j["gaps"] = list_of(t->gaps);
    }
    if (given.json == "-") {
        std::cout << j.dump() << "\n";
        return;
    }
    say(j);
    if (!given.json.empty() && !(std::ofstream(given.json) << j.dump(1) << "\n"))
        throw failure(given.json + ": cannot be written");
}

} // namespace
} // namespace tandem::load

int main(int argc, char** argv) {
    using namespace tandem::load;
    options given;
    CLI::App cli{"Sends many RTP or SRTP streams through a relay, verifies what returns, counts what does not",
                 "tandem-load"};
    declare(cli, given);
    try {
        cli.parse(argc, argv);
        run(given);
        return 0;
    } catch (const CLI::ParseError& error) {
        return cli.exit(error) == 0 ? 0 : 2;
    } catch (const usage_error& wrong) {
        fmt::print(stderr, "tandem-load: {}\n", wrong.what());
        return 2;
    } catch (const std::exception& wrong) {
        fmt::print(stderr, "tandem-load: {}\n", wrong.what());
        return 1;
    }
}
