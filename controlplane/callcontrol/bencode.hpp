// SPDX-License-Identifier: Apache-2.0
// bencode (BEP 3) as the ng protocol uses it: dictionaries keep the order in which keys came, keys need not be sorted,
// bytes after the value are ignored (rtpengine does both). Pure; any thread.
//
// Hostile input: depth, number of values and length of integers are bounded, so neither the stack nor memory can be
// exhausted by a datagram.
#pragma once

#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace tandem::callcontrol::bencode {

inline constexpr unsigned max_depth = 16;
inline constexpr std::size_t max_values = 4096;

class value;
using list = std::vector<value>;
using dict = std::vector<std::pair<std::string, value>>;

// One whole value as its bytes, made by a writer; only ever printed.
struct encoded {
    std::string bytes;
    friend bool operator==(const encoded&, const encoded&) = default;
};

class value {
public:
    value() : data_(dict{}) {}
    template <std::signed_integral T>
    value(T number) : data_(static_cast<std::int64_t>(number)) {}
    template <std::unsigned_integral T>
    value(T number) : data_(static_cast<std::int64_t>(number)) {}
    value(std::string text) : data_(std::move(text)) {}
    value(std::string_view text) : data_(std::string(text)) {}
    value(const char* text) : data_(std::string(text)) {}
    value(list items) : data_(std::move(items)) {}
    value(dict entries) : data_(std::move(entries)) {}
    value(encoded whole) : data_(std::move(whole)) {}

    [[nodiscard]] const std::int64_t* integer() const noexcept { return std::get_if<std::int64_t>(&data_); }
    [[nodiscard]] const std::string* text() const noexcept { return std::get_if<std::string>(&data_); }
    [[nodiscard]] const list* items() const noexcept { return std::get_if<list>(&data_); }
    [[nodiscard]] const dict* entries() const noexcept { return std::get_if<dict>(&data_); }
    [[nodiscard]] const encoded* whole() const noexcept { return std::get_if<encoded>(&data_); }

    // Of a dictionary: the first entry of that name, or nothing.
    [[nodiscard]] const value* find(std::string_view key) const noexcept;
    // Of a dictionary: the string of that name; empty where absent or not a string.
    [[nodiscard]] std::string_view text_of(std::string_view key) const noexcept;
    // Of a dictionary: appends an entry. Of a list: appends an item.
    value& add(std::string key, value item);
    value& push(value item);

    friend bool operator==(const value&, const value&);

private:
    std::variant<std::int64_t, std::string, list, dict, encoded> data_;
};

struct parsed {
    value what;
    std::size_t length; // bytes used
};

[[nodiscard]] std::optional<parsed> parse(std::string_view bytes);

[[nodiscard]] std::string print(const value&);
void append(std::string& to, const value&);

// Written front to back: a dictionary of many small ones is several times cheaper than as a tree.
class writer {
public:
    writer& open_dict() { return put('d'); }
    writer& open_list() { return put('l'); }
    writer& close() { return put('e'); }
    writer& text(std::string_view words);
    writer& number(std::int64_t n);
    writer& key(std::string_view name) { return text(name); }
    writer& field(std::string_view name, std::string_view words) { return text(name).text(words); }
    writer& field(std::string_view name, std::int64_t n) { return text(name).number(n); }
    [[nodiscard]] encoded take() { return {std::move(bytes_)}; }

private:
    writer& put(char mark) {
        bytes_ += mark;
        return *this;
    }
    std::string bytes_;
};

} // namespace tandem::callcontrol::bencode
