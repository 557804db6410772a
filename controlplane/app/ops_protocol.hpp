// SPDX-License-Identifier: Apache-2.0
// The ops socket: UNIX stream socket <run_dir>/controlplane.sock, mode 0600. One JSON object per line each way,
// requests answered in order:
//   {"version":1, "verb":"unit add", "args":{"id":"alice", ...}}
//   {"ok":true, "result": ...}   or   {"ok":false, "code":"usage"|"failed", "error":"sentence: what is wrong, what to
//   do"}
// No key ever leaves through it; `unit add` carries one in (args.psk, hex), wiped on both sides.
#pragma once

#include <cstddef>
#include <string_view>

namespace tandem::ops {

inline constexpr int protocol_version = 1;
inline constexpr std::string_view socket_name = "controlplane.sock";
inline constexpr std::size_t max_line = 64 << 20; // a security database comes in one

} // namespace tandem::ops
