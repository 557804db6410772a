// SPDX-License-Identifier: Apache-2.0
// What the user asked for, checked, and the keys from their file. Errors are sentences; the caller prints them and ends
// with 2 (usage) or 1. Keys are never in argv and are wiped when they have been used.
#pragma once

#include <cstdint>
#include <map>
#include <netinet/in.h>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::load {

struct usage_error : std::runtime_error { // exit status 2
    using std::runtime_error::runtime_error;
};
struct failure : std::runtime_error { // exit status 1
    using std::runtime_error::runtime_error;
};

// ADDR:PORTS, PORTS one or more of PORT, PORT-PORT or PORT-PORT/STEP with commas between; IPv6 in brackets.
struct port_range {
    sockaddr_storage base{};
    socklen_t length = 0;
    std::vector<std::uint16_t> ports{};

    [[nodiscard]] sockaddr_storage at(unsigned i) const noexcept; // the i-th, round and round
};
[[nodiscard]] port_range parse_range(std::string_view text, std::string_view option);

enum class srtp_suite : std::uint8_t { clear, cm_80, cm_32, gcm_128, gcm_256, cm_256_80, cm_256_32 };
[[nodiscard]] srtp_suite parse_suite(const std::string& name);
[[nodiscard]] std::size_t key_bytes(srtp_suite s) noexcept; // master key and salt together

using secret = std::vector<std::uint8_t>;
void wipe(secret& s) noexcept;

// Lines "send N HEX" and "receive N HEX": stream N's master key followed by its salt; * is every other stream.
class key_file {
public:
    ~key_file();
    void load(const std::string& path); // refuses a file that others may read
    [[nodiscard]] const secret& find(bool send, unsigned stream, srtp_suite suite) const;

private:
    std::map<std::pair<bool, std::string>, secret> keys_;
};

struct options {
    unsigned streams = 1;
    double rate = 0, seconds = 1, linger = 0.5, ptime = 20; // rate: packets a second of all streams together
    double gaps_ms = 0;                                     // silences of a stream longer than this are told; 0: none
    bool flat_out = false, prepare = false, spin = false, no_receive = false, xdp = false;
    unsigned payload = 160, burst = 32, verify_every = 1, first_sequence = 1;
    unsigned sources = 1; // xdp
    int first_byte = -1;  // xdp: instead of RTP's; -1: as it is
    std::uint32_t ssrc = 0x10000;
    std::string suite = "clear", receive_suite = "clear", keys_file, to, from, receive, from_netns, receive_netns, json,
                frames, interface, to_mac;
};

} // namespace tandem::load
