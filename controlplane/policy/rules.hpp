// SPDX-License-Identifier: Apache-2.0
// The security database in memory: a million rows at 24 to 36 bytes each besides names' own text, looked up by hashing.
// A number's digits are packed into an integer, so that a longest-prefix match is at most 15 probes of one table;
// SIP addresses, id codes and domains are exact. The store (store.hpp) has the truth; this is its copy.
// Owner thread: the control plane's io_context.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "controlplane/policy/decide.hpp"
#include "controlplane/policy/rule.hpp"
#include "controlplane/policy/slots.hpp"

namespace tandem::policy {

// Texts that many rows share (levels' names, comments), each kept once.
class shared_texts {
public:
    [[nodiscard]] std::uint32_t keep(std::string_view text); // one more user
    void drop(std::uint32_t number);
    [[nodiscard]] bool has(const std::string& text) const { return numbers_.contains(text); }
    [[nodiscard]] std::string_view operator[](std::uint32_t number) const { return *entries_[number].text; }
    [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

private:
    struct entry {
        const std::string* text = nullptr; // the map's key; nodes do not move
        std::uint32_t users = 0;
    };
    std::unordered_map<std::string, std::uint32_t> numbers_;
    std::vector<entry> entries_;
    std::vector<std::uint32_t> free_;
    std::size_t bytes_ = 0;
};

class rule_table {
public:
    // Rows whose address is no address are left out; how many were.
    std::size_t replace(const std::vector<rule>& all);
    bool set(const rule& row); // false: its address is no address, nothing changed
    bool remove(std::string_view address);

    // The most specific row of a party: its SIP address, then its id code, then the longest prefix of its number, then
    // its domain. `name_fault`, where given, gets the sentence when the party's id is no address.
    [[nodiscard]] std::optional<rule> find(const party& who, std::string* name_fault = nullptr) const;
    [[nodiscard]] std::optional<rule> exact(std::string_view address) const;
    [[nodiscard]] std::optional<rule> longest_prefix(std::string_view number) const; // canonical: "+46701234567"

    [[nodiscard]] bool any_says(const std::string& level) const { return levels_.has(level); }

    // In the order of their addresses: those that begin with `prefix` and come after `after`, at most `limit`. Looks at
    // every row (tens of milliseconds for a million), so page with large limits.
    [[nodiscard]] std::vector<rule> list(std::string_view prefix, std::string_view after, std::size_t limit) const;

    [[nodiscard]] std::size_t size() const noexcept { return numbers_.size() + names_.size(); }
    [[nodiscard]] std::size_t bytes() const noexcept; // of memory that the rows take

private:
    struct values {
        std::uint32_t comment = 0;
        std::uint16_t level = 0;
        std::uint8_t keys = 0, path = 0; // 0: the row says nothing; else the value + 1
    };
    struct number_slot {
        std::uint64_t packed = 0; // digits << 4 | how many; 0: free
        values row;
        [[nodiscard]] bool taken() const noexcept { return packed != 0; }
        [[nodiscard]] std::uint32_t hash() const noexcept;
    };
    struct name_slot {
        std::uint32_t at = 0; // in text_: length, then letters; 0: free
        std::uint32_t hashed = 0;
        values row;
        [[nodiscard]] bool taken() const noexcept { return at != 0; }
        [[nodiscard]] std::uint32_t hash() const noexcept { return hashed; }
    };

    [[nodiscard]] std::string_view text_at(std::uint32_t at) const noexcept;
    [[nodiscard]] const number_slot* find_number(std::uint64_t packed) const noexcept;
    [[nodiscard]] const name_slot* find_name(std::string_view name) const noexcept;
    [[nodiscard]] std::optional<values> make_values(const rule& row);
    void drop_values(const values& row);
    [[nodiscard]] rule make_rule_of(std::string address, const values& row) const;
    [[nodiscard]] std::optional<rule> named(std::string_view name) const;
    [[nodiscard]] std::optional<rule> user_or_number(std::string_view canonical) const;
    void set_number(std::string_view number, const values& row);
    void set_name(std::string_view name, const values& row);
    void compact();

    slots<number_slot> numbers_;
    slots<name_slot> names_;
    std::array<std::uint32_t, 16> of_length_{}; // how many prefixes of each length there are
    std::vector<char> text_ = {'\0'};
    std::size_t text_unused_ = 0;
    shared_texts levels_, comments_;
};

} // namespace tandem::policy
