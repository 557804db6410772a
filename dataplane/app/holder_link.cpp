// SPDX-License-Identifier: Apache-2.0
// See holder_link.hpp.
#include "dataplane/app/holder_link.hpp"

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utility>

#include "dataplane/app/holder_words.hpp"
#include "dataplane/app/stats_file.hpp"

namespace tandem::app {

// Where a process has threads, the kernel waits a grace period when its table of descriptors grows: it grows now.
holder_link::holder_link(int fd) noexcept : fd_(fd) {
    if (const int last = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, stats_file::first_fd + 1); last >= 0)
        close(last);
}

holder_link::~holder_link() {
    end();
}

void holder_link::end() noexcept {
    if (fd_ >= 0)
        close(fd_);
    fd_ = -1;
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
        say(holder_words::takes_over);
        return true;
    }
}

// The kernel closes a dead process's files from the highest number down: what is opened from now on comes before it.
void holder_link::close_behind_what_follows() noexcept {
    int last = stats_file::first_fd - 1;
    while (last > fd_ && fcntl(last, F_GETFD) < 0)
        --last;
    const int moved = fd_ < 0 ? -1 : fcntl(fd_, F_DUPFD_CLOEXEC, last + 1);
    if (moved < 0)
        return; // then the next one's turn comes some ms later
    close(fd_);
    fd_ = moved;
}

// One that has not listened for so long that the socket is full has other troubles than a lost letter.
void holder_link::say(char word) noexcept {
    if (fd_ >= 0)
        (void)send(fd_, &word, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

void holder_link::give_sockets(std::vector<int> sockets) noexcept {
    sockets_ = std::move(sockets);
    send_sockets();
}

void holder_link::send_sockets() noexcept {
    if (fd_ < 0 || sockets_.empty() || sockets_.size() > holder_words::most_sockets)
        return; // then its end takes longer
    char word = holder_words::sockets;
    iovec text{&word, 1};
    alignas(cmsghdr) char control[CMSG_SPACE(holder_words::most_sockets * sizeof(int))] = {};
    const std::size_t bytes = sockets_.size() * sizeof(int);
    msghdr message{};
    message.msg_iov = &text;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(bytes);
    cmsghdr* const head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(bytes);
    std::memcpy(CMSG_DATA(head), sockets_.data(), bytes);
    (void)sendmsg(fd_, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
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
    if (got == 1 && word == holder_words::ask)
        send_sockets();
    if (got == 1)
        return word == holder_words::leave ? order::leave : order::none;
    return got == 0 || (errno != EAGAIN && errno != EINTR) ? order::gone : order::none;
}

} // namespace tandem::app
