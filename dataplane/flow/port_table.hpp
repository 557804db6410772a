// SPDX-License-Identifier: Apache-2.0
// (local address, UDP port) -> flow slot, without a hash: the gateway owns its media addresses and ports, so a small
// list of addresses and 65,536 entries for each replace the lookup.
//
// Owner: the control thread writes (release), every worker reads (acquire). Process-local: rebuilt after a restart.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <optional>
#include <vector>

#include "dataplane/api/contract.hpp"
#include "dataplane/flow/huge.hpp"

namespace tandem::flow {

using slot_index = std::uint32_t;
inline constexpr slot_index no_slot = 0xffffffff;

using ip_bytes = std::array<std::uint8_t, 16>; // IPv4 as ::ffff:a.b.c.d

class port_table {
public:
    explicit port_table(std::vector<ip_bytes> addresses);

    // The address's index; nothing for an address that is not ours. Its last byte tells mostly; else a linear scan:
    // there are few of them.
    [[nodiscard]] std::optional<std::uint32_t> address_index(const std::uint8_t (&ip)[16]) const noexcept {
        const std::uint32_t likely = by_last_byte_[ip[15]];
        if (likely < locals_.size() && std::memcmp(locals_[likely].ip.data(), ip, sizeof ip) == 0) [[likely]]
            return likely;
        for (std::uint32_t i = 0; i < locals_.size(); ++i)
            if (std::memcmp(locals_[i].ip.data(), ip, sizeof ip) == 0)
                return i;
        return std::nullopt;
    }

    // IPv4, as it lies in memory.
    [[nodiscard]] std::optional<std::uint32_t> address_index(std::uint32_t ipv4) const noexcept {
        const std::uint32_t likely = by_last_byte_[ipv4 >> 24];
        if (likely < locals_.size() && locals_[likely].ipv4 == ipv4) [[likely]]
            return likely;
        std::uint8_t ip[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
        std::memcpy(ip + 12, &ipv4, sizeof ipv4);
        return address_index(ip);
    }

    // A frame with this tag (or `untagged`) is of another VLAN than the one that the address is on. Beside the address,
    // which was just compared.
    static constexpr std::uint16_t untagged = 0xffff, any_vlan = 0xfffe;
    [[nodiscard]] bool of_other_vlan(std::uint32_t address, std::uint16_t tag) const noexcept {
        const std::uint16_t own = locals_[address].vlan.load(std::memory_order_relaxed);
        return own != tag && own != any_vlan;
    }
    void set_vlan(std::uint32_t address, std::uint16_t vlan) noexcept {
        locals_[address].vlan.store(vlan, std::memory_order_relaxed);
    }

    [[nodiscard]] slot_index find(api::flow_id id) const noexcept {
        const std::uint32_t address = id >> 16;
        if (address >= locals_.size())
            return no_slot;
        return slots_[id].load(std::memory_order_acquire);
    }

    __attribute__((always_inline)) void prefetch(api::flow_id id) const noexcept {
        __builtin_prefetch(&slots_[id], 0, 2);
    } // of an address that is ours

    void set(api::flow_id id, slot_index slot) noexcept { slots_[id].store(slot, std::memory_order_release); }
    void clear(api::flow_id id) noexcept { set(id, no_slot); }

    [[nodiscard]] const std::vector<ip_bytes>& addresses() const noexcept { return addresses_; }

private:
    static constexpr std::uint64_t no_ipv4 = ~std::uint64_t{0};
    struct alignas(32) local {
        ip_bytes ip;
        std::uint64_t ipv4 = no_ipv4;              // the same, where it is one
        std::atomic<std::uint16_t> vlan{any_vlan}; // not known: an address that is on no port of ours
    };
    std::vector<ip_bytes> addresses_;
    std::vector<local> locals_; // the same, for workers
    std::array<std::uint8_t, 256> by_last_byte_{};
    std::vector<std::atomic<slot_index>, huge_allocator<std::atomic<slot_index>>> slots_;
};

} // namespace tandem::flow
