// SPDX-License-Identifier: Apache-2.0
// See standby.hpp.
#include "dataplane/app/standby.hpp"

#include <cerrno>
#include <poll.h>
#include <unistd.h>

namespace tandem::app {

bool stand_by(int holder_fd, int signals) {
    pollfd fds[2] = {{holder_fd, POLLIN, 0}, {signals, POLLIN, 0}};
    for (;;) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            return false;
        if ((fds[1].revents & POLLIN) != 0)
            return false;
        if (fds[0].revents == 0)
            continue;
        char word = 0;
        const bool told = read(holder_fd, &word, 1) == 1; // 0: the holder is gone
        close(holder_fd);
        return told;
    }
}

} // namespace tandem::app
