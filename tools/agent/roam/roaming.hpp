// SPDX-License-Identifier: Apache-2.0
// The choice with its surroundings: what the kernel says of interfaces and signals goes in, moves of the primary come
// out, and why is kept. Without a [[path]] in the configuration it does nothing at all.
// Owner: the agent's thread.
#pragma once

#include <functional>
#include <memory>

#include <nlohmann/json_fwd.hpp>

#include "tools/agent/config.hpp"
#include "tools/agent/device/paths.hpp"
#include "tools/agent/roam/journal.hpp"
#include "tools/agent/roam/signal.hpp"

namespace tandem::agent {

class roaming {
public:
    struct hooks {
        std::function<links()> survey;                                     // the interfaces of now
        std::function<std::optional<ip_bytes>(const std::string&)> source; // source_towards() the gateway
        std::function<bool(const path_place&, move_kind)> move;            // primary::move
    };
    roaming(const agent_config& config, std::unique_ptr<signal_source> signals, hooks hook);

    [[nodiscard]] bool active() const noexcept { return !choice_.classes().empty(); }
    void check(path_time now); // each second
    void links_changed(path_time now);
    // The signal source's fd is readable.
    void signal_news(path_time now);
    void saw_packet(std::span<const std::uint8_t> packet, path_time now);
    void traffic(path_time now) { choice_.traffic(now); } // an application's
    // When to check() next, within a second.
    [[nodiscard]] path_time next_look(path_time now) const;
    // primary::hooks::reached.
    void reached(const path_place& over, bool up, path_time now);

    [[nodiscard]] int signal_fd() const noexcept { return active() && signals_ ? signals_->fd() : -1; }
    [[nodiscard]] const std::string& interface() const noexcept { return choice_.in_use().interface; }
    [[nodiscard]] nlohmann::json describe(path_time now) const;

private:
    [[nodiscard]] std::vector<path_facts> look(path_time now);
    void read_signals(const std::vector<net_link>& all, path_time now);
    [[nodiscard]] std::optional<std::size_t> order_of(const std::string& interface) const;
    void decide(path_time now);
    [[nodiscard]] path_move note(const decision& made, path_time now) const;

    std::chrono::seconds poll_;
    std::unique_ptr<signal_source> signals_;
    hooks hook_;
    path_choice_maker choice_;
    path_journal journal_;
    std::map<std::string, int> dbm_;   // as read last
    std::optional<path_time> read_at_; // when they were; nothing: read them now
};

} // namespace tandem::agent
