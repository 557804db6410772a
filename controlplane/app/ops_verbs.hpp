// SPDX-License-Identifier: Apache-2.0
// What the ops socket's verbs do (table in README.md). Owner thread: io_context.
#pragma once

#include <asio/awaitable.hpp>
#include <chrono>
#include <string>

#include <nlohmann/json.hpp>
#include <tl/expected.hpp>

#include "controlplane/app/config.hpp"
#include "controlplane/callcontrol/ng_server.hpp"
#include "controlplane/dataplane_client/client.hpp"
#include "controlplane/dataplane_client/stats_reader.hpp"
#include "controlplane/media/manager.hpp"
#include "controlplane/records/database.hpp"
#include "controlplane/session/manager.hpp"

namespace tandem::control {

// Everything that verbs look at; lives as long as the program.
struct rooms {
    const config& settings;
    records::database& store;
    dataplane_client::client& dataplane;
    dataplane_client::stats_reader& stats;
    session::manager& sessions;
    media::manager& relay;
    callcontrol::server& calls;
};

struct verb_error {
    bool usage = false; // else the verb was understood and failed
    std::string text;
};
using verb_result = tl::expected<nlohmann::json, verb_error>;

class verbs {
public:
    explicit verbs(rooms of) : rooms_(of) {}

    // One request object to one reply object; never throws.
    asio::awaitable<nlohmann::json> answer(nlohmann::json request);

private:
    asio::awaitable<verb_result> run(std::string verb, nlohmann::json args);
    [[nodiscard]] verb_result version() const;
    [[nodiscard]] verb_result status();
    [[nodiscard]] verb_result unit_add(nlohmann::json& args);
    [[nodiscard]] verb_result unit_list();
    [[nodiscard]] verb_result unit_show(const nlohmann::json& args);
    [[nodiscard]] verb_result unit_remove(const nlohmann::json& args);
    [[nodiscard]] verb_result session_list() const;
    [[nodiscard]] verb_result session_show(const nlohmann::json& args) const;
    [[nodiscard]] verb_result session_drop(const nlohmann::json& args);
    [[nodiscard]] verb_result media_list(const nlohmann::json& args) const;
    [[nodiscard]] verb_result media_show(const nlohmann::json& args) const;
    asio::awaitable<verb_result> media_rekey(nlohmann::json args);
    [[nodiscard]] verb_result call_list() const;
    [[nodiscard]] verb_result counters() const;
    [[nodiscard]] verb_result drops() const;
    asio::awaitable<verb_result> port();
    [[nodiscard]] nlohmann::json unit_json(const records::unit& unit) const;
    [[nodiscard]] tl::expected<session::session_info, verb_error> find_session(const nlohmann::json& args) const;

    rooms rooms_;
    std::chrono::system_clock::time_point started_ = std::chrono::system_clock::now();
};

// ops_json.cpp
[[nodiscard]] std::string time_text(std::chrono::system_clock::time_point when); // ISO 8601, UTC
[[nodiscard]] std::string tsid_text(session::tsid id);
[[nodiscard]] nlohmann::json to_json(const session::session_info& session);
[[nodiscard]] nlohmann::json to_json(const media::media_info& media);
[[nodiscard]] std::string to_text(const media::endpoint& where);

} // namespace tandem::control
