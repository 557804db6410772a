// SPDX-License-Identifier: Apache-2.0
// The log that an earlier program kept in front of the database (FILE-log): read once, into the one of today. Private
// to this room. Pure but for reading the file.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace tandem::store {

// Its changes behind number `after`, oldest first; `of` is the database's own number. Nothing where there is no file.
void read_old_log(const std::string& path, std::uint64_t of, std::uint64_t after,
                  const std::function<void(std::uint64_t number, std::string_view change)>& each);

} // namespace tandem::store
