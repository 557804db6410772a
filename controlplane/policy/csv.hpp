// SPDX-License-Identifier: Apache-2.0
// The security database as CSV (RFC 4180): `tandemctl policy import` and `export`.
//   address,level,keygen,path,comment
//   +4670,high,,wlan,"mobiles, all"
// The header line is required; columns after the second may be left out, from the right. Lines end with LF or CRLF.
// Refused whole, with line and column of the first fault. Addresses become canonical; two rows of one address are a
// fault. Pure; any thread.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <tl/expected.hpp>

#include "controlplane/policy/rule.hpp"

namespace tandem::policy {

// Does a level of this name exist? Rows that name others are refused; an empty function takes any name.
using level_exists = std::function<bool(std::string_view)>;

// The error: "FILE:line:column: what is wrong; what to do"; lines and columns (in bytes) count from 1.
[[nodiscard]] tl::expected<std::vector<rule>, std::string> parse_csv(std::string_view text, const std::string& file,
                                                                     const level_exists& exists);

inline constexpr std::string_view csv_header = "address,level,keygen,path,comment\n";
// One row with its line's end; export = csv_header + each.
void append_csv(std::string& to, const rule& row);
[[nodiscard]] std::string to_csv(const std::vector<rule>& rows);

// One row checked and made canonical, as `policy set` and the verbs' JSON need it too.
[[nodiscard]] tl::expected<rule, std::string> make_rule(std::string_view address, std::string_view level,
                                                        std::string_view keygen, std::string_view path,
                                                        std::string_view comment, const level_exists& exists);

} // namespace tandem::policy
