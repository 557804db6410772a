// SPDX-License-Identifier: Apache-2.0
// See traffic.hpp.
#include "bench/load/traffic.hpp"

#include <cstring>

namespace tandem::load {

namespace {

void put(std::uint8_t* to, std::uint64_t value, unsigned bytes) noexcept {
    for (unsigned i = 0; i < bytes; ++i)
        to[i] = static_cast<std::uint8_t>(value >> (8 * (bytes - 1 - i)));
}

std::uint64_t get(const std::uint8_t* from, unsigned bytes) noexcept {
    std::uint64_t value = 0;
    for (unsigned i = 0; i < bytes; ++i)
        value = value << 8 | from[i];
    return value;
}

constexpr std::uint8_t payload_type = 8; // PCMA
constexpr std::size_t times_kept = 1u << 20;

} // namespace

traffic::traffic(const options& given, const key_file& keys)
    : given_(given), streams_(given.streams), times_(times_kept), pattern_(max_packet + 256) {
    const srtp_suite out = parse_suite(given.suite), in = parse_suite(given.receive_suite);
    for (unsigned i = 0; i < given.streams; ++i) {
        if (out != srtp_suite::clear)
            streams_[i].send = std::make_unique<srtp_session>(out, keys.find(true, i, out));
        if (in != srtp_suite::clear && !given.no_receive)
            streams_[i].receive = std::make_unique<srtp_session>(in, keys.find(false, i, in));
        streams_[i].highest = given.first_sequence;
    }
    for (std::size_t i = 0; i < pattern_.size(); ++i)
        pattern_[i] = static_cast<std::uint8_t>(i * 31 + 7);
}

std::size_t traffic::make(std::uint64_t n, std::uint8_t* b, std::uint64_t sent_ns) {
    const auto at = static_cast<std::uint32_t>(n % given_.streams);
    const std::uint64_t index = n / given_.streams + given_.first_sequence;
    b[0] = 0x80;
    b[1] = payload_type;
    put(b + 2, index, 2);
    put(b + 4, index * given_.payload, 4);
    put(b + 8, given_.ssrc + at, 4);
    put(b + header_bytes, n, 8);
    put(b + header_bytes + 8, sent_ns, 8);
    std::memcpy(b + header_bytes + stamp_bytes, pattern(n), given_.payload - stamp_bytes);
    const std::size_t length = header_bytes + given_.payload;
    return streams_[at].send ? streams_[at].send->protect(b, length, index) : length;
}

// Which stream and which of its packets: SSRC and sequence number, the ROC guessed as in RFC 3711 3.3.1.
bool traffic::identify(std::span<const std::uint8_t> d, unsigned& at, std::uint64_t& index) const noexcept {
    if (rtp_header(d.data(), d.size()) != header_bytes)
        return false;
    const auto ssrc = static_cast<std::uint32_t>(get(d.data() + 8, 4));
    if (ssrc - given_.ssrc >= given_.streams)
        return false;
    at = ssrc - given_.ssrc;
    const std::uint64_t highest = streams_[at].highest;
    const auto step = static_cast<std::int16_t>(static_cast<std::uint16_t>(get(d.data() + 2, 2)) -
                                                static_cast<std::uint16_t>(highest));
    index = highest + static_cast<std::uint64_t>(static_cast<std::int64_t>(step));
    return index >= given_.first_sequence && index < highest + 0x10000;
}

bool traffic::content_is(const std::uint8_t* payload, std::uint64_t n) const noexcept {
    return get(payload, 8) == n && std::memcmp(payload + stamp_bytes, pattern(n), given_.payload - stamp_bytes) == 0;
}

void traffic::arrived(std::uint64_t n, stream& s, std::uint64_t index, std::uint64_t since, std::uint64_t ns) {
    if (n / 64 >= seen_.size())
        seen_.resize(n / 64 + 65536);
    const std::uint64_t bit = 1ull << (n % 64);
    if ((seen_[n / 64] & bit) != 0) {
        ++total.duplicates;
        return;
    }
    seen_[n / 64] |= bit;
    ++total.received;
    if (index < s.highest) {
        ++total.reordered;
    } else {
        note_gap(s, index, ns);
        s.highest = index;
    }
    if (since != 0 && ns >= since)
        latency.record(ns - since);
}

void traffic::note_gap(stream& s, std::uint64_t index, std::uint64_t ns) {
    if (given_.gaps_ms > 0 && s.came_ns != 0 && static_cast<double>(ns - s.came_ns) > given_.gaps_ms * 1e6)
        gaps.push_back({static_cast<unsigned>(&s - streams_.data()), s.came_ns, ns - s.came_ns, index - s.highest - 1});
    s.came_ns = ns;
}

void traffic::take(std::span<std::uint8_t> d, std::uint64_t ns) {
    unsigned at = 0;
    std::uint64_t index = 0;
    if (!identify(d, at, index)) {
        ++total.foreign;
        return;
    }
    stream& s = streams_[at];
    const std::uint64_t n = (index - given_.first_sequence) * given_.streams + at;
    std::uint64_t since = times_[n & (times_.size() - 1)];
    const bool look = !s.receive || n / given_.streams % given_.verify_every == 0;
    std::size_t length = d.size();
    if (look) {
        if (s.receive && !s.receive->unprotect(d.data(), length, index)) {
            ++total.bad_tags;
            return;
        }
        if (length != header_bytes + given_.payload || !content_is(d.data() + header_bytes, n)) {
            ++total.bad_content;
            return;
        }
        ++total.verified;
        if (const std::uint64_t stamped = get(d.data() + header_bytes + 8, 8); stamped != 0)
            since = stamped;
    } else if (length != header_bytes + given_.payload + s.receive->tag()) {
        ++total.bad_content;
        return;
    }
    arrived(n, s, index, since, ns);
}

} // namespace tandem::load
