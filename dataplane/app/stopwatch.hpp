// SPDX-License-Identifier: Apache-2.0
// What a start spent its time on, for one line of the log.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include <fmt/format.h>

namespace tandem::app {

class stopwatch {
public:
    void passed(std::string_view part) {
        const auto now = clock::now();
        text_ += fmt::format("{}{} {:.1f}", text_.empty() ? "" : ", ", part, ms(now - last_));
        last_ = now;
    }
    [[nodiscard]] const std::string& text() const noexcept { return text_; }
    [[nodiscard]] long total_ms() const { return static_cast<long>(ms(clock::now() - begin_)); }

private:
    using clock = std::chrono::steady_clock;
    static double ms(clock::duration d) { return std::chrono::duration<double, std::milli>(d).count(); }

    clock::time_point begin_ = clock::now(), last_ = begin_;
    std::string text_{};
};

} // namespace tandem::app
