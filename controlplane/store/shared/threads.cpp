// SPDX-License-Identifier: Apache-2.0
// Loops of the watcher and of the worker. Both begin anew for ever, with pauses that grow; neither ever waits without a
// time-out and an eye on the end of the program.
#include "controlplane/store/shared/threads.hpp"

#include <algorithm>
#include <chrono>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <pthread.h>
#include <set>
#include <signal.h>

#include "controlplane/store/shared/schema.hpp"

namespace tandem::store {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

namespace {

constexpr milliseconds connect_limit = 2s, first_pause = 200ms, longest_pause = 2s, unwelcome_pause = 5s;
constexpr milliseconds loading_patience = 15s;  // another gateway may be making the tables
constexpr milliseconds working_patience = 100s; // the watcher ends it sooner; the server itself after statement_timeout
constexpr std::size_t log_rows = 10'000;
constexpr std::uint64_t log_rows_worth_reading = 200'000; // more: everything is loaded anew

// A commit is durable whatever the server's default is; a gateway that vanishes holds no lock for long.
constexpr const char* manners =
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'; "
    "SET statement_timeout = '90s'; SET lock_timeout = '20s'; SET idle_in_transaction_session_timeout = '60s'";

} // namespace

pg_threads::pg_threads(asio::io_context& io, postgres_options options) : options_(std::move(options)), io_(&io) {}

void pg_threads::start(std::weak_ptr<pg_ears> ears) {
    ears_ = std::move(ears);
    running_ = 2;
    for (const auto body : {&pg_threads::watch, &pg_threads::work})
        threads_.emplace_back([self = shared_from_this(), body] { self->run(body); });
}

void pg_threads::run(void (pg_threads::*body)()) {
    sigset_t all; // signals are the main thread's
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
    (this->*body)();
    const std::lock_guard lock(queue_lock_);
    --running_;
    ended_.notify_all();
}

void pg_threads::stop() {
    {
        const std::lock_guard lock(gate_);
        io_ = nullptr;
    }
    ends_.stop();
    std::unique_lock lock(queue_lock_);
    queue_ready_.notify_all();
    const bool over = ended_.wait_for(lock, 1s, [this] { return running_ == 0; });
    lock.unlock();
    for (auto& thread : threads_) {
        if (over)
            thread.join();
        else
            thread.detach(); // libpq asks name servers without a time-out of ours
    }
    threads_.clear();
}

void pg_threads::queue(pg_job job) {
    const std::lock_guard lock(queue_lock_);
    queue_.push_back(std::move(job));
    queue_ready_.notify_one();
}

void pg_threads::open(pg_link& link) {
    link.patience(connect_limit);
    link.connect(options_.conninfo, fmt::format("tandem {}", options_.instance), connect_limit, ends_.first_host);
    link.script(manners);
}

// -- the watcher --------------------------------------------------------------------

void pg_threads::watch() {
    pg_link link(ends_, false);
    auto pause = first_pause;
    try {
        for (;;) {
            std::string trouble;
            try {
                open(link);
                link.patience(loading_patience);
                migrate(link);
                link.run("LISTEN tandem_rule");
                link.run("LISTEN tandem_profile");
                load(link);
                ++ends_.life;
                ends_.away = false;
                tell([](pg_ears& to) { to.connection({}); });
                pause = first_pause;
                follow(link);
            } catch (const pg_error& error) {
                trouble = error.what();
            } catch (const schema_refused& refused) {
                trouble = refused.sentence;
                pause = unwelcome_pause;
            }
            link.close();
            ends_.away = true;
            ++ends_.first_host; // another one of several is asked first next time
            tell([trouble](pg_ears& to) { to.connection(trouble); });
            ends_.sleep(pause);
            pause = std::min(pause * 2, std::max(longest_pause, pause));
        }
    } catch (const pg_stopped&) { // the program ends
    }
}

// Everything, or what changed since the last connection to the same database. Profiles have no log: all of them.
void pg_threads::load(pg_link& link) {
    bool whole = !loaded_ || identity_of(link) != identity_;
    if (!whole) {
        const auto now = last_rule_number(link);
        whole = now < number_ || now - number_ > log_rows_worth_reading;
    }
    auto all = load_all(link, whole);
    if (whole) {
        number_ = all.number;
        identity_ = all.identity;
        loaded_ = true;
    }
    const auto all_number = number_;
    tell([all = std::move(all), whole, all_number](pg_ears& to) mutable {
        all.number = all_number;
        to.loaded(std::move(all), whole);
    });
    if (!whole)
        read_rules(link);
}

void pg_threads::read_rules(pg_link& link) {
    for (;;) {
        auto news = rules_since(link, number_, log_rows);
        if (news.edits.empty())
            return;
        number_ = news.number;
        const bool more = news.edits.size() == log_rows;
        tell([news = std::move(news)](pg_ears& to) mutable { to.heard_rules(std::move(news)); });
        if (!more)
            return;
    }
}

void pg_threads::follow(pg_link& link) {
    auto beat = pg_link::clock::now();
    for (;;) {
        if (pg_link::clock::now() >= beat) {
            link.patience(options_.patience);
            link.run("SELECT 1");
            beat = pg_link::clock::now() + options_.heartbeat;
        }
        const auto left = std::chrono::ceil<milliseconds>(beat - pg_link::clock::now());
        if (const auto heard = link.listen(std::max(left, 1ms)); !heard.empty())
            hear(link, heard);
    }
}

void pg_threads::hear(pg_link& link, const std::vector<notification>& heard) {
    link.patience(loading_patience);
    bool rules = false, all_profiles = false;
    std::set<std::pair<std::string, std::string>> pairs;
    for (const auto& one : heard) {
        if (one.channel == "tandem_rule") {
            rules = true;
            continue;
        }
        const auto names = nlohmann::json::parse(one.payload, nullptr, false);
        if (names.is_array() && names.size() == 2 && names[0].is_string() && names[1].is_string())
            pairs.emplace(names[0], names[1]);
        else
            all_profiles = true;
    }
    if (rules && last_rule_number(link) - number_ > log_rows_worth_reading) {
        identity_.clear(); // load everything
        load(link);
    } else if (rules) {
        read_rules(link);
    }
    if (all_profiles)
        tell([all = load_all(link, false)](pg_ears& to) mutable { to.loaded(std::move(all), false); });
    else if (!pairs.empty())
        tell([found = profiles_of(link, {pairs.begin(), pairs.end()})](pg_ears& to) mutable {
            to.heard_profiles(std::move(found));
        });
}

// -- the worker ---------------------------------------------------------------------

std::optional<pg_job> pg_threads::next() {
    std::unique_lock lock(queue_lock_);
    queue_ready_.wait(lock, [this] { return ends_.stopping() || !queue_.empty(); });
    if (ends_.stopping())
        return std::nullopt;
    auto job = std::move(queue_.front());
    queue_.pop_front();
    return job;
}

void pg_threads::serve(pg_link& link, std::uint64_t& life, const pg_job& job) {
    for (int attempt = 0;; ++attempt) {
        const bool fresh = !link.open() || life != ends_.life;
        try {
            if (ends_.away)
                throw pg_error("the server does not answer");
            if (fresh) {
                life = ends_.life;
                link.close();
                open(link);
            }
            link.patience(working_patience);
            job.work(link);
            return;
        } catch (const pg_error& error) {
            if (error.lost())
                link.close();
            // An old connection may have been ended while it was idle; the jobs do no harm when they are done twice.
            const bool again = error.lost() || error.state == "40P01" || error.state == "40001";
            if (again && attempt == 0 && !ends_.away)
                continue;
            job.failed(error.lost() ? std::string(error.what()) : fmt::format("PostgreSQL refuses: {}", error.what()));
            return;
        }
    }
}

void pg_threads::work() {
    pg_link link(ends_, true);
    std::uint64_t life = 0;
    try {
        while (const auto job = next()) {
            if (job->given_up == nullptr || !*job->given_up)
                serve(link, life, *job);
        }
    } catch (const pg_stopped&) { // the program ends
    }
}

} // namespace tandem::store
