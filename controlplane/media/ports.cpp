// SPDX-License-Identifier: Apache-2.0
// Port pairs: random choice from a free list, quarantine in order of release. Owner thread: io_context.
#include "controlplane/media/ports.hpp"
#include "controlplane/media/room.hpp"

#include <algorithm>
#include <sys/random.h>

namespace tandem::media {

namespace {

std::size_t random_below(std::size_t bound) {
    std::uint64_t value = 0;
    if (::getrandom(&value, sizeof(value), 0) != static_cast<ssize_t>(sizeof(value)))
        value = static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
    return static_cast<std::size_t>(value % bound);
}

} // namespace

port_pool::port_pool(std::uint16_t first, std::uint16_t last, std::chrono::milliseconds quarantine)
    : quarantine_(quarantine) {
    for (std::uint32_t port = (std::uint32_t{first} + 1) & ~std::uint32_t{1}; port + 1 <= last; port += 2)
        if (port != 0)
            free_.push_back(static_cast<std::uint16_t>(port));
    total_ = free_.size();
}

void port_pool::wake(clock::time_point now) {
    while (!resting_.empty() && resting_.front().first <= now) {
        free_.push_back(resting_.front().second);
        resting_.pop_front();
    }
}

std::optional<std::uint16_t> port_pool::take(clock::time_point now, const std::function<bool(std::uint16_t)>& usable) {
    wake(now);
    for (std::size_t left = free_.size(); left > 0; --left) {
        // What was tried and refused is moved behind `left`.
        const auto at = random_below(left);
        std::swap(free_[at], free_[left - 1]);
        const auto port = free_[left - 1];
        if (usable && !usable(port))
            continue;
        free_.erase(free_.begin() + static_cast<std::ptrdiff_t>(left - 1));
        return port;
    }
    // A late packet of an old call is less than no call at all.
    for (auto oldest = resting_.begin(); oldest != resting_.end(); ++oldest)
        if (const auto port = oldest->second; !usable || usable(port)) {
            resting_.erase(oldest);
            return port;
        }
    return std::nullopt;
}

void port_pool::release(std::uint16_t port, clock::time_point now) {
    resting_.emplace_back(now + quarantine_, port);
}

bool port_pool::mark(std::uint16_t port) {
    const auto found = std::find(free_.begin(), free_.end(), port);
    if (found == free_.end())
        return false;
    free_.erase(found);
    return true;
}

std::size_t port_pool::free_now(clock::time_point now) {
    wake(now);
    return free_.size();
}

port_lease::port_lease(std::shared_ptr<port_table> table, asio::ip::address where, std::uint16_t number, std::string of)
    : address(std::move(where)), port(number), unit(std::move(of)), from_(std::move(table)) {}

port_lease::~port_lease() {
    from_->release(*this);
}

port_pool& port_table::pool(const asio::ip::address& address) {
    return pools_.try_emplace(address, first_, last_, quarantine_).first->second;
}

leased_port port_table::take(const asio::ip::address& address, const std::string& unit, bool running, double reserve) {
    const auto now = port_pool::clock::now();
    auto& from = pool(address);
    const auto kept = spare_ports(from.total()) + static_cast<std::size_t>(reserve * static_cast<double>(from.total()));
    if (!running && from.left() <= kept)
        return nullptr;
    const auto usable = [&](std::uint16_t port) { return unit.empty() || !unit_ports_.contains({unit, port}); };
    const auto port = from.take(now, usable);
    if (!port)
        return nullptr;
    if (!unit.empty())
        unit_ports_.emplace(unit, *port);
    return std::make_shared<const port_lease>(shared_from_this(), address, *port, unit);
}

leased_port port_table::mark(const asio::ip::address& address, std::uint16_t port, const std::string& unit) {
    if (pool(address).mark(port) && !unit.empty())
        unit_ports_.emplace(unit, port);
    return std::make_shared<const port_lease>(shared_from_this(), address, port, unit);
}

void port_table::release(const port_lease& over) {
    pool(over.address).release(over.port, port_pool::clock::now());
    if (!over.unit.empty())
        unit_ports_.erase({over.unit, over.port});
}

std::size_t port_table::free_now() {
    std::size_t sum = 0;
    for (auto& [address, one] : pools_)
        sum += one.free_now(port_pool::clock::now());
    return sum;
}

} // namespace tandem::media
