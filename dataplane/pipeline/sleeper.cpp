// SPDX-License-Identifier: Apache-2.0
// See sleeper.hpp. epoll(7), eventfd(2). AF_XDP sockets become readable when their receive ring gets a packet.
#include "dataplane/pipeline/sleeper.hpp"

#include <algorithm>
#include <ctime>
#include <new>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

namespace tandem::pipeline {

namespace {

constexpr std::uint64_t nap_ns = 50'000;

bool watch(int epoll, int fd) noexcept {
    epoll_event event{};
    event.events = EPOLLIN | EPOLLET;
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

} // namespace

sleeper::sleeper(std::span<const int> descriptors, bool every_queue)
    : epoll_(epoll_create1(EPOLL_CLOEXEC)), bell_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)), every_queue_(every_queue) {
    if (epoll_ < 0 || bell_ < 0 || !watch(epoll_, bell_)) {
        close(epoll_);
        close(bell_);
        throw std::bad_alloc();
    }
    for (const int fd : descriptors)
        if (!watch(epoll_, fd))
            every_queue_ = false; // naps instead
}

sleeper::~sleeper() {
    close(epoll_);
    close(bell_);
}

void sleeper::sleep(std::uint64_t at_most_ns) noexcept {
    const std::uint64_t ns = every_queue_ ? at_most_ns : std::min(at_most_ns, nap_ns);
    const timespec limit{static_cast<time_t>(ns / 1'000'000'000), static_cast<long>(ns % 1'000'000'000)};
    epoll_event events[8];
    epoll_pwait2(epoll_, events, 8, &limit, nullptr); // what is ready does not matter: the worker looks everywhere
}

void sleeper::ring_bell() noexcept {
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto written = write(bell_, &one, sizeof one); // EAGAIN: it is ringing anyway
}

} // namespace tandem::pipeline
