// SPDX-License-Identifier: Apache-2.0
// The names that stand for forwarded ports (COL-04, COL-05), and what is said to who asks for one: this device's
// address of that port, and that there is nothing else of the name (RFC 1035; RFC 2308 2.2). Pure. Any thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <asio/ip/address.hpp>

namespace tandem::agent {

// Letters, digits, - and _ in labels of 1 to 63, 253 in all (RFC 1035 2.3.4); an IPv4 address is none (RFC 1123 2.1).
[[nodiscard]] bool is_host_name(std::string_view text);

// A response (RFC 1035 4.1.1) to it: of its id and its question, in letters of either case (RFC 5452 9.1). One without
// a question is one, too: an error of a server that could not read it.
[[nodiscard]] bool is_answer_to(std::span<const std::uint8_t> query, std::span<const std::uint8_t> reply) noexcept;

class name_answers {
public:
    // False where the name has another address of that family.
    [[nodiscard]] bool add(std::string_view name, const asio::ip::address& address);
    [[nodiscard]] bool empty() const noexcept { return of_.empty(); }

    enum class fate : std::uint8_t { answered, passed_on, malformed };
    struct verdict {
        fate what;
        std::vector<std::uint8_t> reply; // answered: of at most 512 octets
    };
    [[nodiscard]] verdict look_at(std::span<const std::uint8_t> query) const;

private:
    struct addresses {
        std::optional<asio::ip::address_v4> four;
        std::optional<asio::ip::address_v6> six;
    };
    std::map<std::string, addresses> of_; // by name in small letters
};

} // namespace tandem::agent
