// SPDX-License-Identifier: Apache-2.0
// Call records that are in the local database: read for people, shipped to the shared store, deleted by age. Private to
// this room. Owner thread: io_context.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "controlplane/store/call_record.hpp"
#include "controlplane/store/local/sqlite.hpp"
#include "controlplane/store/spool.hpp"

namespace tandem::store {

class record_rows final : public archive, public record_spool {
public:
    record_rows(connection& db, std::uint64_t& failures, bool to_ship);

    asio::awaitable<outcome<std::vector<call_record>>> find(record_query what) override;
    asio::awaitable<outcome<std::optional<call_record>>> show(std::string id) override;
    [[nodiscard]] std::size_t waiting() const override { return waiting_; }

    std::vector<call_record> unshipped(std::size_t limit) override;
    void mark_shipped(std::span<const std::string> ids) override;

    std::function<void()> before_reading; // set: what is not in the database yet goes there
    void count_waiting();                 // at start
    void one_more() noexcept { ++waiting_; }

    // Deletes at most so many that ended, or that were shipped, before `limit`: how many went. Never what waits.
    std::size_t expire_ended(std::chrono::system_clock::time_point limit, std::size_t at_most);
    std::size_t expire_shipped(std::chrono::system_clock::time_point limit, std::size_t at_most);
    [[nodiscard]] std::optional<std::chrono::system_clock::time_point> newest(); // when it ended

private:
    struct place { // from which the search goes on, downwards
        std::int64_t ended, n;
    };
    // True while there may be more.
    bool read_some(const record_query& what, place& at, std::vector<call_record>& found);

    connection& db_;
    std::uint64_t& failures_;
    bool to_ship_;
    std::size_t waiting_ = 0;
    statement newest_, by_id_, unshipped_, shipped_, oldest_, expired_, long_shipped_;
};

} // namespace tandem::store
