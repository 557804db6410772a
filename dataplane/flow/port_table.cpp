// SPDX-License-Identifier: Apache-2.0
// The port table's memory: 256 KiB for each media address.
#include "dataplane/flow/port_table.hpp"

#include <cstring>
#include <utility>

namespace tandem::flow {

port_table::port_table(std::vector<ip_bytes> addresses)
    : addresses_(std::move(addresses)), locals_(addresses_.size()), slots_(addresses_.size() << 16) {
    for (auto& slot : slots_)
        slot.store(no_slot, std::memory_order_relaxed);
    static_assert(api::max_addresses <= 256);
    for (std::size_t i = 0; i < locals_.size(); ++i) {
        static constexpr ip_bytes mapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
        locals_[i].ip = addresses_[i];
        std::uint32_t ipv4 = 0;
        std::memcpy(&ipv4, addresses_[i].data() + 12, sizeof ipv4);
        if (std::memcmp(addresses_[i].data(), mapped.data(), 12) == 0)
            locals_[i].ipv4 = ipv4;
    }
    for (std::size_t i = addresses_.size(); i-- > 0;)
        by_last_byte_[addresses_[i][15]] = static_cast<std::uint8_t>(i);
}

} // namespace tandem::flow
