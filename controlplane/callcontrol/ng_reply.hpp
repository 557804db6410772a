// SPDX-License-Identifier: Apache-2.0
// Bodies of ng replies in rtpengine's shape: what Kamailio's rtpengine module and people's scripts look for. Pure.
#pragma once

#include "controlplane/callcontrol/admission.hpp"
#include "controlplane/callcontrol/bencode.hpp"
#include "controlplane/callcontrol/call.hpp"
#include "controlplane/media/relay.hpp"

namespace tandem::callcontrol {

[[nodiscard]] bencode::value ok_reply();
[[nodiscard]] bencode::value error_reply(std::string why);
// At which Kamailio goes to another node: `load limit` with the cause, or, for a proxy that does not know that, the
// words that it looks for, with nothing behind them.
[[nodiscard]] bencode::value refusal_reply(const refusal&, bool knows_load_limit);
// Into a reply that is no error.
void warn_of(bencode::value& reply, const std::vector<std::string>& ignored);
// query and delete: created, tags with their media and streams, totals.
void add_statistics(bencode::value& reply, const std::vector<call>& branches, const media::relay&);

} // namespace tandem::callcontrol
