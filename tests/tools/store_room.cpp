// SPDX-License-Identifier: Apache-2.0
// Drives the store through calls without end, as call control and media do, and says on standard output what was
// acknowledged to them; tests/system/records_kill.py kills it at any point and checks what the next one finds.
//
//   store_room DIRECTORY run SEED [direct]    until it is killed; "direct": without the log in front of SQLite
//   store_room DIRECTORY look                 opens, says what goes on, closes
//
// Words: "open TOKEN", "over TOKEN" (found: goes on; ended and waits for its media), "ready"; then "put TOKEN
// MEDIA...", "ended TOKEN", "done TOKEN": all of it is recorded.
// Each is written after flush(), as the answer to the SIP proxy is.
#include <algorithm>
#include <asio/io_context.hpp>
#include <cstdio>
#include <map>
#include <random>
#include <string>
#include <unistd.h>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include "controlplane/store/local/database.hpp"

namespace tandem {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;
using std::chrono::system_clock;

void say(const std::string& words) { // one write: whole or not at all
    const auto line = words + "\n";
    if (::write(STDOUT_FILENO, line.data(), line.size()) < 0)
        std::exit(1);
}

struct call {
    std::string token, call_id, caller, callee;
    std::vector<media::media_id> media{}; // not recorded yet
    system_clock::time_point started{}, answered{};
    bool put = false, ended = false;
    bool found =
        false; // of an earlier life: perhaps never put, and then a call of the same Call-ID takes its media over
    std::int64_t ms = 0; // how long it is to have lasted; below 0: never answered

    [[nodiscard]] std::string body() const {
        return json{{"token", token},
                    {"caller", caller},
                    {"callee", callee},
                    {"ms", ms},
                    {"started", started.time_since_epoch().count()}}
            .dump();
    }
};

class room {
public:
    room(store::database& db, unsigned seed) : db_(db), random_(seed), seed_(seed) { find(); }

    void step() {
        if (calls_.size() < 30 && chance(3))
            offer();
        else if (!calls_.empty())
            go_on(static_cast<std::size_t>(random_() % calls_.size()));
    }

private:
    bool chance(unsigned one_of) { return random_() % one_of == 0; }

    // What an earlier process left: calls that go on, media of calls that ended.
    void find() {
        std::map<std::string, call> known;
        for (const auto& [id, text] : db_.calls().load_all()) {
            const auto body = json::parse(text);
            call c{body.at("token"), id, body.at("caller"), body.at("callee")};
            c.ms = body.at("ms");
            c.started = system_clock::time_point(system_clock::duration(body.at("started").get<std::int64_t>()));
            c.put = true;
            say("open " + c.token);
            known.emplace(c.token, std::move(c));
        }
        for (const auto& row : db_.media().load()) {
            next_media_ = std::max(next_media_, row.id + 1);
            auto& c = known[row.decided_by];
            if (c.token.empty()) { // ended, or never put
                c = {row.decided_by, row.call_id, row.caller, row.callee};
                c.ended = c.found = true;
                say("over " + c.token);
            }
            c.media.push_back(row.id);
            c.answered = std::max(c.answered, row.answered.wall);
        }
        for (auto& [token, c] : known)
            calls_.push_back(std::move(c));
    }

    media::media_row row_of(const call& c, media::media_id id, std::uint32_t index) const {
        media::media_row row;
        row.id = id;
        row.call_id = c.call_id;
        row.index = index;
        row.caller = c.caller;
        row.callee = c.callee;
        row.decided_by = c.token;
        row.answered.wall = c.answered;
        row.legs[0].outer = row.legs[1].outer = asio::ip::make_address("192.0.2.1");
        return row;
    }

    void offer() {
        call c;
        c.token = fmt::format("t{}-{}", seed_, ++made_);
        // The Call-ID of a call whose media are not over yet comes again.
        const auto old = std::ranges::find_if(calls_, [](const call& x) { return x.ended && !x.found; });
        const bool again = old != calls_.end() && chance(2) && std::ranges::none_of(calls_, [&](const call& x) {
                               return !x.ended && x.call_id == old->call_id;
                           });
        c.call_id = again ? old->call_id : c.token + "@x";
        c.caller = fmt::format("+4670{}", 100 + random_() % 6);
        c.callee = fmt::format("+4673{}", 100 + random_() % 6);
        c.started = system_clock::now();
        c.ms = chance(4) ? -1 : static_cast<std::int64_t>(random_() % 900'000);
        for (std::uint32_t i = 0; i < random_() % 3; ++i) {
            c.media.push_back(next_media_++);
            db_.media().put(row_of(c, c.media.back(), i));
        }
        db_.calls().put(c.call_id, c.body());
        c.put = true;
        db_.calls().flush();
        say(fmt::format("put {} {}", c.token, fmt::join(c.media, " ")));
        calls_.push_back(std::move(c));
    }

    void record(call& c, std::size_t which, system_clock::time_point ended) {
        media::media_record over;
        over.id = c.media[which];
        over.call_id = c.call_id;
        over.caller = c.caller;
        over.callee = c.callee;
        over.decided_by = c.token;
        over.cause = "over";
        over.opened.wall = c.started;
        over.answered.wall = c.answered;
        over.ended.wall = ended;
        over.legs[0].packets = over.id;
        c.media.erase(c.media.begin() + static_cast<std::ptrdiff_t>(which));
        db_.media().record(over);
    }

    void go_on(std::size_t at) {
        auto& c = calls_[at];
        const auto now = system_clock::now();
        if (c.ended) {
            if (!c.media.empty())
                record(c, random_() % c.media.size(), now);
            if (c.media.empty()) {
                db_.calls().flush();
                say("done " + c.token);
                calls_.erase(calls_.begin() + static_cast<std::ptrdiff_t>(at));
            }
        } else if (c.ms >= 0 && c.answered.time_since_epoch().count() == 0) {
            c.answered = now;
            for (std::uint32_t i = 0; i < c.media.size(); ++i)
                db_.media().put(row_of(c, c.media[i], i));
            db_.calls().put(c.call_id, c.body());
        } else if (c.media.size() > 1 && chance(3)) {
            record(c, 0, now); // a line goes while the call goes on
        } else {
            end(c, now);
        }
    }

    void end(call& c, system_clock::time_point now) {
        const auto ended = c.ms >= 0 ? now + milliseconds(c.ms) : now;
        db_.calls().end({c.call_id, c.caller, c.callee, c.token, {c.started}, {ended}});
        c.ended = true;
        db_.calls().flush();
        say("ended " + c.token);
    }

    store::database& db_;
    std::mt19937 random_;
    unsigned seed_;
    std::uint32_t made_ = 0;
    media::media_id next_media_ = 1;
    std::vector<call> calls_;
};

int run(const std::string& directory, const std::string& verb, unsigned seed, bool direct) {
    auto keys = identity::sealer::open(directory + "/master.key");
    if (!keys)
        return 1;
    auto db = store::database::open(directory + "/r.db", std::move(*keys));
    if (!db) {
        fmt::print(stderr, "{}\n", db.error());
        return 1;
    }
    asio::io_context io;
    if (!direct)
        (*db)->start(io);
    room rooms(**db, seed);
    say("ready");
    while (verb == "run") {
        for (int i = 0; i < 3; ++i)
            rooms.step();
        if ((*db)->failures() != 0)
            return 1;
        if (!direct)
            io.poll();
    }
    (*db)->stop();
    return 0;
}

} // namespace
} // namespace tandem

int main(int argc, char** argv) {
    if (argc < 3)
        return 2;
    spdlog::set_default_logger(std::make_shared<spdlog::logger>("", std::make_shared<spdlog::sinks::stderr_sink_st>()));
    spdlog::set_level(spdlog::level::err);
    const auto seed = argc > 3 ? static_cast<unsigned>(std::stoul(argv[3])) : 0U;
    return tandem::run(argv[1], argv[2], seed, argc > 4 && std::string_view(argv[4]) == "direct");
}
