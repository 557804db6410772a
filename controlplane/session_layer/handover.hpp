// SPDX-License-Identifier: Apache-2.0
// A procedure of handover as one of its two ends knows it. The rules are session's, in handover.cpp.
//
//            initiator                            the other end
//   soft     ANNOUNCE, sends nothing more  --old-->
//            <--old--  ACK and WINDOW of all, CONFIRM, sends nothing more
//            ACK and WINDOW of all, BEGIN, goes on  --new-->
//            <--new--  DONE, goes on
//   hard     ACK and WINDOW of all, BEGIN hard  --new-->
//            <--new--  ACK and WINDOW of all, DONE, sends the gap and goes on
//            sends the gap and goes on
#pragma once

#include "controlplane/session_layer/types.hpp"
#include "controlplane/session_layer/wire.hpp"

namespace tandem::session_layer {

enum class phase : std::uint8_t {
    announced, // own: nothing of streams is sent
    begun,     // own, soft: goes on, waits for DONE
    beginning, // own, hard: nothing of streams is sent
    confirmed  // the other end's: nothing of streams is sent
};

struct procedure {
    std::uint32_t number;
    phase at = phase::beginning;
    handover_kind kind = handover_kind::hard;
    reason why;
    std::optional<link_id> from;
    link_id to; // of an own one
    instant began, deadline{};
    std::uint64_t sent_again = 0;
    std::optional<instant> retry_at{}; // over datagrams
    std::chrono::milliseconds retry{};
};

// A procedure's message that is to go out, after ACK and WINDOW of all streams where `listing`.
struct saying {
    verb what;
    link_id on;
    std::uint32_t number;
    bool hard = false;
    bool listing = false;
    stream_id listed = 0; // up to this one
};

struct wish { // a link to move to, when it can be
    link_id to;
    reason why;
};

} // namespace tandem::session_layer
