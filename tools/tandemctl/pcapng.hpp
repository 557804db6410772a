// SPDX-License-Identifier: Apache-2.0
// Writes pcapng (draft-ietf-opsawg-pcapng): one section, an interface description per port, enhanced packets with
// direction and comment, nanoseconds. Our own few lines, because libpcap writes no pcapng and rte_pcapng of DPDK 22.11
// knows no comments and copies whole mbufs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tools/tandemctl/ops_client.hpp"

namespace tandem::ctl {

class pcapng_writer {
public:
    struct packet {
        std::uint64_t time_ns = 0; // since 1970
        std::uint32_t interface = 0;
        std::uint32_t original = 0;
        bool outbound = false;
        std::string_view comment; // may be empty
        std::span<const std::byte> bytes;
    };

    // Makes or empties the file (mode 0600, no links followed); "-" is stdout.
    [[nodiscard]] static result<pcapng_writer> create(const std::string& path);

    void interface(std::string_view name, std::span<const std::uint8_t, 6> mac, std::uint32_t snap_length);
    void write(const packet& p);
    // Flushes; an error says what could not be written.
    [[nodiscard]] result<void> flush();

private:
    struct closer {
        void operator()(std::FILE* f) const noexcept {
            if (f != stdout)
                std::fclose(f);
        }
    };
    pcapng_writer(std::FILE* file, std::string path) : file_(file), path_(std::move(path)) {}
    void begin(std::uint32_t type);
    void put32(std::uint32_t v);
    void option(std::uint16_t code, std::span<const std::byte> value);
    void option(std::uint16_t code, std::string_view text) { option(code, std::as_bytes(std::span(text))); }
    void pad();
    void end();

    std::unique_ptr<std::FILE, closer> file_;
    std::string path_;
    std::vector<std::byte> block_;
};

} // namespace tandem::ctl
