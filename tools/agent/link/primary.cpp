// SPDX-License-Identifier: Apache-2.0
// The primary's life. Design section 8; rows RIM-03, RIM-04, RIM-05, ORA-04 to ORA-09.
#include "tools/agent/link/primary.hpp"

#include <algorithm>

#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

#include "controlplane/protocol/address_asio.hpp"
#include "controlplane/protocol/spawn.hpp"
#include "tools/agent/device/text.hpp"

namespace tandem::agent {

using namespace std::chrono_literals;
using protocol::exchange;
using protocol::message;
using protocol::status;
using protocol::tlv;
using steady = std::chrono::steady_clock;

namespace {

constexpr auto handshake_patience = 5s;
constexpr auto request_patience = 5s;
constexpr auto release_patience = 1s;
constexpr auto backoff_first = 200ms, backoff_last = 5000ms;
constexpr auto old_heard_for = 2s; // the gateway ends it after one

void add(connection::counters& sum, const connection::counters& more) {
    sum.rx_packets += more.rx_packets;
    sum.rx_bytes += more.rx_bytes;
    sum.tx_packets += more.tx_packets;
    sum.tx_bytes += more.tx_bytes;
    sum.malformed += more.malformed;
    sum.bad_sequence += more.bad_sequence;
    sum.unmatched += more.unmatched;
}

} // namespace

tl::expected<session_settings, std::string> read_settings(const message& response) {
    session_settings settings;
    settings.tsid = response.tsid();
    if (settings.tsid == protocol::no_tsid)
        return tl::unexpected(std::string("it names no session"));
    const std::size_t count = response.count<tlv::inner_address>();
    if (response.count<tlv::inner_prefix>() != count)
        return tl::unexpected(std::string("inner addresses and prefixes differ in number"));
    for (std::size_t i = 0; i < count; i++) {
        const inner_address address{response.get<tlv::inner_address>(i)->bytes, *response.get<tlv::inner_prefix>(i)};
        if (address.prefix > (is_ipv4(address.ip) ? 32 : 128))
            return tl::unexpected(std::string("an inner prefix is too long"));
        settings.addresses.push_back(address);
    }
    for (std::size_t i = 0; i < response.count<tlv::inner_gateway>(); i++)
        settings.inner_gateways.push_back(response.get<tlv::inner_gateway>(i)->bytes);
    settings.keepalive = std::chrono::milliseconds(std::max(*response.get<tlv::keepalive_ms>(), 100U));
    settings.lifetime = std::chrono::seconds(*response.get<tlv::lifetime_s>());
    settings.mtu = response.get<tlv::mtu>().value_or(1280);
    if (settings.mtu < 1280)
        settings.mtu = 1280; // less and Linux takes IPv6 away from the device (RFC 8200 5)
    for (std::size_t i = 0; i < response.count<tlv::server>(); i++)
        if (const auto server = link::parse_endpoint(*response.get<tlv::server>(i)))
            settings.servers.push_back(*server);
    return settings;
}

primary::primary(asio::io_context& io, const agent_config& config, protocol::ssl_context tls, media_table& media,
                 hooks hook)
    : io_(io), config_(config), tls_(std::move(tls)), media_(media), hook_(std::move(hook)), gateways_(config.gateways),
      channel_(std::make_shared<protocol::channel_driver>(io.get_executor(), protocol::role::unit,
                                                          protocol::channel_limits{.heard_for = old_heard_for})),
      timer_(io) {}

void primary::start() {
    protocol::spawn(io_, "primary", [this] { return run(); });
}

std::chrono::milliseconds primary::backoff(unsigned attempt) {
    const auto ceiling = std::min<std::int64_t>(backoff_last.count(), backoff_first.count() << std::min(attempt, 10U));
    return std::chrono::milliseconds(std::uniform_int_distribution<std::int64_t>(ceiling / 2, ceiling)(random_));
}

asio::awaitable<void> primary::sleep(steady::duration time) {
    asio::error_code ignored;
    timer_.expires_after(time);
    co_await timer_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
}

asio::awaitable<void> primary::run() {
    unsigned attempt = 0;
    while (!stopping_) {
        if (std::exchange(hurry_, false))
            attempt = 0;
        const auto over = place_;
        auto made = co_await connect(gateways_[gateway_]);
        if (stopping_)
            break;
        if (made) {
            adopt(std::move(*made));
            hurry_ = false;
            last_error_.clear();
            const auto since = steady::now();
            co_await serve();
            if (stopping_)
                break;
            if (steady::now() - since > 5s)
                attempt = 0;
        } else {
            count_.failures++;
            if (made.error().text != last_error_ && over == place_ && !hurry_) // once per cause, not once per attempt
                spdlog::error("{}", made.error().text);
            last_error_ = made.error().text;
            gateway_ = (gateway_ + 1) % gateways_.size();
            if (over == place_ && !hurry_ && !made.error().refused && ++refusals_here_ >= gateways_.size())
                tell_reached(over, false);
        }
        if (!fatal_.empty()) {
            spdlog::critical("{}", fatal_);
            io_.stop();
            break;
        }
        if (!hurry_)
            co_await sleep(backoff(attempt++));
    }
}

bool primary::move(const path_place& to, move_kind kind) {
    const bool there = current_ && !current_->closed() && current_->from() == to && place_ != path_place{};
    place_ = to;
    refusals_here_ = 0;
    if (there && trying_ && trying_->from() != to)
        trying_->close("moved back");
    if (there || to.interface.empty() || telling_)
        return there; // telling: run() or renew() goes on from here
    const std::string why = "moved to " + to.interface;
    if (kind == move_kind::hard) {
        if (trying_)
            trying_->close(why);
        if (current_)
            current_->close(why);
    }
    hurry_ = kind == move_kind::hard || !current_; // what is under way ends because of this, not of the path
    timer_.cancel();
    return false;
}

void primary::links_changed(const links& now) {
    if (!old_ || old_->closed())
        return;
    const auto own = protocol::to_wire(old_->local().address).bytes;
    const bool there = std::ranges::any_of(now.all, [&](const net_link& l) {
        return l.carrier && std::ranges::find(l.addresses, own) != l.addresses.end();
    });
    if (!there)
        connection_ptr(old_)->close("its network is gone"); // lost() lets go of it
}

bool primary::wants_move() const noexcept {
    return !place_.interface.empty() && current_ && current_->from() != place_;
}

void primary::tell_reached(path_place over, bool up) {
    if (over.interface.empty() || !hook_.reached || telling_)
        return;
    telling_ = true;
    hook_.reached(over, up);
    telling_ = false;
}

// A connection whose CONFIG was answered; the session is settings_ from then on.
asio::awaitable<tl::expected<primary::connection_ptr, failure>> primary::connect(link::endpoint gateway) {
    const auto fresh = std::make_shared<connection>(
        io_, tls_.get(), channel_, config_.id,
        connection::handlers{.packet = hook_.packet,
                             .request = [this](connection& from, message request) { answer(from, std::move(request)); },
                             .lost = [this](connection& gone) { lost(gone); }});
    trying_ = fresh;
    auto opened = co_await fresh->open(gateway, handshake_patience, place_);
    if (!opened) {
        trying_.reset();
        co_return tl::unexpected(opened.error());
    }
    auto request = message::request(exchange::config).add<tlv::id_code>(config_.id);
    request.add<tlv::agent_version>("tandem-agent " TANDEM_VERSION);
    if (config_.lifetime_s)
        request.add<tlv::lifetime_s>(*config_.lifetime_s);
    if (settings_.tsid != protocol::no_tsid)
        request.add<tlv::resume_tsid>(settings_.tsid);
    if (const auto streams = hook_.streams ? hook_.streams(settings_.tsid) : std::nullopt)
        request.add<tlv::streams>(*streams);
    auto response = co_await fresh->configure(std::move(request), request_patience);
    trying_.reset();
    if (!response) {
        fresh->close("not configured");
        if (response.error().code == status::bad_tsid &&
            settings_.tsid != protocol::no_tsid) { // it is no more: begin anew
            media_.close_all("the gateway does not know the session any more");
            settings_.tsid = protocol::no_tsid;
        }
        co_return tl::unexpected(response.error());
    }
    auto settings = read_settings(*response);
    if (!settings) {
        fresh->close("bad CONFIG response");
        co_return tl::unexpected(
            failure{fmt::format("the gateway's CONFIG response is of no use: {}", settings.error()), true, {}});
    }
    if (auto taken = take_settings(std::move(*settings)); !taken) {
        fresh->close("cannot be configured");
        fatal_ = taken.error();
        co_return tl::unexpected(failure{taken.error(), true, {}});
    }
    channel_->keepalive(settings_.keepalive);
    fresh->begin();
    if (hook_.carried)
        hook_.carried(*fresh, settings_.tsid, response->get<tlv::streams>());
    co_return fresh;
}

void primary::lost(connection& gone) {
    if (current_.get() == &gone)
        timer_.cancel();
    if (old_.get() == &gone) {
        add(past_, gone.count());
        old_.reset();
    }
}

tl::expected<void, std::string> primary::take_settings(session_settings fresh) {
    const bool resumed = fresh.tsid == settings_.tsid;
    if (!resumed) {
        if (settings_.tsid != protocol::no_tsid)
            media_.close_all("the gateway began a new session");
        count_.sessions++;
    }
    const bool same_addresses = fresh.addresses == settings_.addresses && fresh.mtu == settings_.mtu;
    settings_ = std::move(fresh);
    configured_at_ = steady::now();
    for (const auto& server : settings_.servers)
        if (std::find(gateways_.begin(), gateways_.end(), server) == gateways_.end())
            gateways_.push_back(server);
    if (same_addresses)
        return {};
    return hook_.configured(settings_);
}

void primary::adopt(connection_ptr fresh) {
    const auto old = std::exchange(current_, std::move(fresh));
    count_.connects++;
    if (old && old->closed()) {
        add(past_, old->count());
    } else if (old) {
        if (old_) // a second move within the first one's while
            add(past_, old_->count());
        old_ = old; // the channel closes it after a while, if the gateway does not
    }
    media_.primary_is(true);
    std::string inner;
    for (const auto& address : settings_.addresses)
        inner += fmt::format(" {}/{}", tandem::agent::to_text(address.ip), address.prefix);
    spdlog::info("primary up: gateway {}, session {:016x}, inner{}, {}, lifetime {} s", text_of(current_->gateway()),
                 settings_.tsid, inner, current_->cipher(), settings_.lifetime.count());
    refusals_here_ = 0;
    tell_reached(current_->from(), true);
}

steady::time_point primary::renewal_time() const {
    return configured_at_ + settings_.lifetime - std::min<steady::duration>(settings_.lifetime / 10, 30s);
}

// Until the current connection is lost, with renewals; the channel sends keepalives.
asio::awaitable<void> primary::serve() {
    while (!stopping_ && current_ && !current_->closed()) {
        const auto now = steady::now();
        if (now >= renewal_time() || wants_move())
            co_await renew();
        else
            co_await sleep(renewal_time() - now);
    }
    if (!current_)
        co_return;
    if (!stopping_)
        spdlog::warn("primary lost: {}", current_->why());
    if (current_->fell_silent() && current_->from() == place_)
        tell_reached(place_, false);
    hurry_ = hurry_ || (!place_.interface.empty() && current_->from() != place_);
    add(past_, current_->count());
    current_.reset();
    media_.primary_is(false);
}

// The next connection is made while the old one still works; where that fails, the old one serves until it ends.
asio::awaitable<void> primary::renew() {
    const bool moving = wants_move();
    const auto to = place_;
    auto made = co_await connect(current_->gateway());
    if (stopping_)
        co_return;
    if (made) {
        (moving ? count_.moves : count_.renewals)++;
        spdlog::info(moving ? "primary moves" : "primary renewed");
        adopt(std::move(*made));
        co_return;
    }
    spdlog::warn("primary not {}: {}", moving ? "moved" : "renewed", made.error().text);
    if (!fatal_.empty())
        current_->close(fatal_);
    if (moving && to == place_ && !hurry_)
        tell_reached(to, false);
    if (!current_->closed())
        co_await sleep(backoff(2));
    if (steady::now() > configured_at_ + settings_.lifetime)
        current_->close("its lifetime is over");
}

void primary::answer(connection& from, message request) {
    switch (request.what()) {
    case exchange::keepalive:
        return from.respond(request.response(status::ok));
    case exchange::media_open:
        return from.respond(media_.media_open(request));
    case exchange::media_close:
        return from.respond(media_.media_close(request));
    case exchange::contact:
        return from.respond(hook_.contact ? hook_.contact(request) : request.response(status::service_unavailable));
    case exchange::seed_make:
        return from.respond(media_.seed_make(request));
    case exchange::seed: {
        const auto media = *request.get<tlv::media_id>();
        from.respond(media_.seed(request)); // queued before anything can be sent under the new epoch
        return media_.seed_answered(media);
    }
    case exchange::release:
        from.respond(request.response(status::ok));
        spdlog::warn("the gateway released the session: {}", request.get<tlv::reason>().value_or("no reason given"));
        media_.close_all("the gateway released the session");
        settings_.tsid = protocol::no_tsid;
        return;
    default:
        from.respond(request.response(status::service_unavailable));
    }
}

asio::awaitable<void> primary::stop() {
    if (std::exchange(stopping_, true))
        co_return;
    if (trying_)
        trying_->close("the agent ends");
    if (const auto last = current_; last && !last->closed()) {
        const auto released = co_await last->request(message::request(exchange::release), release_patience);
        if (!released)
            spdlog::warn("RELEASE: {}", released.error().text);
        last->close("the agent ends");
    }
    if (const auto old = old_)
        old->close("the agent ends");
    media_.close_all("the agent ends");
    timer_.cancel();
}

bool primary::wants_pause() const noexcept {
    return current_ && !current_->closed() && current_->bulk_full() && media_.empty();
}

void primary::send(std::span<const std::uint8_t> packet) {
    if (!current_ || current_->closed())
        count_.dropped_down++;
    else if (!current_->send_packet(packet))
        count_.dropped_full++;
}

nlohmann::json primary::describe() const {
    connection::counters sum = past_;
    for (const auto& c : {current_, old_})
        if (c)
            add(sum, c->count());
    nlohmann::json out{{"up", current_ != nullptr && !current_->closed()},
                       {"connects", count_.connects},
                       {"failures", count_.failures},
                       {"renewals", count_.renewals},
                       {"sessions", count_.sessions},
                       {"moves", count_.moves},
                       {"rx_packets", sum.rx_packets},
                       {"rx_bytes", sum.rx_bytes},
                       {"tx_packets", sum.tx_packets},
                       {"tx_bytes", sum.tx_bytes},
                       {"malformed", sum.malformed},
                       {"bad_sequence", sum.bad_sequence},
                       {"unmatched", sum.unmatched},
                       {"dropped_down", count_.dropped_down},
                       {"dropped_full", count_.dropped_full},
                       {"last_error", last_error_}};
    auto inner = nlohmann::json::array();
    for (const auto& address : settings_.addresses)
        inner.push_back(fmt::format("{}/{}", tandem::agent::to_text(address.ip), address.prefix));
    out["inner"] = std::move(inner);
    auto gateways = nlohmann::json::array();
    for (const auto& address : settings_.inner_gateways)
        gateways.push_back(tandem::agent::to_text(address));
    out["inner_gateway"] = std::move(gateways);
    if (settings_.tsid != protocol::no_tsid)
        out["tsid"] = fmt::format("{:016x}", settings_.tsid);
    out["keepalive_ms"] = settings_.keepalive.count();
    out["lifetime_s"] = settings_.lifetime.count();
    out["mtu"] = settings_.mtu;
    if (current_ && !current_->closed()) {
        out["gateway"] = text_of(current_->gateway());
        out["outer"] = text_of(current_->local());
        out["cipher"] = current_->cipher();
        out["age_s"] = std::chrono::duration<double>(steady::now() - configured_at_).count();
    }
    return out;
}

} // namespace tandem::agent
