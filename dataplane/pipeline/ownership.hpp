// SPDX-License-Identifier: Apache-2.0
// A buffer changes hands through DPDK's shared libraries (ring driver, buffer pool), into which ThreadSanitizer cannot
// look, or by a ring with several producers, whose order DPDK 22.11 leaves to x86: where that happens it is told.
// Nothing in other builds.
// Threads: whoever gives or takes.
#pragma once

#ifdef __SANITIZE_THREAD__
extern "C" void __tsan_acquire(void* address);
extern "C" void __tsan_release(void* address);
#endif

namespace tandem::pipeline {

// Before it leaves for another thread ...
inline void gives([[maybe_unused]] void* buffer) noexcept {
#ifdef __SANITIZE_THREAD__
    __tsan_release(buffer);
#endif
}
// ... and after it came from one.
inline void takes([[maybe_unused]] void* buffer) noexcept {
#ifdef __SANITIZE_THREAD__
    __tsan_acquire(buffer);
#endif
}

} // namespace tandem::pipeline
