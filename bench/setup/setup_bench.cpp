// SPDX-License-Identifier: Apache-2.0
// Flows added (with a key each), re-keyed, replaced and removed over the contract while a worker forwards: how many a
// second, what the worker notices of it, what is lost. The data plane is in this process (rig.hpp); everything after
// the contract's socket is the real thing but the kernel's routes. A flow here is one direction of a call, as
// everywhere: half of them receive SRTP, half send it.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

#include "bench/setup/client.hpp"
#include "bench/setup/rig.hpp"

namespace tandem::bench::setup {
namespace {

using nlohmann::json;
using clock = std::chrono::steady_clock;

constexpr std::size_t chunk = 1000;           // flows, between two looks at the traffic's own keys
constexpr std::uint32_t at_least = 2'000'000; // flow changes a phase, so that a thousand flows are not over at once
constexpr auto quiet_time = std::chrono::milliseconds(1500);

struct options {
    std::string json_path;
    bool quick = false;
    unsigned packets_per_second = 50'000;
    std::vector<std::uint32_t> flows;
    std::vector<std::string> suites;
};

// Flow n of the batch: even ones receive SRTP, the next odd one is their way back.
api::flow_id id_of(std::uint32_t n) {
    return api::make_flow_id(1 + n / flows_per_address, static_cast<std::uint16_t>(1024 + n % flows_per_address));
}

api::epoch_key key_of(api::suite suite, api::flow_id id, api::side side, std::uint32_t epoch) {
    const auto& row = api::info(suite);
    api::epoch_key k{};
    k.id = id;
    k.side = side;
    k.key_length = row.key_length;
    k.salt_length = row.salt_length;
    k.epoch = k.mki = epoch;
    std::uint64_t word = (std::uint64_t{id} << 32 | epoch) * 0x9e3779b97f4a7c15;
    std::memcpy(k.key, &word, sizeof word);
    return k;
}

api::flow_config flow_of(api::suite suite, std::uint32_t n) {
    api::flow_config c{};
    c.id = id_of(n);
    c.reverse = id_of(n ^ 1);
    c.tag = n / 2 + 1;
    c.carries = api::carries_rtp | api::carries_rtcp;
    const bool receives = n % 2 == 0;
    (receives ? c.in.suite : c.out.suite) = suite;
    (receives ? c.in.mki_length : c.out.mki_length) = 4;
    c.source.policy = receives ? api::source_policy::authenticated : api::source_policy::signalled;
    c.route.rtp_out = c.route.rtcp_out = c.reverse;
    // Each call's phone has an address of its own, as subscribers have.
    const auto remote = address_of(100, static_cast<std::uint16_t>(1024 + n % flows_per_address));
    c.source.signalled = c.route.rtp_remote = c.route.rtcp_remote = remote;
    const auto host = static_cast<std::uint16_t>(n / 2);
    c.route.rtp_remote.ip[14] = c.route.rtcp_remote.ip[14] = static_cast<std::uint8_t>(host >> 8);
    c.route.rtp_remote.ip[15] = c.route.rtcp_remote.ip[15] = static_cast<std::uint8_t>(host);
    return c;
}

// The 64 pairs that carry the traffic: clear in, SRTP out, put on the wire again, SRTP in, clear out.
class traffic {
public:
    traffic(rig& plane, client& to, api::suite suite) : plane_(plane), client_(to), suite_(suite) {
        std::vector<api::flow_config> flows;
        for (unsigned pair = 0; pair < traffic_pairs; ++pair) {
            api::flow_config c{};
            c.id = c.route.rtp_out = c.route.rtcp_out = clear(pair);
            c.out.suite = suite;
            c.out.mki_length = 4;
            c.carries = api::carries_rtp;
            c.source.policy = api::source_policy::signalled;
            c.source.signalled = address_of(200, sink_port);
            c.route.rtp_remote = address_of(0, static_cast<std::uint16_t>(sealed_port + pair));
            flows.push_back(c);
            c.id = c.route.rtp_out = c.route.rtcp_out = sealed(pair);
            c.in.suite = suite;
            c.in.mki_length = 4;
            c.out.suite = api::suite::clear;
            c.out.mki_length = 0;
            c.source.policy = api::source_policy::authenticated;
            c.route.rtp_remote = address_of(200, sink_port);
            flows.push_back(c);
        }
        client_.send<api::message_type::flow_add>(flows);
        install(0);
        client_.flush();
        plane_.traffic(true);
    }

    // All pairs under the next epoch, packets under way or not.
    void rekey() {
        install(epoch_ + 1);
        std::vector<api::epoch_ref> now, before;
        for (unsigned pair = 0; pair < traffic_pairs; ++pair) {
            now.push_back({clear(pair), epoch_ + 1, api::side::out, {}});
            before.push_back({clear(pair), epoch_, api::side::out, {}});
            before.push_back({sealed(pair), epoch_, api::side::in, {}});
        }
        client_.send<api::message_type::epoch_switch>(now);
        client_.flush();
        plane_.pass_rounds(4); // the old epoch's last packets have come round
        client_.send<api::message_type::epoch_retire>(before);
        ++epoch_;
    }

    ~traffic() {
        plane_.traffic(false);
        std::vector<api::flow_ref> flows;
        for (unsigned pair = 0; pair < traffic_pairs; ++pair)
            flows.insert(flows.end(), {{clear(pair)}, {sealed(pair)}});
        client_.send<api::message_type::flow_remove>(flows);
        client_.flush();
    }
    traffic(const traffic&) = delete;
    traffic& operator=(const traffic&) = delete;

private:
    static api::flow_id clear(unsigned pair) {
        return api::make_flow_id(0, static_cast<std::uint16_t>(clear_port + pair));
    }
    static api::flow_id sealed(unsigned pair) {
        return api::make_flow_id(0, static_cast<std::uint16_t>(sealed_port + pair));
    }
    void install(std::uint32_t epoch) {
        std::vector<api::epoch_key> keys;
        for (unsigned pair = 0; pair < traffic_pairs; ++pair) {
            keys.push_back(key_of(suite_, sealed(pair), api::side::in, epoch));
            keys.push_back(keys.back());
            keys.back().id = clear(pair);
            keys.back().side = api::side::out;
        }
        client_.send<api::message_type::epoch_install>(keys);
    }

    rig& plane_;
    client& client_;
    api::suite suite_;
    std::uint32_t epoch_ = 0;
};

// What is done to flows [from, to).
class batches {
public:
    batches(client& to, api::suite suite) : client_(to), suite_(suite) {}

    void add(std::uint32_t from, std::uint32_t to) {
        flows_.clear();
        for (std::uint32_t n = from; n < to; ++n)
            flows_.push_back(flow_of(suite_, n));
        client_.send<api::message_type::flow_add>(flows_);
        install(from, to, 0);
    }
    void rekey(std::uint32_t from, std::uint32_t to, std::uint32_t epoch) {
        install(from, to, epoch);
        now_.clear();
        before_.clear();
        for (std::uint32_t n = from; n < to; ++n) {
            if (n % 2 != 0)
                now_.push_back({id_of(n), epoch, api::side::out, {}});
            before_.push_back({id_of(n), epoch - 1, side_of(n), {}});
        }
        client_.send<api::message_type::epoch_switch>(now_);
        client_.send<api::message_type::epoch_retire>(before_);
    }
    // Every phone has moved to another port.
    void update(std::uint32_t from, std::uint32_t to, std::uint32_t round) {
        updates_.clear();
        for (std::uint32_t n = from; n < to; ++n) {
            const api::flow_config c = flow_of(suite_, n);
            api::flow_update u{};
            u.id = c.id;
            u.mask = api::update_remote;
            u.route = c.route;
            u.route.rtp_remote.port = u.route.rtcp_remote.port = static_cast<std::uint16_t>(30'000 + round % 1000);
            updates_.push_back(u);
        }
        client_.send<api::message_type::flow_update>(updates_);
    }
    // A re-offer of every call: both its flows are replaced at once, with their state. `from` is even.
    void replace(std::uint32_t from, std::uint32_t to) {
        replacements_.clear();
        for (std::uint32_t n = from; n < to; ++n) {
            api::flow_replacement r{};
            r.config = flow_of(suite_, n);
            r.config.route.rtp_remote.port = r.config.route.rtcp_remote.port = 0; // stays
            r.in_from[0] = r.out_from[0] = r.config.id;
            r.group = n / 2;
            replacements_.push_back(r);
        }
        client_.send<api::message_type::flow_replace>(replacements_);
    }
    void remove(std::uint32_t from, std::uint32_t to) {
        ids_.clear();
        for (std::uint32_t n = from; n < to; ++n)
            ids_.push_back({id_of(n)});
        client_.send<api::message_type::flow_remove>(ids_);
    }

private:
    static api::side side_of(std::uint32_t n) { return n % 2 == 0 ? api::side::in : api::side::out; }
    void install(std::uint32_t from, std::uint32_t to, std::uint32_t epoch) {
        keys_.clear();
        for (std::uint32_t n = from; n < to; ++n)
            keys_.push_back(key_of(suite_, id_of(n), side_of(n), epoch));
        client_.send<api::message_type::epoch_install>(keys_);
    }

    client& client_;
    api::suite suite_;
    std::vector<api::flow_config> flows_;
    std::vector<api::epoch_key> keys_;
    std::vector<api::epoch_ref> now_, before_;
    std::vector<api::flow_update> updates_;
    std::vector<api::flow_replacement> replacements_;
    std::vector<api::flow_ref> ids_;
};

class bench {
public:
    explicit bench(const options& how)
        : how_(how), plane_(*std::max_element(how.flows.begin(), how.flows.end()), how.packets_per_second),
          client_(plane_.socket_path()) {}

    int run() {
        for (const auto& name : how_.suites)
            for (const std::uint32_t flows : how_.flows)
                measure(api::find_suite(std::string_view(name))->id, flows);
        row("-", how_.flows.back(), static_cast<double>(flow::memory::bytes_per_flow()), "B",
            "state memory per flow, keys included");
        if (!how_.json_path.empty())
            std::ofstream(how_.json_path) << json{{"rows", rows_}}.dump(1) << "\n";
        return lost_ == 0 ? 0 : 1;
    }

private:
    void measure(api::suite suite, std::uint32_t flows) {
        const std::string name(api::info(suite).name);
        traffic load(plane_, client_, suite);
        batches change(client_, suite);
        begin();
        std::this_thread::sleep_for(quiet_time);
        end(name, flows, "quiet");

        const std::uint32_t rounds = std::max(1U, (how_.quick ? at_least / 4 : at_least) / flows);
        clock::duration adding{}, removing{};
        begin();
        for (std::uint32_t round = 0; round < rounds; ++round) {
            adding += timed(flows, [&](auto from, auto to) { change.add(from, to); });
            if (round + 1 < rounds)
                removing += timed(flows, [&](auto from, auto to) { change.remove(from, to); });
        }
        end(name, flows, "adding");
        rate(name, flows, rounds, adding, "added, with a key each");

        begin();
        clock::duration rekeying{};
        unsigned turn = 0;
        for (std::uint32_t round = 1; round <= rounds; ++round)
            rekeying += timed(flows, [&](auto from, auto to) {
                change.rekey(from, to, round);
                if (turn++ % 16 == 0)
                    load.rekey();
            });
        end(name, flows, "re-keying");
        rate(name, flows, rounds, rekeying, "re-keyed: installed, switched, retired");

        begin();
        clock::duration updating{};
        for (std::uint32_t round = 0; round < rounds; ++round)
            updating += timed(flows, [&](auto from, auto to) { change.update(from, to, round); });
        end(name, flows, "updating");
        rate(name, flows, rounds, updating, "updated: where they send to");

        begin();
        clock::duration replacing{};
        for (std::uint32_t round = 0; round < rounds; ++round)
            replacing += timed(flows, [&](auto from, auto to) { change.replace(from, to); });
        end(name, flows, "replacing");
        rate(name, flows, rounds, replacing, "replaced: calls of two flows, with their state");

        begin();
        removing += timed(flows, [&](auto from, auto to) { change.remove(from, to); });
        end(name, flows, "removing");
        rate(name, flows, rounds, removing, "removed");
    }

    template <class Change>
    clock::duration timed(std::uint32_t flows, Change&& change) {
        const auto start = clock::now();
        for (std::uint32_t from = 0; from < flows; from += chunk)
            change(from, std::min<std::uint32_t>(from + chunk, flows));
        client_.flush();
        return clock::now() - start;
    }

    void begin() {
        plane_.reset();
        before_ = plane_.look();
        begun_ = clock::now();
    }

    // What the worker noticed since begin(), and whether every packet sent until now has come back.
    void end(const std::string& suite, std::uint32_t flows, const char* what) {
        const double seconds = std::chrono::duration<double>(clock::now() - begun_).count();
        const observed o = plane_.look();
        plane_.traffic(false);
        const observed after = plane_.look();
        plane_.traffic(true);
        const std::uint64_t missing = after.sent - after.received;
        row(suite, flows, o.longest_own_gap_us, "us", fmt::format("longest worker gap, {}", what));
        row(suite, flows, o.longest_gap_us, "us", fmt::format("longest worker gap, {}, pre-emption included", what));
        row(suite, flows, static_cast<double>(o.own_gaps_over_50us) / seconds, "per_s",
            fmt::format("worker gaps over 50 us, {}", what));
        if (o.longest_command_us > 0) {
            row(suite, flows, o.longest_command_us, "us", fmt::format("longest command in the worker, {}", what));
            row(suite, flows, o.most_commands_us, "us", fmt::format("commands in the worker, {}", what));
            rows_.back()["percentile"] = 99.9;
        }
        const auto sent = static_cast<double>(std::max<std::uint64_t>(after.sent - before_.sent, 1));
        row(suite, flows, static_cast<double>(missing - lost_) / sent, "share", fmt::format("packets lost, {}", what));
        fmt::print("{:>82} {} of {} packets missing, {} dropped under a name; pre-empted {} times\n", "",
                   missing - lost_, after.sent - before_.sent, plane_.drops(), o.preempted);
        lost_ = missing;
    }

    void rate(const std::string& suite, std::uint32_t flows, std::uint32_t rounds, clock::duration took,
              const char* what) {
        const double seconds = std::chrono::duration<double>(took).count();
        row(suite, flows, static_cast<double>(flows) * rounds / seconds, "per_s", what);
    }

    void row(const std::string& suite, std::uint32_t flows, double value, const char* unit, const std::string& note) {
        rows_.push_back({{"bench", "setup"},
                         {"engine", "tandem"},
                         {"suite", suite},
                         {"direction", "-"},
                         {"payload", 160},
                         {"flows", flows},
                         {"value", value},
                         {"unit", unit},
                         {"offered", how_.packets_per_second},
                         {"note", note}});
        fmt::print("{:<26} {:>9} flows  {:>12.1f} {:<8} {}\n", suite, flows, value, unit, note);
        std::fflush(stdout);
    }

    options how_;
    rig plane_;
    client client_;
    json rows_ = json::array();
    std::uint64_t lost_ = 0; // packets that never came back, until now
    observed before_;
    clock::time_point begun_;
};

} // namespace
} // namespace tandem::bench::setup

int main(int argc, char** argv) {
    using namespace tandem::bench::setup;
    options how;
    CLI::App cli{"Flows added, re-keyed and removed over the contract while a worker forwards", "setup_bench"};
    cli.add_option("--json", how.json_path, "write the rows here");
    cli.add_flag("--quick", how.quick, "at most 100,000 flows, one suite");
    cli.add_option("--rate", how.packets_per_second, "packets a second beside it")->capture_default_str();
    cli.add_option("--flows", how.flows, "numbers of flows");
    cli.add_option("--suite", how.suites, "suites, by their names");
    CLI11_PARSE(cli, argc, argv);
    if (how.flows.empty())
        how.flows = how.quick ? std::vector<std::uint32_t>{1000, 20'000, 100'000}
                              : std::vector<std::uint32_t>{1000, 20'000, 1'000'000};
    if (how.suites.empty())
        how.suites = how.quick ? std::vector<std::string>{"AEAD_AES_128_GCM"}
                               : std::vector<std::string>{"AEAD_AES_128_GCM", "AES_CM_128_HMAC_SHA1_80"};
    spdlog::set_level(spdlog::level::warn);
    try {
        return bench(how).run();
    } catch (const std::exception& wrong) {
        fmt::print(stderr, "setup_bench: {}\n", wrong.what());
        return 1;
    }
}
