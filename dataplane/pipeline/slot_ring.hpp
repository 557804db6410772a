// SPDX-License-Identifier: Apache-2.0
// Fixed slots from one thread to one other: the worker writes what an operator watches, the control thread reads it.
// All memory is taken and touched when the ring is made, and wiped when it goes. A full ring gives no slot; the writer
// counts that and goes on.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstring>
#include <memory>

namespace tandem::pipeline {

class slot_ring {
public:
    // `slots` is a power of two, `slot_bytes` a multiple of 8. Throws std::bad_alloc.
    slot_ring(std::size_t slot_bytes, std::size_t slots)
        : slot_bytes_(slot_bytes), mask_(slots - 1), memory_(std::make_unique<std::byte[]>(slot_bytes * slots)) {}
    ~slot_ring() { explicit_bzero(memory_.get(), slot_bytes_ * (mask_ + 1)); }
    slot_ring(const slot_ring&) = delete;
    slot_ring& operator=(const slot_ring&) = delete;

    // --- the writer: claim, fill, publish
    [[nodiscard]] std::byte* claim() noexcept {
        const std::size_t head = head_.load(std::memory_order_relaxed);
        if (head - tail_.load(std::memory_order_acquire) > mask_)
            return nullptr;
        return at(head);
    }
    void publish() noexcept { head_.store(head_.load(std::memory_order_relaxed) + 1, std::memory_order_release); }

    // --- the reader: the oldest slot, or null; pop gives it back
    [[nodiscard]] const std::byte* front() const noexcept {
        const std::size_t tail = tail_.load(std::memory_order_relaxed);
        return tail == head_.load(std::memory_order_acquire) ? nullptr : at(tail);
    }
    void pop() noexcept { tail_.store(tail_.load(std::memory_order_relaxed) + 1, std::memory_order_release); }

private:
    [[nodiscard]] std::byte* at(std::size_t n) const noexcept { return memory_.get() + (n & mask_) * slot_bytes_; }

    std::size_t slot_bytes_;
    std::size_t mask_;
    std::unique_ptr<std::byte[]> memory_;
    alignas(64) std::atomic<std::size_t> head_{0};
    alignas(64) std::atomic<std::size_t> tail_{0};
};

} // namespace tandem::pipeline
