// SPDX-License-Identifier: Apache-2.0
// The loop around the stages, its mailbox, its idling.
#include "dataplane/pipeline/worker.hpp"

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <new>
#include <sched.h>
#include <string>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_pause.h>
#include <rte_ring_elem.h>

#include "dataplane/api/probes.hpp"
#include "dataplane/pipeline/ownership.hpp"

namespace tandem::pipeline {

namespace {

constexpr unsigned event_ring = 4096, command_ring = 64, hand_ring = 2048;
constexpr std::uint64_t heartbeat_interval_ns = 10'000'000;
constexpr std::uint64_t longest_sleep_ns = 100'000'000; // of the others; nobody waits for their heartbeat
constexpr std::uint64_t command_timeout_ns = 10'000'000'000;

std::string ring_name(const char* what, unsigned index) {
    static std::atomic<unsigned> serial{0}; // tests make several workers in one process
    return std::string("td_") + what + std::to_string(index) + "_" + std::to_string(serial++);
}

ring_pointer make_ring(const char* what, unsigned index, unsigned element, unsigned count, unsigned flags) {
    ring_pointer made{rte_ring_create_elem(ring_name(what, index).c_str(), element, count, SOCKET_ID_ANY, flags)};
    if (!made)
        throw std::bad_alloc();
    return made;
}

} // namespace

std::uint64_t monotonic_ns() noexcept {
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(t.tv_nsec);
}

worker::worker(unsigned index, shared_state& shared, std::shared_ptr<crypto::engine> engine,
               std::vector<port_use> ports, idle_config idle)
    : index_(index), shared_(shared), keys_(shared.memory.keys()), streams_(shared.memory.streams()),
      engine_(std::move(engine)), ports_(std::move(ports)), idle_mode_(idle.mode),
      idle_budget_tsc_(idle.mode == idle_mode::interrupt ? 0 : rte_get_tsc_hz() / 1'000'000 * idle.budget_us),
      sleeper_(idle.descriptors, idle.every_queue), stats_(shared.worker_stats[index]), watch_(stats_.sight),
      events_(make_ring("ev", index, sizeof(api::flow_event), event_ring, RING_F_SP_ENQ | RING_F_SC_DEQ)),
      commands_(make_ring("cmd", index, sizeof(void*), command_ring, RING_F_SP_ENQ | RING_F_SC_DEQ)),
      handed_(make_ring("hand", index, sizeof(void*), hand_ring, RING_F_SC_DEQ)) {
    if (ports_.size() > max_ports)
        throw std::bad_alloc();
}

void worker::run() noexcept {
    watch_.start(rte_lcore_id(), static_cast<unsigned>(sched_getcpu()));
    running_.store(true, std::memory_order_release);
    while (!stopping_.load(std::memory_order_acquire)) {
        if (run_once() != 0)
            idle_since_tsc_ = 0;
        else
            idle();
    }
    for (; turned_count_ > 0; --turned_count_)
        rte_pktmbuf_free(turned_[turned_count_ - 1].mbuf);
    running_.store(false, std::memory_order_release);
    poll_commands(); // one that came in between
}

unsigned worker::run_once() noexcept {
    poll_commands();
    watch_.poll();
    receive();
    if (burst_.count == 0) {
        count(api::counter::idle_polls);
        return 0;
    }
    burst_.now_ns = monotonic_ns();
    heartbeat(burst_.now_ns);
    count(api::counter::bursts);
    alive_ = burst_.count;
    passed(api::stage::receive);
    lookup();
    passed(api::stage::lookup);
    unprotect();
    passed(api::stage::unprotect);
    protect();
    passed(api::stage::protect);
    send();
    passed(api::stage::send);
    const unsigned taken = burst_.count;
    watch_.round_done(taken);
    burst_.count = 0;
    return taken;
}

void worker::passed(api::stage stage) noexcept {
    watch_.passed(stage, alive_);
    alive_ = burst_.count - burst_.gone;
    if (trace_ != nullptr) [[unlikely]] {
        name_epochs(stage);
        trace_->after(stage, burst_, ops_);
    }
    if (capture_ != nullptr) [[unlikely]]
        capture_->after(stage, burst_);
}

// Only a trace asks under which epoch each packet came or went: the number is not on a packet's lines.
void worker::name_epochs(api::stage stage) noexcept {
    if (stage != api::stage::unprotect && stage != api::stage::protect)
        return;
    for (unsigned i = 0; i < burst_.count; ++i)
        if (const packet& p = burst_.packets[i]; p.flow != nullptr) {
            const flow::memory& all = shared_.memory;
            ops_[i].epoch =
                flow::epoch_of(stage == api::stage::unprotect ? all.ins()[p.slot] : all.outs()[p.slot], ops_[i]);
        }
}

void worker::idle() noexcept {
    if (idle_mode_ != idle_mode::poll) {
        const std::uint64_t now = rte_rdtsc();
        if (idle_since_tsc_ == 0)
            idle_since_tsc_ = now;
        if (now - idle_since_tsc_ >= idle_budget_tsc_)
            return doze();
    }
    if (++empty_polls_ % 256 == 0)
        heartbeat(monotonic_ns());
    rte_pause();
}

// Looks once more after it said that it sleeps: what was brought before that, nobody wakes it for.
void worker::doze() noexcept {
    sleeper_.announce();
    if (run_once() != 0) {
        idle_since_tsc_ = 0;
    } else if (!stopping_.load(std::memory_order_acquire)) {
        count(api::counter::sleeps);
        sleeper_.sleep(index_ == 0 ? heartbeat_interval_ns : longest_sleep_ns);
    }
    sleeper_.awake();
    heartbeat(monotonic_ns());
}

void worker::heartbeat(std::uint64_t now_ns) noexcept {
    if (index_ != 0 || now_ns - last_heartbeat_ns_ < heartbeat_interval_ns)
        return;
    last_heartbeat_ns_ = now_ns;
    std::atomic_ref(shared_.memory.header().heartbeat_ns).store(now_ns, std::memory_order_relaxed);
}

void worker::poll_commands() noexcept {
    void* next = nullptr;
    while (rte_ring_sc_dequeue(commands_.get(), &next) == 0) {
        watch_.hold();
        auto* const c = static_cast<errand*>(next);
        (*c->what)();
        c->done.store(true, std::memory_order_release);
    }
}

void worker::call(const std::function<void()>& what) {
    if (!running()) {
        what();
        return;
    }
    errand c{&what};
    while (rte_ring_sp_enqueue(commands_.get(), &c) != 0)
        rte_pause();
    sleeper_.wake();
    const std::uint64_t begin = monotonic_ns();
    for (unsigned spins = 0; !c.done.load(std::memory_order_acquire); ++spins) {
        if (spins < 2000) {
            rte_pause();
            continue;
        }
        usleep(20);
        if (monotonic_ns() - begin > command_timeout_ns) { // it will never come back: let the holder start us again
            std::fprintf(stderr, "tandem-dataplane: worker %u does not answer; aborting\n", index_);
            std::abort();
        }
    }
}

bool worker::post(errand& what) {
    what.done.store(false, std::memory_order_relaxed);
    if (!running()) {
        (*what.what)();
        what.done.store(true, std::memory_order_release);
        return true;
    }
    if (rte_ring_sp_enqueue(commands_.get(), &what) != 0) {
        what.done.store(true, std::memory_order_relaxed);
        return false;
    }
    sleeper_.wake();
    return true;
}

unsigned worker::drain_events(std::span<api::flow_event> to) noexcept {
    return rte_ring_sc_dequeue_burst_elem(events_.get(), to.data(), sizeof(api::flow_event),
                                          static_cast<unsigned>(to.size()), nullptr);
}

void worker::emit(api::event_type type, const flow::record& f, std::uint32_t epoch,
                  const api::net_address& address) noexcept {
    const api::flow_event e{type, f.rule, 0, f.id, f.tag, epoch, 0, address};
    if (rte_ring_sp_enqueue_elem(events_.get(), const_cast<api::flow_event*>(&e), sizeof e) != 0)
        count(api::counter::events_lost);
}

// The only place where a packet leaves early: named, counted, per worker and per flow.
void worker::drop(packet& p, api::drop reason) noexcept {
    p.reason = reason;
    ++burst_.gone;
    api::bump(stats_.drops[static_cast<std::size_t>(reason)]);
    api::probe_drop(p.flow != nullptr ? p.flow->id : 0, reason);
    if (p.flow != nullptr) {
        api::flow_stats& f = shared_.flow_stats[p.slot];
        if (p.accepted)
            api::bump(f.tx_dropped);
        else if (reason == api::drop::srtp_auth)
            api::bump(f.auth_failures);
        else if (reason == api::drop::srtp_replay || reason == api::drop::srtp_too_old)
            api::bump(f.replays);
        else
            api::bump(f.other_drops);
        if (reason == api::drop::wrong_source)
            api::bump(f.wrong_source);
    }
    gives(p.mbuf);
    rte_pktmbuf_free(p.mbuf);
    p.mbuf = nullptr;
}

void worker_pool::run(unsigned worker, const std::function<void()>& between_bursts) {
    shared_.workers[worker % shared_.workers.size()]->call(between_bursts);
}

void worker_pool::quiesce() {
    for (worker* w : shared_.workers)
        w->call([] {});
}

} // namespace tandem::pipeline
