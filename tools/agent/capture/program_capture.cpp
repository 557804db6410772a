// SPDX-License-Identifier: Apache-2.0
#include "tools/agent/capture/program_capture.hpp"

#include <algorithm>
#include <chrono>

#include <arpa/inet.h>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <fmt/format.h>

namespace tandem::agent {

namespace {

using asio::ip::tcp;

bool any_of_family(const capture_settings& settings, bool ip6) {
    return std::ranges::any_of(settings.rules, [ip6](const auto& rule) { return rule.ip6 == ip6 && !rule.leave; });
}

} // namespace

bpf::capture_place place_of(const asio::ip::address& address, std::uint16_t port, std::uint8_t protocol) {
    bpf::capture_place place{};
    place.family = address.is_v6() ? 6 : 4;
    place.protocol = protocol;
    place.port = htons(port);
    if (address.is_v6())
        std::ranges::copy(address.to_v6().to_bytes(), place.ip);
    else
        std::ranges::copy(address.to_v4().to_bytes(), place.ip);
    return place;
}

asio::ip::address address_of(const bpf::capture_place& place) {
    asio::ip::address_v6::bytes_type six;
    asio::ip::address_v4::bytes_type four;
    std::copy_n(place.ip, six.size(), six.begin());
    std::copy_n(place.ip, four.size(), four.begin());
    if (place.family == 6)
        return asio::ip::address_v6(six);
    return asio::ip::address_v4(four);
}

std::uint16_t port_of(const bpf::capture_place& place) noexcept {
    return ntohs(place.port);
}

tl::expected<std::unique_ptr<program_capture>, std::string>
program_capture::start(asio::io_context& io, const capture_settings& settings, taker& to) {
    auto made = std::make_unique<program_capture>(io, to);
    bpf::capture::plan plan{settings.cgroup, settings.rules};
    for (const bool ip6 : {false, true}) {
        if (!any_of_family(settings, ip6))
            continue;
        const auto port = made->listen(ip6 ? asio::ip::address(asio::ip::address_v6::loopback())
                                           : asio::ip::address(asio::ip::address_v4::loopback()));
        if (!port)
            return tl::unexpected(port.error());
        (ip6 ? plan.proxy6 : plan.proxy4) = *port;
    }
    auto capture = bpf::capture::start(plan);
    if (!capture)
        return tl::unexpected(capture.error());
    made->capture_ = std::move(*capture);
    for (auto& one : made->acceptors_)
        asio::co_spawn(io, made->accept(*one), asio::detached);
    return made;
}

tl::expected<std::uint16_t, std::string> program_capture::listen(const asio::ip::address& on) {
    try {
        acceptors_.push_back(std::make_unique<acceptor>(io_, tcp::endpoint(on, 0)));
        acceptors_.back()->non_blocking(true);
        return acceptors_.back()->local_endpoint().port();
    } catch (const asio::system_error& error) {
        return tl::unexpected(
            fmt::format("capture cannot listen on {} ({}): set that address up (ip link set lo up), or "
                        "leave the rules of that family out",
                        on.to_string(), error.code().message()));
    }
}

asio::awaitable<void> program_capture::accept(acceptor& on) {
    constexpr auto pause = std::chrono::milliseconds(100);
    asio::steady_timer timer(io_);
    for (;;) {
        asio::error_code error;
        auto program = co_await on.async_accept(asio::redirect_error(asio::use_awaitable, error));
        if (error == asio::error::operation_aborted)
            co_return;
        if (!error) {
            hand_on(std::move(program));
            continue;
        }
        if (error == asio::error::connection_aborted)
            continue;
        ++count_.no_room; // they wait in the backlog
        timer.expires_after(pause);
        co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, error));
        if (error)
            co_return;
    }
}

void program_capture::hand_on(tcp::socket program) {
    asio::error_code error;
    const auto from = program.remote_endpoint(error);
    if (error) // reset meanwhile
        return;
    const auto to = capture_->take(place_of(from.address(), from.port(), IPPROTO_TCP));
    if (!to) {
        ++count_.strangers;
        return;
    }
    ++count_.taken;
    taker_.take(std::move(program), tcp::endpoint(address_of(*to), port_of(*to)));
}

} // namespace tandem::agent
