// SPDX-License-Identifier: Apache-2.0
// See driver.hpp. The executable's functions win over a library's of the same name (they are exported,
// bpf/meson.build).
#include "bpf/loader/driver.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>

#include <bpf/libbpf.h>
#include <dlfcn.h>
#include <unistd.h>
#include <xdp/xsk.h>

namespace tandem::bpf {

// The driver keeps the rings' places in its own structs, which outlive a failed try: they are filled again.
struct driver_parts::umem {
    xsk_umem* registered;
    void* area;
    std::uint64_t size;
    xsk_umem_config config;
    xsk_ring_prod fill;
    xsk_ring_cons completion;
};

driver_parts::driver_parts() = default;
driver_parts::~driver_parts() = default;

namespace {

using act = driver_scope::act;

// A queue is free 20 to 40 ms after its last socket was closed or its owner died; a busy machine takes longer.
constexpr auto busy_limit = std::chrono::seconds(3);
constexpr useconds_t busy_pause_us = 500;

thread_local driver_parts* in_scope = nullptr;
thread_local act doing = act::close;

template <class Function>
Function* library(const char* name) noexcept {
    return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

__u64 bytes_up_to(const void* end, const void* area) noexcept {
    const auto from = reinterpret_cast<std::uintptr_t>(area), to = reinterpret_cast<std::uintptr_t>(end);
    return to > from ? to - from : 0;
}

const driver_parts::umem* kept_umem(void* area, std::uint64_t size, const xsk_umem_config* config) {
    const auto same = [&](const driver_parts::umem& u) {
        return config != nullptr && u.area == area && u.size == size &&
               std::memcmp(&u.config, config, sizeof *config) == 0;
    };
    const auto found = std::ranges::find_if(in_scope->umems, same);
    return found == in_scope->umems.end() ? nullptr : &*found;
}

} // namespace

driver_scope::driver_scope(act what, driver_parts& with) noexcept {
    in_scope = &with;
    doing = what;
}

driver_scope::~driver_scope() {
    in_scope = nullptr;
}

extern "C" {

int bpf_xdp_attach(int ifindex, int program, __u32 flags, const bpf_xdp_attach_opts* options) {
    static auto* const theirs = library<decltype(bpf_xdp_attach)>("bpf_xdp_attach");
    if (in_scope == nullptr)
        return theirs(ifindex, program, flags, options);
    in_scope->program = program;
    return 0;
}

int bpf_xdp_detach(int ifindex, __u32 flags, const bpf_xdp_attach_opts* options) {
    static auto* const theirs = library<decltype(bpf_xdp_detach)>("bpf_xdp_detach");
    return in_scope == nullptr ? theirs(ifindex, flags, options) : 0;
}

int xsk_umem__create(xsk_umem** made, void* area, __u64 size, xsk_ring_prod* fill, xsk_ring_cons* completion,
                     const xsk_umem_config* config) {
    static auto* const theirs = library<decltype(xsk_umem__create)>("xsk_umem__create");
    if (in_scope != nullptr && doing == act::open)
        if (const auto* const kept = kept_umem(area, size, config)) {
            *made = kept->registered;
            *fill = kept->fill;
            // As if nothing had been put in: the driver fills from its own count, which is 0 again. What the kernel
            // counted beyond it would be entries without a frame, which a burst of a ring's length reaches.
            *fill->producer = fill->cached_prod;
            *completion = kept->completion;
            in_scope->umems.erase(in_scope->umems.begin() + (kept - in_scope->umems.data()));
            return 0;
        }
    const auto whole = in_scope == nullptr ? size : std::max(size, bytes_up_to(in_scope->buffers_end, area));
    const int rc = theirs(made, area, whole, fill, completion, config);
    if (rc == 0 && in_scope != nullptr && doing == act::rehearse && config != nullptr) {
        in_scope->umems.push_back({*made, area, size, *config, *fill, *completion});
        ++in_scope->umems_made;
    }
    return rc;
}

int xsk_umem__delete(xsk_umem* umem) {
    static auto* const theirs = library<decltype(xsk_umem__delete)>("xsk_umem__delete");
    return in_scope != nullptr && doing == act::rehearse ? 0 : theirs(umem);
}

int xsk_socket__create(xsk_socket** made, const char* interface, __u32 queue, xsk_umem* umem, xsk_ring_cons* rx,
                       xsk_ring_prod* tx, const xsk_socket_config* config) {
    static auto* const theirs = library<decltype(xsk_socket__create)>("xsk_socket__create");
    if (in_scope != nullptr && doing == act::rehearse)
        return -EBUSY;
    const auto until = std::chrono::steady_clock::now() + busy_limit;
    int rc = theirs(made, interface, queue, umem, rx, tx, config);
    while (in_scope != nullptr && rc == -EBUSY && std::chrono::steady_clock::now() < until) {
        usleep(busy_pause_us);
        rc = theirs(made, interface, queue, umem, rx, tx, config);
    }
    if (in_scope != nullptr && rc == 0)
        in_scope->sockets.push_back(xsk_socket__fd(*made));
    return rc;
}

} // extern "C"

} // namespace tandem::bpf
