// SPDX-License-Identifier: Apache-2.0
// A worker: takes bursts from its queues and runs them through the stages to completion.
//
//   receive -> lookup (parse, flow, policy) -> unprotect (SRTP in, latch) -> protect (SRTP out) -> send
//
// Threads: run() and the stages on the worker's own lcore; call(), post() and drain_events() on the control thread.
// The loop makes no system call while packets come, except to wake a worker that sleeps. When its queues are empty it
// polls on or sleeps until something comes (sleeper.hpp).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include <rte_ring.h>

#include "dataplane/api/stats.hpp"
#include "dataplane/crypto/engine.hpp"
#include "dataplane/flow/memory.hpp"
#include "dataplane/flow/port_table.hpp"
#include "dataplane/flow/store.hpp"
#include "dataplane/pipeline/hops.hpp"
#include "dataplane/pipeline/packet.hpp"
#include "dataplane/pipeline/punt.hpp"
#include "dataplane/pipeline/second_tries.hpp"
#include "dataplane/pipeline/sleeper.hpp"
#include "dataplane/pipeline/stopwatch.hpp"
#include "dataplane/pipeline/taps.hpp"

namespace tandem::pipeline {

inline constexpr unsigned max_ports = 8;

// A step of a stage that each packet takes: defined in the stage's file, part of its loop.
#define TANDEM_IN_STAGE __attribute__((always_inline)) inline

// What a worker needs of a port.
struct port_use {
    std::uint16_t id = 0;       // DPDK's
    std::uint16_t first_rx = 0; // receive queues first_rx, first_rx + step, ... are this worker's
    std::uint16_t rx_step = 1;
    std::uint16_t rx_queues = 0; // of the port
    std::uint16_t tx_queue = 0;
    std::uint16_t mtu = 1500;
    std::array<std::uint8_t, 6> mac{};
    bool verify_checksum = false; // UDP's, of clear legs
    bool loopback = false;        // from programs on this host, on no VLAN
};

class worker;

// What all workers share. Lives longer than they do.
struct shared_state {
    flow::memory& memory;
    flow::port_table& table;
    hop_table& hops;
    std::span<api::worker_stats> worker_stats;
    std::span<api::flow_stats> flow_stats;
    std::vector<worker*> workers;
};

struct ring_deleter {
    void operator()(rte_ring* ring) const noexcept { rte_ring_free(ring); }
};
using ring_pointer = std::unique_ptr<rte_ring, ring_deleter>;

// Something to be done between two bursts. It stays where it is until it is done.
struct errand {
    const std::function<void()>* what;
    std::atomic<bool> done{false};
};

// One of the control plane's packets, headers and all.
struct whole_frame {
    rte_mbuf* mbuf;
    std::uint8_t port; // index of the port it leaves by
    bool here;         // for one of our own addresses: taken in again without the wire
};

class worker {
public:
    // Throws std::bad_alloc where the rings cannot be made (start only).
    worker(unsigned index, shared_state& shared, std::shared_ptr<crypto::engine> engine, std::vector<port_use> ports,
           idle_config idle);

    // --- its own thread
    void run() noexcept;          // until stop()
    unsigned run_once() noexcept; // one round: packets taken
    // --- control thread
    void stop() noexcept {
        stopping_.store(true, std::memory_order_release);
        sleeper_.wake();
    }
    // Runs `what` between two bursts and returns after it; at once where the worker is not running (tests, start).
    void call(const std::function<void()>& what);
    // The same, but nobody waits: what() is run when the worker comes round. False where its mailbox is full.
    [[nodiscard]] bool post(errand& what);
    // Its own: for what runs on its thread only.
    [[nodiscard]] const std::shared_ptr<crypto::engine>& engine() const noexcept { return engine_; }
    unsigned drain_events(std::span<api::flow_event> to) noexcept;
    [[nodiscard]] pipeline::punt& punted() noexcept { return punt_; } // front() and pop() are this thread's
    // By call(): the frames leave, or are counted lost; their buffers are the worker's from then on.
    void send_whole(std::span<const whole_frame> frames) noexcept; // punt.cpp
    // By call(): what looks at packets from now on; null = nothing. The caller keeps it until it was taken away.
    void tap(trace_tap* with) noexcept { trace_ = with; }
    void tap(capture_tap* with) noexcept { capture_ = with; }
    [[nodiscard]] bool running() const noexcept { return running_.load(std::memory_order_acquire); }

private:
    // Stages, one file each.
    void receive() noexcept; // receive.cpp
    unsigned receive_port(const port_use& port, std::uint8_t at) noexcept;
    void take_handed() noexcept;
    TANDEM_IN_STAGE void take(rte_mbuf* mbuf, std::uint8_t port, std::uint8_t turns) noexcept;
    TANDEM_IN_STAGE void prefetch_frame(rte_mbuf* mbuf) const noexcept;
    void lookup() noexcept; // lookup.cpp
    TANDEM_IN_STAGE api::drop parse(packet& p, api::flow_id& to) noexcept;
    [[nodiscard]] bool by_wire(const packet& p) const noexcept;
    api::drop parse_other(packet& p, std::uint8_t* frame, api::flow_id& to) const noexcept;
    [[nodiscard]] flow::record* look_again(packet& p, api::flow_id to) const noexcept;
    [[nodiscard]] bool intact(const packet& p) const noexcept;
    void hand_over(unsigned to) noexcept;
    void unprotect() noexcept; // unprotect.cpp
    TANDEM_IN_STAGE api::drop prepare(const packet& p, crypto::op& op) noexcept;
    TANDEM_IN_STAGE api::drop commit(const packet& p, crypto::op& op) noexcept;
    void prefetch_out_keys() const noexcept;
    api::drop permitted(const packet& p) const noexcept;
    void undo_offsets(packet& p) noexcept;
    TANDEM_IN_STAGE void accept(packet& p, const crypto::op& op, bool heard) noexcept;
    void punt_or_drop(packet& p, api::drop wrong) noexcept; // punt.cpp
    void latch(packet& p) noexcept;                         // latch.cpp
    void move_remote(flow::slot_index slot, const packet& p) noexcept;
    void protect() noexcept; // protect.cpp
    TANDEM_IN_STAGE api::drop route_packet(packet& p) noexcept;
    TANDEM_IN_STAGE const hop& way_of(const packet& p) noexcept;
    void renew(hop& way, const packet& p) noexcept;
    void send() noexcept; // send.cpp
    TANDEM_IN_STAGE api::drop finish_headers(packet& p) noexcept;
    void transmit(std::uint8_t port) noexcept;
    void turn_back(packet& p, std::size_t place) noexcept;
    TANDEM_IN_STAGE void count_sent(const packet& p) noexcept;

    void drop(packet& p, api::drop reason) noexcept;
    void emit(api::event_type type, const flow::record& f, std::uint32_t epoch,
              const api::net_address& address) noexcept;
    void count(api::counter what, std::uint64_t n = 1) noexcept {
        api::bump(stats_.counters[static_cast<std::size_t>(what)], n);
    }
    void passed(api::stage stage) noexcept; // the burst is through it
    void name_epochs(api::stage stage) noexcept;
    void poll_commands() noexcept;
    void heartbeat(std::uint64_t now_ns) noexcept;
    void idle() noexcept;
    void doze() noexcept;

    unsigned index_;
    shared_state& shared_;
    crypto::key_pool keys_;
    flow::stream_pool streams_;
    second_tries tries_;
    pipeline::punt punt_;
    std::shared_ptr<crypto::engine> engine_;
    std::vector<port_use> ports_;
    idle_mode idle_mode_;
    std::uint64_t idle_budget_tsc_;
    sleeper sleeper_;
    api::worker_stats& stats_;
    stopwatch watch_;
    trace_tap* trace_ = nullptr;
    capture_tap* capture_ = nullptr;
    unsigned alive_ = 0; // packets of the burst that are still in it
    ring_pointer events_;
    ring_pointer commands_;
    ring_pointer handed_; // packets whose flow is ours, received by other workers
    std::atomic<bool> stopping_{false};
    std::atomic<bool> running_{false};

    burst burst_;
    std::array<crypto::op, burst_size> ops_;
    struct leaving {
        std::array<rte_mbuf*, burst_size> mbufs;
        std::array<std::uint8_t, burst_size> packets; // their places in the burst
        unsigned count = 0;
    };
    std::array<leaving, max_ports> leaving_;
    struct turned { // for one of our own addresses: of the next burst
        rte_mbuf* mbuf;
        std::uint8_t port; // by which it came at first
        std::uint8_t turns;
    };
    std::array<turned, burst_size> turned_;
    unsigned turned_count_ = 0;
    unsigned unprotected_ = 0;                   // of this burst
    bool encrypting_ = false;                    // some packet of this burst leaves under SRTP
    std::ptrdiff_t frame_at_ = sizeof(rte_mbuf); // from a buffer's own line to the frame, of the last one
    unsigned next_port_ = 0;
    unsigned empty_polls_ = 0;
    std::uint64_t idle_since_tsc_ = 0; // 0 = the last round had packets
    std::uint64_t last_heartbeat_ns_ = 0;
};

[[nodiscard]] std::uint64_t monotonic_ns() noexcept; // vDSO: no system call

// The control thread's way to all workers.
class worker_pool final : public flow::executor {
public:
    explicit worker_pool(shared_state& shared) : shared_(shared) {}
    void run(unsigned worker, const std::function<void()>& between_bursts) override;
    void quiesce() override;

private:
    shared_state& shared_;
};

} // namespace tandem::pipeline
