// SPDX-License-Identifier: Apache-2.0
// path_bench: TSC cycles per packet of the whole way through a worker, mbuf to mbuf: parse, lookup, policy, replay,
// cryptography, route, headers and checksums, on a ring port. The same worker, flows and packets with Tandem's engine,
// OpenSSL EVP (a context per session), libsrtp2 and none; they take turns batch by batch, so that a noisy neighbour
// hits all. A figure is the median over bursts of 64. See README.md here for how to read it.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <fmt/format.h>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <x86intrin.h>

#include "bench/path/rig.hpp"
#include "dataplane/flow/footprint.hpp"

using namespace tandem;
using namespace tandem::bench;

namespace {

constexpr std::uint32_t million = 1'000'000;
constexpr std::uint32_t libsrtp_max_flows = 1000; // with NSS the set-up of 20,000 sessions takes many minutes
constexpr std::uint64_t libsrtp_budget = 60'000'000;

struct options {
    std::string json;
    bool quick = false;
    bool stages = false;
    std::vector<std::string> suites, directions, engines;
    std::vector<std::uint32_t> payloads, flows;
    unsigned batches = 0;
};

struct report {
    nlohmann::json rows = nlohmann::json::array();
    void add(std::string_view engine, std::string_view suite, std::string_view way, std::size_t payload,
             std::uint32_t flows, double value, const char* unit, const std::string& note = {}) {
        nlohmann::json row{{"bench", "path"},    {"engine", engine}, {"suite", suite}, {"direction", way},
                           {"payload", payload}, {"flows", flows},   {"value", value}, {"unit", unit}};
        if (!note.empty())
            row["note"] = note;
        rows.push_back(std::move(row));
    }
};

double median(std::vector<double>& of) {
    if (of.empty())
        return 0;
    const auto middle = of.begin() + static_cast<std::ptrdiff_t>(of.size() / 2);
    std::nth_element(of.begin(), middle, of.end());
    return *middle;
}

bool wanted(const options& o, contender who) {
    return o.engines.empty() || std::count(o.engines.begin(), o.engines.end(), contender_names[who]) != 0;
}

void print_stages(std::array<rig::samples, contenders>& cycles, const rig::shape& s) {
    static constexpr const char* names[] = {"receive", "lookup", "unprotect", "protect", "send"};
    static_assert(std::size(names) == api::stage_count);
    for (std::size_t stage = 0; stage < api::stage_count; ++stage) {
        std::printf("%48s |", names[stage]);
        for (unsigned who = 0; who < contenders; ++who)
            s.with[who] ? std::printf(" %8.0f", median(cycles[who].stages[stage])) : std::printf(" %8s", "-");
        std::printf("\n");
    }
}

void measure(rig& on, const rig::shape& s, std::size_t payload, const options& o, report& to) {
    std::array<rig::samples, contenders> cycles;
    const unsigned rounds = o.batches != 0 ? o.batches : o.quick ? 20 : 30;
    for (unsigned round = 0; round < rounds; ++round)
        for (unsigned who = 0; who < contenders; ++who)
            if (s.with[who])
                on.run(static_cast<contender>(who), payload, cycles[who],
                       who == libsrtp2 ? libsrtp_budget : ~std::uint64_t{0});
    std::array<double, contenders> value{};
    const auto name = api::info(s.suite).name;
    const auto way = direction_names[static_cast<unsigned>(s.way)];
    std::printf("%-24.*s %-9.*s %5zu %8u |", static_cast<int>(name.size()), name.data(), static_cast<int>(way.size()),
                way.data(), payload, s.flows);
    for (unsigned who = 0; who < contenders; ++who) {
        value[who] = median(cycles[who].all);
        if (cycles[who].all.empty()) { // not asked for, or its budget was used up before a round counted
            std::printf(" %8s", "-");
            continue;
        }
        std::printf(" %8.0f", value[who]);
        to.add(contender_names[who], name, way, payload, s.flows, value[who], "tsc",
               who == libsrtp2 ? libsrtp_backend()
               : who == evp    ? "OpenSSL EVP, a context per session"
                               : "");
    }
    if (value[evp] > 0 && value[tandem_engine] > 0) {
        std::printf(" | %6.1f", value[evp] / value[tandem_engine]);
        to.add("tandem", name, way, payload, s.flows, value[evp] / value[tandem_engine], "ratio",
               "evp / tandem, same path and run");
    }
    std::printf("\n");
    if (o.stages)
        print_stages(cycles, s);
    std::fflush(stdout);
}

template <class T>
bool in(const std::vector<T>& chosen, const T& what) {
    return chosen.empty() || std::count(chosen.begin(), chosen.end(), what) != 0;
}

void run_shape(world& w, rig::shape s, const std::vector<std::uint32_t>& payloads, const options& o, report& to) {
    for (unsigned who = 0; who < contenders; ++who)
        s.with[who] = s.with[who] && wanted(o, static_cast<contender>(who));
    rig on(w, s);
    on.warm(payloads.front());
    for (const std::uint32_t payload : payloads)
        measure(on, s, payload, o, to);
}

// Bytes in use by a flow with one key, and lines that a packet touches (SRTP in, clear out): flow/footprint.hpp.
void footprint(report& to, const std::vector<std::uint32_t>& payloads) {
    constexpr auto table = sizeof(flow::slot_index), hops = sizeof(pipeline::flow_hops),
                   stats = sizeof(api::flow_stats);
    std::printf(
        "\nstate memory: %zu bytes a flow and side keys; beside it %zu of ways, %zu of counters, %zu of port table\n",
        sizeof(flow::flow_block), hops, stats, table);
    for (const auto& row : api::suite_table) {
        if (row.id == api::suite::clear)
            continue;
        const std::size_t bytes = flow::memory::bytes_per_flow(row.id, 1);
        std::printf("%-24.*s %5zu bytes a flow with one key;", static_cast<int>(row.name.size()), row.name.data(),
                    bytes);
        to.add("tandem", row.name, "-", 0, 0, static_cast<double>(bytes), "B", "state memory of a flow with one key");
        for (const std::uint32_t payload : payloads) {
            const unsigned lines = flow::lines_per_packet(row.id, api::suite::clear, payload);
            std::printf(" %u lines at %u B", lines, payload);
            to.add("tandem", row.name, "srtp-rtp", payload, 0, lines * 64.0, "B",
                   fmt::format("{} cache lines of flow and session state a packet", lines));
        }
        std::printf("\n");
    }
}

void run_all(const options& o, report& to) {
    world w = world::make();
    const auto& quick_suites = std::vector<std::string>{"AEAD_AES_128_GCM", "AES_CM_128_HMAC_SHA1_80"};
    const auto suites = !o.suites.empty() ? o.suites : o.quick ? quick_suites : std::vector<std::string>{};
    const auto payloads = !o.payloads.empty() ? o.payloads
                          : o.quick           ? std::vector<std::uint32_t>{33, 160}
                                              : std::vector<std::uint32_t>{33, 60, 160, 1200};
    const auto counts = !o.flows.empty() ? o.flows
                        : o.quick        ? std::vector<std::uint32_t>{1, 1000, 20'000}
                                         : std::vector<std::uint32_t>{1, 1000, 20'000, million};
    std::printf("%-24s %-9s %5s %8s | %8s %8s %8s %8s | %s\n", "suite", "direction", "bytes", "flows", "none", "tandem",
                "evp", "libsrtp2", "evp/tandem");
    for (const auto& row : api::suite_table) {
        if (row.id == api::suite::clear || !in(suites, std::string(row.name)))
            continue;
        for (unsigned way = 0; way < direction_names.size(); ++way) {
            if (!in(o.directions, std::string(direction_names[way])) || (o.quick && way == 2 && o.directions.empty()))
                continue;
            for (const std::uint32_t flows : counts)
                run_shape(w,
                          {row.id,
                           static_cast<direction>(way),
                           flows,
                           {true, true, !o.quick || flows < million, flows <= libsrtp_max_flows}},
                          payloads, o, to);
        }
    }
    if (o.quick && o.flows.empty() && o.suites.empty()) // a million of each, without the peers' contexts
        for (const auto suite : {api::suite::aead_aes_128_gcm, api::suite::aes_cm_128_hmac_sha1_80})
            run_shape(w, {suite, direction::srtp_rtp, million, {true, true, false, false}}, {160}, o, to);
    footprint(to, payloads);
}

} // namespace

int main(int argc, char** argv) {
    options o;
    CLI::App app{
        "TSC cycles per packet through a worker, mbuf to mbuf, beside OpenSSL EVP, libsrtp2 and no cryptography"};
    app.add_option("--json", o.json, "write the rows there");
    app.add_flag("--quick", o.quick, "two suites, two sizes, fewer batches");
    app.add_flag("--stages", o.stages, "print the stages of each figure, too");
    app.add_option("--suite", o.suites, "only these (names as in suites.def)")->delimiter(',');
    app.add_option("--direction", o.directions, "only these: srtp-rtp, rtp-srtp, srtp-srtp")->delimiter(',');
    app.add_option("--engine", o.engines, "only these: none, tandem, evp, libsrtp2")->delimiter(',');
    app.add_option("--payload", o.payloads, "only these sizes in bytes (12 to 1400)")
        ->delimiter(',')
        ->check(CLI::Range(12, 1400));
    app.add_option("--flows", o.flows, "only these numbers of flows")
        ->delimiter(',')
        ->check(CLI::Range(1u, 3'000'000u));
    app.add_option("--batches", o.batches, "batches of 4,032 packets per figure");
    CLI11_PARSE(app, argc, argv);
    report to;
    run_all(o, to);
    if (!o.json.empty())
        std::ofstream(o.json) << nlohmann::json{{"rows", to.rows}}.dump(1) << '\n';
    return 0;
}
