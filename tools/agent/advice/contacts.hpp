// SPDX-License-Identifier: Apache-2.0
// The unit's own contacts (RIM-23, RIM-24): whom the person marked with a level, alone or by category. contacts.toml:
//
//   [categories]
//   family = "elevated"
//   [[contact]]
//   address = "+46701234567"   # or a prefix of numbers, sip:alice@example.com, an id code, @example.com
//   name = "Mum"
//   category = "family"
//   level = "high"             # before its category's
//
// Of several that fit a call's peer the most specific one that gives a level counts: SIP address, id code, longest
// number prefix, domain. contact_book is a value and pure; contact_file is the agent's view of the file, on its thread.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <tl/expected.hpp>

#include "controlplane/protocol/address_name.hpp"
#include "tools/agent/advice/state_file.hpp"

namespace tandem::agent {

struct contact {
    protocol::address_name address;
    std::string name, category, level; // empty: none
    friend bool operator==(const contact&, const contact&) = default;
};

// Fields to set; nothing: as it was; empty: taken away.
struct contact_change {
    std::optional<std::string> name{}, category{}, level{};
};

class contact_book {
public:
    static constexpr std::size_t most_contacts = 10'000, most_categories = 100, most_bytes = 4U << 20;

    // The error says file, line and column, and what to do. Nothing of a broken file is taken.
    [[nodiscard]] static tl::expected<contact_book, std::string> parse(std::string_view text, const std::string& file);
    [[nodiscard]] std::string to_toml() const;

    struct match {
        const contact* who;
        std::string level;
        bool by_category; // the level is its category's
    };
    // `peers`: the names of one peer. Nothing where no contact of these has a level.
    [[nodiscard]] std::optional<match> find(const std::vector<protocol::address_name>& peers) const;

    // The errors are sentences.
    [[nodiscard]] tl::expected<contact, std::string> set(std::string_view address, const contact_change& change);
    [[nodiscard]] tl::expected<void, std::string> unset(std::string_view address);
    [[nodiscard]] tl::expected<void, std::string> set_category(const std::string& name, const std::string& level);

    [[nodiscard]] const std::map<std::string, contact>& contacts() const noexcept { return contacts_; }
    [[nodiscard]] const std::map<std::string, std::string>& categories() const noexcept { return categories_; }
    [[nodiscard]] std::string level_of(const contact& who) const; // own or category's; empty: none

private:
    std::map<std::string, contact> contacts_; // by canonical address
    std::map<std::string, std::string> categories_;
};

// Levels and categories: 1 to 32 of A-Z a-z 0-9 _ -. Whether the gateway has such a level, it alone knows.
[[nodiscard]] bool valid_label(std::string_view text) noexcept;

// contacts.toml of a state_dir; no file is an empty book.
[[nodiscard]] tl::expected<contact_book, std::string> load_contacts(const std::string& directory);
[[nodiscard]] tl::expected<void, std::string> save_contacts(const std::string& directory, const contact_book& book);

// Follows the file: refresh() reads it where it changed. A broken one leaves the old book in force and is said once.
class contact_file {
public:
    explicit contact_file(std::string directory); // empty: there are no contacts
    void refresh();
    [[nodiscard]] const contact_book& book() const noexcept { return book_; }
    [[nodiscard]] const std::string& error() const noexcept { return error_; }

private:
    std::string directory_;
    contact_book book_;
    std::string error_;
    file_stamp stamp_;
};

} // namespace tandem::agent
