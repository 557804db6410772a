// SPDX-License-Identifier: Apache-2.0
// For tests that may not speak to libbpf themselves: what an earlier Tandem or somebody else left on an interface.
#pragma once

#include <cstdint>

namespace tandem::bpf::testing {

// Our program, attached as by a data plane that was killed. False where it could not be done.
[[nodiscard]] bool attach_stale(unsigned ifindex);

// Another's program, named someone_else, that passes everything.
[[nodiscard]] bool attach_foreign(unsigned ifindex);

// Takes a queue's AF_XDP socket out of the attached program's map.
[[nodiscard]] bool take_socket_out(unsigned ifindex, std::uint32_t queue);

// Id of the attached program, 0 = none.
[[nodiscard]] std::uint32_t attached(unsigned ifindex);

} // namespace tandem::bpf::testing
