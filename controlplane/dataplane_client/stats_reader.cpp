// SPDX-License-Identifier: Apache-2.0
// Statistics segment, read side: checks the layout once at open, then only reads. Owner thread: io_context.
#include "controlplane/dataplane_client/stats_reader.hpp"

#include <atomic>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace tandem::dataplane_client {

tl::expected<void, std::string> stats_reader::open(const std::string& path) {
    close();
    const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return tl::unexpected(fmt::format("cannot open the statistics segment {}: {}", path, std::strerror(errno)));
    struct stat info {};
    const bool sized = ::fstat(file, &info) == 0 && info.st_size >= static_cast<off_t>(sizeof(api::stats_header));
    void* memory =
        sized ? ::mmap(nullptr, static_cast<std::size_t>(info.st_size), PROT_READ, MAP_SHARED, file, 0) : MAP_FAILED;
    ::close(file);
    if (memory == MAP_FAILED)
        return tl::unexpected(fmt::format("the statistics segment {} is too short or cannot be mapped", path));
    base_ = static_cast<const std::byte*>(memory);
    length_ = static_cast<std::size_t>(info.st_size);

    const auto* head = header();
    const auto fits = [&](std::uint64_t offset, std::uint64_t bytes) {
        return offset <= length_ && bytes <= length_ - offset;
    };
    if (head->magic != api::stats_magic || head->version != api::stats_version ||
        !fits(head->worker_offset, head->workers * sizeof(api::worker_stats)) ||
        !fits(head->flow_offset, head->max_flows * sizeof(api::flow_stats))) {
        close();
        return tl::unexpected(
            fmt::format("{} is not a statistics segment of this version: update both programs together", path));
    }
    return {};
}

void stats_reader::close() noexcept {
    if (base_ != nullptr)
        ::munmap(const_cast<std::byte*>(base_), length_);
    base_ = nullptr;
    length_ = 0;
    slots_.clear();
}

const api::stats_header* stats_reader::header() const noexcept {
    return reinterpret_cast<const api::stats_header*>(base_);
}

std::size_t stats_reader::workers() const noexcept {
    return base_ != nullptr ? header()->workers : 0;
}

const api::worker_stats* stats_reader::worker(std::size_t index) const noexcept {
    if (index >= workers())
        return nullptr;
    return reinterpret_cast<const api::worker_stats*>(base_ + header()->worker_offset) + index;
}

std::optional<api::flow_stats> stats_reader::flow(std::uint32_t slot, api::flow_id id) const noexcept {
    if (base_ == nullptr || slot >= header()->max_flows)
        return std::nullopt;
    const auto* shared = reinterpret_cast<const api::flow_stats*>(base_ + header()->flow_offset) + slot;
    api::flow_stats copy;
    std::memcpy(&copy, shared, sizeof(copy));
    std::atomic_signal_fence(std::memory_order_seq_cst);
    if (copy.id != id)
        return std::nullopt;
    return copy;
}

std::optional<api::flow_stats> stats_reader::find(api::flow_id id) const {
    if (base_ == nullptr)
        return std::nullopt;
    if (const auto known = slots_.find(id); known != slots_.end())
        if (const auto found = flow(known->second, id))
            return found;
    const auto* first = reinterpret_cast<const api::flow_stats*>(base_ + header()->flow_offset);
    for (std::uint32_t slot = 0; slot < header()->max_flows; ++slot)
        if (const api::flow_id at = first[slot].id; at != 0) {
            slots_[at] = slot;
            if (at == id)
                return flow(slot, id);
        }
    slots_.erase(id);
    return std::nullopt;
}

std::uint64_t stats_reader::counter(api::counter which) const noexcept {
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < workers(); ++i)
        sum += worker(i)->counters[static_cast<std::size_t>(which)];
    return sum;
}

std::uint64_t stats_reader::drops(api::drop which) const noexcept {
    const auto at = static_cast<std::size_t>(which);
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < workers(); ++i)
        sum += worker(i)->drops[at];
    if (base_ != nullptr && api::by_edge(which))
        sum += header()->edge[at];
    return sum;
}

} // namespace tandem::dataplane_client
