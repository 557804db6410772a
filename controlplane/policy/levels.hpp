// SPDX-License-Identifier: Apache-2.0
// Security levels: suite, seed length, re-key interval, overlap. The built-in table is in levels.cpp; a
// configuration's [levels.NAME] overrides or adds rows. Checked at load, so that a running call never meets an
// impossible level.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <tl/expected.hpp>

#include "controlplane/protocol/types.hpp"
#include "dataplane/api/suites.hpp"

namespace tandem::policy {

using protocol::key_source;
using protocol::name_of;
using protocol::path_choice;

// Names as they are in files, verbs, CSV and databases.
[[nodiscard]] std::optional<key_source> key_source_of(std::string_view name) noexcept; // "unit" too is device
[[nodiscard]] std::optional<path_choice> path_choice_of(std::string_view name) noexcept;

struct level {
    std::string name;
    api::suite suite = api::suite::aead_aes_128_gcm;
    std::size_t seed_bytes = 16;
    std::chrono::milliseconds rekey{60000};
    std::chrono::milliseconds overlap{2000};
    bool seed_is_key = false; // compatibility: a seed per direction is the key and salt itself
    key_source keys = key_source::gateway;
    path_choice path = path_choice::either;

    // What travels in one seed TLV.
    [[nodiscard]] std::size_t seed_length() const noexcept {
        return seed_is_key ? std::size_t{api::info(suite).key_length} + api::info(suite).salt_length : seed_bytes;
    }
};

// What a level is held against.
struct limits {
    std::chrono::seconds primary_lifetime{86400}; // RIM-30: media keys change more often than the primary's
};

// A sentence with the remedy where the level cannot be used.
[[nodiscard]] tl::expected<void, std::string> check(const level& row, const limits& bounds);

class level_table {
public:
    level_table() = default;
    [[nodiscard]] static level_table built_in();

    void set(level row); // replaces one of the same name
    [[nodiscard]] const level* find(std::string_view name) const noexcept;
    [[nodiscard]] const std::vector<level>& rows() const noexcept { return rows_; }
    // All rows, and that `default_level` is one of them.
    [[nodiscard]] tl::expected<void, std::string> check_all(const limits& bounds, std::string_view default_level) const;

private:
    std::vector<level> rows_;
};

} // namespace tandem::policy
