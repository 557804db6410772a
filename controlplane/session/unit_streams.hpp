// SPDX-License-Identifier: Apache-2.0
// A unit's streams at the gateway: its session layer, carried by whatever primary the unit has, and for each stream a
// TCP connection, or UDP sockets, to services that [tunnel] services allows. It lives as long as the session, in memory
// alone: its secret comes from the handshake of the primary that it began on (RFC 8446 7.5) and is kept nowhere else.
// Owner thread: the io_context's.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "controlplane/session/channel.hpp"
#include "controlplane/session/counters.hpp"
#include "controlplane/session/handovers.hpp"
#include "controlplane/session/service_rules.hpp"
#include "controlplane/session_layer/tcp_streams.hpp"
#include "controlplane/session_layer/udp_streams.hpp"

namespace tandem::session {

class unit_streams {
public:
    // What all units have in common.
    struct common {
        std::vector<service_rule> rules;
        std::shared_ptr<counters> count;
        std::shared_ptr<session_layer::tcp_streams::budget> budget;
        std::shared_ptr<handovers> moves;
    };
    [[nodiscard]] static std::shared_ptr<const common> make_common(std::vector<service_rule>, std::shared_ptr<counters>,
                                                                   std::shared_ptr<handovers>);

    // Begins on this primary. Nothing where its handshake has no exporter.
    [[nodiscard]] static std::shared_ptr<unit_streams> begin(channel& on, std::uint64_t tsid, std::string unit,
                                                             std::shared_ptr<const common>);

    void carried_by(channel&); // until that connection carries nothing any more
    void stop();               // every connection to a service is reset
    [[nodiscard]] streams_info describe() const;

private:
    unit_streams(std::string unit, std::shared_ptr<const common> all)
        : unit_(std::move(unit)), common_(std::move(all)) {}

    void on(const session_layer::event&);
    void on_opened(const session_layer::opened&);
    [[nodiscard]] bool carries_datagrams() const;
    void on_handover(const session_layer::handover&);

    std::string unit_;
    std::shared_ptr<const common> common_;
    std::shared_ptr<session_layer::driver> driver_;
    std::shared_ptr<session_layer::tcp_streams> streams_;
    std::shared_ptr<session_layer::udp_streams> datagrams_;
    session_layer::moves moves_;
    bool told_ = false; // of a service that is not named: once, then it is counted
};

} // namespace tandem::session
