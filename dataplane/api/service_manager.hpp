// SPDX-License-Identifier: Apache-2.0
// What a program tells the service manager that started it (sd_notify(3)): one datagram to NOTIFY_SOCKET, without the
// library. Nothing happens where there is no service manager. Used by all of Tandem's programs.
//   READY=1   it serves                  WATCHDOG=1   it still does: the thread that says so does the work
//   STOPPING=1                           RELOADING=1, STATUS=text
//   FDSTORE=1 FDNAME=name                keep this descriptor, and give it back to the next of this service
#pragma once

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

namespace tandem::api {

inline constexpr unsigned watchdog_ping_ms = 1000; // the units' WatchdogSec is several times that

[[nodiscard]] inline int service_manager_socket(sockaddr_un& to, socklen_t& length) noexcept {
    const char* path = std::getenv("NOTIFY_SOCKET");
    to = {};
    to.sun_family = AF_UNIX;
    if (path == nullptr || std::strlen(path) >= sizeof to.sun_path || (path[0] != '/' && path[0] != '@'))
        return -1;
    std::strcpy(to.sun_path, path);
    if (path[0] == '@')
        to.sun_path[0] = '\0';
    length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + std::strlen(path));
    return socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
}

// False where nobody was told. It waits for a busy service manager, but not long.
inline bool tell_service_manager(const char* state, int descriptor = -1) noexcept {
    sockaddr_un to;
    socklen_t length = 0;
    const int fd = service_manager_socket(to, length);
    if (fd < 0)
        return false;
    const timeval patience{0, 100'000};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    iovec text{const_cast<char*>(state), std::strlen(state)};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof descriptor)] = {};
    msghdr message{};
    message.msg_name = &to;
    message.msg_namelen = length;
    message.msg_iov = &text;
    message.msg_iovlen = 1;
    if (descriptor >= 0) {
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        cmsghdr* const head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof descriptor);
        std::memcpy(CMSG_DATA(head), &descriptor, sizeof descriptor);
    }
    const bool told = sendmsg(fd, &message, MSG_NOSIGNAL) >= 0;
    close(fd);
    return told;
}

} // namespace tandem::api
