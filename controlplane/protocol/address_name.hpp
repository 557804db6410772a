// SPDX-License-Identifier: Apache-2.0
// How the two ends of a call are named (policy, contacts, TLV peer): canonical text, so that equal names are equal
// bytes.
//
//   telephone number  "+46 70-123 45 67", "0046701234567", "tel:+46701234567" -> "+46701234567" (E.164: 1 to 15 digits)
//   SIP address       "SIP:Alice@Example.COM:5060;transport=udp"              -> "sip:Alice@example.com"
//   domain            "@Example.COM"                                          -> "@example.com"
//   id code           "alice"                                                 -> "alice"
// Pure; any thread.
#pragma once

#include <string>
#include <string_view>

#include <tl/expected.hpp>

namespace tandem::protocol {

enum class address_kind { number, sip, domain, id_code };

struct address_name {
    address_kind kind{};
    std::string text; // canonical
    friend bool operator==(const address_name&, const address_name&) = default;
};

// The error is a sentence: a number that is no number, a name with letters that no name has.
[[nodiscard]] tl::expected<address_name, std::string> parse_address_name(std::string_view text);

} // namespace tandem::protocol
