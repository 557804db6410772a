// SPDX-License-Identifier: Apache-2.0
// The kernel waits one RCU grace period (20 to 40 ms) for each AF_XDP socket that is closed before it gives the queue
// free. /sys/kernel/rcu_expedited makes it wait some ms at most, for all of the machine: it is set only while one data
// plane follows another. What it was before is put back, after a kill too: a file in the run directory says that it was
// changed, and the next holder puts it back. Where it cannot be written (a container), or is set by somebody else,
// nothing is changed.
#pragma once

#include <string>

#include "dataplane/app/holder_child.hpp"

namespace tandem::holder {

class grace_periods {
public:
    grace_periods(); // puts back what a killed holder left
    grace_periods(const grace_periods&) = delete;
    grace_periods& operator=(const grace_periods&) = delete;
    ~grace_periods() { shorten(false); }

    void shorten(bool wanted) noexcept;

private:
    [[nodiscard]] bool take_note(int flags) noexcept;
    void put_back() noexcept;

    std::string note_path_;
    descriptor note_; // locked while it is in use
};

} // namespace tandem::holder
