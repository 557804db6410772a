// SPDX-License-Identifier: Apache-2.0
// Captured programs' datagrams. A door is a local UDP port that stands for one destination (bpf/capture_layout.h); a
// program's socket is told by its own address and port, and has one way, whatever it sends to. The io_context's thread.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <asio/awaitable.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/udp.hpp>
#include <tl/expected.hpp>

#include "bpf/loader/capture.hpp"
#include "tools/agent/capture/taker.hpp"

namespace tandem::agent {

class datagram_capture {
public:
    static constexpr std::size_t doors_of_a_family = bpf::capture::most_doors / 2, most_programs = 1024;
    struct counters {
        std::uint64_t up = 0, down = 0;
        std::uint64_t sockets = 0; // of programs, ever
        std::uint64_t no_room = 0; // more than most_programs, or the taker's word
        std::uint64_t lost = 0;    // to the program: from somebody that it never sent to, or its buffer is full
    };
    datagram_capture(asio::io_context& io, taker& to, std::chrono::seconds idle) : io_(io), taker_(to), idle_(idle) {}

    // The doors of a family, before `begin`; 127.0.0.1 before ::1.
    [[nodiscard]] tl::expected<void, std::string> open(const asio::ip::address& on);
    [[nodiscard]] std::span<const std::uint16_t> ports4() const noexcept { return ports4_; }
    [[nodiscard]] std::span<const std::uint16_t> ports6() const noexcept { return ports6_; }
    void begin(bpf::capture& capture);

    [[nodiscard]] const counters& count() const noexcept { return count_; }
    [[nodiscard]] std::size_t programs() const noexcept { return programs_.size(); }
    [[nodiscard]] std::size_t open_doors() const noexcept;

private:
    using udp = asio::ip::udp;
    using clock = std::chrono::steady_clock;
    struct door {
        enum class phase : std::uint8_t { free, open, closed };
        udp::socket socket;
        std::optional<udp::endpoint> destination; // while it is not free
        phase is = phase::free;
        clock::time_point since; // used last; closed: since then
    };
    struct program {
        std::unique_ptr<datagram_way> way;
        clock::time_point used;
    };

    asio::awaitable<void> receive(std::uint32_t index);
    asio::awaitable<void> watch();
    [[nodiscard]] bool receive_one(std::uint32_t index);
    [[nodiscard]] bool know(std::uint32_t index);
    [[nodiscard]] program* find(const udp::endpoint& from);
    void give_back(const udp::endpoint& to, const udp::endpoint& from, std::span<const std::uint8_t> datagram);
    void age(std::uint32_t index, clock::time_point now);

    asio::io_context& io_;
    taker& taker_;
    std::chrono::seconds idle_;
    bpf::capture* capture_ = nullptr;
    std::vector<door> doors_;
    std::vector<std::uint16_t> ports4_, ports6_;
    std::map<udp::endpoint, std::uint32_t> door_of_; // by destination
    std::map<udp::endpoint, program> programs_;      // by their own end
    std::array<std::uint8_t, 65536> buffer_{};
    counters count_;
};

} // namespace tandem::agent
