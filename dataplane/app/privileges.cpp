// SPDX-License-Identifier: Apache-2.0
// See privileges.hpp. capabilities(7), capget(2) without a library: two words of bits.
#include "dataplane/app/privileges.hpp"

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <fmt/format.h>

namespace tandem::app {

namespace {

struct capability_set {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct data[2]{};

    bool get() noexcept { return syscall(SYS_capget, &header, data) == 0; }
    bool set() noexcept { return syscall(SYS_capset, &header, data) == 0; }
    [[nodiscard]] bool has(unsigned capability) const noexcept {
        return (data[capability / 32].effective >> (capability % 32) & 1) != 0;
    }
};

void keep(std::initializer_list<unsigned> wanted) noexcept {
    capability_set now;
    if (!now.get())
        return;
    std::uint32_t mask[2] = {0, 0};
    for (const unsigned c : wanted)
        mask[c / 32] |= 1u << (c % 32);
    for (unsigned word = 0; word < 2; ++word) {
        now.data[word].effective &= mask[word];
        now.data[word].permitted &= mask[word];
        now.data[word].inheritable = 0;
    }
    now.set();
}

} // namespace

std::string harden_process() {
    std::string wrong;
    if (prctl(PR_SET_DUMPABLE, 0) != 0)
        wrong += fmt::format("PR_SET_DUMPABLE: {}; ", std::strerror(errno));
    const rlimit none{0, 0};
    if (setrlimit(RLIMIT_CORE, &none) != 0)
        wrong += fmt::format("RLIMIT_CORE: {}; ", std::strerror(errno));
    const rlimit all{RLIM_INFINITY, RLIM_INFINITY}; // without CAP_SYS_RESOURCE it fails; CAP_IPC_LOCK does as well
    (void)setrlimit(RLIMIT_MEMLOCK, &all);
    return wrong;
}

tl::expected<void, std::string> check_privileges() {
    capability_set now;
    if (!now.get())
        return tl::unexpected(fmt::format("capabilities cannot be read: {}", std::strerror(errno)));
    std::string missing;
    const auto need = [&](unsigned capability, const char* name) {
        if (!now.has(capability))
            missing += fmt::format("{}{}", missing.empty() ? "" : ", ", name);
    };
    need(CAP_NET_ADMIN, "CAP_NET_ADMIN");
    need(CAP_NET_RAW, "CAP_NET_RAW");
    need(CAP_SYS_ADMIN, "CAP_SYS_ADMIN (until the ports are open)");
    need(CAP_IPC_LOCK, "CAP_IPC_LOCK");
    if (missing.empty())
        return {};
    return tl::unexpected(fmt::format("missing privileges: {}; start it as root or by its systemd unit", missing));
}

void keep_start_privileges() {
    keep({CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF, CAP_PERFMON, CAP_IPC_LOCK, CAP_SYS_ADMIN, CAP_DAC_OVERRIDE,
          CAP_SYS_NICE});
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

void keep_running_privileges() {
    keep({CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF, CAP_IPC_LOCK});
}

} // namespace tandem::app
