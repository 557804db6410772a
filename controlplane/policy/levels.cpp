// SPDX-License-Identifier: Apache-2.0
// Levels: the built-in table and the checks at load (RIM-30).
#include "controlplane/policy/levels.hpp"

#include <algorithm>
#include <fmt/format.h>

#include "controlplane/policy/rule.hpp"

namespace tandem::policy {

namespace {

constexpr std::size_t min_seed = 16;
constexpr std::size_t max_seed = 64;

tl::unexpected<std::string> bad(const level& row, std::string_view what) {
    return tl::unexpected(fmt::format("level {}: {}", row.name, what));
}

std::string seconds(std::chrono::milliseconds value) {
    return fmt::format("{:g} s", static_cast<double>(value.count()) / 1000.0);
}

} // namespace

tl::expected<void, std::string> check(const level& row, const limits& bounds) {
    const auto& suite = api::info(row.suite);
    if (row.name.empty() || row.name.size() > 32)
        return bad(row, "a level's name has 1 to 32 characters");
    if (row.name == deny)
        return bad(row, "a rule that says deny refuses the call: name the level otherwise");
    if (suite.key_length < 16) // the operator's floor: AES-128
        return bad(row, "suite must be an AES one of 128 bits or more (AEAD_AES_128_GCM, for example)");
    if (row.seed_bytes < min_seed || row.seed_bytes > max_seed)
        return bad(row,
                   fmt::format("seed_bytes = {} is out of range: choose {} to {}", row.seed_bytes, min_seed, max_seed));
    if (row.rekey < std::chrono::milliseconds(500))
        return bad(row, fmt::format("rekey_s = {} is too short: choose 0.5 s or more", seconds(row.rekey)));
    if (row.rekey >= bounds.primary_lifetime)
        return bad(
            row,
            fmt::format("rekey_s = {} is not below the primary tunnel's lifetime of {} s: media keys must change more "
                        "often than the primary's; lower rekey_s or raise [tunnel] lifetime_s",
                        seconds(row.rekey), bounds.primary_lifetime.count()));
    if (row.overlap < std::chrono::milliseconds(50) || row.overlap >= row.rekey)
        return bad(row, fmt::format("overlap_s = {} must be at least 0.05 s and below rekey_s = {}",
                                    seconds(row.overlap), seconds(row.rekey)));
    return {};
}

level_table level_table::built_in() {
    using std::chrono::milliseconds;
    level_table table;
    table.rows_ = {
        {"basic", api::suite::aes_cm_128_hmac_sha1_32, 16, milliseconds(120000), milliseconds(2000)},
        {"standard", api::suite::aead_aes_128_gcm, 16, milliseconds(60000), milliseconds(2000)},
        {"elevated", api::suite::aead_aes_128_gcm, 32, milliseconds(15000), milliseconds(2000)},
        {"high", api::suite::aead_aes_256_gcm, 32, milliseconds(5000), milliseconds(1000)},
    };
    return table;
}

void level_table::set(level row) {
    const auto found = std::find_if(rows_.begin(), rows_.end(), [&](const level& old) { return old.name == row.name; });
    if (found != rows_.end())
        *found = std::move(row);
    else
        rows_.push_back(std::move(row));
}

const level* level_table::find(std::string_view name) const noexcept {
    const auto found = std::find_if(rows_.begin(), rows_.end(), [&](const level& row) { return row.name == name; });
    return found != rows_.end() ? &*found : nullptr;
}

tl::expected<void, std::string> level_table::check_all(const limits& bounds, std::string_view default_level) const {
    for (const auto& row : rows_)
        if (auto fine = check(row, bounds); !fine)
            return fine;
    if (find(default_level) == nullptr)
        return tl::unexpected(
            fmt::format("default_level = \"{}\" names no level: add [levels.{}] or name an existing one", default_level,
                        default_level));
    return {};
}

std::optional<key_source> key_source_of(std::string_view name) noexcept {
    for (const auto keys : {key_source::gateway, key_source::unit, key_source::both})
        if (name == name_of(keys))
            return keys;
    return name == "unit" ? std::optional(key_source::unit) : std::nullopt;
}

std::optional<path_choice> path_choice_of(std::string_view name) noexcept {
    for (const auto path : {path_choice::either, path_choice::wlan, path_choice::wwan})
        if (name == name_of(path))
            return path;
    return {};
}

} // namespace tandem::policy
