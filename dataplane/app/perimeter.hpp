// SPDX-License-Identifier: Apache-2.0
// The inner networks, as the control plane told them: each port's XDP edge drops their packets where they may not come
// from. Kept in a file of run_dir, so that a data plane that follows this one guards them from its first frame on, also
// while there is no control plane. Owner: the control thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "dataplane/api/contract.hpp"
#include "dataplane/io/port.hpp"

namespace tandem::app {

class perimeter {
public:
    explicit perimeter(std::string path) : path_(std::move(path)) {}

    // Before the port is started: what was in force last. Nothing, where nothing was.
    void set_up(const io::port& port) const;

    // In force on all ports and in the file; `named`: how many of its `from` are among the ports. A refusal changes
    // nothing.
    [[nodiscard]] api::status change(const api::inner_perimeter& to, const std::vector<io::port>& ports,
                                     std::uint32_t& named) const;

private:
    [[nodiscard]] std::optional<api::inner_perimeter> read() const;
    [[nodiscard]] bool write(const api::inner_perimeter& what) const;

    std::string path_;
};

// Lengths and prefixes that can be true.
[[nodiscard]] bool is_sound(const api::inner_perimeter& p) noexcept;

} // namespace tandem::app
