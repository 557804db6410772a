// SPDX-License-Identifier: Apache-2.0
// A log entry is one line of text, whatever stands in it: a Call-ID is anybody's to choose, and may hold line ends and
// what terminals obey. Any thread, as spdlog's own formatters.
#pragma once

#include <memory>
#include <string>

#include <spdlog/pattern_formatter.h>

namespace tandem::protocol {

class one_line_log final : public spdlog::formatter {
public:
    explicit one_line_log(const std::string& pattern)
        : pattern_(pattern), line_(pattern, spdlog::pattern_time_type::local, "") {}

    void format(const spdlog::details::log_msg& entry, spdlog::memory_buf_t& out) override {
        const auto start = out.size();
        line_.format(entry, out);
        for (auto at = start; at < out.size(); ++at)
            if (const auto c = static_cast<unsigned char>(out[at]); (c < 0x20 && c != '\t') || c == 0x7f)
                out[at] = '?';
        out.push_back('\n');
    }
    [[nodiscard]] std::unique_ptr<spdlog::formatter> clone() const override {
        return std::make_unique<one_line_log>(pattern_);
    }

private:
    std::string pattern_;
    spdlog::pattern_formatter line_;
};

} // namespace tandem::protocol
