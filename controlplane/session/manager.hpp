// SPDX-License-Identifier: Apache-2.0
// Sessions of all units: the one entry point of tunnel/ and session/ for app/.
//
//   session::manager sessions(io, config, units, store);     // loads sessions of before a restart
//   sessions.on_up = ...; sessions.on_down = ...;            // directory.hpp
//   if (auto ok = sessions.start(); !ok) fail(ok.error());   // TUN, listeners; needs CAP_NET_ADMIN for the TUN
//   ... io.run(); ... sessions.stop();                       // units keep their sessions and come back (SIGTERM)
//
// Owner thread: the io_context's only one. Sources: ORA-04 to ORA-16, RIM-03, RIM-04 of the requirements.
#pragma once

#include <asio/io_context.hpp>
#include <asio/ip/network_v4.hpp>
#include <asio/ip/network_v6.hpp>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <tl/expected.hpp>

#include "controlplane/identity/psk_store.hpp"
#include "controlplane/link/endpoint.hpp"
#include "controlplane/protocol/tls.hpp"
#include "controlplane/session/counters.hpp"
#include "controlplane/session/directory.hpp"
#include "controlplane/session/handovers.hpp"
#include "controlplane/session/service_rules.hpp"
#include "controlplane/session/store.hpp"

namespace tandem::tunnel {
class inner_device;
}

namespace tandem::session {

// Filled from [tunnel] of controlplane.toml by app/.
struct config {
    std::vector<link::endpoint> listen;
    std::string tun = "tandem0";
    // At least one; the gateway has the first host, units the following ones. asio::ip::make_network_v4("10.64.0.0/16")
    std::optional<asio::ip::network_v4> inner4;
    std::optional<asio::ip::network_v6> inner6;
    std::chrono::milliseconds keepalive{5000}; // closed after three of silence
    std::chrono::seconds lifetime{86400};      // of a primary; the unit may ask for less
    std::chrono::milliseconds grace{10000};    // after the lifetime, for the unit to come with a new primary by itself
    std::chrono::milliseconds linger{60000};   // how long a session waits for its unit's return
    std::uint16_t mtu = 1480;                  // RTP of up to 1,452 octets, which under SRTP fill 1,500 on the wire
    std::vector<std::string> inner_from;      // interfaces by which the inner network may be reached beside the tunnels
    bool isolate = true;                      // units do not reach each other
    bool nftables = true;                     // the kernel's rules for both
    std::vector<service_rule> services;       // that units may reach by streams; none: no streams
    protocol::certificate_files certificates; // optional: units with certificates
    std::vector<std::string> servers;         // "address:port" told to units, in order of preference

    std::chrono::milliseconds handshake_timeout{5000}; // TLS, and again for the CONFIG after it
    std::chrono::milliseconds first_byte{1000};        // before it
    std::size_t max_silent = 8192;                     // connections without a ClientHello; the oldest go first
    std::size_t max_half_open = 256;                   // handshakes under way
    std::size_t max_connections = 4096;
    std::size_t queue_bytes = 256 * 1024; // inner packets waiting per unit; the oldest go first
};

class manager final : public directory {
public:
    manager(asio::io_context&, config, identity::psk_store&, session_store&);
    // With another inner device than the kernel's TUN (tests).
    manager(asio::io_context&, config, identity::psk_store&, session_store&, std::unique_ptr<tunnel::inner_device>);
    ~manager() override;

    // Binds, makes the TUN, loads the store. The error is a sentence: what is wrong, what to do.
    [[nodiscard]] tl::expected<void, std::string> start();
    // Closes every connection in order; sessions stay in the store. No on_down is called.
    void stop();

    // Reads the CA's and the revoked certificates again; sessions of the revoked ones end. `stale`: the list is past
    // its next update. An error leaves all as it was.
    [[nodiscard]] tl::expected<void, std::string> renew_trust(bool& stale);

    // The unit was removed: its session ends, its inner addresses are free again.
    void forget(const std::string& unit);

    [[nodiscard]] const counters& count() const noexcept;
    [[nodiscard]] const handovers& moves() const noexcept;
    [[nodiscard]] const config& settings() const noexcept;
    [[nodiscard]] std::vector<link::endpoint> listening() const; // with the ports that the kernel chose for 0

    [[nodiscard]] std::optional<session_info> by_tsid(tsid) const override;
    [[nodiscard]] std::optional<session_info> by_unit(const std::string& id_code) const override;
    [[nodiscard]] std::optional<session_info> by_inner(const asio::ip::address&) const override;
    [[nodiscard]] std::vector<session_info> all() const override;
    bool drop(tsid, const std::string& reason) override;
    // Whether strangers are kept from the inner network; else why not (tunnel::inner_device). To be asked now and then.
    [[nodiscard]] std::string guard();
    // `refused` = the unit answered with a status other than ok (logged); `not_up` = no primary now, or lost meanwhile.
    // Up to 32 are outstanding per unit; more wait their turn within their timeout.
    asio::awaitable<tl::expected<protocol::message, request_error>> request(tsid, protocol::message,
                                                                            std::chrono::milliseconds timeout) override;

private:
    class impl;
    std::unique_ptr<impl> impl_;
};

} // namespace tandem::session
