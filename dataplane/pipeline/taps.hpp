// SPDX-License-Identifier: Apache-2.0
// What an operator sees of a worker's packets: the trace (a packet's way through the stages) and the capture (its
// bytes, in and out). The control thread makes a tap with all the memory that it needs and gives it to a worker between
// two bursts (worker::tap); without one the worker pays a predictable branch per stage and burst.
//
// Threads: after() and leaving() the worker's own; ring() is read by the control thread.
// What may not leave the box in clear is cut before it is written to the ring: payload goes on only where it is known
// to be ciphertext (in: it authenticated under the flow's suite; out: it was protected) or where `plaintext` was
// granted. What did not authenticate may be anybody's clear media. Never a key.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "dataplane/api/sight.hpp"
#include "dataplane/api/stats.hpp"
#include "dataplane/crypto/engine.hpp"
#include "dataplane/flow/port_table.hpp"
#include "dataplane/pipeline/packet.hpp"
#include "dataplane/pipeline/slot_ring.hpp"

namespace tandem::pipeline {

[[nodiscard]] bool observed(const api::observed_places& places, const api::net_address& destination) noexcept;

// A tap's ring, and what did not fit.
class tap_output {
public:
    tap_output(std::size_t slot_bytes, std::size_t slots, api::worker_stats& stats)
        : ring_(slot_bytes, slots), stats_(stats) {}

    [[nodiscard]] slot_ring& ring() noexcept { return ring_; }
    [[nodiscard]] std::uint64_t lost() const noexcept { return lost_.load(std::memory_order_relaxed); }

protected:
    void lose() noexcept {
        lost_.store(lost_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
        ++stats_.counters[static_cast<std::size_t>(api::counter::capture_lost)];
    }
    slot_ring ring_;

private:
    api::worker_stats& stats_;
    std::atomic<std::uint64_t> lost_{0};
};

// Slots hold an api::trace_record; time_ns is the burst's CLOCK_MONOTONIC.
class trace_tap final : public tap_output {
public:
    trace_tap(const api::trace_request& what, unsigned worker, const flow::port_table& table, api::worker_stats& stats);

    void after(api::stage stage, const burst& b, std::span<const crypto::op> ops) noexcept;

private:
    void choose(const burst& b) noexcept;
    void looked_up(std::size_t at, const packet& p) noexcept;
    void unprotected(std::size_t at, const packet& p, const crypto::op& op) noexcept;
    void sent(std::size_t at, const packet& p) noexcept;
    void write() noexcept;

    api::trace_request what_;
    std::uint32_t left_; // packets still wanted
    std::uint8_t worker_;
    const flow::port_table& table_;
    std::array<api::trace_record, burst_size> records_;
    std::array<bool, burst_size> open_{};           // its way goes on
    std::array<std::uint8_t, burst_size> chosen_{}; // places in the burst
    unsigned chosen_count_ = 0;
};

// Which packets, and how much of them.
struct capture_choice {
    std::uint32_t ports = 0; // bit per port index
    std::uint8_t direction = api::capture_in | api::capture_out;
    bool plaintext = false;
    api::drop drop = api::drop::none;
    std::uint32_t snap_length = api::max_snap_length;
    std::uint64_t packets = 0; // 0 = no end
    api::observed_places places{};
};

// Slots hold an api::capture_record and its bytes; time_ns is the burst's CLOCK_MONOTONIC.
class capture_tap final : public tap_output {
public:
    capture_tap(const capture_choice& what, unsigned worker, api::worker_stats& stats);
    ~capture_tap();

    void after(api::stage stage, const burst& b) noexcept;
    void leaving(std::size_t place, const packet& p, const rte_mbuf& frame) noexcept; // about to be sent

private:
    struct copy {
        std::uint32_t original = 0; // 0 = nothing was copied
        std::uint32_t kept = 0;
        std::uint32_t clear_bytes = 0; // headers: what may be shown of any packet
    };
    [[nodiscard]] copy keep(std::uint8_t* to, const rte_mbuf& frame, std::size_t headers,
                            std::span<const std::uint8_t> payload) const noexcept;
    void received(const burst& b) noexcept;
    void write(const burst& b, const packet& p, api::capture_way way, const copy& c, const std::uint8_t* bytes,
               bool ciphertext) noexcept;
    [[nodiscard]] std::uint8_t* in_bytes(std::size_t at) noexcept { return staging_.data() + at * snap_; }
    [[nodiscard]] std::uint8_t* out_bytes(std::size_t at) noexcept { return in_bytes(burst_size + at); }

    capture_choice what_;
    std::size_t snap_;
    std::uint64_t left_;
    std::uint8_t worker_;
    std::vector<std::uint8_t> staging_;     // of one burst, wiped at the end: what came in may be in clear
    std::array<bool, burst_size> wanted_{}; // came to one of the places
    std::array<copy, burst_size> in_{};
    std::array<copy, burst_size> out_{};
};

} // namespace tandem::pipeline
