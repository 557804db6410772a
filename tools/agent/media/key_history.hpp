// SPDX-License-Identifier: Apache-2.0
// For which keys this process has made SRTP state: none of them ever begins again at index 0, whatever the gateway asks
// and however often (the same key and index twice is the end of AES-GCM). A digest of each, the oldest forgotten when
// there are many. Owner: the agent's thread.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>

#include "controlplane/protocol/secret.hpp"
#include "controlplane/protocol/seed_keys.hpp"

namespace tandem::agent {

class key_history {
public:
    static constexpr std::size_t most = 16384;
    struct use {
        std::uint32_t media = 0, epoch = 0;
        friend bool operator==(const use&, const use&) = default;
    };

    // Where this key was used; nothing where it is new.
    [[nodiscard]] std::optional<use> find(const protocol::secret& key) const {
        const auto found = known_.find(protocol::digest(key.view()));
        return found == known_.end() ? std::nullopt : std::optional(found->second);
    }
    void add(const protocol::secret& key, use where) {
        const auto digest = protocol::digest(key.view());
        if (!known_.emplace(digest, where).second)
            return;
        order_.push_back(digest);
        if (order_.size() > most) {
            known_.erase(order_.front());
            order_.pop_front();
        }
    }

private:
    std::map<protocol::digest_bytes, use> known_;
    std::deque<protocol::digest_bytes> order_;
};

} // namespace tandem::agent
