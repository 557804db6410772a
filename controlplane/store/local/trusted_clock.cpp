// SPDX-License-Identifier: Apache-2.0
// Trust in the wall's clock (trusted_clock.hpp).
#include "controlplane/store/local/trusted_clock.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

#include "controlplane/store/rows.hpp"

namespace tandem::store {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds largest_drift = std::chrono::minutes(5); // more than time daemons step in a day
constexpr milliseconds longest_off = std::chrono::hours(24);    // a machine may have been so long

bool one_boot(const protocol::moment& a, const protocol::moment& b) {
    return a.boot != 0 && a.boot == b.boot;
}

bool goes_on(const protocol::moment& from, const protocol::moment& to) {
    if (one_boot(from, to))
        return std::chrono::abs(protocol::clock_set(from, to)) <= largest_drift;
    const auto gone = to.wall - from.wall;
    return gone >= -largest_drift && gone <= longest_off;
}

nlohmann::json moment_json(const protocol::moment& one) {
    return {in_ms(one.wall), one.up.count(), one.boot};
}
protocol::moment moment_from(const nlohmann::json& value) {
    return {from_ms(value.at(0)), milliseconds(value.at(1).get<std::int64_t>()), value.at(2)};
}

std::string day_text(std::chrono::system_clock::time_point when) {
    return fmt::format("{:%Y-%m-%d %H:%M}", fmt::gmtime(std::chrono::system_clock::to_time_t(when)));
}

} // namespace

bool trusted_clock::load(std::string_view text) {
    try {
        const auto value = nlohmann::json::parse(text);
        const auto trusted = moment_from(value.at("trusted")), doubted = moment_from(value.at("doubted"));
        steady_ = milliseconds(value.at("steady_ms").get<std::int64_t>());
        trusted_ = trusted;
        doubted_ = doubted;
        return true;
    } catch (const std::exception&) {
        return false;
    }
}

std::string trusted_clock::text() const {
    return nlohmann::json{
        {"trusted", moment_json(trusted_)}, {"doubted", moment_json(doubted_)}, {"steady_ms", steady_.count()}}
        .dump();
}

void trusted_clock::start_from(std::chrono::system_clock::time_point newest_record) {
    trusted_ = {newest_record, {}, 0};
}

void trusted_clock::look(const protocol::moment& now) {
    if (const auto set = protocol::clock_set(last_, now); set.count() != 0) {
        ++jumps;
        spdlog::warn("the clock was set by {:+.1f} s: calls and their durations do not follow it",
                     static_cast<double>(set.count()) / 1000.0);
    }
    last_ = now;
    if (!trusted_.was() || goes_on(trusted_, now)) {
        accept(now);
        return;
    }
    const bool steadily = doubted_.was() && goes_on(doubted_, now);
    if (!steadily)
        steady_ = {};
    else if (one_boot(doubted_, now))
        steady_ += protocol::between(doubted_, now);
    doubted_ = now;
    if (steady_ >= believe_after_)
        accept(now);
}

void trusted_clock::accept(const protocol::moment& now) {
    trusted_ = now;
    doubted_ = {};
    steady_ = {};
}

protocol::moment trusted_clock::expected() const {
    auto about = trusted_;
    if (one_boot(trusted_, doubted_))
        about.wall += protocol::between(trusted_, doubted_);
    return about;
}

std::string trusted_clock::doubt() const {
    if (trusted())
        return {};
    return fmt::format(
        "the clock says {} UTC, by the last time it was trusted it should be about {}: no call record is "
        "deleted by its age; set the clock right, or say `tandemctl clock accept` where it is",
        day_text(doubted_.wall), day_text(expected().wall));
}

} // namespace tandem::store
