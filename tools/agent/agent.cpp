// SPDX-License-Identifier: Apache-2.0
// TUN pump, signals, and the last privileges.
#include "tools/agent/agent.hpp"

#include <array>
#include <cerrno>
#include <csignal>

#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "controlplane/protocol/address_asio.hpp"
#include "controlplane/protocol/spawn.hpp"
#include "dataplane/api/service_manager.hpp"
#include "tools/agent/device/privileges.hpp"

namespace tandem::agent {

using namespace std::chrono_literals;

namespace {

constexpr int batch = 32;        // packets of the TUN before others have their turn
constexpr auto pause_step = 5ms; // how often a full primary is looked at again
constexpr auto down_step = 50ms; // and a TUN that is down

} // namespace

agent::agent(asio::io_context& io, const agent_config& config, protocol::ssl_context tls, tun_device tun,
             std::unique_ptr<status_server> status)
    : io_(io), config_(config), tun_(std::move(tun)), tun_stream_(io, tun_.fd()), signals_(io, SIGTERM, SIGINT),
      pause_(io), second_(io), advisor_(config),
      media_(io, [this](std::span<const std::uint8_t> packet) { return write_tun(packet); }),
      roaming_(config, config.path_classes.empty() ? nullptr : nl80211_source::open(), roaming_hooks()),
      links_(io, [this] { look_at_paths(true); }), signal_news_(io),
      forwards_(io, config.forwards, config.capture.any()),
      primary_(io, config, std::move(tls), media_,
               {.packet =
                    [this](std::span<const std::uint8_t> packet) {
                        if (!write_tun(packet))
                            count_.tun_refused++;
                    },
                .configured = [this](const session_settings& settings) { return configure(settings); },
                .contact = [this](const protocol::message& request) { return advisor_.contact(request); },
                .reached = [this](const path_place& over,
                                  bool up) { roaming_.reached(over, up, std::chrono::steady_clock::now()); },
                .streams =
                    [this](std::uint64_t tsid) {
                        return forwards_.any() ? std::optional(forwards_.wish(tsid)) : std::nullopt;
                    },
                .carried =
                    [this](connection& by, std::uint64_t tsid, std::optional<std::uint8_t> answer) {
                        if (forwards_.any())
                            forwards_.carried_by(by, tsid, answer);
                    }}),
      status_(std::move(status)) {
    (void)tun_.release(); // the stream closes it
    tun_stream_.non_blocking(true);
    media_.on_call_ended([this](const std::string& peer, std::chrono::milliseconds length, bool failed) {
        advisor_.call_ended(peer, length, failed);
    });
    media_.use_paths(config.paths, [this](const ip_bytes& gateway) {
        auto known = survey_links(gateway, config_.paths, config_.tun);
        known.preferred = roaming_.interface();
        return known;
    });
}

// Paths are judged by the way to the gateway that is in use or tried.
roaming::hooks agent::roaming_hooks() {
    const auto gateway = [this] { return protocol::to_wire(primary_.gateway().address).bytes; };
    return {.survey = [this, gateway] { return survey_links(gateway(), config_.paths, config_.tun); },
            .source = [gateway](const std::string& interface) { return source_towards(gateway(), interface); },
            .move = [this](const path_place& to, move_kind kind) { return primary_.move(to, kind); }};
}

void agent::look_at_paths(bool links_changed) {
    const auto now = std::chrono::steady_clock::now();
    if (links_changed)
        roaming_.links_changed(now);
    else
        roaming_.check(now);
    media_.check_paths();
    if (links_changed && roaming_.active())
        primary_.links_changed(
            survey_links(protocol::to_wire(primary_.gateway().address).bytes, config_.paths, config_.tun));
}

void agent::await_radio() {
    signal_news_.async_wait(asio::posix::stream_descriptor::wait_read, [this](const asio::error_code& error) {
        if (error)
            return;
        roaming_.signal_news(std::chrono::steady_clock::now());
        media_.check_paths();
        await_radio();
    });
}

tl::expected<void, std::string> agent::open() {
    if (auto bound = forwards_.listen(); !bound)
        return bound;
    if (config_.names.listen) {
        names_ = std::make_shared<name_stub>(io_, config_.names);
        if (auto bound = names_->listen(); !bound)
            return bound;
    }
    if (!config_.capture.any())
        return {};
    auto started = program_capture::start(io_, config_.capture, forwards_);
    if (!started)
        return tl::unexpected(started.error());
    capture_ = std::move(*started);
    return {};
}

tl::expected<void, std::string> agent::start() {
    forwards_.start();
    if (names_)
        names_->start();
    if (status_)
        status_->serve([this] { return describe(); });
    await_signal();
    advisor_.refresh();
    links_.start();
    look_at_paths(true);
    if (const int fd = roaming_.signal_fd(); fd >= 0) {
        signal_news_.assign(::fcntl(fd, F_DUPFD_CLOEXEC, 0)); // the source keeps its own
        await_radio();
    }
    protocol::spawn(io_, "reader of the TUN", [this] { return pump(); });
    protocol::spawn(io_, "watch over paths and media", [this] { return watch(); });
    primary_.start();
    api::tell_service_manager("READY=1");
    return {};
}

void agent::await_signal() {
    signals_.async_wait([this](const asio::error_code& error, int) {
        if (error)
            return;
        spdlog::info("stopping");
        api::tell_service_manager("STOPPING=1");
        protocol::spawn(io_, "end of the agent", [this]() -> asio::awaitable<void> {
            co_await primary_.stop();
            forwards_.stop();
            if (names_)
                names_->stop();
            stopping_ = true;
            if (status_)
                status_->close();
            asio::error_code ignored;
            tun_stream_.close(ignored);
            links_.stop();
            signal_news_.close(ignored);
            second_.cancel();
            signals_.cancel(ignored);
            io_.stop();
        });
    });
}

bool agent::write_tun(std::span<const std::uint8_t> packet) {
    if (::write(tun_stream_.native_handle(), packet.data(), packet.size()) < 0)
        return false;
    count_.to_phone++;
    roaming_.saw_packet(packet, std::chrono::steady_clock::now());
    return true;
}

tl::expected<void, std::string> agent::configure(const session_settings& settings) {
    if (!privileged_)
        return tl::unexpected(std::string("the gateway gave other inner addresses than before, and the agent has no "
                                          "privileges left to set them: start it again"));
    if (config_.nftables) // before the addresses are there
        if (auto done = tun_.guard(settings.addresses); !done)
            return tl::unexpected(done.error() +
                                  "; without its rule whoever shares a network with this device reaches the phone's "
                                  "inner address: see to it yourself and set nftables = false");
    if (auto done = tun_.configure(settings.addresses, settings.mtu); !done)
        return done;
    privileged_ = false;
    return drop_all();
}

asio::awaitable<void> agent::watch() {
    while (!stopping_) {
        asio::error_code error;
        second_.expires_at(roaming_.next_look(std::chrono::steady_clock::now()));
        co_await second_.async_wait(asio::redirect_error(asio::use_awaitable, error));
        advisor_.refresh();
        if (forwards_.used())
            roaming_.traffic(std::chrono::steady_clock::now());
        look_at_paths(false);
        media_.expire(clock::now());
        api::tell_service_manager("WATCHDOG=1");
    }
}

asio::awaitable<void> agent::pump() {
    std::array<std::uint8_t, 65536> packet;
    while (!stopping_) {
        asio::error_code error;
        if (privileged_ ||
            primary_.wants_pause()) { // before it has addresses the TUN is down: poll(2) says error, always
            pause_.expires_after(privileged_ ? down_step : pause_step);
            co_await pause_.async_wait(asio::redirect_error(asio::use_awaitable, error));
            continue;
        }
        co_await tun_stream_.async_wait(asio::posix::stream_descriptor::wait_read,
                                        asio::redirect_error(asio::use_awaitable, error));
        if (error)
            co_return;
        for (int i = 0; i < batch && !primary_.wants_pause(); i++) {
            const ssize_t got = ::read(tun_stream_.native_handle(), packet.data(), packet.size());
            if (got <= 0) {
                if (errno != EAGAIN) { // somebody took the TUN down
                    pause_.expires_after(down_step);
                    co_await pause_.async_wait(asio::redirect_error(asio::use_awaitable, error));
                }
                break;
            }
            const auto bytes = std::span<const std::uint8_t>(packet).first(static_cast<std::size_t>(got));
            count_.from_phone++;
            roaming_.saw_packet(bytes, std::chrono::steady_clock::now());
            if (media_.capture(bytes) == captured::not_media)
                primary_.send(bytes);
        }
    }
}

std::string agent::describe() const {
    nlohmann::json out{
        {"version", 1},
        {"program", "tandem-agent " TANDEM_VERSION},
        {"id", config_.id},
        {"tun", config_.tun},
        {"primary", primary_.describe()},
        {"media", media_.describe()},
        {"advice", advisor_.describe()},
        {"tun_packets",
         {{"from_phone", count_.from_phone}, {"to_phone", count_.to_phone}, {"refused", count_.tun_refused}}}};
    if (forwards_.any())
        out["streams"] = forwards_.describe();
    if (capture_) {
        const auto kernel = capture_->kernel_count();
        out["capture"] = {{"captured", kernel.connections},
                          {"taken", capture_->count().taken},
                          {"strangers", capture_->count().strangers},
                          {"datagram_sockets", capture_->datagrams().count().sockets},
                          {"datagrams_lost", capture_->datagrams().count().lost},
                          {"no_room", capture_->count().no_room}};
    }
    if (names_)
        out["names"] = names_->describe();
    if (roaming_.active())
        out["paths"] = roaming_.describe(std::chrono::steady_clock::now());
    return out.dump(); // one line
}

} // namespace tandem::agent
