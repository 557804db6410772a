// SPDX-License-Identifier: Apache-2.0
// The data plane's statistics segment (dataplane/api/stats.hpp), mapped read-only. Watching costs the workers nothing.
// A restarted data plane makes a new segment: open() again at each connect. Owner thread: io_context.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>

#include <tl/expected.hpp>

#include "dataplane/api/stats.hpp"

namespace tandem::dataplane_client {

class stats_reader {
public:
    stats_reader() = default;
    ~stats_reader() { close(); }
    stats_reader(const stats_reader&) = delete;
    stats_reader& operator=(const stats_reader&) = delete;

    // The error is a sentence.
    tl::expected<void, std::string> open(const std::string& path);
    void close() noexcept;
    [[nodiscard]] bool is_open() const noexcept { return base_ != nullptr; }

    [[nodiscard]] const api::stats_header* header() const noexcept;
    [[nodiscard]] std::size_t workers() const noexcept;
    [[nodiscard]] const api::worker_stats* worker(std::size_t index) const noexcept;
    // The slot's counters, only while it belongs to `id`.
    [[nodiscard]] std::optional<api::flow_stats> flow(std::uint32_t slot, api::flow_id id) const noexcept;
    // By the flow's id alone: through its slot as remembered, else searched once (a flow that another process added).
    [[nodiscard]] std::optional<api::flow_stats> find(api::flow_id id) const;
    // What FLOW_ADD's answer or FLOW_LIST said, so that nothing has to be searched.
    void remember(api::flow_id id, std::uint32_t slot) const { slots_[id] = slot; }

    // Sums over workers.
    [[nodiscard]] std::uint64_t counter(api::counter which) const noexcept;
    [[nodiscard]] std::uint64_t drops(api::drop which) const noexcept; // workers and XDP edge

private:
    const std::byte* base_ = nullptr;
    std::size_t length_ = 0;
    mutable std::unordered_map<api::flow_id, std::uint32_t> slots_; // may be out of date: flow() checks
};

} // namespace tandem::dataplane_client
