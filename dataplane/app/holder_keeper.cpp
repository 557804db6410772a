// SPDX-License-Identifier: Apache-2.0
// See holder_keeper.hpp.
#include "dataplane/app/holder_keeper.hpp"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <poll.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>

#include "dataplane/api/service_manager.hpp"

namespace tandem::holder {

namespace {

constexpr int exit_fresh_memory = 75; // of a data plane: this memory's layout is not mine
constexpr int first_delay_ms = 100, longest_delay_ms = 5000;
constexpr int turn_ms = 100;
constexpr long spare_delay_ms = 250;
constexpr long absent_ms = 1000; // this process itself was not running for so long

descriptor make_memory() {
    descriptor fd(memfd_create("tandem-state", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (!fd)
        say("memfd_create: %s", std::strerror(errno));
    return fd;
}

bool exited_with(int status, int code) {
    return status != child::unknown_end && WIFEXITED(status) && WEXITSTATUS(status) == code;
}

void say_end(const child& dead, int status) {
    if (status == child::unknown_end)
        say("data plane %d ended", dead.pid());
    else if (WIFSIGNALED(status))
        say("data plane %d killed by signal %d (%s)%s", dead.pid(), WTERMSIG(status), strsignal(WTERMSIG(status)),
            dead.forwarded() ? "" : " before it forwarded");
    else
        say("data plane %d exited with status %d", dead.pid(), WEXITSTATUS(status));
}

} // namespace

keeper::keeper(orders given, int signals, std::vector<named> found)
    : given_(std::move(given)), signals_(signals), awake_ms_(now_ms()) {
    for (named& one : found) {
        if (one.name == "state")
            state_ = std::move(one.fd);
        else if (const pid_t pid = pid_in(one.name); pid != 0)
            if (auto old = child::adopt(pid, std::move(one.fd)))
                children_.push_back(std::move(*old));
    }
    if (state_)
        say("goes on with the state memory and %zu data plane(s) of the one before", children_.size());
    phase_ = given_.hand_over ? phase::preparing : phase::none;
    ever_forwarded_ = !children_.empty();
}

child* keeper::in_force() {
    const auto found = std::ranges::find_if(children_, &child::in_force);
    return found == children_.end() ? nullptr : &*found;
}

child* keeper::heir() {
    const auto found = std::ranges::find_if(children_, &child::heir);
    return found == children_.end() ? nullptr : &*found;
}

child* keeper::waiting(bool heir) {
    const auto found =
        std::ranges::find_if(children_, [&](const child& c) { return c.at() == stage::waiting && c.heir == heir; });
    return found == children_.end() ? nullptr : &*found;
}

bool keeper::any_at(stage which) const {
    return std::ranges::any_of(children_, [&](const child& c) { return c.at() == which; });
}

int keeper::run(void (*upgrade)(const std::vector<std::pair<std::string, int>>&, pid_t)) {
    if (!state_) {
        state_ = make_memory();
        if (!state_)
            return 1;
        store("state", state_.get());
    }
    while (!stopping_ || !children_.empty()) {
        start_what_is_missing();
        step_hand_over();
        wait();
        for (child& c : children_)
            c.listen();
        clear_the_way(); // before anything else: media waits
        promote();
        for (std::size_t i = 0; i < children_.size();) {
            if (const auto status = children_[i].ended()) {
                child dead = std::move(children_[i]);
                children_.erase(children_.begin() + static_cast<std::ptrdiff_t>(i));
                bury(std::move(dead), *status);
            } else {
                children_[i++].end_hanging();
            }
        }
        read_signals();
        if (upgrade_wanted_ && phase_ == phase::none && !stopping_) {
            grace_.shorten(false);
            upgrade(legacy(), given_.asked_by);
            upgrade_wanted_ = false;
            end_hand_over(false);
        }
        tell_service_manager();
    }
    return status_;
}

void keeper::wait() {
    std::vector<pollfd> fds{{signals_, POLLIN, 0}};
    for (const child& c : children_) {
        fds.push_back({c.handle(), POLLIN, 0});
        if (c.talks())
            fds.push_back({c.channel(), POLLIN, 0});
    }
    poll(fds.data(), fds.size(), turn_ms);
    const long now = now_ms(), away = now - std::exchange(awake_ms_, now);
    if (away > absent_ms)
        for (child& c : children_)
            c.excuse(away);
}

void keeper::read_signals() {
    signalfd_siginfo info{};
    while (read(signals_, &info, sizeof info) == sizeof info) {
        if (info.ssi_signo != SIGHUP) {
            stop();
        } else {
            upgrade_wanted_ = true;
            given_.asked_by = info.ssi_code == SI_QUEUE ? static_cast<pid_t>(info.ssi_pid) : 0;
        }
    }
}

void keeper::stop() {
    if (std::exchange(stopping_, true))
        return;
    api::tell_service_manager("STOPPING=1");
    for (child& c : children_)
        c.end();
}

child* keeper::start(int state) {
    auto made = child::start(given_.command, state);
    if (!made)
        return nullptr;
    if (state == state_.get()) // else it shall end with this holder: the next one would not know its memory
        store(name_of(made->pid()), made->channel());
    children_.push_back(std::move(*made));
    return &children_.back();
}

// One at a time: what forwards needs the processors more.
void keeper::start_what_is_missing() {
    if (stopping_ || any_at(stage::starting) || any_at(stage::unknown))
        return;
    if (!in_force() && !waiting(false) && !waiting(true)) {
        if (now_ms() >= start_from_ms_ && start(state_.get()) == nullptr)
            start_from_ms_ = now_ms() + longest_delay_ms;
    } else if (in_force() && in_force()->at() == stage::forwarding && phase_ == phase::none && !spare_failed_ &&
               children_.size() < given_.spares + 1 && now_ms() >= spare_from_ms_) {
        if (start(state_.get()) == nullptr)
            spare_from_ms_ = now_ms() + longest_delay_ms;
    }
}

void keeper::clear_the_way() {
    grace_.shorten(!stopping_ && std::ranges::any_of(children_, &child::changes));
    for (child& c : children_)
        if (!c.talks())
            c.let_go();
}

// Never two: the one before has let go of its memory and its last socket.
void keeper::promote() {
    if (stopping_ || in_force() || any_at(stage::unknown))
        return;
    const bool heirs_turn = phase_ == phase::leaving;
    child* next = waiting(heirs_turn);
    if (next == nullptr)
        next = waiting(!heirs_turn);
    if (next == nullptr)
        return;
    next->take_over();
    spare_from_ms_ = std::max(spare_from_ms_, now_ms() + spare_delay_ms); // the processors are its own until then
}

// The newly installed program's first data plane gets ready, then the one in force leaves, then the spares of the old
// one.
void keeper::step_hand_over() {
    if (phase_ == phase::none || stopping_ || any_at(stage::unknown))
        return;
    child* const active = in_force();
    child* const next = heir();
    if (next != nullptr && next->at() == stage::forwarding) {
        end_hand_over(true);
    } else if (phase_ == phase::preparing && next == nullptr && !any_at(stage::starting)) {
        if (child* const made = start(next_state_ ? next_state_.get() : state_.get()))
            made->heir = true;
        else
            end_hand_over(false);
    } else if (phase_ == phase::preparing && next != nullptr && next->at() == stage::waiting && active != nullptr &&
               active->at() == stage::forwarding) {
        phase_ = phase::leaving;
        active->leave();
    }
}

void keeper::end_hand_over(bool done) {
    if (done) {
        if (next_state_)
            use_next_memory(*heir());
        for (child& c : children_)
            if (!c.heir)
                c.end();
        spare_failed_ = false;
    } else {
        say("no hand-over: the data plane of before goes on");
        if (child* const late = heir())
            late->end();
    }
    for (child& c : children_)
        c.heir = false;
    next_state_ = {};
    phase_ = phase::none;
    if (given_.asked_by > 0)
        kill(given_.asked_by, done ? SIGUSR1 : SIGUSR2);
    given_.asked_by = 0;
}

void keeper::use_next_memory(child& owner) {
    state_ = std::move(next_state_);
    next_state_ = {};
    forget("state");
    store("state", state_.get());
    store(name_of(owner.pid()), owner.channel());
}

void keeper::bury(child dead, int status) {
    dead.let_go();
    forget(name_of(dead.pid()));
    ever_forwarded_ = ever_forwarded_ || dead.forwarded();
    if (dead.was_in_force() && dead.at() == stage::ending) {
        stop(); // where somebody else ended it
        if (status != child::unknown_end)
            status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
    }
    if (dead.at() >= stage::leaving)
        return;
    if (dead.heir)
        return bury_heir(status);
    if (dead.was_in_force() || (!in_force() && !waiting(false)))
        return bury_only_one(dead, status);
    // One that was killed is started again, not at once; one that cannot start has said why, and would say it for ever.
    spare_from_ms_ = now_ms() + longest_delay_ms;
    spare_failed_ = status != child::unknown_end && WIFEXITED(status);
    if (spare_failed_)
        say("no standby: it exited with status %d; a restart will take longer", WEXITSTATUS(status));
}

void keeper::bury_heir(int status) {
    if (phase_ == phase::preparing && !next_state_ && exited_with(status, exit_fresh_memory)) {
        say("the new data plane gets a fresh state memory; the flows of before will have to be made again");
        next_state_ = make_memory();
        if (next_state_)
            return; // once more, with that
    }
    end_hand_over(false);
}

void keeper::bury_only_one(const child& dead, int status) {
    delay_ms_ = dead.forwarded() ? 0 : std::clamp(delay_ms_ * 2, first_delay_ms, longest_delay_ms);
    start_from_ms_ = now_ms() + delay_ms_;
    if (exited_with(status, exit_fresh_memory)) {
        say("giving the data plane a fresh state memory; flows are lost");
        forget("state");
        state_ = make_memory();
        store("state", state_.get());
        start_from_ms_ = 0;
        return;
    }
    const bool by_itself = status != child::unknown_end && WIFEXITED(status);
    if (by_itself && (WEXITSTATUS(status) == 0 || !ever_forwarded_)) {
        stop(); // ended by somebody; or it never worked, and has said why
        status_ = WEXITSTATUS(status);
    } else {
        say_end(dead, status);
    }
}

void keeper::tell_service_manager() {
    const child* const active = in_force();
    const bool serves = active != nullptr && active->at() == stage::forwarding;
    const auto spares = std::ranges::count(children_, stage::waiting, &child::at);
    std::string words =
        "STATUS=" + (serves ? "data plane " + std::to_string(active->pid()) + " forwards" : "no data plane forwards") +
        ", " + std::to_string(spares) + " ready behind it";
    if (serves)
        words += "\nREADY=1";
    if (words != told_)
        api::tell_service_manager(words.c_str());
    told_ = std::move(words);
    // What hangs is killed by this loop within its limits; where that does not help, this process shall not seem well.
    if (now_ms() < next_ping_ms_ || std::ranges::any_of(children_, &child::stuck))
        return;
    next_ping_ms_ = now_ms() + api::watchdog_ping_ms;
    api::tell_service_manager("WATCHDOG=1");
}

std::vector<std::pair<std::string, int>> keeper::legacy() const {
    std::vector<std::pair<std::string, int>> list{{"state", state_.get()}};
    for (const child& c : children_)
        list.emplace_back(name_of(c.pid()), c.channel());
    return list;
}

} // namespace tandem::holder
