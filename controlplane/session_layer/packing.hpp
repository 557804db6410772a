// SPDX-License-Identifier: Apache-2.0
// Compression of a stream (COL-25, COL-26): each direction is one zstd frame (RFC 8878) from its first octet to its
// close and its checksum, with a context of its own. Made before octets enter the session, whose offsets count
// compressed ones; so what is sent again is what was sent. A direction without octets is no frame at all. One thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

struct ZSTD_CCtx_s;
struct ZSTD_DCtx_s;

namespace tandem::session_layer {

inline constexpr int packed_window = 16;       // log2 of octets that ours refer back to
inline constexpr int most_packed_window = 17;  // and of the other end's: bounds a context's memory
inline constexpr std::size_t packed_level = 3; // zstd's

class packer {
public:
    enum class flush : std::uint8_t {
        later, // more is there already
        now,   // the other end can read all that was given
        end    // and nothing follows
    };
    packer();
    ~packer();
    packer(const packer&) = delete;
    packer& operator=(const packer&) = delete;
    // Appends what goes to the other end. False where there is no memory.
    [[nodiscard]] bool pack(std::span<const std::uint8_t> octets, flush, std::vector<std::uint8_t>& out);
    [[nodiscard]] std::size_t memory() const noexcept; // octets

private:
    ZSTD_CCtx_s* context_;
};

class unpacker {
public:
    enum class fault : std::uint8_t {
        corrupt, // no zstd frame, a broken one, or octets after its end
        window   // it refers back further than most_packed_window
    };
    struct step {
        std::size_t eaten = 0, made = 0;
        std::optional<fault> wrong{};
    };
    unpacker();
    ~unpacker();
    unpacker(const unpacker&) = delete;
    unpacker& operator=(const unpacker&) = delete;
    // Of `in` as much as fits into `out`. Nothing eaten and nothing made: it waits for more.
    [[nodiscard]] step unpack(std::span<const std::uint8_t> in, std::span<std::uint8_t> out) noexcept;
    [[nodiscard]] bool whole() const noexcept { return whole_; } // the frame has ended
    [[nodiscard]] std::size_t memory() const noexcept;           // octets

private:
    [[nodiscard]] bool begins(std::span<const std::uint8_t> in) noexcept;
    ZSTD_DCtx_s* context_;
    std::size_t seen_ = 0; // of the frame's first octets
    bool whole_ = false, full_ = false;
};

} // namespace tandem::session_layer
