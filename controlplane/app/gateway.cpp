// SPDX-License-Identifier: Apache-2.0
// Wiring of the rooms. Owner thread: io_context.
#include "controlplane/app/gateway.hpp"

#include <fmt/format.h>
#include <net/if.h>
#include <spdlog/spdlog.h>

#include "controlplane/identity/seal.hpp"
#include "controlplane/protocol/spawn.hpp"
#include "controlplane/store/local/rule_store.hpp"

namespace tandem::control {

namespace {

constexpr std::chrono::milliseconds look_interval{500};
constexpr unsigned looks_per_guard = 10;        // at the kernel's rules, which somebody may have flushed
constexpr std::chrono::seconds first_answer{3}; // a store may take so long at start before it is an alarm

callcontrol::config ng_settings(const config& settings, const dataplane_client::health_watch& health,
                                media::manager& relay, host_addresses& own_host, store::database& store) {
    callcontrol::config ng;
    ng.trouble = [&health] { return health.well() ? std::string() : health.trouble(); };
    ng.use = [&relay] {
        const auto flows = relay.flow_rooms();
        double most = flows.total == 0 ? 0 : static_cast<double>(flows.reserved) / static_cast<double>(flows.total);
        for (const auto& pool : relay.port_rooms())
            if (pool.total != 0)
                most = std::max(most, 1 - static_cast<double>(pool.free) / static_cast<double>(pool.total));
        return most;
    };
    ng.unreachable = [&own_host](const auto& where) { return own_host.unreachable(where); };
    ng.listen = settings.ng;
    ng.unit_of = [&store](const std::string& name) { return store.owner_of_name(name); };
    ng.strict_names = settings.strict_names;
    ng.core_interface = settings.media.core;
    ng.max_calls = settings.max_calls;
    ng.max_media = settings.max_media;
    ng.offer_timeout = settings.offer_timeout;
    ng.cookie_lifetime = settings.cookie_lifetime;
    ng.unit_reserve = settings.unit_reserve / 100.0;
    ng.source_share = settings.source_share / 100.0;
    ng.from = settings.ng_from;
    if (const auto& inner = settings.tunnel.inner4)
        ng.inner.push_back({inner->address(), inner->prefix_length()});
    if (const auto& inner = settings.tunnel.inner6)
        ng.inner.push_back({inner->address(), inner->prefix_length()});
    ng.received_from_optional = settings.received_from_optional;
    ng.is_inner = [&tunnel = settings.tunnel](const asio::ip::address& address) {
        if (address.is_v4())
            return tunnel.inner4 && asio::ip::network_v4(address.to_v4(), tunnel.inner4->prefix_length()).canonical() ==
                                        tunnel.inner4->canonical();
        return tunnel.inner6 && asio::ip::network_v6(address.to_v6(), tunnel.inner6->prefix_length()).canonical() ==
                                    tunnel.inner6->canonical();
    };
    return ng;
}

callcontrol::config with_ends(callcontrol::config ng, call_ends& ends) {
    ng.ended = [&ends](const auto& call) { ends.tell(call); };
    return ng;
}

// What the data plane's edge is told of the inner network.
api::inner_perimeter perimeter_of(const session::config& tunnel) {
    api::inner_perimeter p{};
    const auto add = [&p](const asio::ip::address& first, unsigned length) {
        auto& n = p.network[p.networks++];
        const auto address = dataplane_client::to_net_address(first, 0);
        std::copy(std::begin(address.ip), std::end(address.ip), n.ip);
        n.prefix_length = static_cast<std::uint8_t>(first.is_v4() ? 96 + length : length);
    };
    if (tunnel.inner4)
        add(tunnel.inner4->network(), tunnel.inner4->prefix_length());
    if (tunnel.inner6)
        add(tunnel.inner6->network(), tunnel.inner6->prefix_length());
    for (const auto& name : tunnel.inner_from)
        name.copy(p.from[p.ports++], sizeof p.from[0] - 1);
    return p;
}

} // namespace

tl::expected<std::unique_ptr<gateway>, std::string> gateway::make(asio::io_context& io, const config& settings) {
    auto keys = identity::sealer::open(settings.master_key_file);
    if (!keys)
        return tl::unexpected(keys.error());
    store::database_options options;
    options.instance = settings.instance;
    options.shared_records = settings.store.shared;
    options.keep_days = settings.store.keep_days;
    options.log_bytes = std::size_t{settings.store.log_mib} << 20;
    auto local = store::database::open(settings.database, std::move(*keys), options);
    if (!local)
        return tl::unexpected(local.error());
    std::unique_ptr<gateway> made(new gateway(io, settings, std::move(*local)));
    if (auto opened = made->open_store(); !opened)
        return tl::unexpected(opened.error());
    return made;
}

gateway::gateway(asio::io_context& io, const config& settings, std::unique_ptr<store::database> local)
    : io_(io), settings_(settings), local_(std::move(local)), dataplane_(io, settings.dataplane),
      health_(io, dataplane_), policy_(settings.policy), levels_(settings, policy_, alarms_),
      sessions_(io, settings.tunnel, local_->identities(), local_->sessions()),
      relay_(io, settings.media, dataplane_, stats_, sessions_, policy_, local_->media()),
      own_host_(dataplane_, settings.media.first_port, settings.media.last_port), ends_(io, settings.ends_socket()),
      calls_(io, with_ends(ng_settings(settings, health_, relay_, own_host_, *local_), ends_), relay_, sessions_,
             local_->calls()),
      names_(io, settings.sip_directory, *local_, sessions_), watch_(settings, dataplane_, health_, relay_, alarms_),
      look_timer_(io) {}

gateway::~gateway() = default;

// What a new call must pass, beside their number.
void gateway::add_gates() {
    calls_.gates().add([this]() -> std::optional<callcontrol::refusal> {
        auto why = local_->no_room(calls_.size());
        if (!why)
            return std::nullopt;
        return callcontrol::refusal{callcontrol::refusal::want::load, std::move(*why)};
    });
    calls_.gates().add([this]() -> std::optional<callcontrol::refusal> {
        auto why = memory_.no_room();
        if (!why)
            return std::nullopt;
        return callcontrol::refusal{callcontrol::refusal::want::sessions, std::move(*why)};
    });
}

tl::expected<void, std::string> gateway::open_store() {
    if (!settings_.store.shared) {
        local_rules_ = store::make_rule_store(io_, *local_);
    } else {
        store::postgres_options options;
        options.conninfo = settings_.store.conninfo;
        options.instance = settings_.instance;
        auto opened = store::open_postgres(io_, std::move(options), local_->spool(), local_->records());
        if (!opened)
            return tl::unexpected(fmt::format("{}: [store] conninfo: {}", settings_.file, opened.error()));
        shared_ = std::move(*opened);
    }
    answers_ = std::make_unique<verbs>(parts());
    ops_ = std::make_unique<ops_server>(io_, settings_.ops_socket(), *answers_);
    return {};
}

rooms gateway::parts() {
    auto& rules = shared_ ? static_cast<policy::store&>(*shared_) : *local_rules_;
    auto& archive = shared_ ? static_cast<store::archive&>(*shared_) : local_->records();
    return {settings_,
            *local_,
            dataplane_,
            stats_,
            sessions_,
            relay_,
            tally_,
            calls_,
            policy_,
            rules,
            archive,
            levels_,
            alarms_,
            memory_,
            health_,
            names_,
            [this] { return store_state(); }};
}

tl::expected<void, std::string> gateway::start() {
    sessions_.on_up = [this](const session::session_info& session) {
        spdlog::info("unit {} is up from {}:{} ({})", session.unit, session.outer.to_string(), session.outer_port,
                     session.cipher);
        names_.up(session);
        relay_.session_up(session);
        protocol::spawn_contained(io_, "a unit's source", prove({session}));
    };
    sessions_.on_down = [this](const session::session_info& session, bool final) {
        spdlog::info("unit {} is down{}", session.unit, final ? ", its session is over" : "");
        if (final)
            names_.soon();
        relay_.session_down(session, final);
    };
    add_gates();
    return start_rooms();
}

tl::expected<void, std::string> gateway::start_rooms() {
    local_->start(io_);
    if (shared_)
        shared_->start(policy_);
    else
        local_rules_->start(policy_);
    relay_.observe(tally_);
    relay_.start();
    if (auto started = calls_.start(); !started)
        return started;
    if (auto started = sessions_.start(); !started)
        return started;
    if (auto started = ops_->start(); !started)
        return started;
    if (auto started = ends_.start(); !started)
        spdlog::warn("{}", started.error());
    std::vector<media::media_id> known;
    for (const auto& call : calls_.calls())
        known.insert(known.end(), call.media.begin(), call.media.end());
    protocol::spawn_contained(io_, "end of media without a call",
                              relay_.close_all_but(std::move(known), "its call is not known any more"));
    dataplane_.on_connect = [this, then = std::move(dataplane_.on_connect)](const auto& greeting, bool lost) {
        protocol::spawn_contained(io_, "the inner network's perimeter", tell_perimeter());
        protocol::spawn_contained(io_, "units' sources", prove(sessions_.all()));
        protocol::spawn_contained(io_, "peers on this host", own_host_.look_at_ports());
        then(greeting, lost);
    };
    names_.changed();
    dataplane_.on_packet = [this](const auto& packet) { packets_.give(packet); };
    dataplane_.start();
    health_.start();
    look_again();
    return {};
}

void gateway::stop() {
    stopped_ = true;
    look_timer_.cancel();
    names_.stop();
    ops_->stop();
    ends_.stop();
    calls_.stop();
    relay_.stop();
    health_.stop();
    dataplane_.stop();
    sessions_.stop();
    if (shared_)
        shared_->stop();
    else
        local_rules_->stop();
    local_->stop();
}

void gateway::reload(const std::string& who) {
    if (auto done = levels_.reload(who); !done)
        spdlog::error("levels are not reloaded: {}", done.error());
    bool stale = false;
    const auto done = sessions_.renew_trust(stale);
    alarms_.set(alarms::revocation, !done || stale,
                done ? fmt::format("{} is past its next update: what it names stays revoked, later ones are not known; "
                                   "fetch a new one and reload",
                                   settings_.tunnel.certificates.crl)
                     : fmt::format("revoked certificates were not read again: {}; what was read before stays in force",
                                   done.error()));
}

std::string gateway::store_trouble() const {
    if (!policy_.trouble().empty())
        return policy_.trouble();
    if (shared_)
        return shared_->status().trouble;
    return {};
}

nlohmann::json gateway::store_state() const {
    const auto trouble = store_trouble();
    const bool connected = shared_ ? shared_->status().connected : trouble.empty();
    const auto waiting = shared_ ? shared_->waiting() : local_->records().waiting();
    return {
        {"kind", shared_ ? "postgresql" : "sqlite"}, {"connected", connected},         {"trouble", trouble},
        {"rules", policy_.rules().size()},           {"profiles", policy_.profiles()}, {"records_waiting", waiting}};
}

asio::awaitable<void> gateway::tell_perimeter() {
    const auto said = co_await dataplane_.inner_set(perimeter_of(settings_.tunnel));
    if (!said && !said.error().connected)
        co_return; // said again when it is back
    edge_trouble_.clear();
    if (!said)
        edge_trouble_ = said.error().text;
    else if (said->front().status != api::status::ok)
        edge_trouble_ = dataplane_client::text(said->front().status);
}

// The edge does not count their handshakes among those of the crowd. When it fails they are of the crowd.
asio::awaitable<void> gateway::prove(std::vector<session::session_info> units) {
    std::vector<api::proven_source> sources;
    for (const auto& unit : units)
        if (unit.up) {
            api::proven_source s{};
            const auto outer = dataplane_client::to_net_address(unit.outer, 0);
            std::copy(std::begin(outer.ip), std::end(outer.ip), s.ip);
            sources.push_back(s);
        }
    if (!sources.empty() && dataplane_.connected())
        co_await dataplane_.source_prove(std::move(sources));
}

void gateway::look_at_perimeter() {
    if (looks_++ % looks_per_guard != 0 && edge_trouble_.empty())
        return;
    auto trouble = sessions_.guard();
    if (!edge_trouble_.empty())
        trouble += fmt::format("{}the data plane's edge: {}", trouble.empty() ? "" : "; ", edge_trouble_);
    if (!trouble.empty())
        trouble = fmt::format("strangers are not kept from the inner network: {}", trouble);
    for (const auto& name : settings_.tunnel.inner_from)
        if (::if_nametoindex(name.c_str()) == 0)
            trouble += fmt::format("{}[tunnel] inner_from names {}, which is no interface here: what is behind it does "
                                   "not reach the inner network",
                                   trouble.empty() ? "" : "; ", name);
    alarms_.set(alarms::perimeter, !trouble.empty(), trouble);
}

void gateway::look() {
    watch_.look();
    look_at_perimeter();
    const bool young = std::chrono::steady_clock::now() - started_ < first_answer;
    const auto trouble = store_trouble();
    const bool away = !trouble.empty() && !(young && !policy_.rules_known());
    alarms_.set(alarms::store, away,
                fmt::format("{}; {}", trouble,
                            policy_.rules_known() ? "what was read of it before stays in force"
                                                  : "nothing of it is known: calls get the default level"));
    const auto waiting = shared_ ? shared_->waiting() : 0;
    alarms_.set(alarms::records_waiting, waiting > 0 && away,
                fmt::format("{} call records wait in {} until the store is back", waiting, settings_.database));
    const auto database = local_->trouble();
    alarms_.set(alarms::database, !database.empty(), database);
    (void)memory_.look();
    alarms_.set(alarms::memory, memory_.was_short(),
                "no memory for further calls, which are refused; running ones go on: raise MemoryMax, or send calls "
                "elsewhere");
    const auto doubt = local_->clock_doubt();
    alarms_.set(alarms::clock, !doubt.empty(), doubt);
    alarms_.set(alarms::sip_names, !names_.trouble().empty(),
                fmt::format("the SIP gateway is not told the units' names, it refuses those that are new: {}",
                            names_.trouble()));
    const auto seedless = relay_.units_without_seeds();
    alarms_.set(
        alarms::seeds, !seedless.empty(),
        fmt::format("units that are to make their calls' seeds and do not: {}; the gateway makes them instead: update "
                    "their agents, or set another keygen",
                    fmt::join(seedless, ", ")));
}

void gateway::look_again() {
    if (stopped_)
        return;
    look();
    look_timer_.expires_after(look_interval);
    look_timer_.async_wait([this](const asio::error_code& error) {
        if (!error)
            look_again();
    });
}

} // namespace tandem::control
