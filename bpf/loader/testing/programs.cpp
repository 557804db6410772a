// SPDX-License-Identifier: Apache-2.0
// See programs.hpp.
#include "bpf/loader/testing/programs.hpp"

#include <cstring>

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

bool take_socket_out(unsigned ifindex, std::uint32_t queue) {
    const int program = bpf_prog_get_fd_by_id(attached(ifindex));
    std::uint32_t maps[32] = {};
    bpf_prog_info info{};
    info.nr_map_ids = 32;
    info.map_ids = reinterpret_cast<std::uintptr_t>(maps);
    std::uint32_t length = sizeof info;
    bool done = false;
    if (program >= 0 && bpf_obj_get_info_by_fd(program, &info, &length) == 0)
        for (std::uint32_t i = 0; i < info.nr_map_ids && i < 32; ++i) {
            const int fd = bpf_map_get_fd_by_id(maps[i]);
            bpf_map_info map{};
            length = sizeof map;
            if (fd >= 0 && bpf_obj_get_info_by_fd(fd, &map, &length) == 0 && std::strcmp(map.name, "xsks_map") == 0)
                done = bpf_map_delete_elem(fd, &queue) == 0;
            ::close(fd);
        }
    ::close(program);
    return done;
}

std::uint32_t attached(unsigned ifindex) {
    std::uint32_t id = 0;
    bpf_xdp_query_id(static_cast<int>(ifindex), 0, &id);
    return id;
}

} // namespace tandem::bpf::testing
