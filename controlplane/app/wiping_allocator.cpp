// SPDX-License-Identifier: Apache-2.0
// Every block that this process frees is zeroed first: operator delete in all its forms, and OpenSSL's allocator. So no
// seed, SDES line, JSON request or TLS buffer outlives its use, whichever library held it (keys are gone in 1 s).
// Linked into tandem-controlplane only. The C library's own malloc users (SQLite) never see a key in clear. Any thread.
#include <cstdlib>
#include <cstring>
#include <malloc.h>
#include <new>
#include <openssl/crypto.h>

#include "controlplane/app/wiping_allocator.hpp"

namespace {

void wipe_and_free(void* block) noexcept {
    if (block == nullptr)
        return;
    explicit_bzero(block, malloc_usable_size(block));
    std::free(block);
}

void* take(std::size_t size) {
    for (;;) {
        if (void* block = std::malloc(size == 0 ? 1 : size))
            return block;
        const auto handler = std::get_new_handler();
        if (handler == nullptr)
            throw std::bad_alloc();
        handler();
    }
}

void* take_aligned(std::size_t size, std::size_t alignment) {
    void* block = nullptr;
    if (posix_memalign(&block, alignment < sizeof(void*) ? sizeof(void*) : alignment, size == 0 ? 1 : size) != 0)
        throw std::bad_alloc();
    return block;
}

void* openssl_malloc(std::size_t size, const char*, int) {
    return std::malloc(size);
}

// realloc() would move the bytes and free the old block as it is: here a new one is made and the old one wiped.
void* openssl_realloc(void* block, std::size_t size, const char*, int) {
    if (block == nullptr)
        return std::malloc(size);
    if (size == 0) {
        wipe_and_free(block);
        return nullptr;
    }
    const auto old = malloc_usable_size(block);
    if (size <= old)
        return block;
    void* larger = std::malloc(size);
    if (larger == nullptr)
        return nullptr;
    std::memcpy(larger, block, old);
    wipe_and_free(block);
    return larger;
}

void openssl_free(void* block, const char*, int) {
    wipe_and_free(block);
}

} // namespace

namespace tandem::control {

bool wipe_openssl_memory() noexcept {
    return CRYPTO_set_mem_functions(openssl_malloc, openssl_realloc, openssl_free) == 1;
}

} // namespace tandem::control

void* operator new(std::size_t size) {
    return take(size);
}
void* operator new[](std::size_t size) {
    return take(size);
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
    return std::malloc(size == 0 ? 1 : size);
}
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept {
    return std::malloc(size == 0 ? 1 : size);
}
void* operator new(std::size_t size, std::align_val_t alignment) {
    return take_aligned(size, static_cast<std::size_t>(alignment));
}
void* operator new[](std::size_t size, std::align_val_t alignment) {
    return take_aligned(size, static_cast<std::size_t>(alignment));
}

void operator delete(void* block) noexcept {
    wipe_and_free(block);
}
void operator delete[](void* block) noexcept {
    wipe_and_free(block);
}
void operator delete(void* block, std::size_t) noexcept {
    wipe_and_free(block);
}
void operator delete[](void* block, std::size_t) noexcept {
    wipe_and_free(block);
}
void operator delete(void* block, const std::nothrow_t&) noexcept {
    wipe_and_free(block);
}
void operator delete[](void* block, const std::nothrow_t&) noexcept {
    wipe_and_free(block);
}
void operator delete(void* block, std::align_val_t) noexcept {
    wipe_and_free(block);
}
void operator delete[](void* block, std::align_val_t) noexcept {
    wipe_and_free(block);
}
void operator delete(void* block, std::size_t, std::align_val_t) noexcept {
    wipe_and_free(block);
}
void operator delete[](void* block, std::size_t, std::align_val_t) noexcept {
    wipe_and_free(block);
}
