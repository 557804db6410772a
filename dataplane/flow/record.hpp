// SPDX-License-Identifier: Apache-2.0
// One flow as it lies in the state memory: fixed width, no pointers, so that another process can go on with it.
//
// Crash consistency: `state` is written last when a flow is made and first when it goes; a record that is neither free
// nor active is wiped on recovery. What a worker moves while it runs (the remotes, the source) is kept twice: the copy
// not in force is written, then one byte switches. A kill between two stores therefore leaves the old or the new value.
// Owner: the control thread until published and after withdrawal; in between the flow's worker.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <type_traits>

#include "dataplane/api/contract.hpp"
#include "dataplane/flow/shared_copy.hpp"

namespace tandem::flow {

// held: in force, but its packets are refused for the moment (flow_gone): another worker's flow that is being replaced.
enum class state : std::uint32_t {
    free = 0,
    building = 0x6275696c,
    active = 0x61637469,
    held = 0x68656c64,
    removing = 0x72656d6f
};

// In a replacement of flows (store_replace.cpp) that a kill may interrupt: memory_header::decided says how it ends.
enum class part : std::uint8_t { none, goes, comes };

using route = api::route_config;

struct alignas(64) record {
    // Line 0: what every packet reads. The worker writes it when the source or the route moves.
    std::uint32_t state; // flow::state, through load_state/store_state
    api::flow_id id;
    api::flow_id reverse;
    std::uint32_t route_stamp; // counts routes: what was made of an older one is made again
    api::side_config in;
    api::side_config out;
    std::uint8_t carries;
    api::source_policy source;
    std::uint8_t dscp;
    std::uint8_t flags;
    std::uint8_t route_index;  // which of routes[] is in force
    std::uint8_t source_index; // which of sources[] is in force
    std::uint8_t worker;
    std::uint8_t seen;        // a packet was accepted: sources[source_index] is valid
    std::uint16_t heard_port; // with heard_ip: from(), for comparing; written after it, before `seen`
    std::uint16_t timeout_s;
    flow::part part;
    std::uint8_t retransmissions[3]; // payload types, the first ones; 0 = none
    std::uint8_t heard_ip[16];
    std::uint64_t tag;
    // Lines 1 to 4: rare. Of the route a worker keeps per flow what it needs (pipeline/hops.hpp).
    route routes[2];
    api::net_address sources[2]; // where the leg is: the last accepted source that may move it
    api::net_address signalled_source;
    api::net_address received_from;
    std::uint64_t created_ns; // CLOCK_MONOTONIC, as all times here
    std::uint64_t source_since_ns;
    std::uint64_t window_ends_ns; // learned: from then on the source's address is the leg's only one
    // Packets from other ports of the source's address: since when, how many, of how many accepted (learning.hpp).
    std::uint64_t others_since_ns;
    std::uint64_t others_of;
    std::uint32_t others;
    std::uint16_t window_ms;
    std::uint8_t strict_port; // api::source_config
    api::source_rule rule;    // by which the source was taken

    [[nodiscard]] const route& where() const noexcept { return routes[route_index & 1]; }
    [[nodiscard]] const api::net_address& from() const noexcept { return sources[source_index & 1]; }
    // Is it the source that the last accepted packet came from?
    [[nodiscard]] bool heard_from(const api::net_address& a) const noexcept {
        return seen != 0 && heard_port == a.port && __builtin_memcmp(heard_ip, a.ip, sizeof heard_ip) == 0;
    }
};
static_assert(offsetof(record, routes) == 64 && sizeof(record) == 320);
static_assert(std::is_trivially_copyable_v<record> && std::is_standard_layout_v<record>);

[[nodiscard]] inline state load_state(const record& r) noexcept {
    return static_cast<state>(std::atomic_ref(const_cast<std::uint32_t&>(r.state)).load(std::memory_order_acquire));
}
inline void store_state(record& r, state s) noexcept {
    std::atomic_ref(r.state).store(static_cast<std::uint32_t>(s), std::memory_order_release);
}
// Not before what was stored earlier, not after what is stored later: another process may find it half a program on.
inline void store_part(record& r, part p) noexcept {
    std::atomic_ref(reinterpret_cast<std::uint8_t&>(r.part))
        .store(static_cast<std::uint8_t>(p), std::memory_order_release);
    std::atomic_signal_fence(std::memory_order_seq_cst);
}

// What another process may read while the worker runs.
inline void store_rule(record& r, api::source_rule rule, std::uint64_t since_ns) noexcept {
    std::atomic_ref(reinterpret_cast<std::uint8_t&>(r.rule))
        .store(static_cast<std::uint8_t>(rule), std::memory_order_relaxed);
    std::atomic_ref(r.source_since_ns).store(since_ns, std::memory_order_relaxed);
}

[[nodiscard]] inline api::source_rule load_rule(const record& r) noexcept {
    return static_cast<api::source_rule>(
        std::atomic_ref(reinterpret_cast<std::uint8_t&>(const_cast<record&>(r).rule)).load(std::memory_order_relaxed));
}

// Replaces the route in force: the other copy is filled, then the index switches.
inline void switch_route(record& r, const route& to) noexcept {
    const auto next = static_cast<std::uint8_t>((r.route_index & 1) ^ 1);
    store_shared(r.routes[next], to);
    std::atomic_ref(r.route_index).store(next, std::memory_order_release);
    ++r.route_stamp;
}

// heard_ip and heard_port again from what is in force: a kill may have left them behind.
inline void note_source(record& r) noexcept {
    __builtin_memcpy(r.heard_ip, r.from().ip, sizeof r.heard_ip);
    r.heard_port = r.from().port;
}

inline void switch_source(record& r, const api::net_address& to) noexcept {
    const auto next = static_cast<std::uint8_t>((r.source_index & 1) ^ 1);
    store_shared(r.sources[next], to);
    std::atomic_ref(r.source_index).store(next, std::memory_order_release);
    note_source(r);
    std::atomic_ref(r.seen).store(1, std::memory_order_release);
}

// --- for others than the owner, while it runs
[[nodiscard]] inline route route_of(const record& r) noexcept {
    auto& index = const_cast<std::uint8_t&>(r.route_index);
    for (;;) { // again where it moved meanwhile: what was copied may then be of two routes
        const std::uint8_t now = std::atomic_ref(index).load(std::memory_order_acquire);
        const route copy = load_shared(r.routes[now & 1]);
        std::atomic_thread_fence(std::memory_order_acquire);
        if (std::atomic_ref(index).load(std::memory_order_relaxed) == now)
            return copy;
    }
}

// The last accepted source; nothing where none was accepted yet.
[[nodiscard]] inline std::optional<api::net_address> source_of(const record& r) noexcept {
    if (std::atomic_ref(const_cast<std::uint8_t&>(r.seen)).load(std::memory_order_acquire) == 0)
        return std::nullopt;
    auto& index = const_cast<std::uint8_t&>(r.source_index);
    for (;;) {
        const std::uint8_t now = std::atomic_ref(index).load(std::memory_order_acquire);
        const api::net_address copy = load_shared(r.sources[now & 1]);
        std::atomic_thread_fence(std::memory_order_acquire);
        if (std::atomic_ref(index).load(std::memory_order_relaxed) == now)
            return copy;
    }
}

[[nodiscard]] inline bool same_address(const api::net_address& a, const api::net_address& b) noexcept {
    return a.port == b.port && __builtin_memcmp(a.ip, b.ip, sizeof a.ip) == 0;
}

[[nodiscard]] inline bool is_ipv4(const std::uint8_t (&ip)[16]) noexcept {
    static constexpr std::uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    return __builtin_memcmp(ip, mapped, sizeof mapped) == 0;
}

} // namespace tandem::flow
