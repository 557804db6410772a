// SPDX-License-Identifier: Apache-2.0
// The audit log: who looked at packets, when, with which filter. One JSON object a line, appended and on the disk
// before the function returns; mode 0600. Owner: the control thread, seldom.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <tl/expected.hpp>

namespace tandem::app {

class audit_log {
public:
    explicit audit_log(std::string path) : path_(std::move(path)) {}

    // `fields`: JSON members that follow time, event, uid and pid; text in them is ours, not a peer's.
    [[nodiscard]] tl::expected<void, std::string> write(std::string_view event, std::uint32_t uid, std::uint32_t pid,
                                                        std::string_view fields) const;
    [[nodiscard]] const std::string& path() const noexcept { return path_; }

private:
    std::string path_;
};

} // namespace tandem::app
