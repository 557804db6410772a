// SPDX-License-Identifier: Apache-2.0
// Counters and drops straight from the data plane's stats segment: costs the workers nothing, needs no control plane.
#pragma once

#include <string>

#include "tools/tandemctl/ops_client.hpp"

namespace tandem::ctl {

class stats_view {
public:
    // Maps the file read-only and checks magic, version and sizes.
    [[nodiscard]] static result<stats_view> open(const std::string& path);
    [[nodiscard]] static std::string path_of(const std::string& instance) {
        return "/dev/shm/tandem-" + instance + ".stats";
    }

    stats_view(stats_view&& other) noexcept;
    stats_view& operator=(stats_view&&) = delete;
    stats_view(const stats_view&) = delete;
    ~stats_view();

    // The same forms as the ops verbs of these names (controlplane/app/README.md).
    [[nodiscard]] json counters() const;
    [[nodiscard]] json drops() const;
    // Workers as they are: api::worker_sight with the counters of idling, and the TSC of this moment.
    [[nodiscard]] json workers() const;
    // Seconds since the data plane's last heartbeat.
    [[nodiscard]] double silence() const;

private:
    stats_view(const void* memory, std::size_t size) : memory_(memory), size_(size) {}
    const void* memory_;
    std::size_t size_;
};

} // namespace tandem::ctl
