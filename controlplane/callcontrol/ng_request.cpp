// SPDX-License-Identifier: Apache-2.0
// ng request request_reader; error reasons are rtpengine 10.5's. Pure; any thread.
#include "controlplane/callcontrol/ng_request.hpp"

#include <algorithm>
#include <charconv>

namespace tandem::callcontrol {

namespace {

using bencode::value;

std::string normal(std::string_view name) {
    std::string out(name);
    std::replace_if(
        out.begin(), out.end(), [](char c) { return c == ' ' || c == '_'; }, '-');
    return out;
}

// Calls `use` with each string of a list, or with each word of a string (both are sent in the field). False where there
// was something else.
template <class F>
bool each_word(const value& from, F use) {
    if (const auto* items = from.items()) {
        bool only_texts = true;
        for (const auto& item : *items)
            if (const auto* text = item.text())
                use(std::string_view(*text));
            else
                only_texts = false;
        return only_texts;
    }
    if (const auto* text = from.text()) {
        std::string_view rest = *text;
        while (!rest.empty()) {
            const auto stop = std::min(rest.find(' '), rest.size());
            if (stop > 0)
                use(rest.substr(0, stop));
            rest.remove_prefix(std::min(stop + 1, rest.size()));
        }
        return true;
    }
    return false;
}

bool plain(char c) noexcept {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
}
bool in_level(char c) noexcept {
    return plain(c);
}
bool in_domain(char c) noexcept {
    return plain(c) || c == ':' || c == '[' || c == ']';
}
bool in_dialled(char c) noexcept {
    return c > ' ' && c < 0x7f && c != '=' && c != '<' && c != '>' && c != '"';
}

// Into `to`, or counted: a call is never lost for a word about it.
void take_word(std::string_view value, std::size_t longest, bool (*allowed)(char) noexcept, std::string& to,
               request& out) {
    if (value.empty()) // not given
        return;
    if (value.size() <= longest && std::all_of(value.begin(), value.end(), allowed))
        to = value;
    else
        ++out.metadata_ignored;
}

// "caller=alice;callee=bob", commas too; other keys are for others.
void read_metadata(std::string_view text, request& out) {
    while (!text.empty()) {
        const auto stop = std::min(text.find_first_of(";,"), text.size());
        const auto pair = text.substr(0, stop);
        const auto equals = pair.find('=');
        if (equals != std::string_view::npos) {
            const auto key = pair.substr(0, equals);
            const auto id = pair.substr(equals + 1);
            if (key == "caller")
                out.caller = id;
            else if (key == "callee")
                out.callee = id;
            else if (key == "offerer")
                out.callee_offers = id == "callee";
            else if (key == "caller-domain")
                take_word(id, 255, in_domain, out.caller_domain, out);
            else if (key == "callee-domain")
                take_word(id, 255, in_domain, out.callee_domain, out);
            else if (key == "level")
                take_word(id, 32, in_level, out.wish, out);
            else if (key == "dialled")
                take_word(id, 128, in_dialled, out.dialled, out);
        }
        text.remove_prefix(std::min(stop + 1, text.size()));
    }
}

// What is asked and not done.
void ignore(std::string_view kind, std::string_view name, request& out) {
    constexpr std::size_t most = 16, longest = 48;
    if (out.ignored.size() >= most)
        return;
    auto text = std::string(kind) + ' ' + std::string(name.substr(0, longest));
    std::replace_if(
        text.begin(), text.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
    if (std::find(out.ignored.begin(), out.ignored.end(), text) == out.ignored.end())
        out.ignored.push_back(std::move(text));
}

// Not done, and nobody notices; why, says README.md.
bool is_harmless_flag(std::string_view flag) noexcept {
    constexpr std::array<std::string_view, 10> names{
        "symmetric", "force",         "no-redis-update", "unidirectional", "debug",
        "debugging", "port-latching", "reset",           "reject-ICE",     "original-sendrecv"};
    return std::find(names.begin(), names.end(), flag) != names.end();
}
bool is_harmless_key(std::string_view key, std::string_view value) noexcept {
    return (key == "ICE" && value == "remove") ||
           (key == "DTLS" && (value == "off" || value == "no" || value == "disable"));
}

bool read_mux(std::string_view word, request& out) {
    if (word == "offer")
        out.mux.offer = true;
    else if (word == "require")
        out.mux.require = true;
    else if (word == "demux")
        out.mux.demux = true;
    else if (word == "accept")
        out.mux.accept = true;
    else if (word == "reject")
        out.mux.reject = true;
    else if (word == "remove")
        out.mux.remove = true;
    else
        return false;
    return true;
}

// As suites are named in flags: with underscores, hyphens or spaces.
const api::suite_info* named_suite(std::string_view name) {
    for (const auto& row : api::suite_table)
        if (normal(row.name) == normal(name))
            return &row;
    return nullptr;
}

// False where we do not do that.
bool read_sdes(std::string_view word, request& out, bool& only_seen) {
    const auto what = normal(word);
    if (what == "off" || what == "no" || what == "disable") {
        out.sdes_off = true;
        return true;
    }
    if (what == "lifetime") {
        out.sdes_lifetime = true;
        return true;
    }
    // Keys are padded as base64 says anyway; session parameters are never set.
    for (const auto* always : {"pad", "encrypted-srtp", "encrypted-srtcp", "authenticated-srtp", "ENCRYPTED-SRTP",
                               "ENCRYPTED-SRTCP", "AUTHENTICATED-SRTP"})
        if (what == always)
            return true;
    const bool only = what.starts_with("only-");
    if (!only && !what.starts_with("no-"))
        return false;
    const auto* row = named_suite(word.substr(only ? 5 : 3));
    if (only && !only_seen) {
        only_seen = true;
        out.sdes_suites.reset(); // a list of suites unknown to us leaves none: refused with words later
    }
    if (row != nullptr)
        out.sdes_suites.set(static_cast<std::size_t>(row->id), only);
    return true;
}

bool read_replace(std::string_view word, request& out) {
    const auto what = normal(word);
    if (what == "origin")
        out.replace_origin = true;
    else if (what == "username")
        out.replace_username = true;
    else if (what == "session-name")
        out.replace_session_name = true;
    else if (what == "sdp-version" || what == "SDP-version")
        out.replace_version = true;
    else if (what == "zero-address")
        out.replace_zero_address = true;
    else
        return what == "session-connection"; // always replaced
    return true;
}

std::optional<asio::ip::address> address(std::string_view text) {
    asio::error_code fault;
    const auto found = asio::ip::make_address(std::string(text.substr(0, 64)), fault);
    return fault ? std::nullopt : std::optional(sdp::plain(found));
}

bool is_zero(const value& item) noexcept {
    const auto* number = item.integer();
    const auto* text = item.text();
    return number != nullptr ? *number == 0 : text != nullptr && *text == "0";
}

class request_reader {
public:
    explicit request_reader(request& out) : out_(out) {}

    void take(std::string_view raw_key, const value& item) {
        const auto key = normal(raw_key);
        if (!take_list(key, item))
            return;
        const auto* text = item.text();
        if (key == "delete-delay" && is_zero(item))
            return; // a call ends at once, always
        if (text == nullptr)
            ignore("key", key, out_);
        else if (!take_text(key, *text) && !is_harmless_key(key, *text))
            ignore("key", key.size() + text->size() < 40 ? key + '=' + *text : key, out_);
    }

private:
    // What has several values. True where it is none of these.
    bool take_list(const std::string& key, const value& item) {
        bool fine = true;
        if (key == "flags")
            fine = each_word(item, [&](std::string_view word) { take_flag(normal(word)); });
        else if (key == "replace")
            fine = each_word(item, [&](std::string_view word) { noted("replace=", word, read_replace(word, out_)); });
        else if (key == "rtcp-mux")
            fine = each_word(item, [&](std::string_view word) { noted("rtcp-mux=", word, read_mux(word, out_)); });
        else if (key == "SDES")
            fine = each_word(item,
                             [&](std::string_view word) { noted("SDES=", word, read_sdes(word, out_, only_seen_)); });
        else if (key == "supports")
            take_supports(item);
        else if (key == "direction")
            fine = take_direction(item);
        else if (key == "received-from")
            fine = take_source(item);
        else if (key == "limit")
            fine = take_limit(item);
        else
            return true;
        if (!fine) // it is not what such a key holds
            ignore("key", key, out_);
        return false;
    }

    bool take_source(const value& item) {
        each_word(item, [&](std::string_view word) {
            if (const auto found = address(word))
                out_.received_from = found;
        });
        return out_.received_from.has_value();
    }

    void noted(const char* key, std::string_view word, bool done) {
        if (!done)
            ignore("key", key + std::string(word), out_);
    }

    // False where it is nothing that we do.
    bool take_text(std::string_view key, const std::string& text) {
        if (key == "call-id")
            out_.call_id = text;
        else if (key == "from-tag")
            out_.from_tag = text;
        else if (key == "to-tag")
            out_.to_tag = text;
        else if (key == "via-branch")
            out_.via_branch = text;
        else if (key == "sdp")
            out_.sdp = text;
        else if (key == "metadata")
            read_metadata(text, out_);
        else if (key == "transport-protocol") {
            const auto profile = sdp::parse_transport(text);
            if (profile.rtp)
                out_.transport = profile;
            return profile.rtp;
        } else if (key == "address-family") {
            if (text == "IP4" || text == "IP6")
                out_.ipv6 = text == "IP6";
            return text == "IP4" || text == "IP6";
        } else if (key == "endpoint-learning") {
            return take_learning(text);
        } else {
            return key == "command";
        }
        return true;
    }

    void take_flag(std::string_view flag) {
        if (!read_flag(flag) && !is_harmless_flag(flag))
            ignore("flag", flag, out_);
    }

    bool read_flag(std::string_view flag) {
        if (flag == "SIP-source-address")
            out_.sip_source_address = true;
        else if (flag == "trust-address")
            out_.sip_source_address = false;
        else if (flag == "fatal")
            out_.fatal = true;
        else if (flag == "loop-protect")
            out_.loop_protect = true;
        else if (flag == "no-rtcp-attribute")
            out_.rtcp_attribute = false;
        else if (flag == "full-rtcp-attribute")
            out_.full_rtcp_attribute = true;
        else if (flag == "strip-extmap")
            out_.strip_extmap = true;
        else if (flag == "asymmetric")
            out_.learning = media::learning::off;
        else if (flag == "strict-source")
            out_.strict_source = true;
        else if (flag == "media-handover")
            out_.learning = media::learning::always;
        else if (flag.starts_with("endpoint-learning-"))
            return take_learning(flag.substr(18));
        else if (flag.starts_with("replace-"))
            return read_replace(flag.substr(8), out_);
        else if (flag.starts_with("rtcp-mux-"))
            return read_mux(flag.substr(9), out_);
        else if (flag.starts_with("SDES-"))
            return read_sdes(flag.substr(5), out_, only_seen_);
        else
            return flag == "pad-crypto"; // keys are padded anyway
        return true;
    }

    // rtpengine's `immediate`, `delayed` and `heuristic` differ in who has the leg within the first seconds: `once`
    // sends there from the first packet on and prefers who is signalled.
    bool take_learning(std::string_view how) {
        if (how == "immediate" || how == "delayed" || how == "heuristic")
            out_.learning = media::learning::once;
        else if (const auto known = media::learning_of(how))
            out_.learning = known;
        else
            return false;
        return true;
    }

    bool take_direction(const value& item) {
        std::array<std::string, 2> names;
        std::size_t count = 0;
        each_word(item, [&](std::string_view word) {
            if (count < names.size())
                names[count++] = word;
        });
        if (count == 2)
            out_.direction = names;
        return count == 2;
    }

    void take_supports(const value& item) {
        if (const auto* items = item.items())
            for (const auto& one : *items)
                out_.knows_load_limit |= one.text() != nullptr && normal(*one.text()) == "load-limit";
    }

    bool take_limit(const value& item) {
        if (const auto* number = item.integer(); number != nullptr && *number >= 0) {
            out_.limit = static_cast<std::uint32_t>(std::min<std::int64_t>(*number, 1'000'000));
            return true;
        }
        const auto* text = item.text();
        return text != nullptr &&
               std::from_chars(text->data(), text->data() + text->size(), out_.limit).ec == std::errc{};
    }

    request& out_;
    bool only_seen_ = false;
};

std::optional<command> find_command(std::string_view name) {
    constexpr std::array<std::pair<std::string_view, command>, 6> known{{{"ping", command::ping},
                                                                         {"offer", command::offer},
                                                                         {"answer", command::answer},
                                                                         {"delete", command::remove},
                                                                         {"query", command::query},
                                                                         {"list", command::list}}};
    for (const auto& [text, what] : known)
        if (text == name)
            return what;
    return {};
}

// In the order in which rtpengine looks.
std::optional<std::string> missing(const request& r) {
    const bool has_sdp = r.what == command::offer || r.what == command::answer;
    if (has_sdp && r.sdp.empty())
        return "No SDP body in message";
    if (r.call_id.empty() && r.what != command::ping && r.what != command::list)
        return "No call-id in message";
    if (has_sdp && r.from_tag.empty())
        return "No from-tag in message";
    if (r.what == command::answer && r.to_tag.empty())
        return "No to-tag in message";
    return {};
}

} // namespace

std::optional<datagram> split(std::string_view bytes) noexcept {
    const auto space = bytes.find(' ');
    if (space == std::string_view::npos || space == 0 || space > 255)
        return {};
    return datagram{bytes.substr(0, space), bytes.substr(space + 1)};
}

tl::expected<request, std::string> read_request(std::string_view payload) {
    if (payload.empty())
        return tl::unexpected<std::string>("Invalid data (no payload)");
    if (payload.front() != 'd')
        return tl::unexpected<std::string>("Invalid NG data format");
    const auto parsed = bencode::parse(payload);
    if (!parsed)
        return tl::unexpected<std::string>("Could not decode bencode dictionary");
    const auto name = parsed->what.text_of("command");
    if (name.empty())
        return tl::unexpected<std::string>("Dictionary contains no key \"command\"");
    const auto what = find_command(name);
    if (!what)
        return tl::unexpected<std::string>("Unrecognized command");
    request out;
    out.what = *what;
    request_reader into(out);
    for (const auto& [key, item] : *parsed->what.entries())
        into.take(key, item);
    if (auto reason = missing(out))
        return tl::unexpected(std::move(*reason));
    if (out.what == command::offer || out.what == command::answer)
        out.said = sdp::parse(out.sdp);
    return out;
}

} // namespace tandem::callcontrol
