// SPDX-License-Identifier: Apache-2.0
// Making, sealing, mapping, populating and checking the state memory (memfd_create(2), fcntl(2) F_ADD_SEALS).
#include "dataplane/flow/memory.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

#include <fmt/format.h>

namespace tandem::flow {

namespace {

constexpr std::size_t page = 4096;
constexpr std::size_t rounded(std::size_t bytes) noexcept {
    return (bytes + page - 1) & ~(page - 1);
}

struct offsets {
    std::size_t blocks, streams, keys, total;
};

offsets layout(std::uint32_t max_flows) noexcept {
    offsets o{};
    o.blocks = rounded(sizeof(memory_header));
    o.streams = o.blocks + rounded(sizeof(flow_block) * (std::size_t{max_flows} + spare_slots));
    o.keys = o.streams + rounded(stream_pool::bytes(further_streams(max_flows)));
    o.total = o.keys + rounded(crypto::key_pool::bytes(max_flows * keys_per_flow));
    return o;
}

// Touches every page of the flows' part now, so that no worker ever waits for one. The kernel clears gigabytes (a
// million flows) at some microseconds a page: several threads share that. What fails here is noticed by mlock() after
// it.
void populate(void* at, std::size_t bytes) {
    constexpr std::size_t slice = std::size_t{64} << 20;
    std::atomic<std::size_t> next{0};
    const auto touch = [&] {
        for (std::size_t from = next.fetch_add(slice); from < bytes; from = next.fetch_add(slice))
            madvise(static_cast<std::byte*>(at) + from, std::min(slice, bytes - from), MADV_POPULATE_WRITE);
    };
    const std::size_t threads = std::min<std::size_t>({bytes / slice, std::thread::hardware_concurrency(), 8});
    std::vector<std::thread> helpers; // they inherit this thread's memory policy
    for (std::size_t i = 1; i < threads; ++i)
        helpers.emplace_back(touch);
    touch();
    for (auto& helper : helpers)
        helper.join();
}

memory_error system_error(std::string_view what) {
    return {memory_error::kind::system, fmt::format("{}: {}", what, std::strerror(errno))};
}

tl::unexpected<memory_error> layout_error(std::string text) {
    return tl::unexpected(memory_error{memory_error::kind::layout, std::move(text)});
}

} // namespace

memory::memory(memory&& other) noexcept {
    *this = std::move(other);
}

memory& memory::operator=(memory&& other) noexcept {
    std::swap(base_, other.base_);
    std::swap(bytes_, other.bytes_);
    std::swap(header_, other.header_);
    std::swap(blocks_, other.blocks_);
    std::swap(streams_, other.streams_);
    std::swap(keys_, other.keys_);
    std::swap(fresh_, other.fresh_);
    std::swap(locked_, other.locked_);
    return *this;
}

memory::~memory() {
    if (base_ != nullptr)
        munmap(base_, bytes_);
}

tl::expected<memory, memory_error> memory::make(std::uint32_t max_flows) {
    const int fd = memfd_create("tandem-state", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return tl::unexpected(system_error("memfd_create"));
    auto made = adopt(fd, max_flows);
    close(fd);
    return made;
}

tl::expected<memory, memory_error> memory::adopt(int fd, std::uint32_t max_flows) {
    struct stat status {};
    if (fstat(fd, &status) != 0)
        return tl::unexpected(system_error(fmt::format("state memory (descriptor {})", fd)));
    if (status.st_size == 0) {
        const std::size_t bytes = layout(max_flows).total;
        if (ftruncate(fd, static_cast<off_t>(bytes)) != 0)
            return tl::unexpected(system_error(fmt::format("state memory of {} MiB", bytes >> 20)));
        if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
            return tl::unexpected(system_error("sealing the state memory"));
        auto made = map(fd, bytes);
        if (made)
            made->lay_out(max_flows);
        return made;
    }
    const auto bytes = static_cast<std::size_t>(status.st_size);
    if (bytes < rounded(sizeof(memory_header)))
        return layout_error("shorter than its header");
    auto mapped = map(fd, bytes);
    if (!mapped)
        return mapped;
    if (auto wrong = mapped->check(bytes); !wrong.empty())
        return layout_error(std::move(wrong));
    mapped->find_parts();
    return mapped;
}

tl::expected<memory, memory_error> memory::map(int fd, std::size_t bytes) {
    memory m;
    void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED)
        return tl::unexpected(system_error("mapping the state memory"));
    m.base_ = at;
    m.bytes_ = bytes;
    m.header_ = static_cast<memory_header*>(at);
    if (madvise(at, bytes, MADV_DONTDUMP) != 0)
        return tl::unexpected(system_error("MADV_DONTDUMP on the state memory"));
    madvise(at, bytes, MADV_HUGEPAGE); // where the system lets shared memory have them; no harm elsewhere
    return m;
}

// Nothing of it goes to a disk. The flows' part is there at once; keys' pages when they are first used. The caller says
// it aloud where it failed.
void memory::lock(std::size_t keys) noexcept {
    auto* const begin = static_cast<std::byte*>(base_);
    populate(begin, keys);
    locked_ = mlock2(begin + keys, bytes_ - keys, MLOCK_ONFAULT) == 0 && mlock(begin, keys) == 0;
}

std::string memory::check(std::size_t bytes) const {
    const memory_header& h = *header_;
    if (h.magic != memory_magic)
        return "never completed or not ours (no magic)";
    if (h.version != memory_version)
        return fmt::format("layout version {}, this program has {}", h.version, memory_version);
    if (h.record_bytes != sizeof(record) || h.side_bytes != sizeof(side) || h.key_bytes != sizeof(crypto::key_object))
        return fmt::format("sizes {}/{}/{}, this program has {}/{}/{}", h.record_bytes, h.side_bytes, h.key_bytes,
                           sizeof(record), sizeof(side), sizeof(crypto::key_object));
    if (h.total_bytes != bytes || layout(h.max_flows).total != bytes || h.max_keys != h.max_flows * keys_per_flow ||
        h.max_streams != further_streams(h.max_flows) || h.addresses > api::max_addresses)
        return "its size and its header disagree";
    return {};
}

void memory::lay_out(std::uint32_t max_flows) noexcept {
    memory_header& h = *header_; // the kernel gives zeroed pages
    h.version = memory_version;
    h.record_bytes = sizeof(record);
    h.side_bytes = sizeof(side);
    h.key_bytes = sizeof(crypto::key_object);
    h.max_flows = max_flows;
    h.max_keys = max_flows * keys_per_flow;
    h.max_streams = further_streams(max_flows);
    h.total_bytes = bytes_;
    if (getrandom(&h.generation, sizeof h.generation, 0) != sizeof h.generation)
        h.generation = static_cast<std::uint64_t>(getpid());
    fresh_ = true;
    find_parts();
    std::atomic_ref(h.magic).store(memory_magic, std::memory_order_release);
}

void memory::find_parts() noexcept {
    const offsets o = layout(header_->max_flows);
    auto* base = static_cast<std::byte*>(base_);
    blocks_ = reinterpret_cast<flow_block*>(base + o.blocks);
    streams_ = base + o.streams;
    keys_ = base + o.keys;
    lock(o.keys);
}

} // namespace tandem::flow
