// SPDX-License-Identifier: Apache-2.0
// Inside of io: libraries that write to stderr are kept quiet while they start, and what they said becomes part of our
// own sentence where they fail. Control thread only, while the process is starting or ending.
#pragma once

#include <string>

namespace tandem::io {

class stderr_capture {
public:
    explicit stderr_capture(bool enabled); // false: lets everything through
    stderr_capture(const stderr_capture&) = delete;
    stderr_capture& operator=(const stderr_capture&) = delete;
    ~stderr_capture();

    // " (last line that was written)", or nothing.
    [[nodiscard]] std::string words() const;

private:
    int memory_ = -1;
    int saved_ = -1;
};

// As far as we may: AF_XDP's memory is pinned and counted against RLIMIT_MEMLOCK.
void raise_memory_lock_limit() noexcept;

} // namespace tandem::io
