// SPDX-License-Identifier: Apache-2.0
#include "tools/agent/capture/program_capture.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <netinet/in.h>

#include "controlplane/protocol/spawn.hpp"
#include "tools/agent/capture/place.hpp"

namespace tandem::agent {

namespace {

bool any_of(const capture_settings& settings, bpf::capture_rule::protocol kind, bool ip6) {
    return std::ranges::any_of(
        settings.rules, [kind, ip6](const auto& rule) { return rule.kind == kind && rule.ip6 == ip6 && !rule.leave; });
}

asio::ip::address loopback(bool ip6) {
    if (ip6)
        return asio::ip::address_v6::loopback();
    return asio::ip::address_v4::loopback();
}

} // namespace

tl::expected<std::unique_ptr<program_capture>, std::string>
program_capture::start(asio::io_context& io, const capture_settings& settings, taker& to) {
    using enum bpf::capture_rule::protocol;
    auto made = std::make_unique<program_capture>(io, to, settings.udp_idle);
    bpf::capture::plan plan;
    plan.cgroup = settings.cgroup;
    plan.rules = settings.rules;
    for (const bool ip6 : {false, true}) {
        if (any_of(settings, tcp, ip6)) {
            const auto port = made->listen(loopback(ip6));
            if (!port)
                return tl::unexpected(port.error());
            (ip6 ? plan.proxy6 : plan.proxy4) = *port;
        }
        if (any_of(settings, udp, ip6))
            if (auto opened = made->datagrams_.open(loopback(ip6)); !opened)
                return tl::unexpected(opened.error());
    }
    plan.doors4 = made->datagrams_.ports4();
    plan.doors6 = made->datagrams_.ports6();
    auto capture = bpf::capture::start(plan);
    if (!capture)
        return tl::unexpected(capture.error());
    made->capture_ = std::move(*capture);
    made->datagrams_.begin(*made->capture_);
    for (auto& one : made->acceptors_)
        protocol::spawn(io, "acceptor of captured programs", [self = made.get(), &one] { return self->accept(one); });
    return made;
}

tl::expected<std::uint16_t, std::string> program_capture::listen(const asio::ip::address& on) {
    auto& opened = acceptors_.emplace_back(io_);
    if (const auto error = opened.open({on, 0}))
        return tl::unexpected(
            fmt::format("capture cannot listen on {} ({}): set that address up (ip link set lo up), or "
                        "leave the rules of that family out",
                        on.to_string(), error.message()));
    return opened.local().port;
}

asio::awaitable<void> program_capture::accept(link::tcp_acceptor& on) {
    co_await on.each([this](asio::ip::tcp::socket program) { hand_on(std::move(program)); },
                     [this] { ++count_.no_room; });
}

void program_capture::hand_on(asio::ip::tcp::socket program) {
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
    taker_.take(std::move(program), asio::ip::tcp::endpoint(address_of(*to), port_of(*to)));
}

} // namespace tandem::agent
