// SPDX-License-Identifier: Apache-2.0
// A data plane as its holder sees it: a process, one end of a pair of sockets (holder_words.hpp), and what it last
// said. Not necessarily a child of this process: a holder that was itself replaced finds those of the one before.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

#include "base/descriptor.hpp"

namespace tandem::holder {

[[nodiscard]] long now_ms() noexcept;
void say(const char* format, ...) noexcept __attribute__((format(printf, 1, 2))); // one line, "tandem-holder: ..."

class child {
public:
    enum class stage {
        unknown, // found, not heard yet
        starting,
        waiting, // a standby
        taking_over,
        forwarding,
        leaving, // was told to let the next one forward
        ending,  // was told to end
    };

    // Starts the program with the memory's descriptor and a socket. Nothing where that failed; it was said why.
    [[nodiscard]] static std::optional<child> start(std::vector<std::string> command, int state);
    // One of an earlier holder's; nothing where it has ended.
    [[nodiscard]] static std::optional<child> adopt(pid_t pid, descriptor channel);

    [[nodiscard]] pid_t pid() const noexcept { return pid_; }
    [[nodiscard]] int channel() const noexcept { return channel_.get(); }
    [[nodiscard]] int handle() const noexcept { return handle_.get(); } // readable once it has ended
    [[nodiscard]] stage at() const noexcept { return at_; }
    // Forwards, or is about to: as long as it has its end of the sockets, or ends in order.
    [[nodiscard]] bool in_force() const noexcept { return in_force_ && (talks_ || at_ == stage::ending); }
    // One that leaves, is gone and not yet buried, or takes its place.
    [[nodiscard]] bool changes() const noexcept {
        return at_ == stage::taking_over || at_ == stage::leaving || (in_force_ && !talks_);
    }
    [[nodiscard]] bool was_in_force() const noexcept { return in_force_; }
    [[nodiscard]] bool forwarded() const noexcept { return forwarded_; }
    [[nodiscard]] bool talks() const noexcept { return talks_; }

    void listen();                 // takes in what it said
    void let_go();                 // of its AF_XDP sockets, of which this is the last owner, where it is gone
    void take_over();              // the one before is gone
    void leave();                  // so that the next one can
    void end() noexcept;           // SIGTERM
    void end_hanging();            // SIGKILL, where it is silent or late
    void excuse(long ms) noexcept; // nobody listened for so long
    [[nodiscard]] bool silent_for(long ms) const noexcept { return now_ms() - heard_ms_ > ms; }
    [[nodiscard]] bool stuck() const noexcept; // killed long ago and still there
    // Its wait status once it has ended; `unknown_end` where another process was its parent.
    [[nodiscard]] std::optional<int> ended() noexcept;
    static constexpr int unknown_end = -1;

    bool heir = false; // made to replace those that are there

private:
    child(pid_t pid, descriptor handle, descriptor channel, stage at) noexcept;
    void become(stage next) noexcept;
    [[nodiscard]] long receive(char* to, std::size_t size);
    void order(char word) noexcept;

    pid_t pid_;
    descriptor handle_, channel_;
    std::vector<descriptor> sockets_;
    stage at_;
    bool in_force_ = false, forwarded_ = false, talks_ = true, asked_ = false;
    long heard_ms_;
    long since_ms_; // in this stage
    long killed_ms_ = 0;
};

} // namespace tandem::holder
