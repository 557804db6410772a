// SPDX-License-Identifier: Apache-2.0
// tandem-holder: keeps the flow-state memory while the data plane dies and is started again.
//
// It makes one memfd and starts the program after "--" with `--state-fd N --ready-fd M` appended. Once that forwards, a
// second one is started with `--standby-fd K`: it gets ready and waits, and takes over when the first dies (without it,
// --no-standby, the program is started again at once). The holder never maps the memory. SIGTERM and SIGINT are passed
// on; a clean exit of the child is its own. Exit status 75 of the child means: this memory's layout is not mine, give
// me a fresh one. No threads, no configuration, nothing that could fail later.
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
constexpr int takeover_limit_ms = 10'000; // a standby that hangs must not be the end of it

// A started data plane. A standby waits for a byte on `go_fd` before it takes over.
struct child {
    pid_t pid = -1;
    int ready_fd = -1; // read end; a byte comes once the child forwards
    int go_fd = -1;    // write end; standby only
    bool ready = false;
    long ready_by_ms = 0; // 0: no limit

    [[nodiscard]] bool running() const noexcept { return pid > 0; }
};

struct orders {
    std::vector<std::string> command;
    bool standby = true;
};

long now_ms() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1'000'000;
}

int make_memory() {
    const int fd = memfd_create("tandem-state", MFD_ALLOW_SEALING); // inherited: no MFD_CLOEXEC
    if (fd < 0) {
        std::fprintf(stderr, "tandem-holder: memfd_create: %s\n", std::strerror(errno));
        std::exit(1);
    }
    return fd;
}

void close_fd(int& fd) {
    if (fd >= 0)
        close(fd);
    fd = -1;
}

[[noreturn]] void become(std::vector<std::string> words, pid_t parent, const sigset_t& old_signals) {
    std::vector<char*> argv;
    for (auto& word : words)
        argv.push_back(word.data());
    argv.push_back(nullptr);
    prctl(PR_SET_PDEATHSIG, SIGTERM); // without the holder nobody would restart it
    if (getppid() != parent)
        _exit(1);
    sigprocmask(SIG_SETMASK, &old_signals, nullptr);
    execvp(argv[0], argv.data());
    std::fprintf(stderr, "tandem-holder: %s: %s\n", argv[0], std::strerror(errno));
    _exit(127);
}

child start(const orders& given, int state_fd, bool standby, const sigset_t& old_signals) {
    int ready[2], go[2] = {-1, -1};
    if (pipe2(ready, O_CLOEXEC) != 0 || (standby && pipe2(go, O_CLOEXEC) != 0)) {
        std::fprintf(stderr, "tandem-holder: pipe: %s\n", std::strerror(errno));
        return {};
    }
    fcntl(ready[0], F_SETFL, O_NONBLOCK);
    std::vector<std::string> words = given.command;
    words.insert(words.end(), {"--state-fd", std::to_string(state_fd), "--ready-fd", std::to_string(ready[1])});
    if (standby)
        words.insert(words.end(), {"--standby-fd", std::to_string(go[0])});
    const pid_t parent = getpid();
    const pid_t pid = fork();
    if (pid == 0) {
        fcntl(ready[1], F_SETFD, 0); // the child's own ends stay open over exec
        if (standby)
            fcntl(go[0], F_SETFD, 0);
        become(std::move(words), parent, old_signals);
    }
    close(ready[1]);
    close_fd(go[0]);
    if (pid < 0) {
        std::fprintf(stderr, "tandem-holder: fork: %s\n", std::strerror(errno));
        close(ready[0]);
        close_fd(go[1]);
        return {};
    }
    return {pid, ready[0], go[1], false};
}

void say_end(int status, bool was_ready) {
    if (WIFSIGNALED(status))
        std::fprintf(stderr, "tandem-holder: data plane killed by signal %d (%s)%s\n", WTERMSIG(status),
                     strsignal(WTERMSIG(status)), was_ready ? "" : " before it was ready");
    else
        std::fprintf(stderr, "tandem-holder: data plane exited with status %d\n", WEXITSTATUS(status));
}

void read_ready(child& c) {
    char byte = 0;
    const auto got = c.ready_fd < 0 ? -1 : read(c.ready_fd, &byte, 1);
    if (got == 1)
        c.ready = true;
    if (got == 0) // the child ended: SIGCHLD follows
        close_fd(c.ready_fd);
}

void forget(child& c) {
    close_fd(c.ready_fd);
    close_fd(c.go_fd);
    c = {};
}

// The children of one holder, and what it does for them until the data plane in force has ended.
class watcher {
public:
    watcher(const orders& given, int signals, const sigset_t& old_signals)
        : given_(given), signals_(signals), old_signals_(old_signals) {}

    // Returns the wait status of the data plane in force; `was_ready` tells whether it forwarded.
    int until_end(child& active, int state_fd, bool& stopping) {
        for (;;) {
            if (wants_spare(active, stopping) && now_ms() >= spare_from_ms_)
                spare_ = start(given_, state_fd, true, old_signals_);
            pollfd fds[2] = {{signals_, POLLIN, 0}, {active.ready ? -1 : active.ready_fd, POLLIN, 0}};
            poll(fds, 2, wait_ms(active, stopping));
            if ((fds[1].revents & (POLLIN | POLLHUP)) != 0)
                read_ready(active);
            end_hanging(active);
            if ((fds[0].revents & POLLIN) != 0)
                pass_on(active, stopping);
            reap_spare(stopping);
            int status = 0;
            if (waitpid(active.pid, &status, WNOHANG) == active.pid) {
                if (!active.ready)
                    read_ready(active);
                return status;
            }
        }
    }

    // The standby takes over; nothing where there is none.
    child take_over() {
        child next;
        if (spare_.running() && write(spare_.go_fd, "g", 1) == 1)
            std::swap(next, spare_);
        close_fd(next.go_fd);
        next.ready_by_ms = now_ms() + takeover_limit_ms;
        return next;
    }

    // It goes before its state memory does.
    void end_spare() {
        if (!spare_.running())
            return;
        kill(spare_.pid, SIGTERM);
        waitpid(spare_.pid, nullptr, 0);
        forget(spare_);
    }

private:
    [[nodiscard]] bool wants_spare(const child& active, bool stopping) const {
        return active.ready && given_.standby && !spare_.running() && !spare_failed_ && !stopping;
    }

    [[nodiscard]] int wait_ms(const child& active, bool stopping) const {
        long until = 0;
        if (wants_spare(active, stopping))
            until = spare_from_ms_;
        else if (!active.ready)
            until = active.ready_by_ms;
        return until == 0 ? -1 : static_cast<int>(std::clamp(until - now_ms(), 0L, long{takeover_limit_ms}));
    }

    static void end_hanging(child& active) {
        if (active.ready || active.ready_by_ms == 0 || now_ms() < active.ready_by_ms)
            return;
        active.ready_by_ms = 0;
        std::fprintf(stderr, "tandem-holder: the standby does not forward after %d ms: killed\n", takeover_limit_ms);
        kill(active.pid, SIGKILL);
    }

    void pass_on(const child& active, bool& stopping) {
        signalfd_siginfo info{};
        if (read(signals_, &info, sizeof info) != sizeof info)
            return;
        if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT) {
            stopping = true;
            kill(active.pid, SIGTERM);
            end_spare();
        } else if (info.ssi_signo == SIGHUP) {
            kill(active.pid, SIGHUP);
        }
    }

    void reap_spare(bool stopping) {
        int status = 0;
        if (!spare_.running() || waitpid(spare_.pid, &status, WNOHANG) != spare_.pid)
            return;
        forget(spare_);
        spare_from_ms_ = now_ms() + longest_delay_ms;
        // One that was killed is started again, not at once; one that cannot start has said why, and would say it for
        // ever.
        spare_failed_ = WIFEXITED(status);
        if (spare_failed_ && !stopping)
            std::fprintf(stderr, "tandem-holder: no standby: it exited with status %d; a restart will take longer\n",
                         WEXITSTATUS(status));
    }

    const orders& given_;
    int signals_;
    const sigset_t& old_signals_;
    child spare_;
    bool spare_failed_ = false;
    long spare_from_ms_ = 0;
};

// Sleeps, but not through a request to stop.
bool pause_unless_stopped(int signals, int ms) {
    const long end_ms = now_ms() + ms;
    for (;;) {
        const long left = end_ms - now_ms();
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

int keep(const orders& given, int signals, const sigset_t& old_signals) {
    int state_fd = make_memory();
    bool ever_ready = false, stopping = false;
    int delay_ms = 0;
    watcher children(given, signals, old_signals);
    child active = start(given, state_fd, false, old_signals);
    for (;;) {
        if (!active.running())
            return 1;
        const int status = children.until_end(active, state_fd, stopping);
        const bool was_ready = active.ready;
        ever_ready = ever_ready || was_ready;
        forget(active);
        if (stopping || (WIFEXITED(status) && WEXITSTATUS(status) == 0)) {
            children.end_spare();
            return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
        }
        if (WIFEXITED(status) && WEXITSTATUS(status) == exit_fresh_memory) {
            std::fprintf(stderr, "tandem-holder: giving the data plane a fresh state memory; flows are lost\n");
            children.end_spare();
            close(state_fd);
            state_fd = make_memory();
        } else {
            active = children.take_over(); // before anything else: media waits
            say_end(status, was_ready);
            if (!ever_ready && WIFEXITED(status))
                return WEXITSTATUS(status); // it never worked: it has said why
        }
        delay_ms = was_ready ? 0 : std::clamp(delay_ms * 2, first_delay_ms, longest_delay_ms);
        if (active.running())
            continue;
        if (delay_ms != 0 && !pause_unless_stopped(signals, delay_ms))
            return 0;
        active = start(given, state_fd, false, old_signals);
    }
}

} // namespace

int main(int argc, char** argv) {
    int first = 1;
    orders given;
    if (argc > 1 && std::strcmp(argv[1], "--version") == 0) {
        std::printf("tandem-holder %s\n", TANDEM_VERSION);
        return 0;
    }
    if (first < argc && std::strcmp(argv[first], "--no-standby") == 0) {
        given.standby = false;
        ++first;
    }
    if (first < argc && std::strcmp(argv[first], "--") == 0)
        ++first;
    if (first >= argc || argv[first][0] == '-') {
        std::fprintf(stderr, "usage: tandem-holder [--no-standby] [--] tandem-dataplane --config FILE\n");
        return 2;
    }
    given.command.assign(argv + first, argv + argc);
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
    return keep(given, signals, old_signals);
}
