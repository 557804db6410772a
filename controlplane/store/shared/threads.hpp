// SPDX-License-Identifier: Apache-2.0
// The two threads of the shared store (postgres.hpp). The watcher: one connection that loads, listens, and asks for a
// sign of life; it alone says whether the server is there. The worker: one connection and a queue of jobs, each ended
// as soon as the watcher gives the server up. What they find out goes to `ears` on the io_context. Private to this
// room.
#pragma once

#include <asio/io_context.hpp>
#include <asio/post.hpp>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "controlplane/store/shared/link.hpp"
#include "controlplane/store/shared/postgres.hpp"
#include "controlplane/store/shared/rules.hpp"

namespace tandem::store {

// Called on the io_context.
struct pg_ears {
    virtual ~pg_ears() = default;
    virtual void loaded(everything all, bool with_rules) = 0;
    virtual void heard_rules(rule_news news) = 0;
    virtual void heard_profiles(std::vector<protocol::profile> profiles) = 0;
    virtual void connection(std::string trouble) = 0; // empty: it stands, and everything is loaded
};

struct pg_job {
    std::function<void(pg_link&)> work;                // may be called twice: where the connection broke under it
    std::function<void(const std::string&)> failed;    // with a sentence
    std::shared_ptr<const std::atomic<bool>> given_up; // nobody waits any more
};

class pg_threads : public std::enable_shared_from_this<pg_threads> {
public:
    pg_threads(asio::io_context& io, postgres_options options);
    // What they still work at holds them.
    void start(std::weak_ptr<pg_ears> ears);
    // Returns within a second or so. A thread that hangs in a name server's hands is left to itself.
    void stop();
    void queue(pg_job job);
    // Runs on the io_context, or never where that has ended.
    template <class Work>
    void post(Work&& work) {
        const std::lock_guard lock(gate_);
        if (io_ != nullptr)
            asio::post(*io_, std::forward<Work>(work));
    }
    [[nodiscard]] bool away() const noexcept { return ends_.away; }

private:
    postgres_options options_;
    interrupt ends_;
    std::weak_ptr<pg_ears> ears_;
    std::mutex gate_;
    asio::io_context* io_;
    std::mutex queue_lock_;
    std::condition_variable queue_ready_, ended_;
    std::deque<pg_job> queue_;
    int running_ = 0; // under queue_lock_
    std::vector<std::thread> threads_;
    // The watcher's.
    std::string identity_;
    std::uint64_t number_ = 0;
    bool loaded_ = false;

    template <class Work>
    void tell(Work work) {
        post([ears = ears_, work = std::move(work)]() mutable {
            if (const auto to = ears.lock())
                work(*to);
        });
    }
    void run(void (pg_threads::*body)());
    void open(pg_link& link);
    void watch();
    void load(pg_link& link);
    void follow(pg_link& link);
    void hear(pg_link& link, const std::vector<notification>& heard);
    void read_rules(pg_link& link);
    void work();
    void serve(pg_link& link, std::uint64_t& life, const pg_job& job);
    std::optional<pg_job> next();
};

} // namespace tandem::store
