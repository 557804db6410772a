// SPDX-License-Identifier: Apache-2.0
// Inside of the loader: has a receive queue its AF_XDP socket? User space may not read an XSKMAP, but a program may ask
// it by bpf_redirect_map(): one of our own does, attached to nothing, run by BPF_PROG_TEST_RUN. Nothing is sent and
// nothing is counted. Control thread.
#pragma once

#include <cstdint>

#include "base/descriptor.hpp"

namespace tandem::bpf {

class queue_seeker {
public:
    // 1 = it has one, 0 = it has none; below 0: the kernel did not say (-errno).
    [[nodiscard]] int ask(int xsks_map, std::uint32_t queue) noexcept;

private:
    descriptor program_; // loaded when it is first asked
};

} // namespace tandem::bpf
