// SPDX-License-Identifier: Apache-2.0
// Small files of the agent's own in its state_dir (contacts.toml, profiles.json): read whole, written atomically
// (temporary file, rename), mode 0600, owned by whoever owns the directory, so that root's command line and the agent,
// which is nobody by then, may both write them. Any thread; nothing here waits for long.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include <tl/expected.hpp>

namespace tandem::agent {

// What tells one version of a file from another. All zero: there is none.
struct file_stamp {
    std::uint64_t inode = 0, size = 0;
    std::int64_t changed_ns = 0;
    friend bool operator==(const file_stamp&, const file_stamp&) = default;
};
[[nodiscard]] file_stamp stamp_of(const std::string& path);

// Nothing where there is no such file. Links are not followed; more than `most` bytes is an error. Errors are
// sentences.
[[nodiscard]] tl::expected<std::optional<std::string>, std::string> read_state(const std::string& path,
                                                                               std::size_t most);

// Where the disk shall have it before this returns (a person's change): `durable`. The packet thread does not wait for
// a disk.
[[nodiscard]] tl::expected<void, std::string> write_state(const std::string& path, const std::string& text,
                                                          bool durable);

// One writer at a time among the agent and its command line: flock(2) on DIRECTORY/lock, let go by the destructor.
class state_lock {
public:
    // `patience` zero: does not wait.
    [[nodiscard]] static tl::expected<state_lock, std::string> take(const std::string& directory,
                                                                    std::chrono::milliseconds patience);
    state_lock(state_lock&& other) noexcept;
    state_lock& operator=(state_lock&&) = delete;
    ~state_lock();

private:
    explicit state_lock(int fd) : fd_(fd) {}
    int fd_;
};

} // namespace tandem::agent
