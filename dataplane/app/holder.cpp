// SPDX-License-Identifier: Apache-2.0
// tandem-holder: keeps the flow-state memory while the data plane dies and is started again.
//
// It makes one memfd, starts the program after "--" with `--state-fd N --ready-fd M` appended, and starts it again at
// once when it dies. It never maps the memory. SIGTERM and SIGINT are passed on; a clean exit of the child is its own.
// Exit status 75 of the child means: this memory's layout is not mine, give me a fresh one.
// No threads, no configuration, nothing that could fail later.
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <poll.h>
#include <string>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace {

constexpr int exit_fresh_memory = 75;
constexpr int first_delay_ms = 100, longest_delay_ms = 5000;

struct child {
    pid_t pid = -1;
    int ready_fd = -1; // read end; a byte comes once the child forwards
    bool ready = false;
};

int make_memory() {
    const int fd = memfd_create("tandem-state", MFD_ALLOW_SEALING); // inherited: no MFD_CLOEXEC
    if (fd < 0) {
        std::fprintf(stderr, "tandem-holder: memfd_create: %s\n", std::strerror(errno));
        std::exit(1);
    }
    return fd;
}

child start(const std::vector<std::string>& command, int state_fd, const sigset_t& old_signals) {
    int ready[2];
    if (pipe(ready) != 0) {
        std::fprintf(stderr, "tandem-holder: pipe: %s\n", std::strerror(errno));
        return {};
    }
    fcntl(ready[0], F_SETFD, FD_CLOEXEC);
    fcntl(ready[0], F_SETFL, O_NONBLOCK);
    std::vector<std::string> words = command;
    words.insert(words.end(), {"--state-fd", std::to_string(state_fd), "--ready-fd", std::to_string(ready[1])});
    std::vector<char*> argv;
    for (auto& word : words)
        argv.push_back(word.data());
    argv.push_back(nullptr);
    const pid_t parent = getpid();
    const pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM); // without the holder nobody would restart it
        if (getppid() != parent)
            _exit(1);
        sigprocmask(SIG_SETMASK, &old_signals, nullptr);
        execvp(argv[0], argv.data());
        std::fprintf(stderr, "tandem-holder: %s: %s\n", argv[0], std::strerror(errno));
        _exit(127);
    }
    close(ready[1]);
    if (pid < 0) {
        std::fprintf(stderr, "tandem-holder: fork: %s\n", std::strerror(errno));
        close(ready[0]);
        return {};
    }
    return {pid, ready[0], false};
}

void say_end(int status, bool was_ready) {
    if (WIFSIGNALED(status))
        std::fprintf(stderr, "tandem-holder: data plane killed by signal %d (%s)%s\n", WTERMSIG(status),
                     strsignal(WTERMSIG(status)), was_ready ? "" : " before it was ready");
    else
        std::fprintf(stderr, "tandem-holder: data plane exited with status %d\n", WEXITSTATUS(status));
}

// Waits until the child ends; passes signals on. Returns its wait status.
int watch(child& c, int signals, bool& stopping) {
    for (;;) {
        pollfd fds[2] = {{signals, POLLIN, 0}, {c.ready ? -1 : c.ready_fd, POLLIN, 0}};
        poll(fds, 2, -1);
        if ((fds[1].revents & (POLLIN | POLLHUP)) != 0) {
            char byte = 0;
            const auto got = read(c.ready_fd, &byte, 1);
            if (got == 1)
                c.ready = true;
            if (got == 0) { // the child ended: SIGCHLD follows
                close(c.ready_fd);
                c.ready_fd = -1;
            }
        }
        if ((fds[0].revents & POLLIN) != 0) {
            signalfd_siginfo info{};
            if (read(signals, &info, sizeof info) != sizeof info)
                continue;
            if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT) {
                stopping = true;
                kill(c.pid, SIGTERM);
            } else if (info.ssi_signo == SIGHUP) {
                kill(c.pid, SIGHUP);
            }
        }
        int status = 0;
        const pid_t ended = waitpid(c.pid, &status, WNOHANG);
        if (ended == c.pid) {
            if (c.ready_fd >= 0 && !c.ready) {
                char byte = 0;
                c.ready = read(c.ready_fd, &byte, 1) == 1;
            }
            if (c.ready_fd >= 0)
                close(c.ready_fd);
            return status;
        }
    }
}

// Sleeps, but not through a request to stop.
bool pause_unless_stopped(int signals, int ms) {
    timespec until{};
    clock_gettime(CLOCK_MONOTONIC, &until);
    const long end_ms = until.tv_sec * 1000 + until.tv_nsec / 1'000'000 + ms;
    for (;;) {
        timespec now{};
        clock_gettime(CLOCK_MONOTONIC, &now);
        const long left = end_ms - (now.tv_sec * 1000 + now.tv_nsec / 1'000'000);
        if (left <= 0)
            return true;
        pollfd fd{signals, POLLIN, 0};
        if (poll(&fd, 1, static_cast<int>(left)) == 1) {
            signalfd_siginfo info{};
            if (read(signals, &info, sizeof info) == sizeof info &&
                (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT))
                return false;
        }
    }
}

int keep(const std::vector<std::string>& command, int signals, const sigset_t& old_signals) {
    int state_fd = make_memory();
    bool ever_ready = false, stopping = false;
    int delay_ms = 0;
    for (;;) {
        child c = start(command, state_fd, old_signals);
        if (c.pid < 0)
            return 1;
        const int status = watch(c, signals, stopping);
        ever_ready = ever_ready || c.ready;
        if (stopping || (WIFEXITED(status) && WEXITSTATUS(status) == 0))
            return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
        if (WIFEXITED(status) && WEXITSTATUS(status) == exit_fresh_memory) {
            std::fprintf(stderr, "tandem-holder: giving the data plane a fresh state memory; flows are lost\n");
            close(state_fd);
            state_fd = make_memory();
        } else {
            say_end(status, c.ready);
            if (!ever_ready && WIFEXITED(status))
                return WEXITSTATUS(status); // it never worked: it has said why
        }
        delay_ms = c.ready ? 0 : std::clamp(delay_ms * 2, first_delay_ms, longest_delay_ms);
        if (delay_ms != 0 && !pause_unless_stopped(signals, delay_ms))
            return 0;
    }
}

} // namespace

int main(int argc, char** argv) {
    int first = 1;
    if (argc > 1 && std::strcmp(argv[1], "--version") == 0) {
        std::printf("tandem-holder %s\n", TANDEM_VERSION);
        return 0;
    }
    if (first < argc && std::strcmp(argv[first], "--") == 0)
        ++first;
    if (first >= argc || argv[first][0] == '-') {
        std::fprintf(stderr, "usage: tandem-holder [--] tandem-dataplane --config FILE\n");
        return 2;
    }
    prctl(PR_SET_DUMPABLE, 0);
    const rlimit none{0, 0};
    setrlimit(RLIMIT_CORE, &none);

    sigset_t watched, old_signals;
    sigemptyset(&watched);
    for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGCHLD})
        sigaddset(&watched, number);
    sigprocmask(SIG_BLOCK, &watched, &old_signals);
    const int signals = signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signals < 0) {
        std::fprintf(stderr, "tandem-holder: signalfd: %s\n", std::strerror(errno));
        return 1;
    }
    return keep(std::vector<std::string>(argv + first, argv + argc), signals, old_signals);
}
