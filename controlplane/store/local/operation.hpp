// SPDX-License-Identifier: Apache-2.0
// One thing that is to be there in the database: the unit of what the writer keeps, logs and performs. All say what is
// to be there afterwards, so doing one twice does no harm. Private to this room. Pure.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "controlplane/protocol/profile.hpp"
#include "controlplane/store/call_record.hpp"

namespace tandem::store {

enum class what : std::uint8_t { // numbers stand in logs: new ones go to the end
    call_put,                    // key = its number, name = Call-ID, extra = record id, body
    call_body,                   // key, body
    call_ended,                  // key, body = how it ended
    call_gone,                   // key
    media_put,                   // key = media id, call, body
    media_body,                  // key, body
    media_gone,                  // key
    media_over,                  // key = number, call, body: an ended media waits for its call
    over_gone,                   // call: its ended media
    record_made,                 // body, done
    generation,                  // key
    session_put,                 // name = unit, key = tsid, body = inner addresses
    session_gone,                // name
};

struct finished {
    call_record record; // without its media: they are in body
    std::optional<std::pair<std::string, std::string>> pair;
    protocol::past_call call;
    bool to_ship = false;
};
[[nodiscard]] finished finished_of(call_record record, bool to_ship);

struct operation {
    what kind{};
    bool last = false; // of its change
    std::int64_t key = 0, call = 0;
    std::string name{}, extra{}, body{};
    std::unique_ptr<finished> done{};
    std::uint64_t number = 0; // of the change
};

// A change as bytes, of this machine for this machine.
void append(std::string& to, const operation& op);
[[nodiscard]] std::vector<operation> operations_of(std::string_view change);

} // namespace tandem::store
