// SPDX-License-Identifier: Apache-2.0
// Sending by the kernel's live frames (blast.bpf.c): the program makes, numbers and paces the packets; a thread asks
// the kernel to run it, a great many times a call, for a call costs the kernel 25 ms. Clear RTP over IPv4 only; the
// interface's driver must take redirected frames (a veth: GRO on). Linux 5.18.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "bench/load/options.hpp"

struct blast_bpf;

namespace tandem::load {

class blaster {
public:
    // `frame` is the first stream's first frame; `ports` the relay's, one a stream, round and round.
    blaster(const options& given, std::span<const std::uint8_t> frame, const std::vector<std::uint16_t>& ports,
            unsigned frame_interface);
    ~blaster();
    blaster(const blaster&) = delete;
    blaster& operator=(const blaster&) = delete;
    void start(std::uint64_t begin_ns, std::uint64_t end_ns, double rate); // rate 0: as fast as it can
    std::uint64_t finish();                                                // after the end: packets sent

private:
    void run(std::uint64_t end_ns);

    blast_bpf* program_;
    std::vector<std::uint8_t> frame_;
    int netns_ = -1;
    std::thread thread_;
    std::string wrong_;
};

} // namespace tandem::load
