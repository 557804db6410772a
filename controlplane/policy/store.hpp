// SPDX-License-Identifier: Apache-2.0
// Where the security database and the call profiles live; store/ implements it (SQLite | PostgreSQL). Decisions never
// ask it: it tells a listener everything once and each change afterwards, by whomever it was made, and the listener
// (engine.hpp) answers from memory. Everything is called on the control plane's io_context.
#pragma once

#include <asio/awaitable.hpp>
#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <tl/expected.hpp>

#include "controlplane/policy/rule.hpp"
#include "controlplane/protocol/profile.hpp"

namespace tandem::policy {

class store {
public:
    struct listener {
        virtual ~listener() = default;
        virtual void rules_replaced(std::vector<rule> all) = 0; // the first time, and after a store came back
        virtual void rules_changed(std::span<const rule_edit> edits) = 0;
        virtual void profiles_replaced(std::vector<protocol::profile> all) = 0;
        virtual void profile_changed(const protocol::profile& one) = 0;
        // Empty: the store is well again. What was told before stays in force meanwhile.
        virtual void store_trouble(const std::string& sentence) = 0;
    };

    virtual ~store() = default;
    // Reads everything and goes on telling. Once.
    virtual void start(listener& to) = 0;
    virtual void stop() = 0;

    // All of them or none; durable when it returns, and the listener has heard of it. The error is a sentence.
    [[nodiscard]] virtual asio::awaitable<tl::expected<std::size_t, std::string>> apply(std::vector<rule_edit> edits,
                                                                                        std::string who) = 0;
    // Newest `limit` changes, oldest first.
    [[nodiscard]] virtual asio::awaitable<tl::expected<std::vector<rule_change>, std::string>>
    history(std::size_t limit) = 0;
    // Forgets the pair's profile (both empty: all). How many went.
    [[nodiscard]] virtual asio::awaitable<tl::expected<std::size_t, std::string>> forget_profiles(std::string a,
                                                                                                  std::string b) = 0;
};

} // namespace tandem::policy
