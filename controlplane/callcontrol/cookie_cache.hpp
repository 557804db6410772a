// SPDX-License-Identifier: Apache-2.0
// Replies kept for retransmissions: the same cookie from the same address within the lifetime gets the same bytes
// again, and nothing while its first request is still being worked on. Replies may hold SDES keys: wiped when
// forgotten. Pure.
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

    // The call that the request is about, so that its replies can go with it.
    void belongs(const std::string& key, const std::string& call_id) {
        if (replies_.contains(key) && call_of_.emplace(key, call_id).second)
            by_call_.emplace(call_id, key);
    }

    // The call is over: its replies (SDES keys) are wiped now, not at the end of their lifetime. A retransmission that
    // still comes gets nothing, and is not worked on again.
    void forget_call(const std::string& call_id) {
        const auto [first, last] = by_call_.equal_range(call_id);
        for (auto at = first; at != last; call_of_.erase(at->second), ++at)
            if (const auto reply = replies_.find(at->second); reply != replies_.end()) {
                sdp::wipe(reply->second);
                reply->second.clear();
            }
        by_call_.erase(first, last);
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
        if (const auto call = call_of_.find(order_.front().key); call != call_of_.end()) {
            const auto [first, last] = by_call_.equal_range(call->second);
            for (auto at = first; at != last; ++at)
                if (at->second == call->first) {
                    by_call_.erase(at);
                    break;
                }
            call_of_.erase(call);
        }
        order_.pop_front();
    }

    clock::duration lifetime_;
    std::unordered_map<std::string, std::string> replies_; // empty = being worked on
    std::deque<entry> order_;
    std::unordered_multimap<std::string, std::string> by_call_; // call id -> keys
    std::unordered_map<std::string, std::string> call_of_;      // and back
};

} // namespace tandem::callcontrol
