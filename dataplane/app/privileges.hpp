// SPDX-License-Identifier: Apache-2.0
// What the process may do, and that nothing of its memory is written anywhere. Main thread, at start.
#pragma once

#include <string>

#include <tl/expected.hpp>

namespace tandem::app {

// No core dumps, not traceable by the same user, memory may be locked. Never fails loudly: says what did not work.
[[nodiscard]] std::string harden_process();

// AF_XDP needs CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF (or CAP_SYS_ADMIN) and CAP_IPC_LOCK; the error names what is
// missing.
[[nodiscard]] tl::expected<void, std::string> check_privileges();

// Before the EAL makes its threads: keeps what the start needs (finding loaded BPF maps by id takes CAP_SYS_ADMIN).
void keep_start_privileges();
// For the calling thread, after the start: CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF, CAP_IPC_LOCK. Each thread calls it.
void keep_running_privileges();

} // namespace tandem::app
