// SPDX-License-Identifier: Apache-2.0
// The port table's memory: 256 KiB for each media address.
#include "dataplane/flow/port_table.hpp"

#include <utility>

namespace tandem::flow {

port_table::port_table(std::vector<ip_bytes> addresses) : addresses_(std::move(addresses)) {
    const std::size_t entries = addresses_.size() << 16;
    slots_ = std::make_unique<std::atomic<slot_index>[]>(entries);
    for (std::size_t i = 0; i < entries; ++i)
        slots_[i].store(no_slot, std::memory_order_relaxed);
}

} // namespace tandem::flow
