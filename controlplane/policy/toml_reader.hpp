// SPDX-License-Identifier: Apache-2.0
// What readers of TOML configuration share (levels.toml here, controlplane.toml in app/): toml++ with its traps closed,
// and values with sentences that name file, line, column and remedy. The only way in to toml++ in the control plane:
// include this, never <toml++/toml.h>. Faults are thrown inside one translation unit's reading and become values there.
#pragma once

#include <chrono>
#include <cmath>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>

#include <fmt/format.h>
// Its assertions fire on malformed files ("[[[") that it goes on to report as the errors they are.
#ifndef TOML_ASSERT
#define TOML_ASSERT(condition) static_cast<void>(0)
#endif
#include <toml++/toml.h>

namespace tandem::policy {

// Thrown by toml_reader; caught where the reading began, never beyond its file.
struct toml_fault {
    std::string text; // "file:line:column: what is wrong; what to do"
};

class toml_reader {
public:
    explicit toml_reader(std::string file) : file_(std::move(file)) {}

    // The whole text, or a toml_fault.
    [[nodiscard]] toml::table parse(std::string_view text) const;

    [[noreturn]] void fail(const toml::source_position& at, std::string_view what) const;
    [[noreturn]] void fail(const toml::node& at, std::string_view what) const { fail(at.source().begin, what); }
    [[noreturn]] void fail(std::string_view what) const; // of the whole file

    // An unknown key is a fault that names the known ones. `where`: " in [tunnel]", or nothing.
    void only(const toml::table& table, std::string_view where, std::span<const std::string_view> known) const;
    void only(const toml::table& table, std::string_view where, std::initializer_list<std::string_view> known) const {
        only(table, where, std::span(known.begin(), known.size()));
    }

    // Each: nothing is changed where the key is absent.
    [[nodiscard]] const toml::table* table(const toml::table& root, std::string_view key) const;
    [[nodiscard]] const toml::array* list(const toml::table& root, std::string_view key) const;
    void text(const toml::table& table, std::string_view key, std::string& to) const;
    void flag(const toml::table& table, std::string_view key, bool& to) const;
    [[nodiscard]] std::int64_t in_range(const toml::node& node, std::string_view key, std::int64_t low,
                                        std::int64_t high) const;
    template <class T>
    void number(const toml::table& table, std::string_view key, std::int64_t low, std::int64_t high, T& to) const {
        if (const auto* node = table.get(key))
            to = T(in_range(*node, key, low, high));
    }
    // Seconds, whole or with a fraction.
    void seconds(const toml::table& table, std::string_view key, std::chrono::milliseconds& to) const;

    [[nodiscard]] const std::string& file() const noexcept { return file_; }

private:
    // toml++ 3.3 reaches an unreachable point on some letters outside of ASCII in a bare key; names, addresses and
    // paths need none. Strings over several lines would break what edits one line.
    void plain_letters_only(std::string_view text) const;

    std::string file_;
};

} // namespace tandem::policy
