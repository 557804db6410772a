// SPDX-License-Identifier: Apache-2.0
// What is in progress, as an earlier process left it: the rows in the tables, changed by what waits for them in the log
// because SQLite takes no writes. Given one by one: a start needs no more memory than running did. Private to this
// room. Owner thread: io_context.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "controlplane/store/local/operation.hpp"
#include "controlplane/store/local/sqlite.hpp"

namespace tandem::store {

class rows_left {
public:
    struct call {
        std::int64_t number = 0;
        std::string call_id, record, body;
        std::optional<std::string> ended;
    };
    struct media { // or ended media that wait for their call: key is their own number then
        std::int64_t key = 0, call = 0;
        std::string body;
    };
    struct session {
        std::string unit;
        std::int64_t tsid = 0;
        std::string inner;
    };

    rows_left(connection& db, const std::deque<operation>& waiting);

    void each_call(const std::function<void(const call&)>& give);
    void each_media(const std::function<void(const media&)>& give);
    void each_over(const std::function<void(const media&)>& give); // by call and number
    void each_session(const std::function<void(const session&)>& give);
    [[nodiscard]] std::int64_t generation();

private:
    // What waits for one row: it comes new, its columns change, it goes.
    template <class Row>
    struct later {
        std::optional<Row> fresh;
        std::optional<std::string> body, ended;
        bool gone = false;
    };
    void take(const operation& op);

    connection& db_;
    std::map<std::int64_t, later<call>> calls_;
    std::map<std::int64_t, later<media>> media_;
    std::map<std::int64_t, media> over_; // by number
    std::set<std::int64_t> over_gone_;   // calls whose ended media go
    std::map<std::string, std::optional<session>> sessions_;
    std::optional<std::int64_t> generation_;
};

} // namespace tandem::store
