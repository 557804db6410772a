// SPDX-License-Identifier: Apache-2.0
// Media ports of one local address: pairs of an even port (RTP) and the odd one above it (RTCP). Chosen at random, so
// that they cannot be guessed from the last call's; kept out of use for a while after release, so that a late packet of
// the old call never meets the new one's flow. Owner thread: io_context.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

namespace tandem::media {

class port_pool {
public:
    using clock = std::chrono::steady_clock;

    // Even ports p with first <= p and p + 1 <= last.
    port_pool(std::uint16_t first, std::uint16_t last, std::chrono::milliseconds quarantine);

    // Nothing where all pairs are in use, in quarantine or refused by `usable`.
    [[nodiscard]] std::optional<std::uint16_t> take(clock::time_point now,
                                                    const std::function<bool(std::uint16_t)>& usable = {});
    void release(std::uint16_t port, clock::time_point now);
    // In use already (take-over after a restart). False where it is not free.
    bool mark(std::uint16_t port);

    [[nodiscard]] std::size_t free_now(clock::time_point now);
    [[nodiscard]] std::size_t in_use() const noexcept { return total_ - free_.size() - resting_.size(); }
    [[nodiscard]] std::size_t total() const noexcept { return total_; }

private:
    void wake(clock::time_point now);

    std::vector<std::uint16_t> free_;
    std::deque<std::pair<clock::time_point, std::uint16_t>> resting_;
    std::chrono::milliseconds quarantine_;
    std::size_t total_ = 0;
};

} // namespace tandem::media
