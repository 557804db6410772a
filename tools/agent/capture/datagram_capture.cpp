// SPDX-License-Identifier: Apache-2.0
#include "tools/agent/capture/datagram_capture.hpp"

#include <algorithm>

#include <sys/socket.h>

#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>
#include <fmt/format.h>

#include "controlplane/protocol/spawn.hpp"
#include "tools/agent/capture/place.hpp"

namespace tandem::agent {

namespace {

constexpr auto rest = std::chrono::seconds(2);  // of a closed door, for who found it before
constexpr int burst = 64;                       // of one door, before another's turn
constexpr int receive_buffer = 2 * 1024 * 1024; // of a door, to which any number of programs send

} // namespace

tl::expected<void, std::string> datagram_capture::open(const asio::ip::address& on) {
    try {
        for (std::size_t i = 0; i < doors_of_a_family; ++i) {
            udp::socket socket(io_, udp::endpoint(on, 0));
            socket.non_blocking(true);
            const int octets = receive_buffer; // by force: the agent still may; else what the host allows
            if (::setsockopt(socket.native_handle(), SOL_SOCKET, SO_RCVBUFFORCE, &octets, sizeof octets) != 0)
                (void)::setsockopt(socket.native_handle(), SOL_SOCKET, SO_RCVBUF, &octets, sizeof octets);
            (on.is_v6() ? ports6_ : ports4_).push_back(socket.local_endpoint().port());
            doors_.push_back({std::move(socket), std::nullopt, door::phase::free, {}});
        }
    } catch (const asio::system_error& error) {
        return tl::unexpected(
            fmt::format("capture cannot open UDP ports on {} ({}): set that address up (ip link set lo "
                        "up), raise the limit of open files, or leave the udp rules of that family out",
                        on.to_string(), error.code().message()));
    }
    return {};
}

void datagram_capture::begin(bpf::capture& capture) {
    capture_ = &capture;
    for (std::uint32_t i = 0; i < doors_.size(); ++i)
        protocol::spawn(io_, "reader of captured datagrams", [this, i] { return receive(i); });
    if (!doors_.empty())
        protocol::spawn(io_, "watch over captured datagrams", [this] { return watch(); });
}

std::size_t datagram_capture::open_doors() const noexcept {
    return static_cast<std::size_t>(
        std::ranges::count_if(doors_, [](const auto& one) { return one.is != door::phase::free; }));
}

asio::awaitable<void> datagram_capture::receive(std::uint32_t index) {
    asio::error_code error;
    for (;;) {
        co_await doors_[index].socket.async_wait(udp::socket::wait_read,
                                                 asio::redirect_error(asio::use_awaitable, error));
        if (error)
            co_return;
        for (int i = 0; i < burst && receive_one(index); ++i) {
        }
    }
}

// A free door that the kernel has opened is one, from now on.
bool datagram_capture::know(std::uint32_t index) {
    auto& at = doors_[index];
    if (at.is != door::phase::free)
        return true;
    const auto place = capture_->behind_door(index);
    if (!place)
        return false;
    at.is = door::phase::open;
    at.destination = udp::endpoint(address_of(*place), port_of(*place));
    at.since = clock::now();
    door_of_[*at.destination] = index;
    return true;
}

bool datagram_capture::receive_one(std::uint32_t index) {
    auto& at = doors_[index];
    udp::endpoint from;
    asio::error_code error;
    const auto length = at.socket.receive_from(asio::buffer(buffer_), from, 0, error);
    if (error)
        return error != asio::error::would_block; // a program that is gone: its ICMP error
    if (!know(index))                             // not captured: somebody sent here by himself
        return true;
    auto* const who = find(from);
    if (who == nullptr) {
        ++count_.no_room;
        return true;
    }
    ++count_.up;
    who->used = clock::now();
    if (at.is == door::phase::open)
        at.since = who->used;
    who->way->send(*at.destination, {buffer_.data(), length});
    return true;
}

datagram_capture::program* datagram_capture::find(const udp::endpoint& from) {
    if (const auto known = programs_.find(from); known != programs_.end())
        return &known->second;
    if (programs_.size() >= most_programs)
        return nullptr;
    auto way = taker_.take_datagrams(from.protocol(), [this, from](const udp::endpoint& sender, auto datagram) {
        give_back(from, sender, datagram);
    });
    if (!way)
        return nullptr;
    ++count_.sockets;
    return &programs_.emplace(from, program{std::move(way), clock::now()}).first->second;
}

void datagram_capture::give_back(const udp::endpoint& to, const udp::endpoint& from,
                                 std::span<const std::uint8_t> datagram) {
    const auto known = door_of_.find(from);
    const auto who = programs_.find(to);
    asio::error_code error = asio::error::host_unreachable;
    if (known != door_of_.end() && who != programs_.end()) {
        auto& by = doors_[known->second];
        by.socket.send_to(asio::buffer(datagram.data(), datagram.size()), to, 0, error);
        who->second.used = clock::now();
        if (by.is == door::phase::open)
            by.since = who->second.used;
    }
    ++(error ? count_.lost : count_.down);
}

// open -> closed, when it is idle and no socket is connected to it -> free, when nobody can still be on the way to it.
void datagram_capture::age(std::uint32_t index, clock::time_point now) {
    auto& at = doors_[index];
    if (!know(index))
        return;
    const bool is_open = at.is == door::phase::open;
    if (now - at.since < (is_open ? std::chrono::seconds(idle_) : rest) || capture_->door_users(index) != 0)
        return;
    if (is_open) {
        capture_->close_door(index);
        at.is = door::phase::closed;
        at.since = now;
        return;
    }
    if (const auto known = door_of_.find(*at.destination); known != door_of_.end() && known->second == index)
        door_of_.erase(known);
    at.destination.reset();
    at.is = door::phase::free;
    capture_->free_door(index);
}

asio::awaitable<void> datagram_capture::watch() {
    asio::steady_timer second(io_);
    asio::error_code error;
    for (;;) {
        second.expires_after(std::chrono::seconds(1));
        co_await second.async_wait(asio::redirect_error(asio::use_awaitable, error));
        if (error)
            co_return;
        const auto now = clock::now();
        std::erase_if(programs_, [&](const auto& one) { return now - one.second.used >= idle_; });
        for (std::uint32_t i = 0; i < doors_.size(); ++i)
            age(i, now);
    }
}

} // namespace tandem::agent
