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
    // How many older ones had to go: there are so many at most, of so many octets together.
    std::size_t push(waiting one, std::size_t most, std::size_t most_octets) {
        octets_ += one.octets.size();
        queue_.push_back(std::move(one));
        std::size_t gone = 0;
        for (; queue_.size() > most || (octets_ > most_octets && queue_.size() > 1); ++gone)
            drop();
        return gone;
    }
    // How many were too old.
    std::size_t age(instant now, std::chrono::milliseconds limit) {
        std::size_t gone = 0;
        for (; !queue_.empty() && now - queue_.front().since > limit; ++gone)
            drop();
        return gone;
    }
    // Those that are ready, in order, until one is not put.
    template <class Ready, class Put>
    void take(Ready ready, Put put) {
        bool full = false;
        std::erase_if(queue_, [&](const waiting& one) {
            const bool goes = !full && ready(one) && !(full = !put(one));
            octets_ -= goes ? one.octets.size() : 0;
            return goes;
        });
    }
    template <class Ready>
    [[nodiscard]] bool any(Ready ready) const {
        return std::ranges::any_of(queue_, ready);
    }
    [[nodiscard]] bool empty() const noexcept { return queue_.empty(); }
    [[nodiscard]] std::size_t size() const noexcept { return queue_.size(); }
    void clear() noexcept {
        queue_.clear();
        octets_ = 0;
    }

private:
    void drop() noexcept {
        octets_ -= queue_.front().octets.size();
        queue_.pop_front();
    }

    std::deque<waiting> queue_;
    std::size_t octets_ = 0; // of all of them
};

} // namespace tandem::session_layer
