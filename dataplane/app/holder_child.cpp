// SPDX-License-Identifier: Apache-2.0
// See holder_child.hpp. pidfd_open(2), waitid(2) P_PIDFD, unix(7).
#include "dataplane/app/holder_child.hpp"

#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <system_error>
#include <thread>
#include <unistd.h>
#include <utility>

#include "dataplane/app/holder_words.hpp"

extern "C" { // glibc 2.36 forgot to say so
#include <sys/pidfd.h>
}

namespace tandem::holder {

namespace words = app::holder_words;

namespace {

constexpr long longest_silence_ms = 4000;  // of one that should say something each 250 ms
constexpr long takeover_limit_ms = 10'000; // a million flows take some seconds
constexpr long leaving_limit_ms = 1000, ending_limit_ms = 5000, start_limit_ms = 120'000, killed_limit_ms = 5000;

[[noreturn]] void become_program(const std::vector<std::string>& command) {
    std::vector<char*> argv;
    for (const auto& word : command)
        argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    unsetenv("NOTIFY_SOCKET"); // the holder's alone
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    execvp(argv[0], argv.data());
    say("%s: %s", argv[0], std::strerror(errno));
    _exit(127);
}

bool hung_up(int socket) noexcept {
    pollfd fd{socket, 0, 0};
    return poll(&fd, 1, 0) != 0;
}

} // namespace

long now_ms() noexcept {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1'000'000;
}

void say(const char* format, ...) noexcept {
    char line[512];
    va_list rest;
    va_start(rest, format);
    std::vsnprintf(line, sizeof line, format, rest);
    va_end(rest);
    std::fprintf(stderr, "tandem-holder: %s\n", line);
}

child::child(pid_t pid, descriptor handle, descriptor channel, stage at) noexcept
    : pid_(pid), handle_(std::move(handle)), channel_(std::move(channel)), at_(at), heard_ms_(now_ms()),
      since_ms_(heard_ms_) {}

std::optional<child> child::start(std::vector<std::string> command, int state) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        say("socketpair: %s", std::strerror(errno));
        return {};
    }
    descriptor ours(pair[0]);
    const descriptor theirs(pair[1]);
    command.insert(command.end(), {"--state-fd", std::to_string(state), "--holder-fd", std::to_string(theirs.get())});
    const pid_t pid = fork();
    if (pid == 0) {
        fcntl(state, F_SETFD, 0); // these two stay open over exec
        fcntl(theirs.get(), F_SETFD, 0);
        become_program(command);
    }
    descriptor handle(pid < 0 ? -1 : pidfd_open(pid, 0));
    if (!handle) {
        say("%s: %s", pid < 0 ? "fork" : "pidfd_open", std::strerror(errno));
        return {}; // the program, where there is one, finds nobody at the other end
    }
    return child(pid, std::move(handle), std::move(ours), stage::starting);
}

// Only that process has the other end: while it is open, the process lives and the number is its own.
std::optional<child> child::adopt(pid_t pid, descriptor channel) {
    descriptor handle(pidfd_open(pid, 0));
    if (!handle || hung_up(channel.get()))
        return {};
    return child(pid, std::move(handle), std::move(channel), stage::unknown);
}

void child::become(stage next) noexcept {
    if (at_ != next)
        since_ms_ = now_ms();
    at_ = next;
}

long child::receive(char* to, std::size_t size) {
    iovec text{to, size};
    alignas(cmsghdr) char control[CMSG_SPACE(words::most_sockets * sizeof(int))];
    msghdr message{};
    message.msg_iov = &text;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const auto got = recvmsg(channel_.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    for (cmsghdr* head = got < 0 ? nullptr : CMSG_FIRSTHDR(&message); head != nullptr;
         head = CMSG_NXTHDR(&message, head)) {
        const std::size_t bytes = head->cmsg_len - CMSG_LEN(0);
        if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS)
            continue;
        std::vector<int> numbers(bytes / sizeof(int));
        std::memcpy(numbers.data(), CMSG_DATA(head), numbers.size() * sizeof(int));
        for (const int fd : numbers)
            sockets_.emplace_back(fd);
    }
    return got;
}

// The kernel waits at each: at all of them at once.
void child::let_go() {
    for (descriptor& socket : sockets_)
        try {
            std::thread([fd = std::move(socket)] {}).detach();
        } catch (const std::system_error&) { // closed all the same
        }
    sockets_.clear();
}

void child::listen() {
    char said[256];
    const auto got = receive(said, sizeof said);
    talks_ = talks_ && (got > 0 || (got < 0 && errno != ECONNRESET));
    if (got <= 0)
        return;
    heard_ms_ = now_ms();
    if (at_ >= stage::leaving)
        return;
    switch (said[got - 1]) {
    case words::forwards:
        forwarded_ = in_force_ = true;
        become(stage::forwarding);
        if (sockets_.empty() && !std::exchange(asked_, true)) // an earlier holder has had them
            order(words::ask);
        break;
    case words::takes_over:
        in_force_ = true;
        become(stage::taking_over);
        break;
    case words::ends:
        become(stage::ending);
        break;
    case words::waits:
        if (at_ != stage::taking_over) // else said before it read the order
            become(stage::waiting);
        break;
    }
}

void child::order(char word) noexcept {
    (void)send(channel_.get(), &word, 1, MSG_DONTWAIT | MSG_NOSIGNAL); // one that has no room for it hangs
}

void child::take_over() {
    in_force_ = true;
    become(stage::taking_over);
    order(words::take_over);
}

void child::leave() {
    become(stage::leaving);
    order(words::leave);
}

void child::end() noexcept {
    become(stage::ending);
    pidfd_send_signal(handle_.get(), SIGTERM, nullptr, 0);
}

void child::excuse(long ms) noexcept {
    heard_ms_ += ms;
    since_ms_ += ms;
}

void child::end_hanging() {
    if (killed_ms_ != 0)
        return;
    const long here = now_ms() - since_ms_;
    const char* wrong = nullptr;
    if (at_ == stage::starting && here > start_limit_ms)
        wrong = "is not ready after two minutes";
    else if (at_ == stage::taking_over && here > takeover_limit_ms)
        wrong = "does not forward ten seconds after it was told to";
    else if ((at_ == stage::leaving && here > leaving_limit_ms) || (at_ == stage::ending && here > ending_limit_ms))
        wrong = "does not end";
    else if ((at_ == stage::forwarding || at_ == stage::waiting || at_ == stage::unknown) &&
             silent_for(longest_silence_ms))
        wrong = "hangs";
    if (wrong == nullptr)
        return;
    say("data plane %d %s: killed", pid_, wrong);
    killed_ms_ = now_ms();
    pidfd_send_signal(handle_.get(), SIGKILL, nullptr, 0);
}

bool child::stuck() const noexcept {
    return killed_ms_ != 0 && now_ms() - killed_ms_ > killed_limit_ms;
}

std::optional<int> child::ended() noexcept {
    pollfd fd{handle_.get(), POLLIN, 0};
    if (poll(&fd, 1, 0) != 1)
        return {};
    siginfo_t end{};
    if (waitid(P_PIDFD, static_cast<id_t>(handle_.get()), &end, WEXITED | WNOHANG) != 0 || end.si_pid != pid_)
        return unknown_end;
    return end.si_code == CLD_EXITED ? (end.si_status & 0xff) << 8 : end.si_status & 0x7f;
}

} // namespace tandem::holder
