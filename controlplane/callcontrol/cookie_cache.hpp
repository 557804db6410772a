// SPDX-License-Identifier: Apache-2.0
// Replies kept for retransmissions: the same cookie from the same address within the lifetime gets the same bytes again, and
// nothing while its first request is still being worked on. Replies may hold SDES keys: wiped when forgotten. Pure.
#pragma once

#include <chrono>
#include <deque>
#include <string>
#include <unordered_map>

#include "controlplane/callcontrol/sdp_crypto.hpp"

namespace tandem::callcontrol {

class cookie_cache {
public:
    using clock = std::chrono::steady_clock;
    static constexpr std::size_t most = 65'536; // oldest goes first

    explicit cookie_cache(clock::duration lifetime) : lifetime_(lifetime) {}
    cookie_cache(const cookie_cache&) = delete;
    cookie_cache& operator=(const cookie_cache&) = delete;
    ~cookie_cache() {
        for (auto& [key, reply] : replies_)
            sdp::wipe(reply);
    }

    enum class found { fresh, working, done };
    struct lookup {
        found what;
        const std::string* reply; // where done
    };

    // A fresh one is now being worked on.
    lookup begin(const std::string& key, clock::time_point now) {
        while (!order_.empty() && (order_.front().until <= now || order_.size() >= most))
            forget_oldest();
        const auto [at, fresh] = replies_.try_emplace(key);
        if (fresh) {
            order_.push_back({now + lifetime_, key});
            return {found::fresh, nullptr};
        }
        if (at->second.empty())
            return {found::working, nullptr};
        return {found::done, &at->second};
    }

    void finish(const std::string& key, std::string reply) {
        if (const auto at = replies_.find(key); at != replies_.end())
            at->second = std::move(reply);
        else
            sdp::wipe(reply);
    }

    [[nodiscard]] std::size_t size() const noexcept { return replies_.size(); }

private:
    struct entry {
        clock::time_point until;
        std::string key;
    };

    void forget_oldest() {
        if (const auto at = replies_.find(order_.front().key); at != replies_.end()) {
            sdp::wipe(at->second);
            replies_.erase(at);
        }
        order_.pop_front();
    }

    clock::duration lifetime_;
    std::unordered_map<std::string, std::string> replies_; // empty = being worked on
    std::deque<entry> order_;
};

} // namespace tandem::callcontrol
