// SPDX-License-Identifier: Apache-2.0
// The security database in memory (rules.hpp).
#include "controlplane/policy/rules.hpp"

#include <algorithm>
#include <limits>

#include "controlplane/protocol/address_name.hpp"

namespace tandem::policy {

namespace {

constexpr std::size_t most_digits = 15;
constexpr std::size_t most_levels = std::numeric_limits<std::uint16_t>::max();

// splitmix64's finish: every bit of the number moves every bit of the result.
std::uint64_t mixed(std::uint64_t x) noexcept {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

std::uint32_t hash_of(std::string_view text) noexcept {
    return static_cast<std::uint32_t>(mixed(std::hash<std::string_view>{}(text)) >> 32);
}

// "+46701" -> 46701 << 4 | 5. No number begins with 0, so nothing else packs to the same.
std::uint64_t pack(std::string_view number) noexcept {
    std::uint64_t digits = 0;
    for (const char c : number.substr(1))
        digits = digits * 10 + static_cast<std::uint64_t>(c - '0');
    return digits << 4 | (number.size() - 1);
}

std::string unpack(std::uint64_t packed) {
    return "+" + std::to_string(packed >> 4);
}

bool is_number(std::string_view canonical) noexcept {
    return !canonical.empty() && canonical.front() == '+';
}

} // namespace

std::uint32_t shared_texts::keep(std::string_view text) {
    if (const auto found = numbers_.find(std::string(text)); found != numbers_.end()) {
        ++entries_[found->second].users;
        return found->second;
    }
    const auto number = free_.empty() ? static_cast<std::uint32_t>(entries_.size()) : free_.back();
    if (free_.empty())
        entries_.emplace_back();
    else
        free_.pop_back();
    const auto [where, fresh] = numbers_.emplace(text, number);
    entries_[number] = {&where->first, 1};
    // A node of the map, what a long string has on the heap, and the entry.
    bytes_ += 72 + (text.size() > 15 ? text.size() + 1 : 0) + sizeof(entry);
    return number;
}

void shared_texts::drop(std::uint32_t number) {
    if (--entries_[number].users > 0)
        return;
    const std::string& text = *entries_[number].text;
    bytes_ -= 72 + (text.size() > 15 ? text.size() + 1 : 0) + sizeof(entry);
    entries_[number].text = nullptr;
    numbers_.erase(numbers_.find(text));
    free_.push_back(number);
}

std::uint32_t rule_table::number_slot::hash() const noexcept {
    return static_cast<std::uint32_t>(mixed(packed) >> 32);
}

std::string_view rule_table::text_at(std::uint32_t at) const noexcept {
    return {text_.data() + at + 1, static_cast<unsigned char>(text_[at])};
}

const rule_table::number_slot* rule_table::find_number(std::uint64_t packed) const noexcept {
    return numbers_.find(number_slot{packed, {}}.hash(), [&](const number_slot& s) { return s.packed == packed; });
}

const rule_table::name_slot* rule_table::find_name(std::string_view name) const noexcept {
    const auto hashed = hash_of(name);
    return names_.find(hashed,
                       [&](const name_slot& slot) { return slot.hashed == hashed && text_at(slot.at) == name; });
}

std::optional<rule_table::values> rule_table::make_values(const rule& row) {
    values made;
    const auto level = levels_.keep(row.level);
    if (level > most_levels) {
        levels_.drop(level);
        return {};
    }
    made.level = static_cast<std::uint16_t>(level);
    made.comment = comments_.keep(row.comment);
    made.keys = row.keys ? static_cast<std::uint8_t>(static_cast<int>(*row.keys) + 1) : 0;
    made.path = row.path ? static_cast<std::uint8_t>(static_cast<int>(*row.path) + 1) : 0;
    return made;
}

void rule_table::drop_values(const values& row) {
    levels_.drop(row.level);
    comments_.drop(row.comment);
}

rule rule_table::make_rule_of(std::string address, const values& row) const {
    rule made;
    made.address = std::move(address);
    made.level = levels_[row.level];
    if (row.keys != 0)
        made.keys = static_cast<key_source>(row.keys - 1);
    if (row.path != 0)
        made.path = static_cast<path_choice>(row.path - 1);
    made.comment = comments_[row.comment];
    return made;
}

void rule_table::set_number(std::string_view number, const values& row) {
    const auto packed = pack(number);
    if (auto* there = numbers_.mutable_slot(find_number(packed))) {
        drop_values(there->row);
        there->row = row;
        return;
    }
    numbers_.insert({packed, row});
    ++of_length_[number.size() - 1];
}

void rule_table::set_name(std::string_view name, const values& row) {
    if (auto* there = names_.mutable_slot(find_name(name))) {
        drop_values(there->row);
        there->row = row;
        return;
    }
    const auto at = static_cast<std::uint32_t>(text_.size());
    text_.push_back(static_cast<char>(name.size())); // at most 255: parse_address_name's limit
    text_.insert(text_.end(), name.begin(), name.end());
    names_.insert({at, hash_of(name), row});
}

bool rule_table::set(const rule& row) {
    const auto address = protocol::parse_address_name(row.address);
    if (!address || address->text.size() > 255)
        return false;
    const auto made = make_values(row);
    if (!made)
        return false;
    if (address->kind == protocol::address_kind::number)
        set_number(address->text, *made);
    else
        set_name(address->text, *made);
    return true;
}

bool rule_table::remove(std::string_view text) {
    const auto address = protocol::parse_address_name(text);
    if (!address)
        return false;
    if (address->kind == protocol::address_kind::number) {
        const auto* found = find_number(pack(address->text));
        if (found == nullptr)
            return false;
        drop_values(found->row);
        numbers_.erase(found);
        --of_length_[address->text.size() - 1];
        return true;
    }
    const auto* found = find_name(address->text);
    if (found == nullptr)
        return false;
    drop_values(found->row);
    names_.erase(found);
    text_unused_ += address->text.size() + 1;
    if (text_unused_ > 65536 && text_unused_ > text_.size() / 2)
        compact();
    return true;
}

// Text of removed rows goes when it is more than half.
void rule_table::compact() {
    std::vector<char> fresh{'\0'};
    fresh.reserve(text_.size() - text_unused_);
    for (const auto& slot : names_.cells()) {
        if (!slot.taken())
            continue;
        const auto name = text_at(slot.at);
        const auto at = static_cast<std::uint32_t>(fresh.size());
        fresh.push_back(static_cast<char>(name.size()));
        fresh.insert(fresh.end(), name.begin(), name.end());
        names_.mutable_slot(&slot)->at = at;
    }
    text_ = std::move(fresh);
    text_unused_ = 0;
}

std::size_t rule_table::replace(const std::vector<rule>& all) {
    *this = rule_table();
    const auto numbers = static_cast<std::size_t>(
        std::count_if(all.begin(), all.end(), [](const rule& row) { return is_number(row.address); }));
    numbers_.reserve(numbers);
    names_.reserve(all.size() - numbers);
    std::size_t left_out = 0;
    for (const auto& row : all)
        left_out += set(row) ? 0 : 1;
    text_.shrink_to_fit();
    return left_out;
}

std::optional<rule> rule_table::longest_prefix(std::string_view number) const {
    if (!is_number(number) || number.size() > most_digits + 1)
        return {};
    // A million rows are in no cache: all rows that may be asked for are fetched at once, then asked, longest first.
    std::array<number_slot, most_digits> probes;
    std::size_t count = 0;
    auto digits = pack(number) >> 4;
    for (auto length = number.size() - 1; length > 0; --length, digits /= 10)
        if (of_length_[length] > 0) {
            probes[count].packed = digits << 4 | length;
            numbers_.prefetch(probes[count++].hash());
        }
    for (std::size_t n = 0; n < count; ++n)
        if (const auto* found = find_number(probes[n].packed))
            return make_rule_of(unpack(found->packed), found->row);
    return {};
}

std::optional<rule> rule_table::named(std::string_view name) const {
    const auto* found = find_name(name);
    return found == nullptr ? std::nullopt : std::optional(make_rule_of(std::string(name), found->row));
}

std::optional<rule> rule_table::exact(std::string_view text) const {
    const auto address = protocol::parse_address_name(text);
    if (!address)
        return {};
    if (address->kind != protocol::address_kind::number)
        return named(address->text);
    const auto* found = find_number(pack(address->text));
    return found == nullptr ? std::nullopt : std::optional(make_rule_of(address->text, found->row));
}

std::optional<rule> rule_table::user_or_number(std::string_view canonical) const {
    return is_number(canonical) ? longest_prefix(canonical) : named(canonical);
}

std::optional<rule> rule_table::find(const party& who, std::string* name_fault) const {
    using protocol::address_kind;
    auto name = protocol::parse_address_name(who.id);
    auto domain = who.domain.empty() ? std::string() : "@" + who.domain;
    if (name && name->kind == address_kind::sip) { // it says user and domain itself
        if (auto row = named(name->text))
            return row;
        const auto at = name->text.find('@');
        domain = name->text.substr(at);
        name = protocol::parse_address_name(std::string_view(name->text).substr(4, at - 4));
    }
    const auto whole = domain.empty() ? std::nullopt : std::optional(protocol::parse_address_name(domain));
    const bool has_domain = whole && *whole && (*whole)->kind == address_kind::domain;
    const bool has_user = name && (name->kind == address_kind::number || name->kind == address_kind::id_code);
    if (!has_user && name_fault != nullptr)
        *name_fault = name ? "\"" + name->text + "\" names no user" : name.error();
    if (has_user && has_domain)
        if (auto row = named("sip:" + name->text + (*whole)->text))
            return row;
    if (has_user)
        if (auto row = user_or_number(name->text))
            return row;
    return has_domain ? named((*whole)->text) : std::nullopt;
}

std::vector<rule> rule_table::list(std::string_view prefix, std::string_view after, std::size_t limit) const {
    std::vector<std::pair<std::string, const values*>> chosen; // a heap: the last of the chosen is at its front
    const auto before = [](const auto& x, const auto& y) { return x.first < y.first; };
    const auto offer = [&](std::string address, const values& row) {
        if (address.compare(0, prefix.size(), prefix) != 0 || (!after.empty() && address <= after))
            return;
        if (chosen.size() == limit) {
            if (limit == 0 || address >= chosen.front().first)
                return;
            std::pop_heap(chosen.begin(), chosen.end(), before);
            chosen.pop_back();
        }
        chosen.emplace_back(std::move(address), &row);
        std::push_heap(chosen.begin(), chosen.end(), before);
    };
    if (prefix.empty() || is_number(prefix))
        for (const auto& slot : numbers_.cells())
            if (slot.taken())
                offer(unpack(slot.packed), slot.row);
    if (!is_number(prefix))
        for (const auto& slot : names_.cells())
            if (slot.taken())
                offer(std::string(text_at(slot.at)), slot.row);
    std::sort_heap(chosen.begin(), chosen.end(), before);
    std::vector<rule> rows;
    rows.reserve(chosen.size());
    for (auto& [address, row] : chosen)
        rows.push_back(make_rule_of(std::move(address), *row));
    return rows;
}

std::size_t rule_table::bytes() const noexcept {
    return numbers_.bytes() + names_.bytes() + text_.capacity() + levels_.bytes() + comments_.bytes();
}

} // namespace tandem::policy
