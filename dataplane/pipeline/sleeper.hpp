// SPDX-License-Identifier: Apache-2.0
// How a worker waits when its queues are empty, and how others wake it.
//
// No wake-up is lost: who sleeps first says so (announce), then looks at its rings once more, then sleeps; who brings
// something first puts it into the ring, then looks whether the other sleeps (wake). One of the two sees the other's
// store, because a full fence stands between the two steps on both sides. Packets of a port need no word: the kernel
// marks the descriptor ready when they come, also between the last poll and the sleep (epoll(7), edge-triggered).
// Threads: announce, sleep and awake on the worker's own; wake on any.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

namespace tandem::pipeline {

enum class idle_mode : std::uint8_t {
    adaptive,  // polls on for a short while, then sleeps
    poll,      // never sleeps: lowest delay, burns its core
    interrupt, // sleeps as soon as its queues are empty
};

struct idle_config {
    idle_config(idle_mode how = idle_mode::adaptive) noexcept : mode(how) {} // NOLINT: a mode alone will do
    idle_mode mode;
    std::uint32_t budget_us = 100;  // adaptive: polls that long after its last packet
    std::vector<int> descriptors{}; // ready when a receive queue of this worker has packets; not owned
    bool every_queue = false;       // each of its queues has one: it may sleep long. Else it naps
};

class sleeper {
public:
    // Throws std::bad_alloc where the kernel gives no descriptor (start only).
    explicit sleeper(std::span<const int> descriptors, bool every_queue);
    ~sleeper();
    sleeper(const sleeper&) = delete;
    sleeper& operator=(const sleeper&) = delete;

    // --- the worker
    void announce() noexcept {
        asleep_.store(true, std::memory_order_relaxed);
        std::atomic_thread_fence(std::memory_order_seq_cst);
    }
    // Until something comes or this long has passed; only naps where a queue could not tell.
    void sleep(std::uint64_t at_most_ns) noexcept;
    void awake() noexcept { asleep_.store(false, std::memory_order_relaxed); }

    // --- anyone, after the thing was put where the worker will look. A system call only where it sleeps; true then.
    bool wake() noexcept {
        std::atomic_thread_fence(std::memory_order_seq_cst);
        if (!asleep_.load(std::memory_order_relaxed) || !asleep_.exchange(false, std::memory_order_relaxed))
            return false;
        ring_bell();
        return true;
    }

private:
    void ring_bell() noexcept;

    alignas(64) std::atomic<bool> asleep_{false};
    int epoll_ = -1;
    int bell_ = -1; // eventfd; edge-triggered, so that nobody has to read it
    bool every_queue_;
};

} // namespace tandem::pipeline
