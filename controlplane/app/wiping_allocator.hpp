// SPDX-License-Identifier: Apache-2.0
// Memory that is freed is zero. operator delete is replaced by linking wiping_allocator.cpp; OpenSSL's allocator by
// calling this.
#pragma once

namespace tandem::control {

// Before OpenSSL's first allocation, so first thing in main(). False where that is over.
bool wipe_openssl_memory() noexcept;

} // namespace tandem::control
