// SPDX-License-Identifier: Apache-2.0
// Call control: rtpengine's ng protocol over UDP, as Kamailio and OpenSIPS speak it. The room's only public header for
// the rest of the control plane.
//
// One thread: the control plane's io_context. Each request runs as its own coroutine; two commands of one call never
// interleave. start() takes up the calls that the store kept over a restart.
#pragma once

#include <asio/io_context.hpp>
#include <asio/ip/udp.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <tl/expected.hpp>

#include "controlplane/callcontrol/admission.hpp"
#include "controlplane/callcontrol/asker.hpp"
#include "controlplane/callcontrol/flag_counters.hpp"
#include "controlplane/media/relay.hpp"
#include "controlplane/protocol/moment.hpp"
#include "controlplane/session/directory.hpp"

namespace tandem::callcontrol {

// What call control knows of a call at its end.
struct ended_call {
    std::string call_id, caller, callee, cause;
    protocol::moment started, ended;
    std::string from_tag{}, to_tag{}; // the latest; not kept
};

struct config {
    std::vector<asio::ip::udp::endpoint> listen;
    std::vector<network> from;           // who may ask, beside this host's own; empty: anybody but the inner network
    std::vector<network> inner;          // of which nobody may, whatever `from` says
    std::string core_interface = "core"; // name of the address of core legs where `direction` names none
    std::chrono::seconds cookie_lifetime{20}; // how long a reply is kept for retransmissions
    std::size_t max_calls = 0; // further ones are refused; 0 = as many as there is room for (server::gates)
    std::chrono::milliseconds offer_timeout =
        std::chrono::minutes(3); // a call never answered is forgotten after so long without signalling or media
    std::size_t max_media = 8;   // m= lines of a call that take ports; further ones are rejected
    double unit_reserve = 0.1;   // of max_calls: for calls with a unit, while units are connected
    double source_share = 0.5;   // of all calls: what one source may have when 80 % is in use
    // How much is in use of what runs out: ports, the flow table; 0 to 1.
    std::function<double()> use;
    // Whether an address belongs to the units' inner network: one without a session is refused, not taken for the core
    // (RIM-02).
    std::function<bool(const asio::ip::address&)> is_inner;
    // Why media cannot be sent to a core leg's endpoint, a sentence; empty = they can. Left out: they can.
    std::function<std::string(const media::endpoint&)> unreachable;
    // A unit's leg: whether received-from may be missing. Where it is given, it is an inner address of that unit,
    // always.
    bool received_from_optional = false;
    // Whose name it is: the id code of the unit that has it as id code or as a name of its own; empty: no unit's. Left
    // out: a name is whoever's says so.
    std::function<std::string(const std::string& name)> unit_of;
    bool strict_names = false; // a party under somebody else's name is refused, not renamed
    // Told of the end of each call that began, after it went to the store.
    std::function<void(const ended_call&)> ended;
    // Why this gateway cannot serve calls now, a sentence; empty = it can. Asked at each ping and new call: waits for
    // nothing.
    std::function<std::string()> trouble;
};

// Where calls (without keys) outlive the process. Called on the io_context's thread.
class call_store {
public:
    virtual ~call_store() = default;
    virtual void put(const std::string& call_id, const std::string& json) = 0; // new or replaced
    // The call is over: its record is written when its media are over too, exactly once.
    virtual void end(const ended_call& call) = 0;
    virtual void erase(const std::string& call_id) = 0; // never became a call, or cannot be read: no record
    // Everything so far is in the store: what the server tells the SIP proxy afterwards outlives the process. Until
    // then writes (of this store, and of others over the same database) may wait in memory for the end of the
    // io_context's turn, to go in one transaction: 32 calls under way then cost one, not 32.
    virtual void flush() {}
    // What an earlier process put, one by one: a start needs no more memory than running did. Nothing is put meanwhile.
    using taker = std::function<void(const std::string& call_id, const std::string& json)>;
    virtual void each(const taker& give) = 0;
    [[nodiscard]] std::vector<std::pair<std::string, std::string>> load_all() {
        std::vector<std::pair<std::string, std::string>> all;
        each([&](const std::string& call_id, const std::string& json) { all.emplace_back(call_id, json); });
        return all;
    }
};

// For tests and for running without a database: forgets.
class no_call_store final : public call_store {
public:
    void put(const std::string&, const std::string&) override {}
    void end(const ended_call&) override {}
    void erase(const std::string&) override {}
    void each(const taker&) override {}
};

struct counters {
    std::uint64_t datagrams = 0;       // received
    std::uint64_t strangers = 0;       // dropped, most by the kernel: from the inner network, or not of [ng] from
    std::uint64_t queue_full = 0;      // dropped: more of one source than are worked on
    std::uint64_t malformed = 0;       // no cookie or broken bencode
    std::uint64_t replies_limited = 0; // list and query to one source: more than it may get at once
    std::uint64_t retransmissions = 0; // answered from the cookie cache, or still being worked on
    std::uint64_t pings = 0, offers = 0, answers = 0, deletes = 0, queries = 0, lists = 0;
    std::uint64_t errors = 0; // error replies
    std::uint64_t calls_created = 0, calls_ended = 0;
    std::uint64_t calls_refused = 0;    // by a gate, or for want of ports or flows: no room for one more
    std::uint64_t pings_refused = 0;    // answered with what is wrong
    std::uint64_t calls_recovered = 0;  // taken up from the store at start
    std::uint64_t metadata_ignored = 0; // values of level, dialled, caller-domain, callee-domain that cannot be such
    std::uint64_t foreign_names = 0;    // parties that said somebody else's name
};

struct call_summary { // for the ops socket
    std::string call_id, from_tag, to_tag, caller, callee;
    protocol::moment created;
    bool answered = false;
    std::vector<media::media_id> media;
};

class server {
public:
    // Sets relay.on_ended.
    server(asio::io_context&, config, media::relay&, session::directory&, call_store&);
    ~server();
    server(const server&) = delete;
    server& operator=(const server&) = delete;

    // Binds every listen address and recovers calls; the error is a sentence for the operator.
    [[nodiscard]] tl::expected<void, std::string> start();
    // Closes the sockets; calls stay in the store and in the relay.
    void stop();

    [[nodiscard]] const counters& count() const;
    // What was asked and not done ("flag X"), how often.
    [[nodiscard]] const flag_counters& ignored() const noexcept;
    // What a new call must pass; the number of calls is looked at first.
    [[nodiscard]] admission& gates() noexcept;
    [[nodiscard]] std::vector<call_summary> calls() const;
    [[nodiscard]] std::size_t size() const noexcept; // how many
    // Where it listens (port 0 in the configuration resolved).
    [[nodiscard]] std::vector<asio::ip::udp::endpoint> endpoints() const;

    // Ends a call as `ng delete` does (tandemctl, session removed). False where there is none.
    bool end_call(const std::string& call_id, const std::string& cause);

private:
    struct state;
    std::shared_ptr<state> state_;
};

} // namespace tandem::callcontrol
