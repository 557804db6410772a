// SPDX-License-Identifier: Apache-2.0
// contacts.toml read, written and asked.
#include "tools/agent/advice/contacts.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <spdlog/spdlog.h>
// A malformed file is an error with its line, not an assertion of the parser.
#define TOML_ASSERT(condition) static_cast<void>(0)
#include <toml++/toml.h>

#include "controlplane/protocol/message.hpp"

namespace tandem::agent {

using protocol::address_kind;
using protocol::address_name;

namespace {

constexpr const char* label_rule = "1 to 32 of A-Z a-z 0-9 _ -";
constexpr std::size_t longest_name = 64;

bool valid_name(std::string_view text) {
    return text.size() <= longest_name &&
           protocol::valid_text({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
}

std::string path_in(const std::string& directory) {
    return directory + "/contacts.toml";
}

std::string in_quotes(std::string_view text) {
    std::string out = "\"";
    for (const char c : text) { // valid_name: no control characters
        if (c == '"' || c == '\\')
            out += '\\';
        out += c;
    }
    return out + '"';
}

// The first error; later reads then do nothing.
class contact_reader {
public:
    explicit contact_reader(const std::string& file) : file_(file) {}
    void fail(const toml::source_region& where, const std::string& what) {
        if (error_.empty())
            error_ = fmt::format("{}:{}:{}: {}", file_, where.begin.line, where.begin.column, what);
    }
    void known(const toml::table& table, std::initializer_list<std::string_view> names) {
        for (const auto& [key, node] : table)
            if (std::find(names.begin(), names.end(), key.str()) == names.end())
                fail(key.source(), fmt::format("unknown key '{}'; known are {}", key.str(), fmt::join(names, ", ")));
    }
    std::string text(const toml::table& table, std::string_view key) {
        const toml::node* node = table.get(key);
        if (node == nullptr)
            return {};
        if (!node->is_string() || node->as_string()->get().empty()) {
            fail(node->source(), fmt::format("{} must be text in quotes", key));
            return {};
        }
        return node->as_string()->get();
    }
    std::string label(const toml::table& table, std::string_view key) {
        const auto value = text(table, key);
        if (!value.empty() && !valid_label(value))
            fail(table.get(key)->source(), fmt::format("{} must be {}", key, label_rule));
        return value;
    }
    [[nodiscard]] const std::string& error() const { return error_; }

private:
    const std::string& file_;
    std::string error_;
};

void read_categories(contact_reader& in, const toml::node& node, std::map<std::string, std::string>& out) {
    const auto* table = node.as_table();
    if (table == nullptr)
        return in.fail(node.source(), "categories must be a table; write [categories] and below it family = \"high\"");
    if (table->size() > contact_book::most_categories)
        return in.fail(node.source(), fmt::format("more than {} categories", contact_book::most_categories));
    for (const auto& [key, value] : *table) {
        if (!valid_label(key.str()))
            return in.fail(key.source(), fmt::format("a category's name must be {}", label_rule));
        out[std::string(key.str())] = in.label(*table, key.str());
    }
}

void read_contact(contact_reader& in, const toml::node& node, std::map<std::string, contact>& out) {
    const auto* table = node.as_table();
    if (table == nullptr)
        return in.fail(node.source(),
                       "a contact is a table; write [[contact]] and below it address = \"+46701234567\"");
    in.known(*table, {"address", "name", "category", "level"});
    contact one;
    one.name = in.text(*table, "name");
    one.category = in.label(*table, "category");
    one.level = in.label(*table, "level");
    if (!valid_name(one.name))
        in.fail(table->get("name")->source(), "name must be at most 64 bytes without control characters");
    const auto written = in.text(*table, "address");
    if (!in.error().empty())
        return;
    const toml::node* where = table->get("address");
    if (where == nullptr)
        return in.fail(node.source(), "a contact without its address; write address = \"+46701234567\"");
    auto address = protocol::parse_address_name(written);
    if (!address)
        return in.fail(where->source(), address.error());
    one.address = std::move(*address);
    const std::string key = one.address.text;
    if (!out.emplace(key, std::move(one)).second)
        in.fail(where->source(), fmt::format("{} stands there twice; keep one", key));
}

} // namespace

bool valid_label(std::string_view text) noexcept {
    return !text.empty() && text.size() <= 32 && std::all_of(text.begin(), text.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
    });
}

tl::expected<contact_book, std::string> contact_book::parse(std::string_view text, const std::string& file) {
    toml::table table;
    try {
        table = toml::parse(text, file);
    } catch (const toml::parse_error& error) {
        const auto& at = error.source().begin;
        return tl::unexpected(fmt::format("{}:{}:{}: not TOML: {}", file, at.line, at.column, error.description()));
    }
    contact_book book;
    contact_reader in(file);
    in.known(table, {"categories", "contact"});
    if (const auto* node = table.get("categories"); node != nullptr)
        read_categories(in, *node, book.categories_);
    if (const auto* node = table.get("contact"); node != nullptr) {
        const auto* list = node->as_array();
        if (list == nullptr)
            in.fail(node->source(), "contacts are a list; write [[contact]], with two brackets");
        else if (list->size() > most_contacts)
            in.fail(node->source(), fmt::format("more than {} contacts", most_contacts));
        else
            for (const auto& item : *list)
                read_contact(in, item, book.contacts_);
    }
    if (!in.error().empty())
        return tl::unexpected(in.error());
    return book;
}

std::string contact_book::to_toml() const {
    std::string out = "# The contacts of this device; tandem-agent contacts list|set|unset|category edits them, too.\n";
    if (!categories_.empty())
        out += "\n[categories]\n";
    for (const auto& [name, level] : categories_)
        out += fmt::format("{} = {}\n", name, in_quotes(level));
    for (const auto& [address, one] : contacts_) {
        out += fmt::format("\n[[contact]]\naddress = {}\n", in_quotes(address));
        for (const auto& [key, value] :
             {std::pair{"name", &one.name}, {"category", &one.category}, {"level", &one.level}})
            if (!value->empty())
                out += fmt::format("{} = {}\n", key, in_quotes(*value));
    }
    return out;
}

std::string contact_book::level_of(const contact& who) const {
    if (!who.level.empty())
        return who.level;
    const auto found = categories_.find(who.category);
    return found == categories_.end() ? std::string() : found->second;
}

std::optional<contact_book::match> contact_book::find(const std::vector<address_name>& peers) const {
    const auto at = [this](const std::string& address) -> std::optional<match> {
        const auto found = contacts_.find(address);
        if (found == contacts_.end())
            return std::nullopt;
        auto level = level_of(found->second);
        if (level.empty())
            return std::nullopt; // a name alone says nothing: the next less specific one may
        return match{&found->second, std::move(level), found->second.level.empty()};
    };
    for (const auto kind : {address_kind::sip, address_kind::id_code})
        for (const auto& peer : peers)
            if (peer.kind == kind)
                if (auto found = at(peer.text))
                    return found;
    for (std::size_t length = 16; length >= 2; length--) // "+" and 15 digits
        for (const auto& peer : peers)
            if (peer.kind == address_kind::number && peer.text.size() >= length)
                if (auto found = at(peer.text.substr(0, length)))
                    return found;
    for (const auto& peer : peers)
        if (peer.kind == address_kind::sip || peer.kind == address_kind::domain)
            if (auto found = at(peer.text.substr(peer.text.find('@'))))
                return found;
    return std::nullopt;
}

tl::expected<contact, std::string> contact_book::set(std::string_view address, const contact_change& change) {
    auto name = protocol::parse_address_name(address);
    if (!name)
        return tl::unexpected(name.error());
    for (const auto& [what, value] : {std::pair{"level", &change.level}, {"category", &change.category}})
        if (*value && !(*value)->empty() && !valid_label(**value))
            return tl::unexpected(fmt::format("a {} is {}", what, label_rule));
    if (change.name && !valid_name(*change.name))
        return tl::unexpected(fmt::format("a name has at most {} bytes and no control characters", longest_name));
    auto found = contacts_.find(name->text);
    if (found == contacts_.end()) {
        if (contacts_.size() >= most_contacts)
            return tl::unexpected(
                fmt::format("there are {} contacts already, the most that there may be", most_contacts));
        found = contacts_.emplace(name->text, contact{*name, {}, {}, {}}).first;
    }
    contact& one = found->second;
    one.name = change.name.value_or(one.name);
    one.category = change.category.value_or(one.category);
    one.level = change.level.value_or(one.level);
    return one;
}

tl::expected<void, std::string> contact_book::unset(std::string_view address) {
    const auto name = protocol::parse_address_name(address);
    if (!name)
        return tl::unexpected(name.error());
    if (contacts_.erase(name->text) == 0)
        return tl::unexpected(fmt::format("{} is no contact; `contacts list` shows them", name->text));
    return {};
}

tl::expected<void, std::string> contact_book::set_category(const std::string& name, const std::string& level) {
    if (!valid_label(name))
        return tl::unexpected(fmt::format("a category's name is {}", label_rule));
    if (level.empty()) {
        if (categories_.erase(name) == 0)
            return tl::unexpected(fmt::format("there is no category {}", name));
        return {};
    }
    if (!valid_label(level))
        return tl::unexpected(fmt::format("a level is {}", label_rule));
    if (!categories_.contains(name) && categories_.size() >= most_categories)
        return tl::unexpected(fmt::format("there are {} categories already", most_categories));
    categories_[name] = level;
    return {};
}

tl::expected<contact_book, std::string> load_contacts(const std::string& directory) {
    const auto text = read_state(path_in(directory), contact_book::most_bytes);
    if (!text)
        return tl::unexpected(text.error());
    return *text ? contact_book::parse(**text, path_in(directory)) : contact_book{};
}

tl::expected<void, std::string> save_contacts(const std::string& directory, const contact_book& book) {
    return write_state(path_in(directory), book.to_toml(), true);
}

contact_file::contact_file(std::string directory) : directory_(std::move(directory)) {}

void contact_file::refresh() {
    if (directory_.empty())
        return;
    const auto now = stamp_of(path_in(directory_));
    if (now == stamp_)
        return;
    stamp_ = now;
    auto fresh = load_contacts(directory_);
    if (!fresh) {
        error_ = fresh.error();
        spdlog::error("contacts: {}; the {} read before stay in force", error_, book_.contacts().size());
        return;
    }
    book_ = std::move(*fresh);
    error_.clear();
    spdlog::info("contacts: {} read, {} categories", book_.contacts().size(), book_.categories().size());
}

} // namespace tandem::agent
