// SPDX-License-Identifier: Apache-2.0
// Whether the data plane forwards: asked twice a second, answered at any time from what it said last. Each part's age
// goes on counting while nothing is heard, so a stopped worker, a lost port, a control thread that hangs, a stopped
// process and a lost connection all show by one rule: last seen well longer ago than `limit`. A restart (0.2 s) does
// not. Owner thread: io_context.
#pragma once

#include <asio/awaitable.hpp>
#include <asio/io_context.hpp>
#include <asio/steady_timer.hpp>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "controlplane/dataplane_client/client.hpp"

namespace tandem::dataplane_client {

inline constexpr std::chrono::milliseconds health_limit{2500};

// What it said, and when.
struct health_report {
    using clock = std::chrono::steady_clock;
    clock::time_point at;
    std::vector<api::health_entry> parts;
};

[[nodiscard]] std::string_view text(api::health_state state) noexcept;
// What is wrong with a part, and what to do; of its state alone.
[[nodiscard]] std::string describe(const api::health_entry& part);

// Why nothing should be left to this data plane now: a sentence with the remedy; empty = it is well. Pure.
// `connection`: why there is none, empty while there is.
[[nodiscard]] std::string judge(const std::optional<health_report>& last, const std::string& connection,
                                health_report::clock::time_point now);

class health_watch {
public:
    health_watch(asio::io_context& io, client& of);
    ~health_watch();
    health_watch(const health_watch&) = delete;
    health_watch& operator=(const health_watch&) = delete;

    void start();
    void stop();
    [[nodiscard]] bool well() const noexcept { return health_report::clock::now() < well_until_; }
    [[nodiscard]] std::string trouble() const; // judge(), now
    [[nodiscard]] const std::optional<health_report>& last() const noexcept { return last_; }

private:
    asio::awaitable<void> run();
    void take(std::vector<api::health_entry> parts);

    asio::io_context& io_;
    client& client_;
    asio::steady_timer next_;
    std::optional<health_report> last_;
    health_report::clock::time_point well_until_{};
    bool stopped_ = true;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

} // namespace tandem::dataplane_client
