// SPDX-License-Identifier: Apache-2.0
// Messages between the two ends of a session (wire.def). A frame, which a link carries whole, is one octet (the first
// nibble tells it from a control message and an IP packet) and whole messages. Pure.
//
//   frame_writer out(buffer, 16384);  bool fits = out.put(message(verb::ack).set(field::stream, 1).set(field::offset,
//   9)); for (frame_reader in(frame); auto m = in.next();) use(*m);   // in.bad(): what follows is none
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace tandem::session_layer {

inline constexpr std::uint8_t frame_mark = 0x20; // version 2 of what a first nibble may say, no flags

enum class field : std::uint8_t {
#define FIELD(name, octets) name,
#include "controlplane/session_layer/wire.def"
};
enum class verb : std::uint8_t {
#define MESSAGE(name, number, tail, ...) name = (number),
#include "controlplane/session_layer/wire.def"
};
inline constexpr std::uint8_t ack_closed = 1, ack_gone = 2;

class message {
public:
    explicit message(verb what) noexcept : what_(what) {}
    message& set(field f, std::uint64_t value) noexcept {
        values_[static_cast<std::size_t>(f)] = value;
        return *this;
    }
    message& set_tail(std::span<const std::uint8_t> octets) noexcept {
        tail_ = octets;
        return *this;
    }
    [[nodiscard]] verb what() const noexcept { return what_; }
    [[nodiscard]] std::uint64_t operator[](field f) const noexcept { return values_[static_cast<std::size_t>(f)]; }
    [[nodiscard]] std::uint32_t number(field f) const noexcept { return static_cast<std::uint32_t>((*this)[f]); }
    [[nodiscard]] std::span<const std::uint8_t> tail() const noexcept { return tail_; } // of who made it, or the frame

private:
    static constexpr std::size_t fields = 0
#define FIELD(name, octets) +1
#include "controlplane/session_layer/wire.def"
        ;
    verb what_;
    std::array<std::uint64_t, fields> values_{};
    std::span<const std::uint8_t> tail_{};
};

[[nodiscard]] const char* name_of(verb) noexcept;
// Octets of a message of that kind without its tail.
[[nodiscard]] std::size_t size_of(verb) noexcept;

// Appends to `out`, up to `max` octets of a frame; nothing at all where nothing is put.
class frame_writer {
public:
    frame_writer(std::vector<std::uint8_t>& out, std::size_t max) noexcept : out_(out), begin_(out.size()), max_(max) {}
    // False, and nothing written, where it does not fit.
    [[nodiscard]] bool put(const message&);
    // Octets of a tail that fit in a message of that kind.
    [[nodiscard]] std::size_t room(verb) const noexcept;
    [[nodiscard]] bool empty() const noexcept { return out_.size() == begin_; }

private:
    [[nodiscard]] std::size_t used() const noexcept { return empty() ? 1 : out_.size() - begin_; }
    std::vector<std::uint8_t>& out_;
    std::size_t begin_, max_;
};

class frame_reader {
public:
    explicit frame_reader(std::span<const std::uint8_t> frame) noexcept;
    // Nothing at the frame's end, and where what follows is no message.
    [[nodiscard]] std::optional<message> next() noexcept;
    [[nodiscard]] bool bad() const noexcept { return bad_; }

private:
    [[nodiscard]] std::optional<message> fail() noexcept;
    std::span<const std::uint8_t> rest_;
    bool bad_ = false;
};

} // namespace tandem::session_layer
