// SPDX-License-Identifier: Apache-2.0
// Whether one more call may begin: the one place where a new call is refused for want of room, before anything of it is
// made. Rooms of the gateway add what they look at (`gate`); running calls are never asked about. What the proxy is
// told makes it try another node and still give this one its running calls. Owner thread: io_context.
#pragma once

#include <algorithm>
#include <array>
#include <asio/ip/address.hpp>
#include <asio/ip/network_v6.hpp>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace tandem::callcontrol {

struct refusal {
    enum class want : std::uint8_t {
        sessions, // "Parallel session limit reached", as rtpengine says it
        ports,    // "Ran out of ports"
        load,     // "load limit", with the cause
    };
    want what{};
    std::string cause; // a sentence for the log: what is short, what to do
};

[[nodiscard]] inline std::string source_key(const asio::ip::address& of) {
    return of.is_v4() ? of.to_string() : asio::ip::network_v6(of.to_v6(), 64).canonical().to_string();
}

// Above 80 % use nobody has more than a share of the calls: who floods does not keep the others out. A source is an
// IPv4 address or an IPv6 /64; one that is not known is not counted.
class source_shares {
public:
    static constexpr double busy = 0.8;
    static constexpr std::size_t always = 16; // so many calls any source may have

    explicit source_shares(double share) : share_(share) {}
    void begin(const std::string& source) {
        if (!source.empty())
            ++held_[source];
    }
    void end(const std::string& source) {
        if (const auto at = held_.find(source); at != held_.end() && --at->second == 0)
            held_.erase(at);
    }
    // Whether `source` has had its share of `calls`.
    [[nodiscard]] bool is_used_up(const std::string& source, std::size_t calls) const {
        const auto at = held_.find(source);
        return at != held_.end() && at->second >= always &&
               static_cast<double>(at->second) >= share_ * static_cast<double>(calls);
    }

private:
    double share_;
    std::map<std::string, std::size_t> held_; // of calls that are up
};

// The Call-IDs that were turned away last, as hashes: whether a refused offer may come again later.
class turned_away {
public:
    void add(const std::string& call_id) { last_[next_++ % last_.size()] = std::hash<std::string>{}(call_id); }
    [[nodiscard]] bool has(const std::string& call_id) const {
        const auto end = last_.begin() + static_cast<std::ptrdiff_t>(std::min(next_, last_.size()));
        return std::find(last_.begin(), end, std::hash<std::string>{}(call_id)) != end;
    }

private:
    std::array<std::size_t, 1024> last_{};
    std::size_t next_ = 0;
};

class admission {
public:
    using gate = std::function<std::optional<refusal>()>;
    void add(gate one) { gates_.push_back(std::move(one)); } // asked in this order, once for each new call

    // Nothing where a new call may begin.
    [[nodiscard]] std::optional<refusal> ask() {
        for (const auto& look : gates_)
            if (auto no = look())
                return no;
        return std::nullopt;
    }

private:
    std::vector<gate> gates_;
};

} // namespace tandem::callcontrol
