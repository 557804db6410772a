// SPDX-License-Identifier: Apache-2.0
// The stats segment's file (dataplane/api/stats.hpp): made or taken over at start, unlinked on a clean exit, left
// behind by a crash so that the next data plane counts on. A lock file beside it (/run/tandem): two instances of one
// name cannot share it, and nobody else can hold it. Owner: the control thread. No key is ever in it.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <utility>

#include <tl/expected.hpp>

#include "bpf/loader/lock_file.hpp"
#include "dataplane/api/stats.hpp"

namespace tandem::app {

class stats_file {
public:
    static constexpr int first_fd = bpf::lock_file::first_descriptor;
    [[nodiscard]] static tl::expected<stats_file, std::string> open(const std::string& path, unsigned workers,
                                                                    std::uint32_t max_flows);
    stats_file(stats_file&& other) noexcept;
    stats_file& operator=(stats_file&&) = delete;
    ~stats_file();

    [[nodiscard]] api::stats_header& header() const noexcept { return *header_; }
    [[nodiscard]] std::span<api::worker_stats> workers() const noexcept { return workers_; }
    [[nodiscard]] std::span<api::flow_stats> flows() const noexcept { return flows_; }
    [[nodiscard]] const std::string& path() const noexcept { return path_; }
    void in_service() noexcept { made_here_ = false; } // from now on it outlives a crash of this process
    void let_go() noexcept;                            // another data plane goes on with it
    void remove() noexcept;                            // clean exit

private:
    explicit stats_file(bpf::lock_file lock) noexcept : lock_(std::move(lock)) {}

    std::optional<bpf::lock_file> lock_;
    std::string path_;
    int fd_ = -1;
    bool made_here_ = false; // and not in service yet: a failed start takes it away again
    std::size_t bytes_ = 0;
    api::stats_header* header_ = nullptr;
    std::span<api::worker_stats> workers_;
    std::span<api::flow_stats> flows_;
};

} // namespace tandem::app
