// SPDX-License-Identifier: Apache-2.0
// Tables of Kamailio's module db_text: one file a table, in one directory that the SIP gateway reads. Kamailio looks at
// a file's time in whole seconds at each question and reads it anew when that went up; so a file is replaced whole, and
// its time always rises. Pure but for the files; any thread, one writer at a time (`lock`).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <tl/expected.hpp>

#include "base/descriptor.hpp"

namespace tandem::sip {

using row = std::vector<std::string>;

struct table {
    std::string columns; // the first line: "username(string) domain(string)"
    std::vector<row> rows;
};

// The tables that kamailio.cfg asks for. `location` and `route_key` are Kamailio's own to write and to read.
inline constexpr std::string_view names_table =
    "unit_name"; // "10.64.0.2 alice", or a name alone, to the unit's id code
inline constexpr std::string_view users_table = "subscriber", peers_table = "trusted_peer";
inline constexpr const char* names_columns = "own(string) unit(string)";
inline constexpr const char* users_columns = "username(string) domain(string) ha1(string)";
inline constexpr const char* peers_columns = "list(string) prefix(string)";

// Errors are sentences.
[[nodiscard]] tl::expected<table, std::string> read_table(const std::string& path);
// With the directory's group, 0640 or as asked; on disk when this returns.
[[nodiscard]] tl::expected<void, std::string> write_table(const std::string& path, const table& what,
                                                          unsigned mode = 0640);
// Exclusive among writers of this directory, until it is destroyed.
class lock {
public:
    explicit lock(const std::string& directory);
    [[nodiscard]] bool held() const noexcept { return static_cast<bool>(fd_); }

private:
    descriptor fd_;
};

} // namespace tandem::sip
