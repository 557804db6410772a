// SPDX-License-Identifier: Apache-2.0
// a=crypto lines (RFC 4568 section 9, AEAD suites RFC 7714 section 12). Pure; any thread.
#include "controlplane/callcontrol/sdp_crypto.hpp"

#include <algorithm>
#include <array>
#include <charconv>

#include <openssl/evp.h>

namespace tandem::callcontrol::sdp {

namespace {

constexpr std::size_t longest_key = api::max_key_length + api::max_salt_length;
constexpr unsigned longest_mki = 4; // in bytes: what the data plane carries

// Takes the next word off the front.
std::string_view word(std::string_view& text, char end) noexcept {
    while (end == ' ' && !text.empty() && text.front() == ' ')
        text.remove_prefix(1);
    const auto stop = text.find(end);
    const auto first = text.substr(0, stop);
    text.remove_prefix(stop == std::string_view::npos ? text.size() : stop + 1);
    return first;
}

template <class T>
std::optional<T> number(std::string_view text) noexcept {
    T out{};
    const auto [used, fault] = std::from_chars(text.data(), text.data() + text.size(), out);
    if (fault != std::errc{} || used != text.data() + text.size() || text.empty())
        return {};
    return out;
}

// With or without padding: both are seen in the field.
bool decode_base64(std::string_view text, protocol::secret& out) {
    while (!text.empty() && text.back() == '=')
        text.remove_suffix(1);
    const auto length = text.size() * 3 / 4;
    if (text.empty() || length > longest_key || text.size() % 4 == 1)
        return false;
    std::array<char, 64> padded{};
    std::fill(padded.begin(), padded.end(), '=');
    std::copy(text.begin(), text.end(), padded.begin());
    std::array<std::uint8_t, 64> bytes{};
    const auto rounded = static_cast<int>((text.size() + 3) / 4 * 4);
    std::array<unsigned char, 64> input{};
    std::copy(padded.begin(), padded.end(), input.begin());
    const bool fine = EVP_DecodeBlock(bytes.data(), input.data(), rounded) >= 0;
    if (fine)
        std::copy_n(bytes.begin(), length, out.resize(length).begin());
    protocol::wipe(padded.data(), padded.size());
    protocol::wipe(input.data(), input.size());
    protocol::wipe(bytes.data(), bytes.size());
    return fine;
}

// lifetime: "2^20" or "1048576"; MKI: "1:4".
bool read_mki(std::string_view text, crypto& into) {
    auto rest = text;
    const auto value = word(rest, ':');
    const auto length = number<unsigned>(rest);
    if (value.empty() || !length || *length < 1 || *length > 128)
        return false;
    const auto short_value = number<std::uint32_t>(value);
    if (*length > longest_mki || !short_value || (*length < longest_mki && *short_value >> 8 * *length != 0)) {
        into.refused = "has an MKI of more than 4 bytes";
        return true;
    }
    into.mki = *short_value;
    into.mki_length = static_cast<std::uint8_t>(*length);
    return true;
}

bool read_key(std::string_view text, crypto& into) {
    constexpr std::string_view method = "inline:";
    if (!text.starts_with(method))
        return false;
    text.remove_prefix(method.size());
    const auto key = word(text, '|');
    if (into.suite) {
        const auto& row = api::info(*into.suite);
        if (!decode_base64(key, into.key) ||
            into.key.size() != static_cast<std::size_t>(row.key_length) + row.salt_length) {
            into.key.clear();
            into.refused = "has a key of another length";
        }
    }
    while (!text.empty()) {
        const auto part = word(text, '|');
        if (part.find(':') != std::string_view::npos && !read_mki(part, into))
            return false; // anything without a colon is a lifetime: ours never reaches it
    }
    return true;
}

// Window size hint and a key derivation rate of 0 change nothing; all others change packets (RFC 4568 6.3), but for an
// extension that says it may be left out ("-name", 6.3.7).
bool is_harmless(std::string_view parameter) noexcept {
    return parameter.empty() || parameter.starts_with("WSH=") || parameter == "KDR=0" || parameter.starts_with('-');
}

} // namespace

crypto crypto::copy() const {
    crypto out;
    out.tag = tag;
    out.suite_name = suite_name;
    out.suite = suite;
    out.key = key.copy();
    out.mki_length = mki_length;
    out.mki = mki;
    out.refused = refused;
    return out;
}

std::optional<crypto> parse_crypto(std::string_view text) {
    crypto out;
    const auto tag_text = word(text, ' ');
    const auto tag = tag_text.size() <= 9 ? number<std::uint32_t>(tag_text) : std::nullopt;
    if (!tag)
        return {};
    out.tag = *tag;
    out.suite_name = word(text, ' ');
    if (out.suite_name.empty())
        return {};
    if (const auto* row = api::find_suite(std::string_view(out.suite_name));
        row != nullptr && row->id != api::suite::clear)
        out.suite = row->id;
    auto keys = word(text, ' ');
    if (!read_key(word(keys, ';'), out))
        return {};
    if (!out.suite)
        out.refused = "is not known here";
    if (!keys.empty())
        out.refused = "has several master keys"; // would need their MKIs
    while (!text.empty())
        if (const auto parameter = word(text, ' '); !is_harmless(parameter))
            out.refused = "asks for " + std::string(parameter.substr(0, 32));
    return out;
}

std::string print_crypto(const crypto_line& line, bool lifetime) {
    const protocol::secret& key = line.key;
    std::array<unsigned char, 72> base64{};
    EVP_EncodeBlock(base64.data(), key.view().data(), static_cast<int>(std::min(key.size(), longest_key)));
    std::string out = "crypto:" + std::to_string(line.tag) + ' ' + std::string(api::info(line.suite).name) + " inline:";
    out.reserve(out.size() + base64.size() + 32); // no reallocation, so no second copy
    for (const unsigned char c : base64)
        if (c != 0)
            out += static_cast<char>(c);
    protocol::wipe(base64.data(), base64.size());
    if (lifetime)
        out += "|2^31";
    if (line.mki_length != 0)
        out += '|' + std::to_string(line.mki) + ':' + std::to_string(line.mki_length);
    return out;
}

void wipe(std::string& text) noexcept {
    protocol::wipe(text.data(), text.size());
    text.clear();
}

} // namespace tandem::callcontrol::sdp
