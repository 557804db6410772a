// SPDX-License-Identifier: Apache-2.0
// See pcapng.hpp. Blocks are in host byte order, as the format allows: the section header tells.
#include "tools/tandemctl/pcapng.hpp"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

namespace tandem::ctl {
namespace {

constexpr std::uint32_t section_header = 0x0a0d0d0a, interface_description = 1, enhanced_packet = 6;
constexpr std::uint32_t byte_order_magic = 0x1a2b3c4d;
constexpr std::uint16_t opt_end = 0, opt_comment = 1, shb_application = 4, if_name = 2, if_mac = 6, if_tsresol = 9,
                        epb_flags = 2;
constexpr std::uint32_t ethernet = 1, inbound = 1, outbound = 2;

} // namespace

result<pcapng_writer> pcapng_writer::create(const std::string& path) {
    std::FILE* file = stdout;
    if (path != "-") {
        const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
        file = fd >= 0 ? fdopen(fd, "wb") : nullptr;
        if (file == nullptr)
            return tl::unexpected(error{failure::failed, fmt::format("{}: {}", path, std::strerror(errno))});
    }
    pcapng_writer w(file, path);
    w.begin(section_header);
    w.put32(byte_order_magic);
    w.put32(1); // version 1.0
    w.put32(0xffffffff);
    w.put32(0xffffffff); // length of the section: not said
    w.option(shb_application, "tandemctl " TANDEM_VERSION);
    w.end();
    return w;
}

void pcapng_writer::interface(std::string_view name, std::span<const std::uint8_t, 6> mac, std::uint32_t snap_length) {
    begin(interface_description);
    put32(ethernet);
    put32(snap_length);
    option(if_name, name);
    option(if_mac, std::as_bytes(mac));
    constexpr std::byte nanoseconds[1] = {std::byte{9}};
    option(if_tsresol, nanoseconds);
    end();
}

void pcapng_writer::write(const packet& p) {
    begin(enhanced_packet);
    put32(p.interface);
    put32(static_cast<std::uint32_t>(p.time_ns >> 32));
    put32(static_cast<std::uint32_t>(p.time_ns));
    put32(static_cast<std::uint32_t>(p.bytes.size()));
    put32(p.original);
    block_.insert(block_.end(), p.bytes.begin(), p.bytes.end());
    pad();
    if (!p.comment.empty())
        option(opt_comment, p.comment);
    const std::uint32_t flags = p.outbound ? outbound : inbound;
    option(epb_flags, std::as_bytes(std::span(&flags, 1)));
    end();
}

result<void> pcapng_writer::flush() {
    if (std::fflush(file_.get()) == 0 && std::ferror(file_.get()) == 0)
        return {};
    return tl::unexpected(
        error{failure::failed, fmt::format("{}: cannot be written: {}", path_, std::strerror(errno))});
}

void pcapng_writer::begin(std::uint32_t type) {
    block_.clear();
    put32(type);
    put32(0); // length, by end()
}

void pcapng_writer::put32(std::uint32_t v) {
    const auto bytes = std::as_bytes(std::span(&v, 1));
    block_.insert(block_.end(), bytes.begin(), bytes.end());
}

void pcapng_writer::option(std::uint16_t code, std::span<const std::byte> value) {
    put32(static_cast<std::uint32_t>(value.size()) << 16 | code); // little-endian: code, then length
    block_.insert(block_.end(), value.begin(), value.end());
    pad();
}

void pcapng_writer::pad() {
    while (block_.size() % 4 != 0)
        block_.push_back(std::byte{0});
}

void pcapng_writer::end() {
    put32(opt_end);
    const auto length = static_cast<std::uint32_t>(block_.size() + 4);
    put32(length);
    std::memcpy(block_.data() + 4, &length, sizeof length);
    (void)std::fwrite(block_.data(), 1, block_.size(), file_.get()); // flush() tells
}

} // namespace tandem::ctl
