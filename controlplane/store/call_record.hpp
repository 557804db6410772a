// SPDX-License-Identifier: Apache-2.0
// The record of one ended call, and where records are kept. Written exactly once for each call, whatever dies when:
// `id` is made when the call begins and is unique over all gateways; a store refuses a second one of the same id.
// Pure but for the interface; owner thread: the control plane's io_context.
#pragma once

#include <algorithm>
#include <array>
#include <asio/awaitable.hpp>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <tl/expected.hpp>

#include "controlplane/media/journal.hpp"

namespace tandem::store {

struct call_record {
    std::string id;       // 32 hex digits
    std::string instance; // the gateway that carried it
    std::string call_id, caller, callee;
    // By the wall's clock as it stood when the call began: what came later is that much later by the clock that nobody
    // sets. answered = 1970 where it never was.
    std::chrono::system_clock::time_point started, answered, ended;
    std::chrono::milliseconds clock_set{}; // by how much the wall's clock was set during the call; 0 = it was not
    std::string level, decided_by;
    std::vector<policy::step> why;
    std::string cause; // why it ended
    std::vector<media::media_record> media;

    [[nodiscard]] bool was_answered() const noexcept { return answered.time_since_epoch().count() > 0; }
    [[nodiscard]] std::chrono::milliseconds duration() const noexcept {
        using std::chrono::milliseconds;
        const auto lasted =
            was_answered() ? std::chrono::duration_cast<milliseconds>(ended - answered) : milliseconds{};
        return std::max(lasted, milliseconds{});
    }
};

struct record_query {
    std::size_t limit = 100;                                               // newest first
    std::optional<std::chrono::system_clock::time_point> since{}, until{}; // by `ended`
    std::string party{};                                                   // caller or callee; empty = any
    std::string call_id{};                                                 // empty = any
};

template <class T>
using outcome = tl::expected<T, std::string>; // the error is a sentence

class archive {
public:
    virtual ~archive() = default;
    [[nodiscard]] virtual asio::awaitable<outcome<std::vector<call_record>>> find(record_query what) = 0;
    [[nodiscard]] virtual asio::awaitable<outcome<std::optional<call_record>>> show(std::string id) = 0;
    // Written here, not yet in the shared store (PostgreSQL); always 0 where records stay here (SQLite).
    [[nodiscard]] virtual std::size_t waiting() const = 0;
};

} // namespace tandem::store
