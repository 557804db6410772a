// SPDX-License-Identifier: Apache-2.0
// Buffers that idle connections have no use for: they serve whichever connection of this thread has something to read
// or write next. So a thousand idle ones hold none. What is put back holds no secret any more. Private to this room.
#pragma once

#include <utility>
#include <vector>

#include "controlplane/protocol/message.hpp"

namespace tandem::link {

class spare_buffers {
public:
    static constexpr std::size_t size = 16384, most = 8;

    [[nodiscard]] protocol::wiped_bytes get() {
        if (all_.empty()) {
            protocol::wiped_bytes fresh;
            fresh.reserve(size);
            return fresh;
        }
        auto one = std::move(all_.back());
        all_.pop_back();
        return one;
    }
    // One that grew is not kept.
    void put(protocol::wiped_bytes one) {
        if (one.capacity() == size && all_.size() < most)
            all_.push_back(std::move(one));
    }
    [[nodiscard]] std::size_t count() const noexcept { return all_.size(); }

private:
    std::vector<protocol::wiped_bytes> all_;
};

// They differ in their vectors' size: a reader's is whole, so that nothing has to be filled with zeros again.
[[nodiscard]] inline spare_buffers& spare_inputs() {
    thread_local spare_buffers all;
    return all;
}
[[nodiscard]] inline spare_buffers& spare_batches() {
    thread_local spare_buffers all;
    return all;
}

} // namespace tandem::link
