// SPDX-License-Identifier: Apache-2.0
// Which program is attached to an interface; making way for ours; where its object file is.
#include <cstring>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <linux/if_link.h>
#include <unistd.h>

#include "bpf/loader/edge.hpp"
#include "bpf/loader/object.hpp"
#include "bpf/loader/program.hpp"

namespace tandem::bpf {

std::string describe_error(int code) {
    if (code == EPERM || code == EACCES)
        return "not permitted: run as root, or with CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF";
    return std::strerror(code);
}

tl::expected<program_info, int> query_attached(unsigned ifindex) noexcept {
    LIBBPF_OPTS(bpf_xdp_query_opts, query);
    if (int rc = bpf_xdp_query(static_cast<int>(ifindex), 0, &query); rc < 0)
        return tl::unexpected(-rc);
    program_info info;
    // With several attached (driver and generic at once) prog_id is 0 and the modes' own fields are set.
    if (query.drv_prog_id != 0 || query.attach_mode == XDP_ATTACHED_DRV) {
        info = {query.drv_prog_id != 0 ? query.drv_prog_id : query.prog_id, attach_mode::driver, {}};
    } else if (query.hw_prog_id != 0) {
        info = {query.hw_prog_id, attach_mode::offload, {}};
    } else {
        info = {query.skb_prog_id != 0 ? query.skb_prog_id : query.prog_id, attach_mode::generic, {}};
    }
    return info;
}

tl::expected<program_info, std::string> query_program(unsigned ifindex, std::string_view name) {
    auto attached = query_attached(ifindex);
    if (!attached)
        return tl::unexpected(
            fmt::format("cannot ask which XDP program is on {}: {}", name, describe_error(attached.error())));
    program_info info = std::move(*attached);
    if (info.id == 0)
        return info;

    int fd = bpf_prog_get_fd_by_id(info.id);
    if (fd < 0)
        return tl::unexpected(
            fmt::format("cannot open the XDP program (id {}) on {}: {}", info.id, name, describe_error(errno)));
    bpf_prog_info detail{};
    std::uint32_t length = sizeof(detail);
    int rc = bpf_obj_get_info_by_fd(fd, &detail, &length);
    int code = errno;
    ::close(fd);
    if (rc != 0)
        return tl::unexpected(
            fmt::format("cannot read the XDP program (id {}) on {}: {}", info.id, name, describe_error(code)));
    info.name = detail.name;
    return info;
}

namespace {

std::uint32_t attach_flags(attach_mode mode) {
    switch (mode) {
    case attach_mode::driver:
        return XDP_FLAGS_DRV_MODE;
    case attach_mode::offload:
        return XDP_FLAGS_HW_MODE;
    case attach_mode::generic:
        break;
    }
    return XDP_FLAGS_SKB_MODE;
}

} // namespace

result refuse_foreign(unsigned ifindex, std::string_view name) {
    auto info = query_program(ifindex, name);
    if (!info)
        return tl::unexpected(info.error());
    if (info->id == 0 || info->name == program_name)
        return {};
    return tl::unexpected(fmt::format(
        "another XDP program ('{}', id {}) is attached to {}: detach it first (ip link set dev {} xdp off), or give "
        "Tandem another interface",
        info->name, info->id, name, name));
}

tl::expected<attachment, std::string> attach(unsigned ifindex, std::string_view name, int program) {
    if (auto free = refuse_foreign(ifindex, name); !free)
        return tl::unexpected(free.error());
    auto info = query_program(ifindex, name);
    if (!info)
        return tl::unexpected(info.error());
    LIBBPF_OPTS(bpf_xdp_attach_opts, options);
    std::uint32_t flags = XDP_FLAGS_UPDATE_IF_NOEXIST;
    int before = -1;
    if (info->id != 0) {
        before = bpf_prog_get_fd_by_id(info->id);
        options.old_prog_fd = before;
        flags = attach_flags(info->mode) | XDP_FLAGS_REPLACE;
    }
    const int rc = bpf_xdp_attach(static_cast<int>(ifindex), program, flags, before < 0 ? nullptr : &options);
    if (before >= 0)
        ::close(before);
    if (rc < 0)
        return tl::unexpected(fmt::format("cannot attach the XDP program to {}: {}", name, describe_error(-rc)));
    const auto now = query_program(ifindex, name);
    if (!now)
        return tl::unexpected(now.error());
    return attachment{before >= 0, now->mode};
}

void detach(unsigned ifindex) noexcept {
    try {
        auto info = query_program(ifindex, "");
        if (info && info->id != 0 && info->name == program_name)
            bpf_xdp_detach(static_cast<int>(ifindex), attach_flags(info->mode), nullptr);
    } catch (...) { // out of memory while closing: the next start detaches it
    }
}

void detach(unsigned ifindex, int program, attach_mode mode) noexcept {
    LIBBPF_OPTS(bpf_xdp_attach_opts, options, .old_prog_fd = program);
    bpf_xdp_attach(static_cast<int>(ifindex), -1, attach_flags(mode) | XDP_FLAGS_REPLACE, &options);
}

tl::expected<std::string, std::string> object_path() {
    return readable_object("edge", "XDP");
}

} // namespace tandem::bpf
