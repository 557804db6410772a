// SPDX-License-Identifier: Apache-2.0
// SDP writer. Pure; any thread.
#include "controlplane/callcontrol/sdp_rewrite.hpp"

#include <algorithm>
#include <array>
#include <charconv>

#include "controlplane/protocol/address_text.hpp"

namespace tandem::callcontrol::sdp {

namespace {

// ICE (RFC 8839), DTLS-SRTP (RFC 5763, 8122, 8842), what we write ourselves, other ways to the caller that go around us
// (RFC 6947 and its draft, 3GPP TS 29.079), and the filter that lets the caller's packets alone in (RFC 4570): ours
// come. a=crypto never gets this far (sdp.cpp).
constexpr std::array<std::string_view, 21> removed_attributes{
    "candidate",     "remote-candidates", "ice-ufrag",     "ice-pwd",     "ice-options", "ice-lite",
    "ice-mismatch",  "end-of-candidates", "ice-pacing",    "fingerprint", "setup",       "tls-id",
    "rtcp",          "rtcp-mux",          "rtcp-mux-only", "bundle-only", "altc",        "alt",
    "visited-realm", "secondary-realm",   "source-filter"};

constexpr std::string_view mark_name = "tandem";

bool is_removed(const line& one) {
    if (one.type != 'a')
        return false;
    const auto [name, value] = split_attribute(one.text);
    if (name == mark_name) // of an earlier pass
        return true;
    // Bundled lines share a port (RFC 9143); ours each have their own.
    return (name == "group" && value.starts_with("BUNDLE")) ||
           std::any_of(removed_attributes.begin(), removed_attributes.end(),
                       [name = name](auto removed) { return passes_for(name, removed); });
}

std::string connection(const asio::ip::address& address) {
    return (address.is_v6() ? "IN IP6 " : "IN IP4 ") + protocol::address_text(address);
}

asio::ip::address unspecified(const asio::ip::address& like) {
    if (like.is_v6())
        return asio::ip::address_v6::any();
    return asio::ip::address_v4::any();
}

bool is_way(std::string_view text) {
    return text == name(way::sendrecv) || text == name(way::sendonly) || text == name(way::recvonly) ||
           text == name(way::inactive);
}

// By the session's own c=.
bool is_held(const session& from) {
    return std::any_of(from.lines.begin(), from.lines.end(), [](const line& one) {
        const auto where = one.type == 'c' ? parse_connection(one.text) : std::nullopt;
        return where && where->is_unspecified();
    });
}

class writer {
public:
    writer(const session& from, const std::vector<media_rewrite>& to, const rewrite_options& options)
        : from_(from), to_(to), options_(options) {
        std::size_t length = 256;
        for (const auto& one : from.lines)
            length += one.text.size() + 64;
        for (const auto& one : from.m_lines)
            for (const auto& inner : one.lines)
                length += inner.text.size() + 4;
        for (const auto& one : to)
            length += 128 + one.cryptos.size() * 192;
        out_.reserve(length); // no reallocation, so no second copy of keys
        for (std::size_t i = 0; i < to.size() && !ours_; ++i)
            if (!to[i].reject && !from.m_lines[i].rejected()) {
                ours_ = to[i].address;
                session_shown_ = shown(from.m_lines[i], to[i]);
            }
        if (!ours_) { // the caller's addresses are nobody's business there either
            ours_ = options.shown;
            session_shown_ = is_held(from) && !options.zero_address ? unspecified(options.shown) : options.shown;
        }
    }

    std::string write() {
        for (const auto& one : from_.lines)
            write_session_line(one);
        if (!options_.mark.empty())
            put('a', std::string(mark_name) + ":" + options_.mark);
        for (std::size_t i = 0; i < from_.m_lines.size(); ++i)
            write_media(from_.m_lines[i], to_[i]);
        return std::move(out_);
    }

private:
    void put(char type, std::string_view text) {
        out_ += type;
        out_ += '=';
        out_ += text;
        out_ += from_.newline;
    }

    // c=0.0.0.0 is old-style hold (RFC 3264 8.4): the other side must see it, there or as a direction.
    [[nodiscard]] bool zero(const media& from) const { return from.held_by_address() && !from.rejected(); }
    [[nodiscard]] asio::ip::address shown(const media& from, const media_rewrite& to) const {
        return zero(from) && !options_.zero_address ? unspecified(to.address) : to.address;
    }
    [[nodiscard]] bool goes_on(const line& one) const {
        return !is_removed(one) && !(options_.strip_extmap && one.type == 'a' && one.text.starts_with("extmap"));
    }

    // o=<username> <id> <version> IN IP4 <address>
    [[nodiscard]] std::string origin(const std::string& text) const {
        std::vector<std::string_view> words;
        std::string_view rest = text;
        while (!rest.empty() && words.size() < 3) {
            const auto stop = std::min(rest.find(' '), rest.size());
            words.push_back(rest.substr(0, stop));
            rest.remove_prefix(std::min(stop + 1, rest.size()));
        }
        if (words.size() < 3)
            return text;
        return std::string(options_.replace_username ? "-" : words[0]) + ' ' + std::string(words[1]) + ' ' +
               (options_.version ? std::to_string(*options_.version) : std::string(words[2])) + ' ' +
               (options_.replace_origin && ours_ ? connection(*ours_) : std::string(rest));
    }

    void write_session_line(const line& one) {
        if (one.type == 'o')
            put('o', origin(one.text));
        else if (one.type == 's' && options_.replace_session_name)
            put('s', "-");
        else if (one.type == 'c' && session_shown_)
            put('c', connection(*session_shown_));
        else if (goes_on(one))
            put(one.type, one.text);
    }

    void write_media(const media& from, const media_rewrite& to) {
        const bool reject = to.reject || from.rejected();
        put('m', from.kind + ' ' + std::to_string(reject ? 0 : to.port) + ' ' +
                     (reject ? from.proto : std::string(name(to.profile))) + (from.formats.empty() ? "" : " ") +
                     from.formats);
        const bool said_here = !reject && options_.zero_address && zero(from);
        bool have_connection = false;
        const auto session_connection =
            std::any_of(from_.lines.begin(), from_.lines.end(), [](const line& one) { return one.type == 'c'; });
        // c= stands before b=, k= and a= (RFC 8866 9), after i=.
        const auto put_connection = [&] {
            if (!have_connection && !reject && (!session_connection || shown(from, to) != session_shown_))
                put('c', connection(shown(from, to)));
            have_connection = true;
        };
        for (const auto& one : from.lines) {
            if (one.type == 'c') {
                if (!have_connection)
                    put('c',
                        connection(reject ? session_shown_.value_or(asio::ip::address_v4::any()) : shown(from, to)));
                have_connection = true;
                continue;
            }
            if (one.type != 'i')
                put_connection();
            if (goes_on(one) && !(said_here && one.type == 'a' && is_way(one.text)))
                put(one.type, one.text);
        }
        put_connection();
        if (said_here)
            put('a', sends(from.direction) ? name(way::sendonly) : name(way::inactive));
        if (!reject)
            write_ours(to);
    }

    void write_ours(const media_rewrite& to) {
        if (options_.rtcp_attribute)
            put('a', "rtcp:" + std::to_string(to.rtcp_port) +
                         (options_.full_rtcp_attribute ? ' ' + connection(to.address) : std::string()));
        if (to.rtcp_mux)
            put('a', "rtcp-mux");
        for (const auto& one : to.cryptos) {
            auto text = print_crypto(one, options_.key_lifetime);
            put('a', text);
            wipe(text);
        }
    }

    const session& from_;
    const std::vector<media_rewrite>& to_;
    const rewrite_options& options_;
    std::optional<asio::ip::address> ours_, session_shown_;
    std::string out_;
};

} // namespace

std::uint64_t version_of(const session& said) noexcept {
    std::uint64_t number = 1;
    for (const auto& one : said.lines) {
        if (one.type != 'o')
            continue;
        const auto id = one.text.find(' ');
        const auto at = id == std::string::npos ? id : one.text.find(' ', id + 1);
        if (at != std::string::npos)
            std::from_chars(one.text.data() + at + 1, one.text.data() + one.text.size(), number);
    }
    return number;
}

std::string rewrite(const session& from, const std::vector<media_rewrite>& to, const rewrite_options& options) {
    if (from.m_lines.size() != to.size())
        return {};
    return writer(from, to, options).write();
}

} // namespace tandem::callcontrol::sdp
