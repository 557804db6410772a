// SPDX-License-Identifier: Apache-2.0
// The streams, what goes out and what comes back. Packet n belongs to stream n mod N and is its n / N-th, so what
// returns is known by SSRC and sequence number alone; its payload (number, time of sending, a pattern) then must say
// the same. Owner: one thread, which sends and receives by turns.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "bench/load/histogram.hpp"
#include "bench/load/options.hpp"
#include "bench/load/srtp.hpp"

namespace tandem::load {

inline constexpr std::size_t header_bytes = 12, stamp_bytes = 16; // stamp: packet number, ns of sending
inline constexpr std::size_t max_packet = 2048;

struct counts {
    std::uint64_t sent = 0, send_errors = 0, received = 0, duplicates = 0, reordered = 0, bad_tags = 0, bad_content = 0,
                  foreign = 0, verified = 0;
};

// A silence of one stream between two packets that came back.
struct gap {
    unsigned stream;
    std::uint64_t since_ns, ns; // CLOCK_MONOTONIC
    std::uint64_t missing;      // packets between the two
};

struct stream {
    std::uint64_t highest = 0; // index of the newest packet that came back, for the guess of the ROC
    std::uint64_t came_ns = 0; // when it came
    std::unique_ptr<srtp_session> send, receive;
};

class traffic {
public:
    traffic(const options& given, const key_file& keys);

    // Writes packet n; returns its length. `buffer` has max_packet bytes.
    std::size_t make(std::uint64_t n, std::uint8_t* buffer, std::uint64_t sent_ns);
    // Notes that packet n leaves now (for packets that were made before).
    void left(std::uint64_t n, std::uint64_t ns) noexcept { times_[n & (times_.size() - 1)] = ns; }
    // Judges one datagram that came; may decrypt in place.
    void take(std::span<std::uint8_t> datagram, std::uint64_t ns);

    counts total;
    histogram latency;
    std::vector<gap> gaps; // longer than --gaps-ms

private:
    [[nodiscard]] bool identify(std::span<const std::uint8_t> datagram, unsigned& at,
                                std::uint64_t& index) const noexcept;
    [[nodiscard]] const std::uint8_t* pattern(std::uint64_t n) const noexcept { // the kernel's frames are all alike
        return pattern_.data() + (given_.xdp ? 0 : n & 0xff);
    }
    [[nodiscard]] bool content_is(const std::uint8_t* payload, std::uint64_t n) const noexcept;
    void arrived(std::uint64_t n, stream& s, std::uint64_t index, std::uint64_t since, std::uint64_t ns);
    void note_gap(stream& s, std::uint64_t index, std::uint64_t ns);

    const options& given_;
    std::vector<stream> streams_;
    std::vector<std::uint64_t> seen_;  // one bit a packet
    std::vector<std::uint64_t> times_; // of sending, the last 2^20
    std::uint64_t next_expected_ = 0;
    std::vector<std::uint8_t> pattern_;
};

} // namespace tandem::load
