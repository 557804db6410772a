// SPDX-License-Identifier: Apache-2.0
// JSON written front to back into one string, for what is written for every call, several times, without a tree of
// values between. Text that needs escapes goes through nlohmann. Shared by the rooms that keep calls and media. Pure;
// any thread.
#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <concepts>
#include <string>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

namespace tandem::protocol {

class json_out {
public:
    [[nodiscard]] std::string take() {
        text_.resize(std::exchange(used_, 0));
        comma_ = false;
        return std::exchange(text_, {});
    }

    json_out& open(char bracket) { // { or [
        char* at = room(1);
        *at++ = bracket;
        return end(at, false);
    }
    json_out& close(char bracket) {
        comma_ = false;
        char* at = room(1);
        *at++ = bracket;
        return end(at, true);
    }
    json_out& key(std::string_view name) { // plain ASCII
        char* at = room(name.size() + 3);
        *at++ = '"';
        at = copy(at, name);
        *at++ = '"';
        *at++ = ':';
        return end(at, false);
    }
    json_out& value(std::string_view text) {
        for (const char c : text)
            if (!plain[static_cast<unsigned char>(c)])
                return word(nlohmann::json(std::string(text)).dump(-1, ' ', false, replace));
        char* at = room(text.size() + 2);
        *at++ = '"';
        at = copy(at, text);
        *at++ = '"';
        return end(at, true);
    }
    json_out& value(const char* text) { return value(std::string_view(text)); }
    json_out& value(bool yes) { return word(yes ? "true" : "false"); }
    template <class Number>
    requires std::integral<Number> || std::floating_point<Number> json_out& value(Number number) {
        if constexpr (std::floating_point<Number>)
            if (!std::isfinite(number))
                number = 0;
        constexpr std::size_t most_digits = 40;
        char* at = room(most_digits);
        return end(std::to_chars(at, at + most_digits, number).ptr, true);
    }
    json_out& null() { return word("null"); }
    json_out& list(const auto& values) {
        open('[');
        for (const auto& one : values)
            value(one);
        return close(']');
    }
    template <class Value>
    json_out& field(std::string_view name, const Value& v) {
        return key(name).value(v);
    }

private:
    static constexpr auto replace = nlohmann::json::error_handler_t::replace;
    static constexpr std::size_t first_room = 1024;
    // Octets that are written as they are: ASCII without control characters, quote and backslash.
    static constexpr auto plain = [] {
        std::array<bool, 256> of{};
        for (std::size_t c = 0x20; c < 0x7f; ++c)
            of[c] = c != '"' && c != '\\';
        return of;
    }();

    // Behind the comma, where one is due: room for that many octets, of which `end` says how many were used.
    char* room(std::size_t most) {
        if (text_.size() - used_ <= most)
            grow(most);
        char* at = text_.data() + used_;
        if (comma_)
            *at++ = ',';
        return at;
    }
    [[gnu::noinline]] void grow(std::size_t most) {
        text_.resize(std::max({first_room, 2 * text_.size(), used_ + most + 1}));
    }
    json_out& end(const char* at, bool comma) {
        used_ = static_cast<std::size_t>(at - text_.data());
        comma_ = comma;
        return *this;
    }
    static char* copy(char* at, std::string_view text) { return std::copy(text.begin(), text.end(), at); }
    json_out& word(std::string_view text) { return end(copy(room(text.size()), text), true); }

    std::string text_; // as large as there is room; octets are put into it in place, and asked once for room, not each
    std::size_t used_ = 0;
    bool comma_ = false; // due before what comes next
};

} // namespace tandem::protocol
