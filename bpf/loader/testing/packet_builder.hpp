// SPDX-License-Identifier: Apache-2.0
// A small language for frames in tests: layers are appended in order, each tells its predecessor what follows, lengths
// are filled in by bytes(). What a hostile sender would write is set afterwards (ip_length(), set(), truncate() ...).
//   packet().eth().vlan(5).ipv4("198.51.100.7", "192.0.2.1").udp(5004, 40000).payload(20).bytes()
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include <arpa/inet.h>
#include <netinet/in.h>

namespace tandem::bpf::testing {

using frame = std::vector<std::uint8_t>;

class packet {
public:
    packet& eth() {
        bytes_.assign(12, 0x02);
        next_ = bytes_.size();
        return put16(0);
    }
    packet& vlan(std::uint16_t id, std::uint16_t tpid = 0x8100) {
        ethertype(tpid);
        put16(id);
        next_ = bytes_.size();
        return put16(0);
    }
    packet& ethertype(std::uint16_t type) {
        put16_at(next_, type);
        return *this;
    }
    packet& arp() { return ethertype(0x0806).payload(28); }
    packet& arp(const char* sender, const char* target, std::uint8_t address_length = 4) {
        ethertype(0x0806).data({0, 1, 8, 0, 6, address_length, 0, 1}).payload(6).address(AF_INET, sender);
        return payload(6).address(AF_INET, target);
    }

    // options: bytes after the 20, a multiple of 4. fragment: the flags and offset field.
    packet& ipv4(const char* source, const char* destination, std::size_t options = 0, std::uint16_t fragment = 0) {
        ethertype(0x0800);
        ip_ = bytes_.size();
        ip6_ = false;
        put(static_cast<std::uint8_t>(0x40 | (20 + options) / 4)).put(0).put16(0).put16(0x1234).put16(fragment).put(64);
        next_ = bytes_.size();
        put(0).put16(0).address(AF_INET, source).address(AF_INET, destination);
        bytes_.insert(bytes_.end(), options, 1); // no-operation
        return *this;
    }
    packet& ipv6(const char* source, const char* destination) {
        ethertype(0x86dd);
        ip_ = bytes_.size();
        ip6_ = true;
        put(0x60).put(0).put16(0).put16(0);
        next_ = bytes_.size();
        put(0).put(64).address(AF_INET6, source).address(AF_INET6, destination);
        return *this;
    }
    packet& hop_by_hop(std::uint8_t length = 0) { return extension(IPPROTO_HOPOPTS, length); }
    packet& routing(std::uint8_t length = 0) { return extension(IPPROTO_ROUTING, length); }
    packet& destination_options(std::uint8_t length = 0) { return extension(IPPROTO_DSTOPTS, length); }
    packet& fragment(std::uint16_t offset8, bool more) {
        protocol(IPPROTO_FRAGMENT);
        next_ = bytes_.size();
        return put(0).put(0).put16(static_cast<std::uint16_t>(offset8 << 3 | (more ? 1 : 0))).put16(0).put16(7);
    }
    packet& protocol(std::uint8_t number) {
        bytes_[next_] = number;
        return *this;
    }

    packet& udp(std::uint16_t source, std::uint16_t destination) {
        protocol(IPPROTO_UDP);
        udp_ = bytes_.size();
        return put16(source).put16(destination).put16(0).put16(0);
    }
    // flags: 0x02 SYN, 0x10 ACK
    packet& tcp(std::uint16_t source, std::uint16_t destination, std::uint8_t flags) {
        protocol(IPPROTO_TCP);
        return put16(source)
            .put16(destination)
            .put16(0)
            .put16(1)
            .put16(0)
            .put16(0)
            .put(0x50)
            .put(flags)
            .put16(1024)
            .put16(0)
            .put16(0);
    }
    packet& payload(std::size_t length, std::uint8_t value = 0x80) {
        bytes_.insert(bytes_.end(), length, value);
        return *this;
    }
    packet& data(std::vector<std::uint8_t> raw) {
        bytes_.insert(bytes_.end(), raw.begin(), raw.end());
        return *this;
    }

    packet& ip_length(std::uint16_t n) {
        ip_length_ = n;
        return *this;
    }
    packet& udp_length(std::uint16_t n) {
        udp_length_ = n;
        return *this;
    }
    packet& first_ip_byte(std::uint8_t value) {
        bytes_[ip_] = value;
        return *this;
    }
    packet& pad(std::size_t n) {
        pad_ = n;
        return *this;
    } // after what the IP header counts
    packet& cut(std::size_t n) {
        bytes_.resize(n);
        return *this;
    } // lengths then tell what is left
    packet& truncate(std::size_t n) {
        truncate_ = n;
        return *this;
    } // lengths still tell the whole

    [[nodiscard]] frame bytes() {
        frame out = bytes_;
        std::size_t end = bytes_.size();
        if (ip_ != 0 && ip_ + (ip6_ ? 6u : 4u) <= end) {
            auto length = static_cast<std::uint16_t>(ip6_ ? end - ip_ - 40 : end - ip_);
            write16(out, ip_ + (ip6_ ? 4 : 2), ip_length_.value_or(length));
        }
        if (udp_ != 0 && udp_ + 6 <= end)
            write16(out, udp_ + 4, udp_length_.value_or(static_cast<std::uint16_t>(end - udp_)));
        out.resize(end + pad_, 0);
        if (truncate_)
            out.resize(*truncate_);
        return out;
    }
    [[nodiscard]] std::size_t size() const { return bytes_.size(); }

private:
    packet& extension(std::uint8_t number, std::uint8_t length) {
        protocol(number);
        next_ = bytes_.size();
        put(0).put(length);
        return payload(6 + 8u * length, 0);
    }
    packet& put(std::uint8_t value) {
        bytes_.push_back(value);
        return *this;
    }
    packet& put16(std::uint16_t value) {
        return put(static_cast<std::uint8_t>(value >> 8)).put(static_cast<std::uint8_t>(value));
    }
    packet& address(int family, const char* text) {
        std::uint8_t raw[16]{};
        inet_pton(family, text, raw);
        bytes_.insert(bytes_.end(), raw, raw + (family == AF_INET ? 4 : 16));
        return *this;
    }
    void put16_at(std::size_t offset, std::uint16_t value) { write16(bytes_, offset, value); }
    static void write16(frame& out, std::size_t offset, std::uint16_t value) {
        out[offset] = static_cast<std::uint8_t>(value >> 8);
        out[offset + 1] = static_cast<std::uint8_t>(value);
    }

    frame bytes_;
    std::size_t next_ = 0; // where the number of what follows goes
    std::size_t ip_ = 0;
    std::size_t udp_ = 0;
    bool ip6_ = false;
    std::size_t pad_ = 0;
    std::optional<std::uint16_t> ip_length_, udp_length_;
    std::optional<std::size_t> truncate_;
};

} // namespace tandem::bpf::testing
