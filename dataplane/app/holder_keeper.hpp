// SPDX-License-Identifier: Apache-2.0
// What a holder does: one data plane in force, some ready behind it, one memory; a hand-over to a newly installed
// program on request; the service manager told. One thread; nothing here waits but its one poll().
#pragma once

#include <string>
#include <vector>

#include "dataplane/app/holder_child.hpp"
#include "dataplane/app/holder_grace.hpp"
#include "dataplane/app/holder_store.hpp"

namespace tandem::holder {

struct orders {
    std::vector<std::string> command; // the data plane's
    unsigned spares = 2;
    bool hand_over = false; // at once: this program has just been replaced
    pid_t asked_by = 0;     // who wants to know how that went
};

class keeper {
public:
    keeper(orders given, int signals, std::vector<named> found);
    // Until it was told to stop, or cannot go on; returns the exit status. `upgrade` is called when the program shall
    // become what is installed now, with what the next one needs; it returns where that failed.
    int run(void (*upgrade)(const std::vector<std::pair<std::string, int>>&, pid_t asked_by));

private:
    using stage = child::stage;
    enum class phase { none, preparing, leaving };

    [[nodiscard]] child* in_force();
    [[nodiscard]] child* heir();
    [[nodiscard]] child* waiting(bool heir);
    [[nodiscard]] bool any_at(stage which) const;

    void wait();
    void read_signals();
    void stop();
    void start_what_is_missing();
    child* start(int state);
    void promote();
    void clear_the_way();
    void step_hand_over();
    void end_hand_over(bool done);
    void use_next_memory(child& owner);
    void bury(child dead, int status);
    void bury_heir(int status);
    void bury_only_one(const child& dead, int status);
    void tell_service_manager();
    [[nodiscard]] std::vector<std::pair<std::string, int>> legacy() const;

    orders given_;
    int signals_;
    descriptor state_, next_state_; // next: of heirs that know another layout
    std::vector<child> children_;
    grace_periods grace_;
    phase phase_ = phase::none;
    bool stopping_ = false, ever_forwarded_ = false, spare_failed_ = false, upgrade_wanted_ = false;
    int status_ = 0;
    int delay_ms_ = 0;
    long start_from_ms_ = 0, spare_from_ms_ = 0, awake_ms_ = 0, next_ping_ms_ = 0;
    std::string told_;
};

} // namespace tandem::holder
