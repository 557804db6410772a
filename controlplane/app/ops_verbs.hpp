// SPDX-License-Identifier: Apache-2.0
// What the ops socket's verbs do (table in README.md). Owner thread: io_context.
#pragma once

#include <asio/awaitable.hpp>
#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>
#include <tl/expected.hpp>

#include "controlplane/app/alarms.hpp"
#include "controlplane/app/config.hpp"
#include "controlplane/app/level_file.hpp"
#include "controlplane/app/media_tally.hpp"
#include "controlplane/app/memory_limit.hpp"
#include "controlplane/app/sip_names.hpp"
#include "controlplane/callcontrol/ng_server.hpp"
#include "controlplane/dataplane_client/client.hpp"
#include "controlplane/dataplane_client/health.hpp"
#include "controlplane/dataplane_client/stats_reader.hpp"
#include "controlplane/media/manager.hpp"
#include "controlplane/policy/engine.hpp"
#include "controlplane/policy/store.hpp"
#include "controlplane/session/manager.hpp"
#include "controlplane/store/call_record.hpp"
#include "controlplane/store/local/database.hpp"

namespace tandem::control {

// Everything that verbs look at; lives as long as the program.
struct rooms {
    const config& settings;
    store::database& store;
    dataplane_client::client& dataplane;
    dataplane_client::stats_reader& stats;
    session::manager& sessions;
    media::manager& relay;
    const media_tally& tally;
    callcontrol::server& calls;
    policy::engine& policy;
    policy::store& rules;
    store::archive& archive;
    level_file& levels;
    alarm_board& alarms;
    memory_limit& memory;
    const dataplane_client::health_watch& health;
    sip_names& names;
    std::function<nlohmann::json()> store_state; // for `status`: {kind, connected, trouble, ...}
};

struct verb_error {
    bool usage = false; // else the verb was understood and failed
    std::string text;
};
using verb_result = tl::expected<nlohmann::json, verb_error>;

class verbs {
public:
    explicit verbs(rooms of) : rooms_(std::move(of)) {}

    // One request object to one reply object; never throws. `who` asks: for the audit and the log.
    asio::awaitable<nlohmann::json> answer(nlohmann::json request, std::string who);

private:
    asio::awaitable<verb_result> run(std::string verb, nlohmann::json args, std::string who);
    struct entry;
    [[nodiscard]] static const std::vector<entry>& table();
    // ops_verbs.cpp
    [[nodiscard]] verb_result help() const;
    [[nodiscard]] verb_result version() const;
    [[nodiscard]] verb_result status();
    [[nodiscard]] nlohmann::json max_calls() const;
    [[nodiscard]] nlohmann::json dataplane_status(const std::vector<media::media_info>& media) const;
    // unit_verbs.cpp
    [[nodiscard]] verb_result unit_add(nlohmann::json& args);
    [[nodiscard]] verb_result unit_list();
    [[nodiscard]] verb_result unit_show(const nlohmann::json& args);
    [[nodiscard]] verb_result unit_remove(const nlohmann::json& args);
    [[nodiscard]] verb_result unit_name_list(const nlohmann::json& args);
    [[nodiscard]] verb_result unit_name_add(const nlohmann::json& args);
    [[nodiscard]] verb_result unit_name_remove(const nlohmann::json& args);
    [[nodiscard]] verb_result session_list() const;
    [[nodiscard]] verb_result session_show(const nlohmann::json& args) const;
    [[nodiscard]] verb_result session_drop(const nlohmann::json& args);
    [[nodiscard]] nlohmann::json unit_json(const store::unit& unit) const;
    [[nodiscard]] tl::expected<session::session_info, verb_error> find_session(const nlohmann::json& args) const;
    // handover_verbs.cpp
    [[nodiscard]] verb_result handover_list(const nlohmann::json& args) const;
    [[nodiscard]] verb_result handover_show(const nlohmann::json& args) const;
    [[nodiscard]] verb_result handover_stats() const;
    // call_verbs.cpp
    [[nodiscard]] verb_result media_list(const nlohmann::json& args) const;
    [[nodiscard]] verb_result media_show(const nlohmann::json& args) const;
    asio::awaitable<verb_result> media_rekey(nlohmann::json args);
    [[nodiscard]] verb_result call_list() const;
    [[nodiscard]] verb_result call_show(const nlohmann::json& args) const;
    [[nodiscard]] verb_result call_drop(const nlohmann::json& args, const std::string& who);
    [[nodiscard]] nlohmann::json call_json(const callcontrol::call_summary& call) const;
    // counter_verbs.cpp
    [[nodiscard]] verb_result counters() const;
    [[nodiscard]] nlohmann::json own_counters() const;
    [[nodiscard]] verb_result drops() const;
    asio::awaitable<verb_result> port();
    // level_verbs.cpp
    [[nodiscard]] verb_result level_list() const;
    [[nodiscard]] verb_result level_reload(const std::string& who);
    [[nodiscard]] verb_result level_check(const nlohmann::json& args) const;
    [[nodiscard]] verb_result level_set(const nlohmann::json& args, const std::string& who);
    // policy_verbs.cpp
    [[nodiscard]] verb_result policy_list(const nlohmann::json& args) const;
    [[nodiscard]] verb_result policy_export(const nlohmann::json& args) const;
    [[nodiscard]] verb_result policy_show(const nlohmann::json& args) const;
    [[nodiscard]] verb_result policy_profile(const nlohmann::json& args) const;
    asio::awaitable<verb_result> policy_set(nlohmann::json args, std::string who);
    asio::awaitable<verb_result> policy_unset(nlohmann::json args, std::string who);
    asio::awaitable<verb_result> policy_import(nlohmann::json args, std::string who);
    asio::awaitable<verb_result> apply_in_slices(std::vector<policy::rule_edit> edits, std::string who);
    asio::awaitable<verb_result> policy_explain(nlohmann::json args);
    asio::awaitable<verb_result> policy_log(nlohmann::json args);
    asio::awaitable<verb_result> policy_forget(nlohmann::json args, std::string who);
    [[nodiscard]] tl::expected<policy::rule, std::string> read_rule(const nlohmann::json& from) const;
    // record_verbs.cpp
    asio::awaitable<verb_result> record_list(nlohmann::json args, std::size_t usual, std::size_t most);
    asio::awaitable<verb_result> record_show(nlohmann::json args);
    [[nodiscard]] verb_result alarm_list() const;
    [[nodiscard]] verb_result clock_accept(const std::string& who);

    rooms rooms_;
    protocol::moment started_ = protocol::moment::now();
};

} // namespace tandem::control
