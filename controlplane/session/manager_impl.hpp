// SPDX-License-Identifier: Apache-2.0
// Inside of session::manager, shared by its .cpp files only. Owner thread: the io_context's.
//
// A connection begins as a newcomer (authenticated, no CONFIG yet), then is the primary of a session. A session is up
// (primary), or down and waiting for its unit (linger), or over.
#pragma once

#include <asio/steady_timer.hpp>
#include <chrono>
#include <list>
#include <unordered_map>

#include "controlplane/session/address_pool.hpp"
#include "controlplane/session/channel.hpp"
#include "controlplane/session/handovers.hpp"
#include "controlplane/session/manager.hpp"
#include "controlplane/session/unit_streams.hpp"
#include "controlplane/tunnel/inner_device.hpp"
#include "controlplane/tunnel/listener.hpp"

namespace tandem::session {

using clock = std::chrono::steady_clock;

struct session {
    tsid id = 0;
    std::string unit;
    std::vector<asio::ip::address> inner;
    std::shared_ptr<channel> primary; // none = down
    std::shared_ptr<channel> old;     // replaced, but what the unit sent before it knew still arrives here
    std::shared_ptr<protocol::channel_driver>
        control;                           // its conversation, whatever carries it; none before the first CONFIG
    std::shared_ptr<unit_streams> streams; // none: the unit has not asked for any
    clock::time_point up_since{};          // of this primary
    clock::time_point down_since{};
    std::string lost_by; // how its last primary ended
    session_info info;   // the parts that are kept: outer, cipher, lifetime, counts
};

struct address_hash {
    std::size_t operator()(const protocol::ip_address& a) const noexcept {
        std::uint64_t high = 0, low = 0;
        std::memcpy(&high, a.bytes.data(), 8);
        std::memcpy(&low, a.bytes.data() + 8, 8);
        return static_cast<std::size_t>((high ^ low * 0x9E3779B97F4A7C15U) * 0xFF51AFD7ED558CCDU);
    }
};

class manager::impl {
public:
    impl(manager& owner, asio::io_context&, config, identity::psk_store&, session_store&,
         std::unique_ptr<tunnel::inner_device>);

    tl::expected<void, std::string> start();
    void stop();
    void forget(const std::string& unit);
    tl::expected<void, std::string> renew_trust(bool& stale);
    [[nodiscard]] session* find(tsid) const;
    [[nodiscard]] session* find_unit(const std::string&) const;
    [[nodiscard]] session* find_inner(const protocol::ip_address&) const;
    [[nodiscard]] session_info info(const session&) const;
    [[nodiscard]] std::string guard() { return running_ ? inner_->guard() : std::string(); }

    // RELEASE to the unit where it is up; the session is over.
    void drop(session&, const std::string& reason);

    config settings;
    std::shared_ptr<counters> count = std::make_shared<counters>();
    std::shared_ptr<handovers> moves = std::make_shared<handovers>();
    std::unordered_map<tsid, std::unique_ptr<session>> sessions;
    std::shared_ptr<tunnel::listener> listener;

private:
    struct newcomer {
        std::shared_ptr<channel> link;
        clock::time_point since;
    };

    // configure.cpp
    void on_connection(std::shared_ptr<tunnel::connection>);
    void on_request(const std::shared_ptr<channel>&, session*, const protocol::message&);
    void configure(const std::shared_ptr<channel>&, const protocol::message&);
    [[nodiscard]] session* session_for(const std::string& unit, const protocol::message&);
    [[nodiscard]] session* resumed(const std::string& unit, tsid);
    void adopt(session&, const std::shared_ptr<channel>&, std::chrono::seconds lifetime);
    void note_move(const session&, const link::endpoint& to);
    [[nodiscard]] std::optional<std::uint8_t> carry_streams(session&, const protocol::message& config);
    void answer_config(session&, const protocol::message&);
    void refuse(channel&, const protocol::message&, protocol::status, std::string_view reason = {});

    // manager.cpp
    [[nodiscard]] tl::expected<void, std::string> check() const;
    [[nodiscard]] bool admitted(const protocol::peer_identity&);
    [[nodiscard]] bool was_revoked(channel&) const;
    void load();
    session& insert(tsid, const std::string& unit, std::vector<asio::ip::address> inner);
    void lost(session&, std::string_view reason);
    void end(session&, std::string_view reason); // last: the session is gone when it returns
    void from_unit(session&, std::span<const std::uint8_t> packet);
    void to_unit(std::span<const std::uint8_t> packet);
    void sweep();
    void sweep_session(session&, clock::time_point now);
    void arm_sweep();
    [[nodiscard]] tsid new_tsid() const;

    manager& owner_;
    asio::io_context& io_;
    identity::psk_store& units_;
    session_store& store_;
    std::unique_ptr<tunnel::inner_device> inner_;
    address_pool pool_;
    std::shared_ptr<const unit_streams::common> streams_common_;
    std::unordered_map<std::string, session*> by_unit_;
    std::unordered_map<protocol::ip_address, session*, address_hash> by_inner_;
    std::list<newcomer> newcomers_;
    asio::steady_timer sweep_timer_;
    std::shared_ptr<int> alive_ = std::make_shared<int>(0); // timers' handlers may be queued when this object goes
    bool running_ = false;
};

} // namespace tandem::session
