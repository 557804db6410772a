// SPDX-License-Identifier: Apache-2.0
// What rides on a primary beside control messages and inner packets: frames of the session layer. It is asked for the
// next one when the wire can take it, so that control overtakes it and nothing of it waits in between. Owner thread:
// the connection's.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
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

    void mount(calls c) { calls_ = std::make_shared<const calls>(std::move(c)); }
    void ask() noexcept { asked_ = true; } // there is something to go
    [[nodiscard]] bool waits() const noexcept { return asked_ && calls_; }
    // Asked for each batch without control in it: by turns with `others`, where those wait, too.
    [[nodiscard]] bool takes_turn(bool others) noexcept {
        last_ = waits() && (!others || !last_);
        return last_;
    }
    // False where nobody rides here.
    [[nodiscard]] bool take(std::span<const std::uint8_t> frame) const {
        const auto to = calls_; // it may dismount
        if (to)
            to->take(frame);
        return to != nullptr;
    }
    // Into a batch that is empty: a frame may be as long as a record.
    void fill(transport& to) {
        frame_.clear();
        const auto from = calls_;
        asked_ = from && from->next(frame_) && to.add(frame_);
    }
    void dismount() {
        const auto was = std::exchange(calls_, nullptr);
        asked_ = false;
        if (was)
            was->gone();
    }

private:
    std::shared_ptr<const calls> calls_;
    std::vector<std::uint8_t> frame_;
    bool asked_ = false, last_ = false; // last_: the batch before was its own
};

} // namespace tandem::link
