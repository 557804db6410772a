// SPDX-License-Identifier: Apache-2.0
// Arguments of verbs. Pure.
#include "controlplane/app/verb_tools.hpp"

#include <charconv>
#include <ctime>

namespace tandem::control {

using nlohmann::json;

// The argument's text; empty where it is absent or something else.
std::string text_arg(const json& args, const char* name) {
    const auto found = args.find(name);
    return found != args.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::optional<std::uint64_t> number_arg(const json& args, const char* name) {
    const auto found = args.find(name);
    if (found == args.end())
        return std::nullopt;
    if (found->is_number_unsigned() || (found->is_number_integer() && found->get<std::int64_t>() >= 0))
        return found->get<std::uint64_t>();
    if (!found->is_string())
        return std::nullopt;
    const auto& text = found->get_ref<const std::string&>();
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc{} && end == text.data() + text.size() && !text.empty() ? std::optional(value)
                                                                                     : std::nullopt;
}

namespace {

// The digits in front, taken off; nothing where there are not exactly `count` (0: any up to 18).
std::optional<std::int64_t> digits(std::string_view& text, std::size_t count) {
    std::size_t n = 0;
    while (n < text.size() && text[n] >= '0' && text[n] <= '9')
        ++n;
    std::int64_t value = 0;
    if (n == 0 || n > 18 || (count != 0 && n != count))
        return std::nullopt;
    std::from_chars(text.data(), text.data() + n, value);
    text.remove_prefix(n);
    return value;
}

bool take(std::string_view& text, char c) {
    if (text.empty() || text.front() != c)
        return false;
    text.remove_prefix(1);
    return true;
}

std::optional<std::chrono::system_clock::time_point> iso_time(std::string_view text) {
    std::tm when{};
    std::int64_t ms = 0;
    const auto part = [&](int& to, std::size_t count, int less = 0) {
        const auto value = digits(text, count);
        to = value ? static_cast<int>(*value) - less : -1;
        return value.has_value();
    };
    if (!part(when.tm_year, 4, 1900) || !take(text, '-') || !part(when.tm_mon, 2, 1) || !take(text, '-') ||
        !part(when.tm_mday, 2))
        return std::nullopt;
    if (take(text, 'T') || take(text, ' ')) {
        if (!part(when.tm_hour, 2) || !take(text, ':') || !part(when.tm_min, 2))
            return std::nullopt;
        if (take(text, ':') && !part(when.tm_sec, 2))
            return std::nullopt;
        if (take(text, '.')) {
            const auto fraction = digits(text, 3);
            if (!fraction)
                return std::nullopt;
            ms = *fraction;
        }
        take(text, 'Z');
    }
    if (!text.empty() || when.tm_mon > 11 || when.tm_mon < 0 || when.tm_mday < 1 || when.tm_mday > 31 ||
        when.tm_hour > 23 || when.tm_min > 59 || when.tm_sec > 60)
        return std::nullopt;
    return std::chrono::system_clock::from_time_t(::timegm(&when)) + std::chrono::milliseconds(ms);
}

} // namespace

std::optional<std::chrono::system_clock::time_point> time_arg(const json& args, const char* name) {
    if (const auto text = text_arg(args, name); text.find('-') != std::string::npos)
        return iso_time(text);
    const auto ms = number_arg(args, name);
    if (!ms || *ms > 253'402'300'799'999ULL) // the year 9999
        return std::nullopt;
    return std::chrono::system_clock::time_point(std::chrono::milliseconds(*ms));
}

} // namespace tandem::control
