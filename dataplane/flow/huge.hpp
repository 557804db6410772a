// SPDX-License-Identifier: Apache-2.0
// Memory for tables that are walked at random by a worker: on huge pages where the kernel has them for ordinary memory
// (transparent_hugepage = madvise or always), so that a packet costs no walk of page tables. Threads: any.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>
#include <sys/mman.h>

namespace tandem::flow {

inline constexpr std::size_t huge_page = std::size_t{2} << 20;

template <class T>
struct huge_allocator {
    using value_type = T;
    huge_allocator() = default;
    template <class U>
    huge_allocator(const huge_allocator<U>&) noexcept {} // NOLINT: as allocators must convert

    [[nodiscard]] T* allocate(std::size_t count) {
        const std::size_t bytes = count * sizeof(T);
        const std::size_t align = bytes < huge_page ? 64 : huge_page;
        void* const memory = std::aligned_alloc(align, (bytes + align - 1) / align * align);
        if (memory == nullptr)
            throw std::bad_alloc();
        if (align == huge_page)
            madvise(memory, (bytes + align - 1) / align * align, MADV_HUGEPAGE); // a wish: without it, slower
        return static_cast<T*>(memory);
    }
    void deallocate(T* memory, std::size_t) noexcept { std::free(memory); }
    template <class U>
    bool operator==(const huge_allocator<U>&) const noexcept {
        return true;
    }
};

} // namespace tandem::flow
