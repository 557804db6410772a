// SPDX-License-Identifier: Apache-2.0
// USDT probes (sys/sdt.h), provider `tandem`: one nop each where nobody listens. Arguments are never secret.
//   flow_create(flow id, tag, in suite, out suite)   flow_remove(flow id, tag)                       control thread
//   rekey(flow id, side 0 in 1 out, epoch, 0 installed 1 switched to 2 retired)                     control thread
//   drop(flow id or 0, api::drop)                                                                   workers
// dataplane/README.md shows how to listen.
#pragma once

#include <sys/sdt.h>

#include "dataplane/api/contract.hpp"
#include "dataplane/api/drops.hpp"

namespace tandem::api {

enum class rekey_step : std::uint8_t { installed, switched, retired };

inline void probe_flow_create(flow_id id, std::uint64_t tag, suite in, suite out) noexcept {
    STAP_PROBE4(tandem, flow_create, id, tag, static_cast<std::uint16_t>(in), static_cast<std::uint16_t>(out));
}
inline void probe_flow_remove(flow_id id, std::uint64_t tag) noexcept {
    STAP_PROBE2(tandem, flow_remove, id, tag);
}
inline void probe_rekey(flow_id id, side which, std::uint32_t epoch, rekey_step step) noexcept {
    STAP_PROBE4(tandem, rekey, id, static_cast<std::uint8_t>(which), epoch, static_cast<std::uint8_t>(step));
}
inline void probe_drop(flow_id id, drop reason) noexcept {
    STAP_PROBE2(tandem, drop, id, static_cast<std::uint8_t>(reason));
}

} // namespace tandem::api
