// SPDX-License-Identifier: Apache-2.0
// The data plane's end of the sockets between it and its holder. Owner: the main thread. Nothing here waits for the
// holder but stand_by().
#pragma once

#include <cstdint>
#include <vector>

namespace tandem::app {

class holder_link {
public:
    enum class order { none, leave, gone };

    explicit holder_link(int fd) noexcept; // -1: no holder
    holder_link(const holder_link&) = delete;
    holder_link& operator=(const holder_link&) = delete;
    ~holder_link();

    [[nodiscard]] int fd() const noexcept { return fd_; }
    // Until the holder says that the one before is gone; false: end instead (a signal, or there is no holder any more).
    [[nodiscard]] bool stand_by(int signals) noexcept;
    void say(char word) noexcept;
    // So that the kernel does not wait for each when this process dies: the holder closes them, all at once.
    void give_sockets(std::vector<int> sockets) noexcept;
    void keep_saying(char word, std::uint64_t now_ns) noexcept; // at intervals
    [[nodiscard]] order heard() noexcept;                       // after poll() on fd()
    // When this process dies, what is opened after this call is closed before its end of the sockets, what was opened
    // before (memory, whose release takes long) after it.
    void close_behind_what_follows() noexcept;
    void end() noexcept; // the next one's turn comes

private:
    void send_sockets() noexcept;

    int fd_;
    std::vector<int> sockets_{};
    std::uint64_t next_ns_ = 0;
};

} // namespace tandem::app
