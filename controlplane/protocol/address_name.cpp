// SPDX-License-Identifier: Apache-2.0
// Canonical names of a call's ends (address_name.hpp): RFC 3966 numbers with their visual separators, RFC 3261 SIP
// addresses without what does not name anybody (port, parameters, headers, password, needless escapes).
#include "controlplane/protocol/address_name.hpp"

#include <algorithm>
#include <cstdint>

namespace tandem::protocol {

namespace {

using result = tl::expected<address_name, std::string>;

constexpr std::size_t longest = 255; // a TLV's and a row's
constexpr const char* too_long = "is longer than an address's 255 bytes";

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}
bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
char lower(char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}
bool one_of(char c, std::string_view set) {
    return set.find(c) != std::string_view::npos;
}
bool separates(char c) {
    return one_of(c, " -.()");
}

// "tel:" in whatever case: what follows; nothing where the text does not begin so.
bool take_scheme(std::string_view& text, std::string_view scheme) {
    if (text.size() < scheme.size() ||
        !std::equal(scheme.begin(), scheme.end(), text.begin(), [](char x, char y) { return x == lower(y); }))
        return false;
    text.remove_prefix(scheme.size());
    return true;
}

// What is quoted in a sentence: short, and nothing that forges a log line.
std::string quoted(std::string_view text) {
    std::string shown = "\"";
    for (const char c : text.substr(0, 64))
        shown += c >= 0x20 && c < 0x7f ? c : '?';
    return shown + (text.size() > 64 ? "...\"" : "\"");
}

tl::unexpected<std::string> wrong(std::string_view text, const char* what) {
    return tl::unexpected(quoted(text) + " " + what);
}

// `digits` is what follows + or 00.
result number(std::string_view whole, std::string_view digits) {
    std::string text = "+";
    for (const char c : digits) {
        if (is_digit(c))
            text += c;
        else if (!separates(c))
            return wrong(whole, "is no telephone number: only digits may follow the +; write +46701234567");
    }
    if (text.size() < 2 || text.size() > 16)
        return wrong(whole, "is no telephone number: E.164 has 1 to 15 digits after the +; write +46701234567");
    if (text[1] == '0')
        return wrong(whole,
                     "is no telephone number: no country's code begins with 0; write +46701234567, not +0701234567");
    return address_name{address_kind::number, std::move(text)};
}

// Host of a SIP address: a name, an IPv4 address, or an IPv6 one in brackets. Empty: none of these.
std::string host_of(std::string_view text) {
    std::string host;
    if (text.size() > 2 && text.front() == '[' && text.back() == ']') {
        for (const char c : text.substr(1, text.size() - 2))
            if (!is_digit(c) && !one_of(lower(c), "abcdef:."))
                return {};
    } else {
        if (text.size() > 1 && text.back() == '.') // a full name's last dot
            text.remove_suffix(1);
        if (text.empty() || one_of(text.front(), "-_.") || one_of(text.back(), "-_."))
            return {};
        for (std::size_t i = 0; i < text.size(); ++i)
            if (!(is_letter(text[i]) || is_digit(text[i]) || one_of(text[i], "-_.")) ||
                (text[i] == '.' && i + 1 < text.size() && text[i + 1] == '.'))
                return {};
    }
    std::transform(text.begin(), text.end(), std::back_inserter(host), lower);
    return host;
}

bool user_letter(char c) { // RFC 3261 25.1: unreserved and user-unreserved
    return is_letter(c) || is_digit(c) || one_of(c, "-_.!~*'()&=+$,;?/");
}

int hex(char c) {
    return is_digit(c) ? c - '0' : lower(c) >= 'a' && lower(c) <= 'f' ? lower(c) - 'a' + 10 : -1;
}

// User part; escapes of letters that need none are undone (RFC 3261 19.1.4). Empty: no user part at all.
std::string user_of(std::string_view text) {
    text = text.substr(0, text.find(':')); // a password is nobody's name
    std::string user;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '%' && i + 2 < text.size() && hex(text[i + 1]) >= 0 && hex(text[i + 2]) >= 0) {
            const auto letter = static_cast<char>(hex(text[i + 1]) * 16 + hex(text[i + 2]));
            if (user_letter(letter)) {
                user += letter;
            } else {
                user += '%';
                for (const int digit : {hex(text[i + 1]), hex(text[i + 2])})
                    user += "0123456789ABCDEF"[digit];
            }
            i += 2;
        } else if (user_letter(text[i])) {
            user += text[i];
        } else {
            return {};
        }
    }
    return user;
}

// "host:port" without its port; false where what follows the colon is no port.
bool drop_port(std::string_view& host) {
    const auto colon = host.find(':', host.empty() || host.front() != '[' ? 0 : host.find(']'));
    if (colon == std::string_view::npos)
        return true;
    const auto port = host.substr(colon + 1);
    host = host.substr(0, colon);
    return !port.empty() && port.size() <= 5 && std::all_of(port.begin(), port.end(), is_digit);
}

result sip(std::string_view whole, std::string_view text) {
    const auto at = text.find('@');
    if (at == std::string_view::npos)
        return wrong(whole, "names no user: write sip:alice@example.com, or @example.com for a whole domain");
    const std::string user = user_of(text.substr(0, at));
    if (user.empty())
        return wrong(whole, "has no user part that a SIP address may have; write sip:alice@example.com");
    auto host = text.substr(at + 1);
    host = host.substr(0, host.find_first_of(";?"));
    const std::string name = drop_port(host) ? host_of(host) : std::string();
    if (name.empty())
        return wrong(whole, "has no host that a SIP address may have; write sip:alice@example.com");
    address_name out{address_kind::sip, "sip:" + user + "@" + name};
    if (out.text.size() > longest) // written without its scheme it was shorter
        return wrong(whole, too_long);
    return out;
}

result id_code(std::string_view text) {
    if (text.size() > 64)
        return wrong(text, "is longer than an id code's 64 letters");
    if (!std::all_of(text.begin(), text.end(), [](char c) { return user_letter(c) && !one_of(c, ",;?"); }))
        return wrong(text, "is no address: write +46701234567, sip:alice@example.com, @example.com, or an id code of "
                           "letters, digits and -_.!~*'()&=+$/");
    return address_name{address_kind::id_code, std::string(text)};
}

} // namespace

result parse_address_name(std::string_view whole) {
    auto text = whole;
    while (!text.empty() && one_of(text.front(), " \t"))
        text.remove_prefix(1);
    while (!text.empty() && one_of(text.back(), " \t"))
        text.remove_suffix(1);
    if (text.empty())
        return tl::unexpected(std::string("the address is empty: write +46701234567, sip:alice@example.com, "
                                          "@example.com or an id code"));
    if (text.size() > longest)
        return wrong(text, too_long);
    auto rest = text;
    if (take_scheme(rest, "tel:")) {
        rest = rest.substr(0, rest.find(';'));
        if (rest.empty() || rest.front() != '+')
            return wrong(text, "is no telephone number without its country: write tel:+46701234567");
        return number(text, rest.substr(1));
    }
    if (take_scheme(rest, "sip:") || take_scheme(rest, "sips:"))
        return sip(text, rest);
    if (text.front() == '+')
        return number(text, text.substr(1));
    if (text.front() == '@') {
        auto name = host_of(text.substr(1));
        if (name.empty())
            return wrong(text, "is no domain: write @example.com");
        return address_name{address_kind::domain, "@" + name};
    }
    if (text.find('@') != std::string_view::npos)
        return sip(text, text);
    if (std::all_of(text.begin(), text.end(), [](char c) { return is_digit(c) || separates(c); })) {
        if (text.size() > 2 && text.substr(0, 2) == "00")
            return number(text, text.substr(2));
        if (!std::all_of(text.begin(), text.end(), is_digit))
            return wrong(text, "is no telephone number without its country: write +46701234567");
    }
    return id_code(text);
}

} // namespace tandem::protocol
