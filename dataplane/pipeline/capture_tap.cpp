// SPDX-License-Identifier: Apache-2.0
// The capture: frames are copied as they come (they are decrypted in place) and as they leave; what becomes of the
// copies is known when the burst is through.
#include "dataplane/pipeline/taps.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include <rte_mbuf.h>

#include "dataplane/pipeline/hops.hpp"
#include "dataplane/rtp/packet.hpp"

namespace tandem::pipeline {

namespace {

constexpr std::size_t ring_bytes = std::size_t{16} << 20;
constexpr std::size_t unparsed_bytes = 14 + 20; // shown of a frame that is no whole UDP datagram

std::size_t slot_bytes(const capture_choice& what) noexcept {
    return (api::padded_capture(what.snap_length) + 63) / 64 * 64;
}

// Bytes of the payload that are a header in clear, whatever the flow.
std::size_t media_header(std::span<const std::uint8_t> payload) noexcept {
    switch (rtp::classify(payload.data(), payload.size())) {
    case rtp::kind::rtp:
        return std::min(payload.size(), rtp::rtp_fixed_header);
    case rtp::kind::rtcp:
        return std::min(payload.size(), rtp::rtcp_fixed_header);
    default:
        return 0;
    }
}

} // namespace

capture_tap::capture_tap(const capture_choice& what, unsigned worker, api::worker_stats& stats)
    : tap_output(slot_bytes(what), std::bit_floor(ring_bytes / slot_bytes(what)), stats), what_(what),
      snap_(what.snap_length), left_(what.packets != 0 ? what.packets : std::numeric_limits<std::uint64_t>::max()),
      worker_(static_cast<std::uint8_t>(worker)), staging_(2 * burst_size * snap_) {}

capture_tap::~capture_tap() {
    explicit_bzero(staging_.data(), staging_.size());
}

capture_tap::copy capture_tap::keep(std::uint8_t* to, const rte_mbuf& frame, std::size_t headers,
                                    std::span<const std::uint8_t> payload) const noexcept {
    copy c;
    c.original = frame.pkt_len;
    c.kept = static_cast<std::uint32_t>(std::min<std::size_t>(frame.data_len, snap_));
    c.clear_bytes = static_cast<std::uint32_t>(headers + media_header(payload));
    std::memcpy(to, rte_pktmbuf_mtod(&frame, const std::uint8_t*), c.kept);
    return c;
}

void capture_tap::after(api::stage stage, const burst& b) noexcept {
    if (stage == api::stage::receive)
        return received(b);
    if (stage != api::stage::send)
        return;
    for (unsigned i = 0; i < b.count; ++i) {
        const packet& p = b.packets[i];
        if (in_[i].original != 0 && p.left != departure::handed)
            write(b, p, api::capture_way::in, in_[i], in_bytes(i), p.accepted && p.flow->in.suite != api::suite::clear);
        if (out_[i].original != 0)
            write(b, p, api::capture_way::out, out_[i], out_bytes(i), p.flow->out.suite != api::suite::clear);
    }
}

void capture_tap::received(const burst& b) noexcept {
    for (unsigned i = 0; i < b.count; ++i) {
        const packet& p = b.packets[i];
        in_[i] = out_[i] = {};
        const auto* const frame = rte_pktmbuf_mtod(p.mbuf, const std::uint8_t*);
        udp_frame seen{};
        const bool known = parse_frame({frame, p.mbuf->data_len}, seen) == api::drop::none;
        wanted_[i] = what_.places.count == 0 || (known && observed(what_.places, seen.destination));
        if ((what_.direction & api::capture_in) == 0 || (what_.ports >> p.port & 1) == 0 || left_ == 0 || !wanted_[i])
            continue;
        if (known)
            in_[i] =
                keep(in_bytes(i), *p.mbuf, seen.payload_offset, {frame + seen.payload_offset, seen.payload_length});
        else
            in_[i] = keep(in_bytes(i), *p.mbuf, unparsed_bytes, {});
    }
}

void capture_tap::leaving(std::size_t place, const packet& p, const rte_mbuf& frame) noexcept {
    if ((what_.direction & api::capture_out) == 0 || (what_.ports >> p.way->port & 1) == 0 || left_ == 0 ||
        !wanted_[place])
        return;
    out_[place] = keep(out_bytes(place), frame, frame.pkt_len - p.length, {p.payload, p.length});
}

void capture_tap::write(const burst& b, const packet& p, api::capture_way way, const copy& c, const std::uint8_t* bytes,
                        bool ciphertext) noexcept {
    if (left_ == 0 || (what_.drop != api::drop::none && p.dropped_for() != what_.drop))
        return;
    std::byte* const slot = ring_.claim();
    if (slot == nullptr)
        return lose();
    api::capture_record r{};
    r.time_ns = b.now_ns;
    r.original = c.original;
    r.captured = ciphertext || what_.plaintext ? c.kept : std::min(c.kept, c.clear_bytes);
    r.withheld = r.captured < c.kept ? 1 : 0;
    r.port = way == api::capture_way::in ? p.port : p.way->port;
    r.way = way;
    r.worker = worker_;
    r.reason = p.dropped_for();
    std::memcpy(slot, &r, sizeof r);
    std::memcpy(slot + sizeof r, bytes, r.captured);
    ring_.publish();
    --left_;
}

} // namespace tandem::pipeline
