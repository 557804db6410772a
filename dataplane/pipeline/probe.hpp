// SPDX-License-Identifier: Apache-2.0
// A packet of the data plane's own, to know that a worker still does what it is for: SRTP in, SRTP out under keys made
// at start that protect nothing else, through every stage (receive .. send), on the worker's thread and by its engine,
// in and out by a port of rings, and compared with what another engine makes of it, byte for byte.
//
// It walks over flows, tables and counters of its own, so that no list, counter, trace or capture has it: a second
// worker object that has no thread and runs one round as an errand of the first (worker::post). Real packets pay
// nothing for it but a burst's wait, a few microseconds a few times a second.
//
// Threads: the control thread's, but for the errand. The worker has ended before this goes.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include <tl/expected.hpp>

#include "dataplane/api/contract.hpp"
#include "dataplane/crypto/engine.hpp"
#include "dataplane/pipeline/worker.hpp"

struct rte_mempool;

namespace tandem::pipeline {

class probe {
public:
    // One queue of a port of rings, and its rings' ends.
    struct lane {
        port_use port;
        rte_ring* in;
        rte_ring* out;
    };
    // `judge`: the other engine, this thread's. The error is a sentence.
    [[nodiscard]] static tl::expected<std::unique_ptr<probe>, std::string>
    make(worker& subject, const lane& by, rte_mempool* buffers, crypto::engine& judge);
    ~probe();
    probe(const probe&) = delete;
    probe& operator=(const probe&) = delete;

    void look(); // judges what has come back
    void turn(); // the same, and sends the next where none is on its way
    [[nodiscard]] api::health_state state() const noexcept { return state_; }
    // CLOCK_MONOTONIC of the last one that came back as it should; 0 = none did yet.
    [[nodiscard]] std::uint64_t last_good_ns() const noexcept { return good_ns_; }
    // Since when one has been on its way; 0 = none is.
    [[nodiscard]] std::uint64_t waiting_since_ns() const noexcept { return under_way_ ? sent_ns_ : 0; }
    // Why the last one was dropped on its way; none where it was not.
    [[nodiscard]] api::drop dropped_for() const noexcept { return dropped_; }

private:
    struct ground;
    static constexpr std::size_t largest = 256;
    struct frame {
        std::array<std::uint8_t, largest> bytes;
        std::uint16_t length = 0;
    };
    probe(worker& subject, const lane& by, rte_mempool* buffers, crypto::engine& judge);
    [[nodiscard]] std::string set_up();
    [[nodiscard]] bool make_key(api::suite suite, api::epoch_key& master, crypto::key_object& expanded) const;
    [[nodiscard]] frame make_frame(const crypto::key_object& key, const endpoints& ends, const link_out& link,
                                   std::uint8_t dscp, std::uint8_t hops) const;
    [[nodiscard]] bool inject();
    void take_back();
    [[nodiscard]] api::drop take_drop() noexcept;

    worker& subject_;
    lane by_;
    rte_mempool* buffers_;
    crypto::engine& judge_;
    std::unique_ptr<ground> ground_;
    crypto::key_object in_key_{}, out_key_{}; // as the judge expands them
    std::uint64_t count_ = 0;                 // of probes: the SRTP index of the one that is on its way
    frame expected_;
    std::function<void()> round_;
    errand errand_{&round_};
    std::atomic<std::uint64_t> finished_ns_{0};
    std::uint64_t sent_ns_ = 0;
    bool under_way_ = false;
    api::health_state state_ = api::health_state::no_answer;
    api::drop dropped_ = api::drop::none;
    std::uint64_t good_ns_ = 0;
};

} // namespace tandem::pipeline
