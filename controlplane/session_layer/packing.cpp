// SPDX-License-Identifier: Apache-2.0
// zstd's streaming interface. See packing.hpp.
#include "controlplane/session_layer/packing.hpp"

#include <new>
#include <utility>

#include <zstd.h>
#include <zstd_errors.h>

namespace tandem::session_layer {
namespace {

// Beside the level: tables of half the usual size, some per cent of the ratio for a third of the memory.
constexpr int log_of_tables = 15;
constexpr std::uint8_t magic[] = {0x28, 0xb5, 0x2f, 0xfd}; // RFC 8878 3.1.1

} // namespace

// ---- packer
// -----------------------------------------------------------------------------------------------------------

packer::packer() : context_(ZSTD_createCCtx()) {
    if (context_ == nullptr)
        throw std::bad_alloc();
    ZSTD_CCtx_setParameter(context_, ZSTD_c_compressionLevel, packed_level);
    ZSTD_CCtx_setParameter(context_, ZSTD_c_windowLog, packed_window);
    ZSTD_CCtx_setParameter(context_, ZSTD_c_hashLog, log_of_tables);
    ZSTD_CCtx_setParameter(context_, ZSTD_c_chainLog, log_of_tables);
    ZSTD_CCtx_setParameter(context_, ZSTD_c_checksumFlag, 1);
}

packer::~packer() {
    ZSTD_freeCCtx(context_);
}

std::size_t packer::memory() const noexcept {
    return ZSTD_sizeof_CCtx(context_);
}

bool packer::pack(std::span<const std::uint8_t> octets, flush how, std::vector<std::uint8_t>& out) {
    const auto directive = how == flush::later ? ZSTD_e_continue : how == flush::now ? ZSTD_e_flush : ZSTD_e_end;
    ZSTD_inBuffer in{octets.data(), octets.size(), 0};
    for (std::size_t left = 1; left != 0 && (how != flush::later || in.pos < in.size);) {
        const auto begin = out.size();
        out.resize(begin + octets.size() / 2 + 512);
        ZSTD_outBuffer made{out.data() + begin, out.size() - begin, 0};
        left = ZSTD_compressStream2(context_, &made, &in, directive);
        out.resize(begin + made.pos);
        if (ZSTD_isError(left) != 0)
            return false;
    }
    return true;
}

// ---- unpacker
// ---------------------------------------------------------------------------------------------------------

unpacker::unpacker() : context_(ZSTD_createDCtx()) {
    if (context_ == nullptr)
        throw std::bad_alloc();
    ZSTD_DCtx_setParameter(context_, ZSTD_d_windowLogMax, most_packed_window);
}

unpacker::~unpacker() {
    ZSTD_freeDCtx(context_);
}

std::size_t unpacker::memory() const noexcept {
    return ZSTD_sizeof_DCtx(context_);
}

// The library knows older formats, too, whose windows it does not bound, and frames that are to be skipped.
bool unpacker::begins(std::span<const std::uint8_t> in) noexcept {
    for (; seen_ < std::size(magic) && !in.empty(); in = in.subspan(1))
        if (in.front() != magic[seen_++])
            return false;
    return true;
}

unpacker::step unpacker::unpack(std::span<const std::uint8_t> in, std::span<std::uint8_t> out) noexcept {
    if (whole_)
        return {.wrong = in.empty() ? std::nullopt : std::optional(fault::corrupt)};
    if (in.empty() && !full_)
        return {};
    if (!begins(in))
        return {.wrong = fault::corrupt};
    ZSTD_inBuffer from{in.data(), in.size(), 0};
    ZSTD_outBuffer to{out.data(), out.size(), 0};
    const auto hint = ZSTD_decompressStream(context_, &to, &from);
    full_ = to.pos == to.size;
    step done{from.pos, to.pos, {}};
    if (hint == 0) {
        whole_ = true;
        ZSTD_freeDCtx(std::exchange(context_, nullptr));
    }
    if (ZSTD_isError(hint) != 0)
        done.wrong =
            ZSTD_getErrorCode(hint) == ZSTD_error_frameParameter_windowTooLarge ? fault::window : fault::corrupt;
    else if (!in.empty() && done.eaten == 0 && done.made == 0)
        done.wrong = fault::corrupt; // it would never go on
    return done;
}

} // namespace tandem::session_layer
