// SPDX-License-Identifier: Apache-2.0
// The data plane's end of the sockets between it and its holder. Owner: the main thread. Nothing here waits for the
// holder but stand_by().
#pragma once

#include <cstdint>

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
    void keep_saying(char word, std::uint64_t now_ns) noexcept; // at intervals
    [[nodiscard]] order heard() noexcept;                       // after poll() on fd()

private:
    void become_first_to_close() noexcept;

    int fd_;
    std::uint64_t next_ns_ = 0;
};

} // namespace tandem::app
