// SPDX-License-Identifier: Apache-2.0
// See holder_link.hpp.
#include "dataplane/app/holder_link.hpp"

#include <cerrno>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dataplane/app/holder_words.hpp"

namespace tandem::app {

holder_link::holder_link(int fd) noexcept : fd_(fd) {}

holder_link::~holder_link() {
    if (fd_ >= 0)
        close(fd_);
}

bool holder_link::stand_by(int signals) noexcept {
    pollfd fds[2] = {{fd_, POLLIN, 0}, {signals, POLLIN, 0}};
    for (;;) {
        say(holder_words::waits);
        if (poll(fds, 2, holder_words::interval_ms) < 0 && errno != EINTR)
            return false;
        if ((fds[1].revents & POLLIN) != 0)
            return false;
        if (fds[0].revents == 0)
            continue;
        char word = 0;
        if (recv(fd_, &word, 1, 0) != 1 || word != holder_words::take_over)
            return false;
        become_first_to_close();
        say(holder_words::takes_over);
        return true;
    }
}

// The kernel closes a dead process's files from the highest number down, and waits 20 ms or more at each AF_XDP socket.
void holder_link::become_first_to_close() noexcept {
    constexpr int high = 900; // below the usual limit of 1,024
    const int moved = fcntl(fd_, F_DUPFD_CLOEXEC, high);
    if (moved < 0)
        return; // then the next one waits that long
    close(fd_);
    fd_ = moved;
}

// One that has not listened for so long that the socket is full has other troubles than a lost letter.
void holder_link::say(char word) noexcept {
    if (fd_ >= 0)
        (void)send(fd_, &word, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

void holder_link::keep_saying(char word, std::uint64_t now_ns) noexcept {
    if (now_ns < next_ns_)
        return;
    next_ns_ = now_ns + std::uint64_t{holder_words::interval_ms} * 1'000'000;
    say(word);
}

holder_link::order holder_link::heard() noexcept {
    char word = 0;
    const auto got = recv(fd_, &word, 1, MSG_DONTWAIT);
    if (got == 1)
        return word == holder_words::leave ? order::leave : order::none;
    return got == 0 || (errno != EAGAIN && errno != EINTR) ? order::gone : order::none;
}

} // namespace tandem::app
