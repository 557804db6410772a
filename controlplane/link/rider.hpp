// SPDX-License-Identifier: Apache-2.0
// What rides on a primary beside control messages and inner packets: frames of the session layer. It is asked for the
// next one when the wire can take it, so that control overtakes it and nothing of it waits in between. Owner thread:
// the connection's.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "controlplane/link/transport.hpp"

namespace tandem::link {

class rider {
public:
    struct calls {
        std::function<void(std::span<const std::uint8_t>)> take; // a frame that came
        std::function<bool(std::vector<std::uint8_t>&)> next;    // appends the next to go; false: none now
        std::function<void()> gone;                              // once: the connection carries nothing any more
    };

    void mount(calls c) { calls_ = std::move(c); }
    void ask() noexcept { asked_ = true; } // there is something to go
    [[nodiscard]] bool waits() const noexcept { return asked_ && calls_.next; }
    // False where nobody rides here.
    bool take(std::span<const std::uint8_t> frame) const {
        if (!calls_.take)
            return false;
        const auto handler = calls_.take; // it may dismount
        handler(frame);
        return true;
    }
    // Into a batch that is empty: a frame may be as long as a record.
    void fill(transport& to) {
        frame_.clear();
        const auto next = calls_.next;
        asked_ = next && next(frame_);
        if (asked_)
            asked_ = to.add(frame_);
    }
    void dismount() {
        const auto was = std::exchange(calls_, {});
        asked_ = false;
        if (was.gone)
            was.gone();
    }

private:
    calls calls_;
    std::vector<std::uint8_t> frame_;
    bool asked_ = false;
};

} // namespace tandem::link
