// SPDX-License-Identifier: Apache-2.0
// tandem-holder: keeps the flow-state memory while data planes die, are upgraded and are started again.
//
//   tandem-holder [--spares N] [--] tandem-dataplane --config FILE
//   tandem-holder --take-over PID      asks that holder to become what is installed now, and its data plane too; waits
//
// It makes one memfd and starts the program after "--" with `--state-fd N --holder-fd M` appended; that one gets ready
// and waits for its turn, the first at once. Behind the one that forwards N spares wait likewise (default 2). One that
// dies, hangs or says nothing any more is replaced by the next. The holder never maps the memory and has no
// configuration. SIGTERM and SIGINT end all; SIGHUP: --take-over without the waiting.
//
// A holder may die as well: the data plane goes on where the service manager keeps a copy of the descriptors and gives
// them to the next holder (holder_store.hpp); without one it ends.
#include <cerrno>
#include <charconv>
#include <climits>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <poll.h>
#include <string>
#include <string_view>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>
#include <vector>

#include "dataplane/app/holder_keeper.hpp"

extern "C" { // glibc 2.36 forgot to say so
#include <sys/pidfd.h>
}

namespace tandem::holder {
namespace {

constexpr int exit_usage = 2, answer_limit_s = 60;

constexpr char help[] = // as the other programs' is laid out: tools/dev/manual.py reads it
    "tandem-holder: keeps the flow-state memory and starts data planes on it; one that dies is followed by the next\n"
    "Usage: tandem-holder [OPTIONS] [--] tandem-dataplane --config FILE\n\n"
    "Options:\n"
    "  -h,--help                   print this and end\n"
    "  --version                   say the version and end\n"
    "  --spares N                  data planes that wait, ready, behind the one in force; default 2\n"
    "  --take-over PID             ask that holder for another data plane (of another version), wait until it "
    "forwards\n\n"
    "exit status: 0 ended in order, 1 failed, 2 wrong usage\n";

struct arguments {
    orders given;
    std::string handed; // descriptors, by the program that this process was before
    pid_t target = 0;   // --take-over
    bool help = false, version = false, fine = false;
};

bool read_number(const char* text, int& to) {
    const auto [end, error] = std::from_chars(text, text + std::strlen(text), to);
    return error == std::errc{} && *end == '\0' && to >= 0;
}

arguments read_arguments(int argc, char** argv) {
    arguments a;
    int at = 1, spares = static_cast<int>(a.given.spares);
    for (; at < argc && argv[at][0] == '-'; ++at) {
        const std::string_view word = argv[at];
        const char* const value = at + 1 < argc ? argv[at + 1] : "";
        if (word == "--")
            break;
        if (word == "--help" || word == "-h")
            a.help = true;
        else if (word == "--version")
            a.version = true;
        else if (word == "--spares" && read_number(value, spares))
            ++at;
        else if (word == "--take-over" && read_number(value, a.target))
            ++at;
        else if (word == "--asked-by" && read_number(value, a.given.asked_by))
            ++at;
        else if (word == "--resume" && *value != '\0')
            a.handed = argv[++at];
        else
            return a;
    }
    if (at < argc && std::strcmp(argv[at], "--") == 0)
        ++at;
    a.given.spares = static_cast<unsigned>(spares);
    a.given.command.assign(argv + at, argv + argc);
    a.given.hand_over = !a.handed.empty();
    a.fine = a.help || a.version || a.target > 0 || !a.given.command.empty();
    return a;
}

// What this process was started with, for the next program in it: without what only the last one was told.
std::vector<std::string> own_words;
std::string own_path;

void upgrade(const std::vector<std::pair<std::string, int>>& descriptors, pid_t asked_by) {
    std::vector<std::string> words = own_words;
    if (asked_by > 0)
        words.insert(words.begin() + 1, {"--asked-by", std::to_string(asked_by)});
    resume_as(own_path, std::move(words), descriptors);
}

void remember_words(int argc, char** argv) {
    char path[PATH_MAX];
    const auto length = readlink("/proc/self/exe", path, sizeof path);
    own_path = length > 0 ? std::string(path, static_cast<std::size_t>(length)) : argv[0];
    bool ours = true;
    for (int i = 0; i < argc; ++i) {
        const std::string_view word = argv[i];
        ours = ours && word != "--";
        if (ours && (word == "--resume" || word == "--asked-by"))
            ++i;
        else
            own_words.emplace_back(word);
    }
}

// Holds, for the service manager's reload: exit 0 once the new data plane forwards.
int ask_to_take_over(pid_t target) {
    sigset_t answers;
    sigemptyset(&answers);
    sigaddset(&answers, SIGUSR1);
    sigaddset(&answers, SIGUSR2);
    sigprocmask(SIG_BLOCK, &answers, nullptr);
    const int answered = signalfd(-1, &answers, SFD_CLOEXEC), alive = pidfd_open(target, 0);
    if (alive < 0 || sigqueue(target, SIGHUP, {}) != 0) {
        say("process %d: %s", target, std::strerror(errno));
        return 1;
    }
    pollfd fds[2] = {{answered, POLLIN, 0}, {alive, POLLIN, 0}};
    signalfd_siginfo info{};
    if (poll(fds, 2, answer_limit_s * 1000) > 0 && fds[0].revents != 0 &&
        read(answered, &info, sizeof info) == sizeof info && info.ssi_signo == SIGUSR1)
        return 0;
    say("process %d did not hand over; its log says why", target);
    return 1;
}

int signal_descriptor() {
    sigset_t watched;
    sigemptyset(&watched);
    for (const int number : {SIGTERM, SIGINT, SIGHUP})
        sigaddset(&watched, number);
    sigprocmask(SIG_BLOCK, &watched, nullptr);
    return signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK);
}

} // namespace
} // namespace tandem::holder

int main(int argc, char** argv) {
    using namespace tandem::holder;
    arguments a = read_arguments(argc, argv);
    if (a.help) {
        std::fputs(help, stdout);
        return 0;
    }
    if (a.version) {
        std::printf("tandem-holder %s\n", TANDEM_VERSION);
        return 0;
    }
    if (!a.fine) {
        std::fprintf(stderr, "usage: tandem-holder [--spares N] [--] tandem-dataplane --config FILE\n"
                             "       tandem-holder --take-over PID\n");
        return exit_usage;
    }
    if (a.target > 0)
        return ask_to_take_over(a.target);
    remember_words(argc, argv);
    prctl(PR_SET_DUMPABLE, 0);
    const rlimit none{0, 0};
    setrlimit(RLIMIT_CORE, &none);
    const int signals = signal_descriptor();
    if (signals < 0) {
        say("signalfd: %s", std::strerror(errno));
        return 1;
    }
    keeper all(std::move(a.given), signals, inherited(a.handed));
    return all.run(upgrade);
}
