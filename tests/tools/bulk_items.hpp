// SPDX-License-Identifier: Apache-2.0
// Many flows for tests, without a line of JSON for each: flow n of a batch follows from n alone, keys too, so that a
// test can give one of them traffic (tests/lib/bulk.py does the same sums). Flows 2p and 2p + 1 are a call: the unit's
// leg (SRTP, on an even address index) and the core's (clear, on the odd one behind it), at port 1024 + p of each.
#pragma once

#include <cstdint>
#include <cstring>

#include "dataplane/api/contract.hpp"

namespace tandem::tests {

inline constexpr std::uint32_t calls_per_address = 60'000;

struct bulk {
    api::suite suite;
    api::net_address unit, core; // where the legs send to; the port is counted up from what is given
    std::uint16_t timeout_s;
    bool own_phones; // every unit leg sends to an address of its own: the call's number is added to `core`'s

    [[nodiscard]] static api::flow_id id(std::uint32_t n) noexcept {
        const std::uint32_t call = n / 2;
        return api::make_flow_id(2 * (call / calls_per_address) + n % 2,
                                 static_cast<std::uint16_t>(1024 + call % calls_per_address));
    }
    [[nodiscard]] static api::side sealed_side(std::uint32_t n) noexcept {
        return n % 2 == 0 ? api::side::in : api::side::out;
    }

    [[nodiscard]] api::flow_config flow(std::uint32_t n) const noexcept {
        api::flow_config c{};
        c.id = id(n);
        c.reverse = c.route.rtp_out = c.route.rtcp_out = id(n ^ 1);
        c.tag = n + 1;
        c.timeout_s = timeout_s;
        c.carries = api::carries_rtp | api::carries_rtcp;
        api::net_address to_unit = unit, to_core = core;
        to_unit.port = static_cast<std::uint16_t>(unit.port + n / 2 % calls_per_address);
        to_core.port = static_cast<std::uint16_t>(core.port + n / 2 % calls_per_address);
        if (own_phones)
            for (unsigned i = 0; i < 3; ++i)
                to_core.ip[13 + i] = static_cast<std::uint8_t>(to_core.ip[13 + i] + (n / 2 >> (16 - 8 * i)));
        if (n % 2 == 0) {
            c.in.suite = suite;
            c.in.mki_length = 4;
            c.source.policy = api::source_policy::authenticated;
            c.route.rtp_remote = c.route.rtcp_remote = to_core;
        } else {
            c.out.suite = suite;
            c.out.mki_length = 4;
            c.source.policy = api::source_policy::signalled;
            c.source.signalled = to_core;
            c.route.rtp_remote = c.route.rtcp_remote = to_unit;
        }
        return c;
    }

    [[nodiscard]] api::epoch_key key(std::uint32_t n, std::uint32_t epoch) const noexcept {
        const auto& row = api::info(suite);
        api::epoch_key k{};
        k.id = id(n);
        k.side = sealed_side(n);
        k.epoch = k.mki = epoch;
        k.key_length = row.key_length;
        k.salt_length = row.salt_length;
        for (unsigned i = 0; i < k.key_length; ++i)
            k.key[i] = static_cast<std::uint8_t>(i < 4 ? k.id >> (24 - 8 * i) : i < 8 ? epoch >> (56 - 8 * i) : 11 * i);
        for (unsigned i = 0; i < k.salt_length; ++i)
            k.salt[i] = static_cast<std::uint8_t>(7 * i + n % 2);
        return k;
    }
};

} // namespace tandem::tests
