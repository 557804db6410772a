// SPDX-License-Identifier: Apache-2.0
// See handovers.hpp.
#include "controlplane/session/handovers.hpp"

#include <algorithm>
#include <ranges>

namespace tandem::session {

void handovers::primary_moved(handover one) {
    one.number = ++last_;
    ++total_.moves;
    total_.after_loss += !one.ended.empty();
    total_.longest_without = std::max(total_.longest_without, one.without);
    all_.push_back(std::move(one));
    if (all_.size() > most)
        all_.pop_front();
}

void handovers::streams_moved(const std::string& unit, streams_move how) {
    ++(how.kind == session_layer::handover_kind::soft ? total_.streams_soft : total_.streams_hard);
    total_.octets_again += how.octets_again;
    total_.longest_streams = std::max(total_.longest_streams, how.took);
    const auto newest = std::ranges::find(all_.rbegin(), all_.rend(), unit, &handover::unit);
    if (newest != all_.rend() && protocol::between(newest->at, protocol::moment::now()) < together)
        newest->streams = how;
}

std::vector<const handover*> handovers::list(const std::string& unit, std::size_t count) const {
    std::vector<const handover*> out;
    for (const auto& one : std::views::reverse(all_))
        if (out.size() < count && (unit.empty() || one.unit == unit))
            out.push_back(&one);
    return out;
}

const handover* handovers::find(std::uint64_t number) const {
    if (all_.empty() || number < all_.front().number || number > last_)
        return nullptr;
    return &all_[static_cast<std::size_t>(number - all_.front().number)];
}

} // namespace tandem::session
