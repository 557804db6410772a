// SPDX-License-Identifier: Apache-2.0
// From root to nobody: harden (no core, not dumpable); lock_memory; become(user) keeping CAP_NET_ADMIN only, while the
// TUN waits for its addresses; drop_all once it has them.
#pragma once

#include <string>

#include <tl/expected.hpp>

namespace tandem::agent {

// Returns a warning for the log; empty where all was done.
[[nodiscard]] std::string harden();
// After the key was read, before become(). The same kind of warning.
[[nodiscard]] std::string lock_memory();

// Whether become() knows that user; an empty one always.
[[nodiscard]] tl::expected<void, std::string> check_user(const std::string& user);

// Nothing to do where we are not root (then the capabilities we were started with stay until drop_all), or user is
// empty.
[[nodiscard]] tl::expected<void, std::string> become(const std::string& user);

// No capability is left, and none can come back.
[[nodiscard]] tl::expected<void, std::string> drop_all();

// Makes the directory where it is missing, and then gives it to `user` where we are root.
[[nodiscard]] tl::expected<void, std::string> prepare_run_dir(const std::string& directory, const std::string& user);

// The same for state_dir, mode 0700, with the agent's own files in it. A directory that was there and is another's is
// given to `user`, too (systemd gives it back to root before each start), unless it holds anything else: then it is an
// error, not taken over.
[[nodiscard]] tl::expected<void, std::string> prepare_state_dir(const std::string& directory, const std::string& user);

} // namespace tandem::agent
