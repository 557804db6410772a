// SPDX-License-Identifier: Apache-2.0
// What a media looks like from outside: counters (statistics segment), info, journal row, record. Owner thread:
// io_context.
#include <algorithm>
#include <utility>

#include "controlplane/media/state.hpp"

namespace tandem::media {

namespace {

std::uint64_t below(std::uint64_t a, std::uint64_t b) noexcept {
    return a > b ? a - b : 0;
}

void add(direction_stats& sum, const direction_stats& more) noexcept {
    sum.packets += more.packets;
    sum.bytes += more.bytes;
    sum.lost += more.lost;
    sum.auth_failures += more.auth_failures;
    sum.replays += more.replays;
    sum.drops += more.drops;
    sum.wrong_source += more.wrong_source;
    sum.sent_on += more.sent_on;
    sum.reports += more.reports;
    if (more.reports != 0) { // the last report's
        sum.reported_lost = more.reported_lost;
        sum.jitter_ms = more.jitter_ms;
    }
    sum.max_jitter_ms = std::max(sum.max_jitter_ms, more.max_jitter_ms);
}

double seconds_since(std::uint64_t monotonic_ns) noexcept {
    if (monotonic_ns == 0)
        return -1;
    const auto now = static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
            .count());
    return static_cast<double>(below(now, monotonic_ns)) / 1e9;
}

std::string_view name_of(api::source_rule rule) noexcept {
    switch (rule) {
    case api::source_rule::none:
        break;
    case api::source_rule::anyone:
        return "anyone";
    case api::source_rule::network:
        return "network";
    case api::source_rule::received_from:
        return "received-from";
    case api::source_rule::address:
        return "address";
    case api::source_rule::signalled:
        return "signalled";
    case api::source_rule::followed:
        return "followed";
    case api::source_rule::authenticated:
        return "authenticated";
    }
    return {};
}

// What a live media and its record say alike.
facts told(const facts& known, bool has_unit) {
    auto out = known;
    if (has_unit)
        return out;
    out.level = facts().level;
    out.decided_by.clear();
    out.why.clear();
    return out;
}

} // namespace

std::optional<api::flow_stats> manager::stats_of(api::flow_id id) const {
    return stats_.find(id);
}

direction_stats manager::received(const state& m, std::size_t i) const {
    direction_stats sum = m.legs[i].before;
    sum.seconds_since_packet = -1;
    if (!m.installed)
        return sum;
    const auto shapes = m.now.shapes();
    const auto ms = [&](std::uint32_t units) { return 1000.0 * units / std::max(m.now.clock_rate, 1U); };
    for (const auto flow : flows_from(shapes, i)) {
        const auto seen = stats_of(flow);
        if (!seen)
            continue;
        direction_stats now;
        now.auth_failures = seen->auth_failures;
        now.replays = seen->replays;
        now.drops = seen->other_drops;
        now.wrong_source = seen->wrong_source;
        now.reports = seen->reports; // its RTCP says what this leg's end hears of us
        now.reported_lost = static_cast<std::uint64_t>(std::max(api::reported_cumulative(*seen), 0));
        now.jitter_ms = ms(seen->reported_jitter);
        now.max_jitter_ms = ms(seen->reported_jitter_max);
        if (flow == shapes[i].rtp()) { // RTP; RTCP is not counted as media
            now.packets = seen->rx_packets;
            now.bytes = seen->rx_bytes;
            now.lost =
                below(seen->expected, seen->rx_packets); // RFC 3550 A.3; duplicates do not count as negative loss
            now.sent_on = seen->tx_packets;
            sum.seconds_since_packet = seconds_since(seen->last_packet_ns);
        }
        add(sum, now);
    }
    return sum;
}

media_info manager::describe(const state& m) const {
    media_info out;
    static_cast<facts&>(out) = told(m, m.now.has_unit());
    out.active = m.installed && !m.early;
    const auto& since = out.active ? m.answered : m.opened;
    out.seconds = std::chrono::duration<double>(protocol::between(since, protocol::moment::now())).count();
    for (std::size_t i = 0; i < 2; ++i) {
        const auto& l = m.legs[i];
        const auto& terms = m.now.legs[i];
        auto& to = out.legs[i];
        to.kind = terms.kind;
        to.unit = terms.unit;
        to.local = to.outer = terms.local;
        if (terms.is_unit() && terms.port) {
            to.outer.rtp = {terms.port->address, terms.port->port};
            to.outer.rtcp = to.outer.rtp;
            to.outer.rtcp.port = static_cast<std::uint16_t>(to.outer.rtp.port + (terms.mux ? 0 : 1));
        }
        to.suite = api::info(terms.suite).name;
        to.epoch = l.epoch;
        if (terms.is_unit() && l.current.known())
            to.keys = l.current.source;
        to.received = received(m, i);
        if (!terms.is_unit() && terms.suite == api::suite::clear)
            to.learning = name_of(terms.source.how.value_or(learning::once));
        if (l.latched) {
            to.remote = l.latched;
            to.source_rule = name_of(l.rule);
            to.source_seconds =
                std::chrono::duration<double>(std::chrono::steady_clock::now() - l.latched_since).count();
        } else {
            to.remote = terms.is_unit() ? terms.hint : terms.remote_rtp;
        }
    }
    return out;
}

// --- observers
// --------------------------------------------------------------------------------------------------------

void manager::tell_begin(state& m, observer::beginning how) {
    if (observers_.none() || std::exchange(m.observed, true))
        return;
    m.ticked = leg::clock::now();
    if (how == observer::beginning::taken_over && options_.tick.count() > 0) // not all at the same time
        m.ticked -= std::chrono::milliseconds(m.id % static_cast<media_id>(options_.tick.count()));
    const auto seen = describe(m);
    observers_.each([&](observer& one) { one.begin(seen, how); });
}

void manager::tell_tick(state& m, leg::clock::time_point now) {
    if (!m.observed || now - m.ticked < options_.tick)
        return;
    m.ticked = now;
    const auto seen = describe(m);
    observers_.each([&](observer& one) { one.tick(seen); });
}

void manager::tell_end(state& m, observer::ending how, const std::string& cause) {
    if (!std::exchange(m.observed, false))
        return;
    const auto seen = describe(m);
    observers_.each([&](observer& one) { one.end(seen, how, cause); });
}

std::optional<media_info> manager::info(media_id id) const {
    const auto m = find(id);
    if (!m)
        return std::nullopt;
    return describe(*m);
}

std::vector<media_info> manager::all() const {
    std::vector<media_info> out;
    out.reserve(media_.size());
    for (const auto& [id, m] : media_)
        if (!m->turn.over())
            out.push_back(describe(*m));
    return out;
}

media_row manager::to_row(const state& m) const {
    media_row row{m, m.now, m.installed, {}, m.opening};
    for (std::size_t i = 0; i < 2; ++i) {
        const auto& l = m.now.legs[i];
        row.legs[i] = {l, {}, 0, m.legs[i].epoch};
        if (l.port) {
            row.legs[i].outer = l.port->address;
            row.legs[i].port = l.port->port;
        }
    }
    return row;
}

media_record manager::to_record(const state& m, const std::string& cause) const {
    media_record out{told(m, m.now.has_unit()), cause, protocol::moment::now(), {}};
    for (std::size_t i = 0; i < 2; ++i) {
        const auto& l = m.legs[i];
        auto& to = out.legs[i];
        const auto& terms = m.now.legs[i];
        to.kind = terms.is_unit() ? "unit" : "core";
        to.unit = terms.unit;
        to.suite = api::info(terms.suite).name;
        to.packets = l.before.packets;
        to.bytes = l.before.bytes;
        to.lost = l.before.lost;
        to.auth_failures = l.before.auth_failures;
        to.replays = l.before.replays;
        to.reports = l.before.reports;
        to.reported_lost = l.before.reported_lost;
        to.jitter_ms = l.before.jitter_ms;
        to.max_jitter_ms = l.before.max_jitter_ms;
    }
    return out;
}

} // namespace tandem::media
