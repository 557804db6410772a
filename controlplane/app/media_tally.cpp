// SPDX-License-Identifier: Apache-2.0
// See media_tally.hpp.
#include "controlplane/app/media_tally.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

namespace tandem::control {

namespace {

std::string legs_text(const media::media_info& media) {
    const auto leg = [](const media::leg_info& of) {
        return fmt::format("{} {}", of.kind == media::leg_kind::unit ? "unit" : "core", of.suite);
    };
    return fmt::format("{}, {}", leg(media.legs[0]), leg(media.legs[1]));
}

template <class Value>
Value more(Value now, Value before) {
    return now > before ? now - before : Value{}; // packets that came late are lost no more
}

} // namespace

media_tally::sums media_tally::of(const media::media_info& media) {
    sums out;
    for (const auto& leg : media.legs) {
        out.packets += leg.received.packets;
        out.bytes += leg.received.bytes;
        out.lost += leg.received.lost;
    }
    out.seconds = media.seconds;
    return out;
}

void media_tally::begin(const media::media_info& media, beginning how) {
    auto& told = up_[media.id];
    if (how == beginning::taken_over)
        return; // the take-over says it of all together
    told.emplace();
    ++begun_;
    spdlog::info("media {} of call {} is up: {}{}", media.id, media.call_id, legs_text(media),
                 media.level.name.empty() ? "" : fmt::format(", level {} ({})", media.level.name, media.decided_by));
}

void media_tally::tick(const media::media_info& media) {
    auto& told = up_[media.id];
    const auto now = of(media);
    if (told) {
        carried_.packets += more(now.packets, told->packets);
        carried_.bytes += more(now.bytes, told->bytes);
        carried_.lost += more(now.lost, told->lost);
        carried_.seconds += more(now.seconds, told->seconds);
    }
    told = now;
}

void media_tally::end(const media::media_info& media, ending how, const std::string& cause) {
    tick(media);
    up_.erase(media.id);
    if (how == ending::over)
        spdlog::info("media {} of call {} ended: {} ({} re-keys)", media.id, media.call_id, cause, media.rekeys);
}

} // namespace tandem::control
