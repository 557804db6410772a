// SPDX-License-Identifier: Apache-2.0
// Silence: which flows have had no accepted packet for their timeout, and which speak (again). Each silence is reported
// once. Owner: the control thread; it only reads what workers write (the time of the last accepted packet, from the
// stats).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "dataplane/api/contract.hpp"

namespace tandem::flow {

class ageing {
public:
    explicit ageing(std::size_t slots) : slots_(slots) {}

    // A flow begins (or is found again after a restart, `last_packet_ns` then counts).
    void begin(std::uint32_t slot, std::uint64_t now_ns, std::uint64_t last_packet_ns) {
        slots_[slot] = {now_ns, last_packet_ns, last_packet_ns != 0, false};
    }

    // What to report for this flow now.
    [[nodiscard]] std::optional<api::event_type> look(std::uint32_t slot, std::uint64_t last_packet_ns,
                                                      std::uint16_t timeout_s, std::uint64_t now_ns) {
        entry& e = slots_[slot];
        if (last_packet_ns > e.last_packet_ns) {
            e.last_packet_ns = last_packet_ns;
            e.since_ns = last_packet_ns;
            const bool report = !e.heard || e.silent;
            e.heard = true;
            e.silent = false;
            if (report)
                return api::event_type::flow_active;
        }
        if (timeout_s != 0 && !e.silent && now_ns > e.since_ns && now_ns - e.since_ns >= timeout_s * second) {
            e.silent = true;
            return api::event_type::flow_timeout;
        }
        return std::nullopt;
    }

private:
    static constexpr std::uint64_t second = 1'000'000'000;
    struct entry {
        std::uint64_t since_ns = 0;
        std::uint64_t last_packet_ns = 0;
        bool heard = false;
        bool silent = false;
    };
    std::vector<entry> slots_;
};

} // namespace tandem::flow
