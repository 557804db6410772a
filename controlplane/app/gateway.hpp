// SPDX-License-Identifier: Apache-2.0
// The rooms of the control plane, made in order, joined, started and stopped: records and policy's store (SQLite, or
// PostgreSQL beside it), policy, sessions, media, call control, the ops socket; and the alarms that follow from their
// state. Owner thread: io_context.
#pragma once

#include <asio/io_context.hpp>
#include <asio/steady_timer.hpp>
#include <memory>
#include <string>

#include <tl/expected.hpp>

#include "controlplane/app/alarm_watch.hpp"
#include "controlplane/app/alarms.hpp"
#include "controlplane/app/call_ends.hpp"
#include "controlplane/app/config.hpp"
#include "controlplane/app/host_addresses.hpp"
#include "controlplane/app/level_file.hpp"
#include "controlplane/app/media_tally.hpp"
#include "controlplane/app/memory_limit.hpp"
#include "controlplane/app/ops_server.hpp"
#include "controlplane/app/ops_verbs.hpp"
#include "controlplane/app/sip_names.hpp"
#include "controlplane/dataplane_client/health.hpp"
#include "controlplane/store/shared/postgres.hpp"

namespace tandem::control {

class gateway {
public:
    // Opens the stores. The error is a sentence.
    [[nodiscard]] static tl::expected<std::unique_ptr<gateway>, std::string> make(asio::io_context& io,
                                                                                  const config& settings);
    ~gateway();
    gateway(const gateway&) = delete;
    gateway& operator=(const gateway&) = delete;

    [[nodiscard]] tl::expected<void, std::string> start();
    void stop();                         // calls stay in the data plane
    void reload(const std::string& who); // levels, revoked certificates

private:
    gateway(asio::io_context& io, const config& settings, std::unique_ptr<store::database> local);
    [[nodiscard]] tl::expected<void, std::string> open_store();
    [[nodiscard]] tl::expected<void, std::string> start_rooms();
    void add_gates();
    [[nodiscard]] rooms parts();
    [[nodiscard]] std::string store_trouble() const;
    [[nodiscard]] nlohmann::json store_state() const;
    asio::awaitable<void> prove(std::vector<session::session_info> units);
    void look_at_perimeter();
    asio::awaitable<void> tell_perimeter();
    void look(); // at what alarms depend on
    void look_again();

    asio::io_context& io_;
    const config& settings_;
    std::unique_ptr<store::database> local_;
    alarm_board alarms_;
    memory_limit memory_;
    dataplane_client::client dataplane_;
    dataplane_client::packet_handlers packets_; // of what the data plane hands up
    dataplane_client::stats_reader stats_;
    dataplane_client::health_watch health_;
    policy::engine policy_;
    level_file levels_;
    std::unique_ptr<policy::store> local_rules_; // one of these two
    std::unique_ptr<store::postgres> shared_;
    session::manager sessions_;
    media::manager relay_;
    media_tally tally_;
    host_addresses own_host_;
    call_ends ends_;
    callcontrol::server calls_;
    sip_names names_;
    alarm_watch watch_;
    std::unique_ptr<verbs> answers_;
    std::unique_ptr<ops_server> ops_;
    asio::steady_timer look_timer_;
    std::string edge_trouble_; // why the data plane does not keep strangers from the inner network
    unsigned looks_ = 0;
    std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
    bool stopped_ = false;
};

} // namespace tandem::control
