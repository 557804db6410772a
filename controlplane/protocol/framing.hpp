// SPDX-License-Identifier: Apache-2.0
// Framing on a stream (TLS over TCP): u16 length in network order, then a control message, a frame of the session layer
// or an IP packet. The first nibble tells them apart: 1 control, 2 session layer, 4 IPv4, 6 IPv6; anything else is
// dropped and counted by who reads (ORA-10). Pure; used by gateway and agent. One thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "controlplane/protocol/message.hpp"

namespace tandem::protocol {

inline constexpr std::size_t frame_prefix = 2;

enum class frame_kind : std::uint8_t { control, session, ipv4, ipv6, other };

[[nodiscard]] constexpr frame_kind kind_of(std::span<const std::uint8_t> frame) noexcept {
    if (frame.empty())
        return frame_kind::other;
    switch (frame[0] >> 4) {
    case 1:
        return frame_kind::control;
    case 2:
        return frame_kind::session;
    case 4:
        return frame_kind::ipv4;
    case 6:
        return frame_kind::ipv6;
    default:
        return frame_kind::other;
    }
}

struct frame {
    frame_kind kind;
    std::span<const std::uint8_t> bytes; // without the length; valid until the framer's next call
};

// Incremental: read into prepare(), commit() what came, take next() until it gives nothing.
class framer {
public:
    explicit framer(std::size_t initial = 16384) : buffer_(initial) {}

    // Room for a read, at least two bytes. Doubles where a frame is longer than it: to 128 KiB where next() is drained.
    [[nodiscard]] std::span<std::uint8_t> prepare();
    void commit(std::size_t read) noexcept { end_ += read; }
    // Octets that fit behind those that are there; prepare() makes more only where there are less than two.
    [[nodiscard]] std::size_t room() const noexcept { return buffer_.size() - end_; }
    // No octet waits here: the storage may serve another one meanwhile, without a secret in it. It is to be used again
    // before prepare().
    [[nodiscard]] bool is_empty() const noexcept { return begin_ == end_; }
    [[nodiscard]] bool has_storage() const noexcept { return !buffer_.empty(); }
    [[nodiscard]] wiped_bytes give_back() noexcept;
    void use(wiped_bytes storage) noexcept { buffer_ = std::move(storage); }
    // The next whole frame. The control frame given before is wiped: it may have held a seed.
    [[nodiscard]] std::optional<frame> next() noexcept;

private:
    void wipe_last() noexcept;
    wiped_bytes buffer_;
    std::size_t begin_ = 0, end_ = 0;
    std::size_t last_begin_ = 0, last_size_ = 0; // the control frame given last
};

// Appends length and bytes. False, and nothing appended, where bytes are none or more than 65,535.
template <class Bytes>
bool append_frame(Bytes& out, std::span<const std::uint8_t> bytes) {
    if (bytes.empty() || bytes.size() > max_message)
        return false;
    const auto at = out.size();
    out.resize(at + frame_prefix + bytes.size());
    out[at] = static_cast<std::uint8_t>(bytes.size() >> 8);
    out[at + 1] = static_cast<std::uint8_t>(bytes.size() & 0xFFU);
    std::copy(bytes.begin(), bytes.end(), out.begin() + static_cast<std::ptrdiff_t>(at + frame_prefix));
    return true;
}

} // namespace tandem::protocol
