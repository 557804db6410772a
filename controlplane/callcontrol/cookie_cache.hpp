// SPDX-License-Identifier: Apache-2.0
// Replies kept for retransmissions: the same cookie from the same address within the lifetime gets the same bytes
// again, and nothing while its first request is still being worked on. Bounded in number and in bytes; every step
// costs the same however many there are, whoever sends them. Replies may hold SDES keys: wiped when forgotten. Pure.
#pragma once

#include <chrono>
#include <list>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>

#include "controlplane/callcontrol/sdp_crypto.hpp"

namespace tandem::callcontrol {

class cookie_cache {
public:
    using clock = std::chrono::steady_clock;
    // The oldest goes first where there are more.
    static constexpr std::size_t most = 65'536;
    static constexpr std::size_t most_bytes = 64 << 20;

    explicit cookie_cache(clock::duration lifetime) : lifetime_(lifetime) {}
    cookie_cache(const cookie_cache&) = delete;
    cookie_cache& operator=(const cookie_cache&) = delete;
    ~cookie_cache() {
        for (auto& one : order_)
            sdp::wipe(one.reply);
    }

    enum class found { fresh, working, done };
    struct lookup {
        found what;
        const std::string* reply; // where done
    };

    // A fresh one is now being worked on.
    lookup begin(const std::string& key, clock::time_point now) {
        while (!order_.empty() && (order_.front().until <= now || order_.size() >= most || bytes_ > most_bytes))
            forget(order_.begin());
        if (const auto known = by_key_.find(key); known != by_key_.end()) {
            const auto& reply = known->second->reply;
            return reply.empty() ? lookup{found::working, nullptr} : lookup{found::done, &reply};
        }
        order_.push_back({now + lifetime_, key, {}, by_call_.end()});
        by_key_.emplace(order_.back().key, std::prev(order_.end()));
        return {found::fresh, nullptr};
    }

    void finish(const std::string& key, std::string reply) {
        if (const auto known = by_key_.find(key); known != by_key_.end()) {
            bytes_ += reply.size();
            known->second->reply = std::move(reply);
        } else {
            sdp::wipe(reply);
        }
    }

    // Answered, and cheap to answer again: not kept.
    void finish_without_reply(const std::string& key) {
        if (const auto known = by_key_.find(key); known != by_key_.end())
            forget(known->second);
    }

    // The call that the request is about, so that its replies can go with it.
    void belongs(const std::string& key, const std::string& call_id) {
        const auto known = by_key_.find(key);
        if (!call_id.empty() && known != by_key_.end() && known->second->call == by_call_.end())
            known->second->call = by_call_.emplace(call_id, known->second);
    }

    // The call is over: its replies (SDES keys) are wiped now, not at the end of their lifetime. A retransmission that
    // still comes gets nothing, and is not worked on again.
    void forget_call(const std::string& call_id) {
        const auto [first, last] = by_call_.equal_range(call_id);
        for (auto at = first; at != last; ++at) {
            wipe(*at->second);
            at->second->call = by_call_.end();
        }
        by_call_.erase(first, last);
    }

    [[nodiscard]] std::size_t size() const noexcept { return order_.size(); }
    [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

private:
    struct entry;
    using place = std::list<entry>::iterator;
    using calls = std::multimap<std::string, place>;
    struct entry {
        clock::time_point until;
        std::string key;
        std::string reply; // empty = being worked on
        calls::iterator call;
    };

    void wipe(entry& one) noexcept {
        bytes_ -= one.reply.size();
        sdp::wipe(one.reply);
    }
    void forget(place at) {
        wipe(*at);
        if (at->call != by_call_.end())
            by_call_.erase(at->call);
        by_key_.erase(at->key);
        order_.erase(at);
    }

    clock::duration lifetime_;
    std::list<entry> order_; // oldest first
    std::unordered_map<std::string_view, place> by_key_;
    calls by_call_;
    std::size_t bytes_ = 0; // of replies
};

} // namespace tandem::callcontrol
