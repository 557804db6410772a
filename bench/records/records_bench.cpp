// SPDX-License-Identifier: Apache-2.0
// What the local database costs a call: writes of an offer (media and call), of an answer (both again) and of the end
// (ended, then the media's record with which the call's record and the pair's profile are written), one after another
// in one thread, as the control plane does it, with so many calls in progress. Also rules imported. Every figure is of
// durable writes: a killed process has them.
#include <chrono>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/io_context.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "controlplane/store/local/database.hpp"
#include "controlplane/store/local/rule_store.hpp"

namespace tandem::bench {
namespace {

using nlohmann::json;
using wall = std::chrono::steady_clock;

media::media_row media_of(std::uint32_t n, const std::string& call_id, bool answered) {
    media::media_row row;
    row.id = n + 1;
    row.call_id = call_id;
    row.kind = "audio";
    row.caller = fmt::format("+4670{:07}", n % 5000);
    row.callee = fmt::format("+4673{:07}", n % 4999);
    row.level.name = "standard";
    row.decided_by = "security database: caller";
    row.why = {{"security database: caller", "standard", "+4670 is in the database", true},
               {"security database: callee", "", "not listed", false},
               {"call profile: duration", "", "fewer than 3 calls", false},
               {"caller's wish", "", "", false}};
    row.opened = protocol::moment::now();
    row.installed = answered;
    if (answered)
        row.answered = row.opened;
    row.legs[0].kind = media::leg_kind::unit;
    row.legs[0].unit = "alice";
    row.legs[0].tsid = 0x123456789abcdef0 + n;
    row.legs[0].interface = "access";
    row.legs[0].suite = api::suite::aead_aes_128_gcm;
    for (auto& leg : row.legs) {
        leg.outer = asio::ip::make_address("192.0.2.1");
        leg.port = static_cast<std::uint16_t>(20000 + n % 40000);
        leg.local.rtp = {leg.outer, leg.port};
        leg.local.rtcp = {leg.outer, static_cast<std::uint16_t>(leg.port + 1)};
        leg.remote_rtp = media::endpoint{asio::ip::make_address("198.51.100.77"), 30000};
    }
    return row;
}

media::media_record ended_of(const media::media_row& row) {
    media::media_record ended{row, {}, {}, {}};
    ended.cause = "hung up";
    ended.answered = row.opened;
    ended.ended = protocol::moment::now();
    ended.legs[0] = {"unit", "alice", "AEAD_AES_128_GCM", 9000, 1'548'000, 3, 0, 0};
    ended.legs[1] = {"core", "", "clear", 9000, 1'548'000, 0, 0, 0};
    return ended;
}

double processor_seconds() { // of this thread: other programs on the machine do not count
    timespec now{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

struct totals {
    double offer = 0, answer = 0, end = 0, record = 0, later = 0; // processor seconds
    double wall = 0;
};

class run {
public:
    explicit run(const std::string& directory) : path_(directory + "/records_bench.db") {
        remove();
        auto keys = identity::sealer::open(directory + "/records_bench.key");
        if (!keys)
            throw std::runtime_error(keys.error());
        auto made = store::database::open(path_, std::move(*keys));
        if (!made)
            throw std::runtime_error(made.error());
        db_ = std::move(*made);
        db_->start(io_);
    }
    ~run() {
        db_.reset();
        remove();
    }

    // `calls` calls, of which `live` go on at any time.
    totals calls(std::uint32_t calls, std::uint32_t live) {
        totals sum;
        const auto begin = wall::now();
        const std::string body(900, 'b');
        const auto id = [](std::uint32_t n) { return fmt::format("{:08x}-4f3c-11ee@192.0.2.9", n * 2654435761u); };
        for (std::uint32_t n = 0; n < calls + live; ++n) {
            if (n < calls) {
                const auto offered = media_of(n, id(n), false);
                timed(sum.offer, [&] {
                    db_->media().put(offered);
                    db_->calls().put(offered.call_id, body);
                });
                const auto answered = media_of(n, id(n), true);
                timed(sum.answer, [&] {
                    db_->media().put(answered);
                    db_->calls().put(answered.call_id, body);
                });
            }
            if (n >= live) {
                const auto row = media_of(n - live, id(n - live), true);
                const auto ended = ended_of(row);
                timed(sum.end, [&] {
                    db_->calls().end({row.call_id, row.caller, row.callee, "hung up", row.opened, ended.ended});
                });
                timed(sum.record, [&] { db_->media().record(ended); });
            }
            timed(sum.later, [&] { io_.poll(); }); // ends of turns, timers: what was put off
        }
        timed(sum.later, [&] { db_->stop(); });
        sum.wall = std::chrono::duration<double>(wall::now() - begin).count();
        return sum;
    }

    double import(std::size_t rows) {
        struct deaf final : policy::store::listener {
            void rules_replaced(std::vector<policy::rule>) override {}
            void rules_changed(std::span<const policy::rule_edit>) override {}
            void profiles_replaced(std::vector<protocol::profile>) override {}
            void profile_changed(const protocol::profile&) override {}
            void store_trouble(const std::string&) override {}
        } nobody;
        auto store = store::make_rule_store(io_, *db_);
        store->start(nobody);
        std::vector<policy::rule_edit> edits;
        for (std::size_t n = 0; n < rows; ++n)
            edits.push_back({{fmt::format("+4670{:09}", n * 7919 % 1'000'000'000), "high", {}, {}, ""}, false});
        const auto begin = wall::now();
        bool done = false, fine = false;
        asio::co_spawn(
            io_,
            [&]() -> asio::awaitable<void> {
                fine = (co_await store->apply(std::move(edits), "bench")).has_value();
                done = true;
            },
            asio::detached);
        while (!done)
            io_.poll_one();
        store->stop();
        if (!fine)
            throw std::runtime_error("the import was refused");
        return std::chrono::duration<double>(wall::now() - begin).count();
    }

    [[nodiscard]] store::database_counters count() const { return db_->count(); }
    [[nodiscard]] std::string trouble() const { return db_->trouble(); }

private:
    template <class Work>
    void timed(double& into, Work&& work) {
        const auto begin = processor_seconds();
        work();
        db_->calls().flush(); // the answer to the SIP proxy goes out after this
        into += processor_seconds() - begin;
    }
    void remove() const {
        for (const char* end : {"", "-wal", "-shm", "-log", "-changes"}) {
            std::error_code ignored;
            std::filesystem::remove(path_ + end, ignored);
        }
    }
    std::string path_;
    asio::io_context io_;
    std::unique_ptr<store::database> db_;
};

json row_of(const std::string& direction, std::uint32_t flows, double value, const char* unit, const char* note) {
    return {{"bench", "records"},     {"engine", "tandem"}, {"suite", "-"},
            {"direction", direction}, {"payload", 0},       {"flows", flows},
            {"value", value},         {"unit", unit},       {"note", note}};
}

} // namespace
} // namespace tandem::bench

int main(int argc, char** argv) {
    using namespace tandem::bench;
    CLI::App arguments("What the local database costs a call");
    std::string out, directory = ".";
    bool quick = false;
    arguments.add_option("--json", out, "write rows here");
    arguments.add_option("--dir", directory, "where the database lies while it is measured")->capture_default_str();
    arguments.add_flag("--quick", quick, "fewer calls");
    CLI11_PARSE(arguments, argc, argv);
    spdlog::set_level(spdlog::level::warn);
    json rows = json::array();
    try {
        for (const std::uint32_t live : {100U, 10'000U}) {
            const std::uint32_t calls = quick ? live + 5'000 : live + 40'000;
            run one(directory);
            const auto t = one.calls(calls, live);
            if (one.count().records != calls) // nothing below would be true
                throw std::runtime_error(fmt::format("{} calls have {} records, {} waiting, {} lost, {} failures; {}",
                                                     calls, one.count().records, one.count().waiting, one.count().lost,
                                                     one.count().failures, one.trouble()));
            const auto each = [&](const char* what, double seconds, const char* unit, const char* note) {
                rows.push_back(row_of(what, live, calls / seconds, unit, note));
                fmt::print("{:16} {:>7} live {:>10.0f} {:10} {:6.1f} us  {}\n", what, live, calls / seconds, unit,
                           seconds / calls * 1e6, note);
            };
            each("offer", t.offer, "per_s", "media and call put, durable; processor time");
            each("answer", t.answer, "per_s", "media and call put again, durable; processor time");
            each("end", t.end, "per_s", "the call is marked ended, durable; processor time");
            each("record", t.record, "per_s", "media over, record and profile due, durable; processor time");
            each("later", t.later, "per_s", "what was put off of all that; processor time");
            each("call", t.offer + t.answer + t.end + t.record + t.later, "per_s", "all of it; processor time");
            each("call", t.wall, "per_s", "all of it; wall clock, with what the disk makes it wait");
        }
        run one(directory);
        const std::uint32_t size = quick ? 20'000 : 100'000;
        const auto seconds = one.import(size);
        rows.push_back(row_of("rules imported", size, size / seconds, "per_s", "all or none, with the change log"));
        fmt::print("{:16} {:>7} rows {:>10.0f} rules/s\n", "import", size, size / seconds);
    } catch (const std::exception& error) {
        fmt::print(stderr, "records_bench: {}\n", error.what());
        return 1;
    }
    if (!out.empty())
        std::ofstream(out) << json{{"rows", rows}}.dump(1) << "\n";
    return 0;
}
