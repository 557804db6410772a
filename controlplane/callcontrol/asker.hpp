// SPDX-License-Identifier: Apache-2.0
// Who may ask by ng, and how much is told at once: a source address on UDP can be made up, so a small request must not
// send much to whom it names. Pure; one thread.
#pragma once

#include <algorithm>
#include <array>
#include <asio/ip/address.hpp>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::callcontrol {

// An address prefix of either family.
struct network {
    asio::ip::address base;
    unsigned bits = 0;

    [[nodiscard]] bool contains(const asio::ip::address& one) const {
        if (one.is_v4() != base.is_v4())
            return false;
        const auto same = [&](const auto& a, const auto& b) {
            for (unsigned i = 0; i < bits; i += 8) {
                const unsigned left = std::min(8U, bits - i);
                if ((a[i / 8] ^ b[i / 8]) >> (8 - left) != 0)
                    return false;
            }
            return true;
        };
        return base.is_v4() ? same(base.to_v4().to_bytes(), one.to_v4().to_bytes())
                            : same(base.to_v6().to_bytes(), one.to_v6().to_bytes());
    }
};
// "198.51.100.0/24", "2001:db8::7"; nothing where it is neither.
[[nodiscard]] inline std::optional<network> read_network(std::string_view text) {
    const auto slash = text.find('/');
    asio::error_code fault;
    network out;
    out.base = asio::ip::make_address(std::string(text.substr(0, slash)), fault);
    if (fault)
        return std::nullopt;
    const unsigned most = out.base.is_v4() ? 32 : 128;
    out.bits = most;
    if (slash == std::string_view::npos)
        return out;
    const auto digits = text.substr(slash + 1);
    if (digits.empty() || digits.size() > 3 || digits.find_first_not_of("0123456789") != std::string_view::npos)
        return std::nullopt;
    out.bits = static_cast<unsigned>(std::stoul(std::string(digits)));
    return out.bits <= most ? std::optional(out) : std::nullopt;
}

// Bytes of replies that change nothing (list, query) to each source, a second. Sources share places: there are no more
// than `places`, whoever asks.
class reply_budget {
public:
    using clock = std::chrono::steady_clock;
    static constexpr std::size_t places = 256;
    static constexpr std::size_t for_strangers = 64 << 10; // a second, and at once
    static constexpr std::size_t for_known = 4 << 20;

    // Whether so many bytes may go to it now.
    [[nodiscard]] bool take(const asio::ip::address& to, std::size_t bytes, bool known, clock::time_point now) {
        const std::size_t most = known ? for_known : for_strangers;
        auto& one = left_[share(to)];
        const double seconds = std::min(1.0, std::chrono::duration<double>(now - one.at).count());
        one.bytes = std::min(static_cast<double>(most), one.bytes + seconds * static_cast<double>(most));
        one.at = now;
        if (one.bytes <= 0)
            return false;
        one.bytes -= static_cast<double>(bytes);
        return true;
    }

private:
    // Of an IPv4 address, or of an IPv6 network (/64).
    [[nodiscard]] static std::size_t share(const asio::ip::address& of) {
        std::uint64_t word = 0;
        if (of.is_v4())
            word = of.to_v4().to_uint();
        else
            for (unsigned i = 0; i < 8; ++i)
                word = word << 8 | of.to_v6().to_bytes()[i];
        return (word * 0x9e3779b97f4a7c15) >> 56;
    }
    struct place {
        double bytes = 0;
        clock::time_point at{};
    };
    std::array<place, places> left_{};
};

} // namespace tandem::callcontrol
