// SPDX-License-Identifier: Apache-2.0
// See forwards.hpp.
#include "tools/agent/streams/forwards.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

#include "controlplane/link/with.hpp"
#include "controlplane/protocol/spawn.hpp"
#include "tools/agent/capture/datagram_capture.hpp"

namespace tandem::agent {

namespace layer = session_layer;
using tcp = asio::ip::tcp;
namespace {

constexpr std::size_t most_contexts = 128 * 1024 * 1024; // octets of compression

void reset(tcp::socket& socket) {
    std::error_code ignored;
    socket.set_option(tcp::socket::linger(true, 0), ignored);
    socket.close(ignored);
}

} // namespace

tl::expected<void, std::string> forwards::listen() {
    for (const auto& rule : all_) {
        auto& p = ports_.emplace_back(rule, link::tcp_acceptor(io_));
        const auto error = p.acceptor.open(rule.listen);
        if (error)
            return tl::unexpected(fmt::format("[[forward]] listen {}: {}; choose an address and a port that are free",
                                              link::text_of(rule.listen), error.message()));
    }
    return {};
}

void forwards::start() {
    for (auto& p : ports_)
        protocol::spawn(io_, "acceptor of a forwarded port", [this, &p] { return accept(p); });
}

asio::awaitable<void> forwards::accept(port& p) {
    co_await p.acceptor.each([this, &p](tcp::socket connected) {
        ++count_.accepted;
        take(std::move(connected), {p.rule.to.address, p.rule.to.port},
             p.rule.compress ? layer::stream_kind::packed : layer::stream_kind::octets);
    });
}

void forwards::take(tcp::socket connected, const tcp::endpoint& to) {
    take(std::move(connected), to, layer::stream_kind::octets);
}

void forwards::take(tcp::socket connected, const tcp::endpoint& to, layer::stream_kind kind) {
    const auto label = link::text_of({to.address(), to.port()});
    const auto id = driver_ ? driver_->use([&](layer::session& s) { return s.open(kind, label); }) : std::nullopt;
    if (!id) {
        ++count_.refused;
        return reset(connected);
    }
    streams_->take(*id, std::move(connected), kind);
}

// ---- the session
// ------------------------------------------------------------------------------------------------------

std::uint8_t forwards::wish(std::uint64_t tsid) const noexcept {
    return driver_ && tsid == tsid_ ? 1 : 0;
}

void forwards::end(const char* why) {
    if (!driver_)
        return;
    if (streams_->size() != 0)
        spdlog::warn("{} forwarded connections are reset: {}", streams_->size(), why);
    streams_->abort_all();
    datagrams_.carried_by(nullptr);
    driver_->stop();
    past_ = sum();
    driver_.reset();
    streams_.reset();
}

void forwards::begin(connection& on_it, std::uint64_t tsid) {
    end("the gateway began a new session");
    const auto secret = layer::new_secret_of(on_it.carrier(), tsid);
    if (secret.empty())
        return;
    tsid_ = tsid;
    ++count_.sessions;
    layer::limits limits;
    limits.datagrams = datagram_capture::most_programs; // a burst of all of them
    driver_ = std::make_shared<layer::driver>(
        io_.get_executor(),
        layer::session(layer::role::creator, tsid, secret, limits, std::chrono::steady_clock::now()),
        [this](const layer::event& e) { on(e); });
    auto budget = std::make_shared<layer::tcp_streams::budget>();
    budget->most_contexts = most_contexts;
    streams_ = std::make_shared<layer::tcp_streams>(io_.get_executor(), driver_, std::move(budget));
    datagrams_.carried_by(driver_);
}

void forwards::carried_by(connection& by, std::uint64_t tsid, std::optional<std::uint8_t> answer) {
    if (!answer) {
        end("the gateway carries no streams");
        if (any() && !std::exchange(told_off_, true))
            spdlog::error(
                "[[forward]], [capture]: the gateway carries no streams for units; set services in its [tunnel]");
        return;
    }
    told_off_ = false;
    if (*answer == 0 || wish(tsid) == 0)
        begin(by, tsid);
    if (!driver_)
        return;
    const auto id = driver_->dial(layer::guest_on(by), 1, layer::binding_of(by.carrier()));
    by.carry(layer::riding(driver_, id));
    driver_->move(id, driver_->state().current() ? layer::reason::better : layer::reason::lost);
}

void forwards::on(const layer::event& e) {
    if (const auto* h = std::get_if<layer::handover>(&e))
        if (moves_.note(*h))
            spdlog::info("forwarded connections moved: {}, {} octets sent again", moves_.last, h->sent_again);
    if (const auto* c = std::get_if<layer::close_link>(&e))
        spdlog::warn("forwarded connections: the primary does not carry them any more: the gateway's frames are {}",
                     c->why == layer::link_end::refused ? "not of this session" : "malformed");
    if (const auto* r = std::get_if<layer::was_reset>(&e))
        say_why(r->code);
    streams_->on(e);
    datagrams_.on(e);
}

// Where a reset has a name, and a remedy.
void forwards::say_why(std::uint16_t code) {
    if (code == layer::reset_not_allowed) {
        ++count_.not_allowed;
        spdlog::warn("a forwarded connection is refused: the gateway's [tunnel] services does not name its service");
    } else if (code == static_cast<std::uint16_t>(layer::reset_code::refused)) {
        spdlog::warn("a forwarded connection is refused: the gateway has no room for it, or is too old for compress = "
                     "true of its [[forward]]");
    } else if (code == layer::reset_not_zstd || code == layer::reset_zstd_window) {
        spdlog::warn("a compressed connection is reset: the gateway cannot read what this agent sent: {}",
                     code == layer::reset_not_zstd ? "it is no whole zstd frame" : "it refers back too far");
    }
}

void forwards::stop() {
    for (auto& p : ports_)
        p.acceptor.close();
    end("the agent ends");
}

layer::tcp_streams::counters forwards::sum() const {
    auto all = past_;
    if (!streams_)
        return all;
    const auto& now = streams_->count();
    all.begun += now.begun;
    all.ended += now.ended;
    all.reset += now.reset;
    all.to_session += now.to_session;
    all.from_session += now.from_session;
    all.not_zstd += now.not_zstd;
    all.zstd_window += now.zstd_window;
    all.no_context += now.no_context;
    all.packed += now.packed;
    all.plain_octets += now.plain_octets;
    all.packed_octets += now.packed_octets;
    return all;
}

bool forwards::used() {
    const auto all = sum();
    const auto now = all.to_session + all.from_session + datagrams_.count().sent + datagrams_.count().received;
    return std::exchange(seen_, now) != seen_;
}

nlohmann::json forwards::describe() const {
    const auto all = sum();
    auto ports = nlohmann::json::array();
    for (const auto& p : ports_)
        ports.push_back({{"listen", link::text_of(p.rule.listen)},
                         {"to", link::text_of(p.rule.to)},
                         {"name", p.rule.name},
                         {"compress", p.rule.compress}});
    return {{"ports", std::move(ports)},
            {"session", driver_ != nullptr},
            {"open", streams_ ? streams_->size() : 0},
            {"accepted", count_.accepted},
            {"refused", count_.refused},
            {"not_allowed", count_.not_allowed},
            {"ended", all.ended},
            {"reset", all.reset},
            {"datagrams", datagrams_.size()},
            {"datagrams_sent", datagrams_.count().sent},
            {"datagrams_received", datagrams_.count().received},
            {"datagrams_lost", datagrams_.count().lost},
            {"tx_bytes", all.to_session},
            {"rx_bytes", all.from_session},
            {"sessions", count_.sessions},
            {"handovers", moves_.count},
            {"sent_again_bytes", moves_.octets_again},
            {"last_handover", moves_.last},
            {"compressed",
             {{"begun", all.packed},
              {"contexts", streams_ ? streams_->contexts() : 0},
              {"context_bytes", streams_ ? streams_->context_octets() : 0},
              {"plain_bytes", all.plain_octets},
              {"link_bytes", all.packed_octets},
              {"not_zstd", all.not_zstd},
              {"window", all.zstd_window},
              {"no_context", all.no_context}}}};
}

} // namespace tandem::agent
