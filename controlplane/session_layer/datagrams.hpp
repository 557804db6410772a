// SPDX-License-Identifier: Apache-2.0
// Datagrams that wait for the link. Newest wins: where there are too many, the oldest go; who waited longer than the
// age limit is not sent at all. One thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <vector>

#include "controlplane/session_layer/types.hpp"

namespace tandem::session_layer {

class datagram_queue {
public:
    struct waiting {
        stream_id stream;
        std::uint32_t sequence;
        instant since;
        std::vector<std::uint8_t> octets;
    };
    // True where an older one had to go.
    bool push(waiting one, std::size_t most) {
        queue_.push_back(std::move(one));
        if (queue_.size() <= most)
            return false;
        queue_.pop_front();
        return true;
    }
    // How many were too old.
    std::size_t age(instant now, std::chrono::milliseconds limit) {
        std::size_t gone = 0;
        for (; !queue_.empty() && now - queue_.front().since > limit; ++gone)
            queue_.pop_front();
        return gone;
    }
    // Those that are ready, in order, until one is not put.
    template <class Ready, class Put>
    void take(Ready ready, Put put) {
        bool full = false;
        std::erase_if(queue_, [&](const waiting& one) { return !full && ready(one) && !(full = !put(one)); });
    }
    template <class Ready>
    [[nodiscard]] bool any(Ready ready) const {
        return std::ranges::any_of(queue_, ready);
    }
    [[nodiscard]] bool empty() const noexcept { return queue_.empty(); }
    [[nodiscard]] std::size_t size() const noexcept { return queue_.size(); }
    void clear() noexcept { queue_.clear(); }

private:
    std::deque<waiting> queue_;
};

} // namespace tandem::session_layer
