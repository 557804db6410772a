// SPDX-License-Identifier: Apache-2.0
// Every block that this process frees is zeroed first: operator delete in all its forms, and OpenSSL's allocator. So no
// seed, SDES line, JSON request or TLS buffer outlives its use, whichever library held it (reliability goal 4: keys
// gone in 1 s). Linked into tandem-controlplane only. The C library's own malloc users (SQLite) never see a key in
// clear. Any thread.
#include <array>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <malloc.h>
#include <new>
#include <openssl/crypto.h>

#include "controlplane/app/wiping_allocator.hpp"

namespace {

// Coroutine frames and replies are of 1 to 8 KiB: more than the C library's thread cache takes, and its slow path was
// felt in every request. So the main thread keeps some of them by size, zeroed as all that is freed. Not where ASan
// must see each block go.
struct shelf {
    static constexpr std::array<std::size_t, 6> sizes{1536, 2048, 3072, 4096, 6144, 8192};
    static constexpr std::size_t smallest = 1033, most_of_a_size = 64;
    std::array<void*, sizes.size()> first{}; // a kept block's first word is the next one
    std::array<std::size_t, sizes.size()> kept{};
    bool open = false;
};
constinit thread_local shelf shelf_of_thread;

#if defined(__SANITIZE_ADDRESS__)
constexpr bool keeps_blocks = false;
#else
constexpr bool keeps_blocks = true;
#endif

// The class of blocks that hold `size` bytes; as many as there are classes where none does.
std::size_t class_for(std::size_t size) noexcept {
    std::size_t i = 0;
    while (i < shelf::sizes.size() && shelf::sizes[i] < size)
        ++i;
    return i;
}

bool keep(void* block, std::size_t usable) noexcept {
    auto& mine = shelf_of_thread;
    if (!mine.open || usable < shelf::sizes.front() || usable >= 2 * shelf::sizes.back())
        return false;
    auto i = class_for(usable);
    if (i == shelf::sizes.size() || shelf::sizes[i] > usable)
        --i;
    if (mine.kept[i] == shelf::most_of_a_size)
        return false;
    ++mine.kept[i];
    std::memcpy(block, &mine.first[i], sizeof(void*));
    mine.first[i] = block;
    return true;
}

// A kept block, or a new one of the class's size; `size` itself for all other sizes and threads.
void* take_once(std::size_t size) noexcept {
    auto& mine = shelf_of_thread;
    if (!mine.open || size < shelf::smallest || size > shelf::sizes.back())
        return std::malloc(size == 0 ? 1 : size);
    const auto i = class_for(size);
    void* block = mine.first[i];
    if (block == nullptr)
        return std::malloc(shelf::sizes[i]);
    std::memcpy(&mine.first[i], block, sizeof(void*));
    std::memset(block, 0, sizeof(void*));
    --mine.kept[i];
    return block;
}

void wipe_and_free(void* block) noexcept {
    if (block == nullptr)
        return;
    const auto usable = malloc_usable_size(block);
    explicit_bzero(block, usable);
    if (!keep(block, usable))
        std::free(block);
}

void* take(std::size_t size) {
    for (;;) {
        if (void* block = take_once(size))
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
    shelf_of_thread.open = keeps_blocks;
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
