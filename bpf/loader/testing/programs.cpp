// SPDX-License-Identifier: Apache-2.0
// See programs.hpp.
#include "bpf/loader/testing/programs.hpp"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <unistd.h>

#include "bpf/loader/edge.hpp"

namespace tandem::bpf::testing {

bool attach_stale(unsigned ifindex) {
    auto path = object_path();
    if (!path)
        return false;
    bpf_object* object = bpf_object__open_file(path->c_str(), nullptr);
    if (object == nullptr)
        return false;
    bool done = bpf_object__load(object) == 0 &&
                bpf_xdp_attach(static_cast<int>(ifindex), bpf_program__fd(bpf_object__next_program(object, nullptr)), 0,
                               nullptr) == 0;
    bpf_object__close(object);
    return done;
}

bool attach_foreign(unsigned ifindex) {
    const bpf_insn pass[] = {{BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, XDP_PASS}, {BPF_JMP | BPF_EXIT, 0, 0, 0, 0}};
    int fd = bpf_prog_load(BPF_PROG_TYPE_XDP, "someone_else", "GPL", pass, 2, nullptr);
    if (fd < 0)
        return false;
    bool done = bpf_xdp_attach(static_cast<int>(ifindex), fd, 0, nullptr) == 0;
    ::close(fd);
    return done;
}

std::uint32_t attached(unsigned ifindex) {
    std::uint32_t id = 0;
    bpf_xdp_query_id(static_cast<int>(ifindex), 0, &id);
    return id;
}

} // namespace tandem::bpf::testing
