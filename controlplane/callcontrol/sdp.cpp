// SPDX-License-Identifier: Apache-2.0
// SDP sdp_reader. Pure; any thread.
#include "controlplane/callcontrol/sdp.hpp"

#include <algorithm>
#include <array>
#include <charconv>

namespace tandem::callcontrol::sdp {

namespace {

using failure = tl::unexpected<std::string>;

failure bad(const std::string& why) {
    return failure("Failed to parse SDP: " + why);
}

std::string_view word(std::string_view& text) noexcept {
    while (!text.empty() && text.front() == ' ')
        text.remove_prefix(1);
    const auto stop = text.find(' ');
    const auto first = text.substr(0, stop);
    text.remove_prefix(stop == std::string_view::npos ? text.size() : stop + 1);
    return first;
}

std::optional<std::uint16_t> port_number(std::string_view text) noexcept {
    std::uint16_t port = 0;
    const auto [used, fault] = std::from_chars(text.data(), text.data() + text.size(), port);
    if (fault != std::errc{} || used != text.data() + text.size() || text.empty())
        return {};
    return port;
}

std::optional<way> parse_way(std::string_view text) noexcept {
    for (const auto candidate : {way::sendrecv, way::sendonly, way::recvonly, way::inactive})
        if (name(candidate) == text)
            return candidate;
    return {};
}

// m=<kind> <port>[/<count>] <proto> <formats>
bool read_media_line(std::string_view text, media& into) {
    into.kind = word(text);
    auto port = word(text);
    if (const auto slash = port.find('/'); slash != std::string_view::npos) {
        into.port_count = port.substr(slash);
        port = port.substr(0, slash);
    }
    const auto number = port_number(port);
    into.proto = word(text);
    into.formats = text;
    if (into.kind.empty() || !number || into.proto.empty()) // some leave the formats out; the codecs are not ours
        return false;
    into.port = *number;
    into.profile = parse_transport(into.proto);
    return true;
}

// a=rtcp:<port> [IN IP4 <address>] (RFC 3605). An unreadable one is as good as none.
void read_rtcp(std::string_view text, media& into) {
    into.rtcp_port = port_number(word(text));
    if (into.rtcp_port == std::uint16_t{0})
        into.rtcp_port.reset();
    into.rtcp_address = text.empty() ? std::nullopt : parse_connection(text);
    if (into.rtcp_address && !is_one_host(*into.rtcp_address))
        into.rtcp_address.reset();
}

struct session_level {
    std::optional<asio::ip::address> address;
    way direction = way::sendrecv;
    bool fingerprint = false;
};

char lower(char c) noexcept {
    return static_cast<char>(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
}

constexpr std::string_view key_mark = "inline:"; // RFC 4568 6.1

bool has_key_mark(std::string_view text) noexcept {
    const auto same = [](char a, char b) { return lower(a) == b; };
    return std::search(text.begin(), text.end(), key_mark.begin(), key_mark.end(), same) != text.end();
}

// Attributes that carry a key, or an offer of one: a=crypto where it has no place, a=key-mgmt (RFC 4567), a=ekt,
// capabilities and potential configurations (RFC 5939, 6871, 7006), whose answer we would refuse. The key's own mark
// counts under any name.
bool may_carry_key(std::string_view text) noexcept {
    static constexpr std::array<std::string_view, 18> names{"crypto", "key-mgmt", "csup",  "creq",  "acap",  "tcap",
                                                            "pcfg",   "acfg",     "rmcap", "omcap", "mfcap", "mscap",
                                                            "lcfg",   "sescap",   "bcap",  "ccap",  "icap",  "ekt"};
    const auto name = split_attribute(text).name;
    return std::any_of(names.begin(), names.end(), [&](auto one) { return passes_for(name, one); }) ||
           has_key_mark(text);
}

// One line of a media section. False = not to be kept (keys are never kept as text).
bool read_media_attribute(std::string_view text, media& into) {
    const auto [name, value] = split_attribute(text);
    if (name == "rtcp")
        read_rtcp(value, into);
    else if (name == "rtcp-mux" || name == "rtcp-mux-only")
        into.rtcp_mux = true;
    else if (name == "fingerprint")
        into.fingerprint = true;
    else if (const auto direction = parse_way(name))
        into.direction = *direction;
    else if (name == "crypto") {
        if (auto found = parse_crypto(value))
            into.cryptos.push_back(std::move(*found));
        return false;
    }
    return !may_carry_key(text);
}

// What ends no line and is in no value (RFC 8866 9): a reader that takes a bare CR for a line's end would find other
// lines than we do. Which line, and what it holds; nothing where all is well.
std::optional<std::string> control_character(std::string_view text) {
    std::size_t line = 1;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const auto c = static_cast<unsigned char>(text[i]);
        line += c == '\n';
        const bool ends_line = c == '\n' || (c == '\r' && i + 1 < text.size() && text[i + 1] == '\n');
        if ((c < 0x20 && c != '\t' && !ends_line) || c == 0x7f)
            return "line " + std::to_string(line) + " holds the control character " + std::to_string(c) +
                   (c == '\r' ? ": lines end with CR LF" : "");
    }
    return {};
}

class sdp_reader {
public:
    tl::expected<session, std::string> read(std::string_view text) {
        if (text.size() > max_bytes)
            return bad("it is longer than 65000 bytes");
        if (const auto stray = control_character(text))
            return bad(*stray);
        if (text.find("\r\n") == std::string_view::npos)
            out_.newline = "\n";
        while (!text.empty()) {
            const auto end = text.find('\n');
            auto one = text.substr(0, end);
            text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
            if (one.ends_with('\r'))
                one.remove_suffix(1);
            if (one.empty())
                continue;
            if (auto fault = take(one))
                return bad(*fault);
        }
        if (out_.lines.empty() || out_.lines.front().type != 'v')
            return bad("it does not begin with v=");
        return resolve();
    }

private:
    // As it is written in base64: no other line may say it again.
    void note_keys(std::string_view text) {
        constexpr std::size_t shortest = 16, most = 64;
        for (auto at = text.find(key_mark); at != std::string_view::npos; at = text.find(key_mark, at)) {
            at += key_mark.size();
            const auto key = text.substr(at, text.find_first_of("|;= ", at) - at);
            if (key.size() >= shortest && keys_.size() < most)
                keys_.emplace_back(key);
        }
    }

    void drop_lines_with_keys() {
        const auto says_key = [&](line& one) {
            for (const auto& key : keys_)
                if (one.text.find(key) != std::string::npos) {
                    wipe(one.text);
                    return std::string_view("vostc").find(one.type) == std::string_view::npos; // these have to be there
                }
            return false;
        };
        if (!keys_.empty()) {
            std::erase_if(out_.lines, says_key);
            for (auto& one : out_.m_lines)
                std::erase_if(one.lines, says_key);
        }
        for (auto& key : keys_)
            wipe(key);
    }

    std::optional<std::string> take(std::string_view one) {
        if (++lines_ > max_lines)
            return "it has more than 2000 lines";
        if (one.size() < 2 || one[1] != '=' || one[0] < 'a' || one[0] > 'z')
            return "line " + std::to_string(lines_) + " is not <letter>=<value>";
        line here{one[0], std::string(one.substr(2))};
        note_keys(here.text);
        constexpr std::string_view read_apart = "asomc"; // of these the last four have to be there
        if (read_apart.find(here.type) == std::string_view::npos && has_key_mark(here.text)) {
            wipe(here.text);
            return {};
        }
        if (here.type == 'm')
            return take_media(here.text);
        if (out_.m_lines.empty())
            return take_session_line(std::move(here));
        return take_media_line(std::move(here));
    }

    std::optional<std::string> take_media(std::string_view text) {
        if (out_.m_lines.size() >= max_media)
            return "it has more than 32 m= lines";
        media here;
        if (!read_media_line(text, here))
            return "line " + std::to_string(lines_) + " is not a valid m= line";
        here.direction = level_.direction;
        here.fingerprint = level_.fingerprint;
        out_.m_lines.push_back(std::move(here));
        own_address_.emplace_back();
        return {};
    }

    std::optional<std::string> take_session_line(line here) {
        if (here.type == 'c') {
            level_.address = parse_connection(here.text);
            if (!level_.address)
                return "line " + std::to_string(lines_) + " has no usable address";
        } else if (here.type == 'a') {
            const auto attribute = split_attribute(here.text);
            if (const auto direction = parse_way(attribute.name))
                level_.direction = *direction;
            else if (attribute.name == "fingerprint")
                level_.fingerprint = true;
            else if (may_carry_key(here.text)) {
                wipe(here.text);
                return {};
            }
        } else if (here.type == 'k') {
            return {}; // obsolete, and may be a key (RFC 8866 5.12): not kept
        }
        out_.lines.push_back(std::move(here));
        return {};
    }

    std::optional<std::string> take_media_line(line here) {
        auto& into = out_.m_lines.back();
        if (here.type == 'c') {
            own_address_.back() = parse_connection(here.text);
            if (!own_address_.back())
                return "line " + std::to_string(lines_) + " has no usable address";
        } else if (here.type == 'a') {
            if (!read_media_attribute(here.text, into)) {
                wipe(here.text);
                return {};
            }
        } else if (here.type == 'k') {
            return {};
        }
        into.lines.push_back(std::move(here));
        return {};
    }

    tl::expected<session, std::string> resolve() {
        for (std::size_t i = 0; i < out_.m_lines.size(); ++i) {
            const auto address = own_address_[i] ? own_address_[i] : level_.address;
            if (!address && !out_.m_lines[i].rejected())
                return bad("m= line " + std::to_string(i + 1) + " has no c= line");
            if (!address)
                continue;
            if (!is_one_host(*address) && !out_.m_lines[i].rejected())
                return bad("the address of m= line " + std::to_string(i + 1) + ", " + address->to_string() +
                           ", is not one host's");
            out_.m_lines[i].address = *address;
        }
        drop_lines_with_keys();
        return std::move(out_);
    }

    session out_;
    session_level level_;
    std::vector<std::optional<asio::ip::address>> own_address_;
    std::vector<std::string> keys_;
    std::size_t lines_ = 0;
};

} // namespace

std::string_view name(way w) noexcept {
    static constexpr std::array<std::string_view, 4> names{"sendrecv", "sendonly", "recvonly", "inactive"};
    return names[static_cast<std::size_t>(w)];
}

transport parse_transport(std::string_view proto) noexcept {
    static constexpr std::array<transport, 6> known{{{.rtp = true},
                                                     {.rtp = true, .feedback = true},
                                                     {.rtp = true, .secure = true},
                                                     {.rtp = true, .secure = true, .feedback = true},
                                                     {.rtp = true, .secure = true, .dtls = true},
                                                     {.rtp = true, .secure = true, .feedback = true, .dtls = true}}};
    for (const auto& one : known)
        if (passes_for(proto, name(one)))
            return one;
    return {};
}

std::string_view name(const transport& t) noexcept {
    if (t.dtls)
        return t.feedback ? "UDP/TLS/RTP/SAVPF" : "UDP/TLS/RTP/SAVP";
    if (t.secure)
        return t.feedback ? "RTP/SAVPF" : "RTP/SAVP";
    return t.feedback ? "RTP/AVPF" : "RTP/AVP";
}

std::optional<asio::ip::address> parse_connection(std::string_view text) {
    if (word(text) != "IN")
        return {};
    const auto family = word(text);
    auto where = word(text);
    where = where.substr(0, where.find('/')); // multicast TTL
    if (where.empty() || where.size() > 45)
        return {};
    asio::error_code fault;
    const auto address = asio::ip::make_address(std::string(where), fault);
    if (fault || !((family == "IP4" && address.is_v4()) || (family == "IP6" && address.is_v6())))
        return {};
    return plain(address);
}

asio::ip::address plain(const asio::ip::address& address) {
    if (address.is_v6() && address.to_v6().is_v4_mapped())
        return asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6());
    return address;
}

std::uint32_t clock_rate(const media& line) noexcept {
    std::string_view formats = line.formats;
    const auto first = word(formats);
    for (const auto& one : line.lines) {
        auto [name, value] = split_attribute(one.text);
        if (one.type != 'a' || name != "rtpmap" || word(value) != first)
            continue;
        const auto slash = value.find('/'); // encoding/rate[/channels]
        std::uint32_t rate = 0;
        if (slash != std::string_view::npos)
            std::from_chars(value.data() + slash + 1, value.data() + value.size(), rate);
        if (rate >= 1000 && rate <= 1'000'000)
            return rate;
        break;
    }
    // RFC 3551 tables 4 and 5, where it is not 8000. (G.722 says 8000.)
    for (const auto& [type, rate] : std::array<std::pair<std::string_view, std::uint32_t>, 13>{{{"6", 16'000},
                                                                                                {"10", 44'100},
                                                                                                {"11", 44'100},
                                                                                                {"14", 90'000},
                                                                                                {"16", 11'025},
                                                                                                {"17", 22'050},
                                                                                                {"25", 90'000},
                                                                                                {"26", 90'000},
                                                                                                {"28", 90'000},
                                                                                                {"31", 90'000},
                                                                                                {"32", 90'000},
                                                                                                {"33", 90'000},
                                                                                                {"34", 90'000}}})
        if (type == first)
            return rate;
    return 8000;
}

std::array<std::uint8_t, 3> retransmissions(const media& line) noexcept {
    std::array<std::uint8_t, 3> found{};
    std::size_t count = 0;
    for (const auto& one : line.lines) {
        auto [name, value] = split_attribute(one.text);
        if (one.type != 'a' || name != "rtpmap" || count == found.size())
            continue;
        const auto type = word(value);
        std::uint8_t number = 0;
        std::from_chars(type.data(), type.data() + type.size(), number);
        const auto encoding = value.substr(0, value.find('/'));
        const auto same_letter = [](char a, char b) { return (a | 0x20) == b; };
        if (!std::ranges::equal(encoding, std::string_view("rtx"), same_letter) || number == 0 || number > 127)
            continue;
        for (std::string_view formats = line.formats; !formats.empty();)
            if (word(formats) == type) {
                found[count++] = number;
                break;
            }
    }
    return found;
}

bool passes_for(std::string_view name, std::string_view word) noexcept {
    const auto blank = [](char c) { return c == ' ' || c == '\t'; };
    while (!name.empty() && blank(name.front()))
        name.remove_prefix(1);
    while (!name.empty() && blank(name.back()))
        name.remove_suffix(1);
    return std::ranges::equal(name, word, [](char a, char b) { return lower(a) == lower(b); });
}

bool is_one_host(const asio::ip::address& address) noexcept {
    if (address.is_v6())
        return !address.to_v6().is_multicast();
    const auto first = address.to_v4().to_bytes()[0];
    return first < 224 && (first != 0 || address.is_unspecified());
}

attribute_view split_attribute(std::string_view text) noexcept {
    const auto colon = text.find(':');
    if (colon == std::string_view::npos)
        return {text, {}};
    return {text.substr(0, colon), text.substr(colon + 1)};
}

tl::expected<session, std::string> parse(std::string_view text) {
    return sdp_reader().read(text);
}

} // namespace tandem::callcontrol::sdp
