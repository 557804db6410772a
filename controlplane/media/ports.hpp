// SPDX-License-Identifier: Apache-2.0
// Media ports of one local address: pairs of an even port (RTP) and the odd one above it (RTCP). Chosen at random, so
// that they cannot be guessed from the last call's; kept out of use for a while after release, so that a late packet of
// the old call never meets the new one's flow. Owner thread: io_context.
#pragma once

#include <asio/ip/address.hpp>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace tandem::media {

class port_pool {
public:
    using clock = std::chrono::steady_clock;

    // Even ports p with first <= p and p + 1 <= last.
    port_pool(std::uint16_t first, std::uint16_t last, std::chrono::milliseconds quarantine);

    // Of those that rest the oldest, where nothing else is free. Nothing where all are in use or refused by `usable`.
    [[nodiscard]] std::optional<std::uint16_t> take(clock::time_point now,
                                                    const std::function<bool(std::uint16_t)>& usable = {});
    void release(std::uint16_t port, clock::time_point now);
    // In use already (take-over after a restart). False where it is not free.
    bool mark(std::uint16_t port);

    [[nodiscard]] std::size_t free_now(clock::time_point now);
    [[nodiscard]] std::size_t left() const noexcept { return free_.size() + resting_.size(); } // resting ones too
    [[nodiscard]] std::size_t in_use() const noexcept { return total_ - free_.size() - resting_.size(); }
    [[nodiscard]] std::size_t total() const noexcept { return total_; }

private:
    void wake(clock::time_point now);

    std::vector<std::uint16_t> free_;
    std::deque<std::pair<clock::time_point, std::uint16_t>> resting_;
    std::chrono::milliseconds quarantine_;
    std::size_t total_ = 0;
};

class port_table;

// A pair of ports of one of our addresses, taken for as long as anybody holds this: a leg in force, or one that is
// planned beside it and keeps the port.
struct port_lease {
    port_lease(std::shared_ptr<port_table> table, asio::ip::address where, std::uint16_t number, std::string of);
    ~port_lease();
    port_lease(const port_lease&) = delete;
    port_lease& operator=(const port_lease&) = delete;

    const asio::ip::address address;
    const std::uint16_t port;
    const std::string unit; // empty for a leg in the core

private:
    std::shared_ptr<port_table> from_;
};
using leased_port = std::shared_ptr<const port_lease>;

// The pools of all addresses. A unit's inner ports are numbered like the outer ones: two media of one unit never share
// a number, on whatever addresses.
class port_table : public std::enable_shared_from_this<port_table> {
public:
    port_table(std::uint16_t first, std::uint16_t last, std::chrono::milliseconds quarantine)
        : first_(first), last_(last), quarantine_(quarantine) {}

    // Null where none is free, or, for a call that does not run yet, where only the spare ones are (room.hpp) and a
    // part that is reserved for others.
    [[nodiscard]] leased_port take(const asio::ip::address& address, const std::string& unit, bool running,
                                   double reserve = 0);
    // One that was in use before a restart.
    [[nodiscard]] leased_port mark(const asio::ip::address& address, std::uint16_t port, const std::string& unit);
    [[nodiscard]] std::size_t free_now();
    // All of its ports are free: nothing was taken there yet.
    void open(const asio::ip::address& address) { static_cast<void>(pool(address)); }
    // Calls back with (address, pairs in all, those that a call can have) of each address in use so far.
    template <class F>
    void each_pool(F&& tell) {
        for (auto& [address, one] : pools_)
            tell(address, one.total(), one.left());
    }

private:
    friend struct port_lease;
    [[nodiscard]] port_pool& pool(const asio::ip::address& address);
    void release(const port_lease& over);

    std::uint16_t first_, last_;
    std::chrono::milliseconds quarantine_;
    std::map<asio::ip::address, port_pool> pools_;
    std::set<std::pair<std::string, std::uint16_t>> unit_ports_;
};

} // namespace tandem::media
