// SPDX-License-Identifier: Apache-2.0
// The verbs that look at the data plane itself: worker (stats segment), trace and capture (the data plane's socket).
// None of them needs the control plane, but for the flows of a call or a unit.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "dataplane/api/sight.hpp"
#include "tools/tandemctl/commands.hpp"

namespace tandem::ctl {

inline constexpr std::array<std::string_view, 5> stage_names{"receive", "lookup", "unprotect", "protect", "send"};
static_assert(stage_names.size() == api::stage_count);

[[nodiscard]] result<void> worker(const settings&, bool watch);

// Whose packets: of one flow, or of all flows that a call has, or a unit's media, at this moment (the control plane
// says which).
struct whose {
    std::string flow; // ADDRESS:PORT or [ADDRESS]:PORT
    std::string call, unit;
};
[[nodiscard]] result<api::observed_places> places_of(const settings&, const whose&);

struct trace_options {
    std::uint32_t packets = 0;
    whose of;
    double seconds = 0;
};
[[nodiscard]] result<void> trace(const settings&, const trace_options&);

struct capture_options {
    std::string file, port, direction = "both", drop;
    whose of;
    std::uint64_t packets = 0;
    std::uint32_t seconds = 0, snap_length = api::max_snap_length;
    bool plaintext = false;
};
[[nodiscard]] result<void> capture(const settings&, const capture_options&);

// Exposed for tests.
[[nodiscard]] result<api::net_address> parse_address(const std::string& text);
// The local addresses of media as `media list` shows them, each once; of the unit's alone where one is named.
[[nodiscard]] result<api::observed_places> places_in(const json& media, const std::string& unit);
[[nodiscard]] std::string address_text(const api::net_address& a);
[[nodiscard]] json trace_json(const api::trace_record& r, const std::string& port, const std::string& out_port);
[[nodiscard]] std::string trace_text(const json& packet);
[[nodiscard]] json worker_rates(const json& before, const json& now);

} // namespace tandem::ctl
