// SPDX-License-Identifier: Apache-2.0
// See queues.hpp.
#include "bpf/loader/queues.hpp"

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <iterator>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>

namespace tandem::bpf {

namespace {

constexpr std::size_t frame_bytes = 64; // the least that the kernel runs a program on; it begins with the queue

//   if (data + 4 > data_end) return XDP_PASS;
//   return bpf_redirect_map(&xsks_map, *(u32*)data, XDP_DROP);    XDP_REDIRECT, or XDP_DROP where there is no entry
int load(int xsks_map) noexcept {
    const bpf_insn code[] = {
        {BPF_LDX | BPF_MEM | BPF_W, 2, 1, offsetof(xdp_md, data), 0},
        {BPF_LDX | BPF_MEM | BPF_W, 3, 1, offsetof(xdp_md, data_end), 0},
        {BPF_ALU64 | BPF_MOV | BPF_X, 4, 2, 0, 0},
        {BPF_ALU64 | BPF_ADD | BPF_K, 4, 0, 0, 4},
        {BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, XDP_PASS},
        {BPF_JMP | BPF_JGT | BPF_X, 4, 3, 5, 0}, // to the end
        {BPF_LDX | BPF_MEM | BPF_W, 2, 2, 0, 0},
        {BPF_LD | BPF_IMM | BPF_DW, 1, BPF_PSEUDO_MAP_FD, 0, xsks_map},
        {0, 0, 0, 0, 0}, // its upper half
        {BPF_ALU64 | BPF_MOV | BPF_K, 3, 0, 0, XDP_DROP},
        {BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_redirect_map},
        {BPF_JMP | BPF_EXIT, 0, 0, 0, 0},
    };
    return bpf_prog_load(BPF_PROG_TYPE_XDP, "tandem_queues", "Dual BSD/GPL", code, std::size(code), nullptr);
}

} // namespace

int queue_seeker::ask(int xsks_map, std::uint32_t queue) noexcept {
    if (!program_)
        program_ = descriptor(load(xsks_map));
    if (!program_)
        return -errno;
    std::uint8_t frame[frame_bytes] = {};
    std::memcpy(frame, &queue, sizeof queue);
    LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame, .data_size_in = sizeof frame);
    if (const int rc = bpf_prog_test_run_opts(program_.get(), &options); rc != 0)
        return rc;
    return options.retval == XDP_REDIRECT ? 1 : 0;
}

} // namespace tandem::bpf
