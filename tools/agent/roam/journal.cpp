// SPDX-License-Identifier: Apache-2.0
// The last switches, and their reasons in words.
#include "tools/agent/roam/journal.hpp"

#include <fmt/format.h>

namespace tandem::agent {

const char* name_of(move_outcome outcome) noexcept {
    constexpr std::array<const char*, 5> names{"pending", "up", "failed", "replaced", "none"};
    return names[static_cast<std::size_t>(outcome)];
}

void path_journal::close(path_move& last, move_outcome outcome, path_time now) {
    if (last.outcome != move_outcome::pending)
        return;
    last.outcome = outcome;
    last.took = std::chrono::duration_cast<std::chrono::milliseconds>(now - last.at);
    ends_[static_cast<std::size_t>(outcome)]++;
}

void path_journal::add(path_move one) {
    if (!moves_.empty())
        close(moves_.back(), move_outcome::replaced, one.at);
    kinds_[static_cast<std::size_t>(one.made.kind)]++;
    moves_.push_back(std::move(one));
    if (moves_.size() > kept)
        moves_.pop_front();
    if (moves_.back().made.to.interface.empty())
        close(moves_.back(), move_outcome::none, moves_.back().at);
}

void path_journal::end(const path_place& over, move_outcome outcome, path_time now) {
    if (!moves_.empty() && moves_.back().made.to == over)
        close(moves_.back(), outcome, now);
}

std::string explain(const path_move& move) {
    const auto signal = [](const std::optional<int>& dbm) { return dbm ? fmt::format(" ({} dBm)", *dbm) : ""; };
    const auto& from = move.made.from.interface;
    const auto& to = move.made.to.interface;
    switch (move.made.reason) {
    case move_reason::first:
        return fmt::format("{} is the best that there is", to);
    case move_reason::lost:
        return fmt::format("{} is lost: {}", from,
                           works(move.made.was) ? "its address is gone" : name_of(move.made.was));
    case move_reason::weak:
        return fmt::format("the signal of {} is too weak{}", from, signal(move.from_dbm));
    case move_reason::silent:
        return fmt::format("no gateway answered over {}", from);
    case move_reason::better:
        return fmt::format("{} is preferred and was there long enough{}", to, signal(move.to_dbm));
    case move_reason::idle:
        return fmt::format("{} is billed by time and nothing was sent for {} s", from,
                           move.idle.value_or(std::chrono::milliseconds(0)).count() / 1000);
    case move_reason::traffic:
        return fmt::format("there is traffic again, and {} is preferred for it", to);
    case move_reason::moved:
        return fmt::format("{} has another address", to);
    case move_reason::no_path:
        return fmt::format("{} is lost ({}), and there is no other", from, name_of(move.made.was));
    case move_reason::none:
        break;
    }
    return "";
}

} // namespace tandem::agent
