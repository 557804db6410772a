// SPDX-License-Identifier: Apache-2.0
// JSON written front to back into one string, for what is written for every call, several times, without a tree of
// values between. Text that needs escapes goes through nlohmann. Shared by the rooms that keep calls and media. Pure;
// any thread.
#pragma once

#include <array>
#include <charconv>
#include <cmath>
#include <concepts>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace tandem::protocol {

class json_out {
public:
    json_out() { text_.reserve(1024); }
    [[nodiscard]] std::string take() { return std::move(text_); }

    json_out& open(char bracket) { // { or [
        comma();
        text_ += bracket;
        return *this;
    }
    json_out& close(char bracket) {
        text_ += bracket;
        return *this;
    }
    json_out& key(std::string_view name) { // plain ASCII
        comma();
        text_ += '"';
        text_ += name;
        text_ += "\":";
        return *this;
    }
    json_out& value(std::string_view text) {
        comma();
        for (const char c : text)
            if (c < 0x20 || c == '"' || c == '\\' || c == 0x7f) { // char is signed: what is not ASCII, too
                text_ += nlohmann::json(std::string(text)).dump(-1, ' ', false, replace);
                return *this;
            }
        text_ += '"';
        text_ += text;
        text_ += '"';
        return *this;
    }
    json_out& value(const char* text) { return value(std::string_view(text)); }
    json_out& value(bool yes) {
        comma();
        text_ += yes ? "true" : "false";
        return *this;
    }
    template <class Number>
    requires std::integral<Number> || std::floating_point<Number> json_out& value(Number number) {
        comma();
        if constexpr (std::floating_point<Number>)
            if (!std::isfinite(number))
                number = 0;
        std::array<char, 40> digits{};
        const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr;
        text_.append(digits.data(), end);
        return *this;
    }
    json_out& null() {
        comma();
        text_ += "null";
        return *this;
    }
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
    void comma() {
        if (!text_.empty() && text_.back() != '{' && text_.back() != '[' && text_.back() != ':')
            text_ += ',';
    }
    std::string text_;
};

} // namespace tandem::protocol
