// SPDX-License-Identifier: Apache-2.0
// The two kinds of predictors (predictor.hpp): by length, by a number.
#include "controlplane/policy/predictor.hpp"

#include <fmt/format.h>

namespace tandem::policy {

namespace {

std::string calls(std::size_t n) {
    return fmt::format("{} call{}", n, n == 1 ? "" : "s");
}

class duration_predictor final : public predictor {
public:
    explicit duration_predictor(const config& settings)
        : of_(settings.duration_of), least_calls_(settings.least_calls), steps_(settings.duration) {}

    [[nodiscard]] std::string_view name() const noexcept override { return "duration"; }

    [[nodiscard]] prediction predict(const protocol::summary& history) const override {
        if (history.calls < least_calls_ || history.calls == 0)
            return {{},
                    fmt::format("{} known, {} needed", calls(history.calls), std::max<std::size_t>(1, least_calls_))};
        const auto expected = of_ == "mean" ? history.mean : of_ == "last" ? history.last : history.median;
        const auto text = fmt::format("{} of {}: {:.0f} s", of_, calls(history.calls),
                                      static_cast<double>(expected.count()) / 1000.0);
        const duration_step* reached = nullptr;
        for (const auto& step : steps_)
            if (expected >= step.at_least)
                reached = &step;
        if (reached == nullptr)
            return {{}, fmt::format("{}, below the first threshold of {} s", text, steps_.front().at_least.count())};
        return {reached->level, fmt::format("{}, at least {} s", text, reached->at_least.count())};
    }

private:
    std::string of_;
    std::size_t least_calls_;
    std::vector<duration_step> steps_; // rising, at least one
};

class count_predictor final : public predictor {
public:
    count_predictor(std::string name, std::size_t protocol::summary::*of, std::vector<count_step> steps)
        : name_(std::move(name)), of_(of), steps_(std::move(steps)) {}

    [[nodiscard]] std::string_view name() const noexcept override { return name_; }

    [[nodiscard]] prediction predict(const protocol::summary& history) const override {
        const auto number = history.*of_;
        const count_step* reached = nullptr;
        for (const auto& step : steps_)
            if (number >= step.at_least)
                reached = &step;
        if (reached == nullptr)
            return {{}, fmt::format("{} {}, below the first threshold of {}", number, name_, steps_.front().at_least)};
        return {reached->level, fmt::format("{} {}, at least {}", number, name_, reached->at_least)};
    }

private:
    std::string name_;
    std::size_t protocol::summary::*of_;
    std::vector<count_step> steps_; // rising, at least one
};

} // namespace

std::unique_ptr<predictor> make_duration_predictor(const config& settings) {
    return std::make_unique<duration_predictor>(settings);
}

std::unique_ptr<predictor> make_count_predictor(std::string name, std::size_t protocol::summary::*of,
                                                std::vector<count_step> steps) {
    return std::make_unique<count_predictor>(std::move(name), of, std::move(steps));
}

std::vector<std::unique_ptr<predictor>> make_predictors(const config& settings) {
    std::vector<std::unique_ptr<predictor>> made;
    if (!settings.duration.empty())
        made.push_back(make_duration_predictor(settings));
    if (!settings.calls.empty())
        made.push_back(make_count_predictor("calls", &protocol::summary::calls, settings.calls));
    if (!settings.failures.empty())
        made.push_back(make_count_predictor("failures", &protocol::summary::failures, settings.failures));
    return made;
}

} // namespace tandem::policy
