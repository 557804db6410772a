// SPDX-License-Identifier: Apache-2.0
// kill -9 at any instruction. The worker's part runs in a child over shared memory and notes every
// packet that it hands on. Two ways to stop it:
//   single-stepped by ptrace, the state examined after every instruction of a short, nasty sequence;
//   SIGKILLed at random points of a long run, thousands of times, sequence numbers near 65,535.
// After recover() on what is left: nothing that was handed on is accepted or sent again, and traffic goes on.
#include <csignal>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <map>
#include <set>

#include "dataplane/flow/crash_testing.hpp"

namespace tandem::flow {
namespace {

using namespace testing;
using api::drop;

constexpr api::suite suite = api::suite::aead_aes_128_gcm;

struct handed {
    std::uint32_t ssrc;
    std::uint32_t epoch;
    std::uint64_t index;
    std::uint16_t sequence;
    bool rtcp;
};

struct shared {
    world state;
    volatile std::uint32_t begun;
    volatile std::uint32_t finished;
    volatile std::uint32_t handed_count;
    handed log[4096];
};

class memory {
public:
    memory()
        : it_(static_cast<shared*>(
              mmap(nullptr, sizeof(shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))) {}
    memory(const memory&) = delete;
    memory& operator=(const memory&) = delete;
    ~memory() { munmap(it_, sizeof(shared)); }
    shared* operator->() { return it_; }
    shared& operator*() { return *it_; }

private:
    shared* it_;
};

void begin(shared& all, crypto::engine& engine) {
    std::memset(static_cast<void*>(&all), 0, sizeof all);
    auto pool = all.state.pool();
    for (side* each : {&all.state.in, &all.state.out}) {
        ASSERT_EQ(init_side(*each, each == &all.state.in ? api::side::in : api::side::out, suite, 4), api::status::ok);
        ASSERT_EQ(install(*each, pool, engine, master(suite, 0, 1)), api::status::ok);
        ASSERT_EQ(install(*each, pool, engine, master(suite, 1, 1)), api::status::ok);
    }
}

drop receive_packet(world& state, crypto::engine& engine, packet& one, crypto::op& op) {
    auto pool = state.pool();
    auto streams = state.streams();
    const drop refused = prepare_unprotect(state.in, pool, streams, one.bytes, one.length, op);
    if (refused != drop::none)
        return refused;
    const drop result = commit_unprotect(state.in, pool, streams, engine, op);
    op.epoch = epoch_of(state.in, op);
    return result;
}

drop send_packet(world& state, packet& one, crypto::op& op, bool anew = false) {
    static const side clear{};
    auto pool = state.pool();
    auto streams = state.streams();
    const drop refused = prepare_unprotect(clear, pool, streams, one.bytes, one.length, op);
    if (refused != drop::none)
        return refused;
    in_step(state.out, streams, op);
    if (anew && !op.rtcp) {
        op.course = crypto::sequence_is::anew;
        op.expected = 1;
    }
    const drop result = prepare_protect(state.out, pool, streams, rtp::max_trailer, op);
    op.epoch = epoch_of(state.out, op);
    return result;
}

// The last store of a packet's way: from here on the world has seen it.
void hand_on(shared& all, const crypto::op& op) {
    const std::uint32_t at = all.handed_count;
    if (at == std::size(all.log))
        return;
    all.log[at] = {op.ssrc, op.epoch, op.index, op.sequence, op.rtcp};
    std::atomic_thread_fence(std::memory_order_release);
    std::atomic_signal_fence(std::memory_order_seq_cst);
    all.handed_count = at + 1;
}

void recover_all(world& state, crypto::engine& engine) {
    auto pool = state.pool();
    const auto streams = state.streams();
    pool.recover_begin();
    streams.recover_begin();
    recover(state.in, pool, streams);
    recover(state.out, pool, streams);
    pool.recover_end(engine);
    streams.recover_end();
}

std::uint32_t linked_places(const side& of, const stream_pool& streams) {
    std::uint32_t count = 0;
    for (std::uint32_t place = of.more; place != 0; place = streams.link(place - 1))
        ++count;
    return count;
}

// Everything handed on, offered again to a recovered copy.
void expect_nothing_repeats(const shared& all, api::side which, crypto::engine& engine) {
    const auto copy = std::make_unique<world>(all.state);
    recover_all(*copy, engine);
    const auto streams = copy->streams();
    ASSERT_EQ(streams.used(), linked_places(copy->in, streams) + linked_places(copy->out, streams));
    const std::uint32_t count = all.handed_count;
    for (std::uint32_t i = count > 300 ? count - 300 : 0; i < count; ++i) {
        const handed& old = all.log[i];
        crypto::op op;
        if (which == api::side::in) {
            packet again = make(old.ssrc, old.rtcp ? static_cast<std::uint16_t>(old.index) : old.sequence, old.rtcp,
                                true, old.epoch);
            ASSERT_NE(receive_packet(*copy, engine, again, op), drop::none)
                << "replay accepted: ssrc " << old.ssrc << " index " << old.index;
        } else if (old.rtcp) {
            if (const auto known = detail::find_stream(copy->out, copy->streams(), old.ssrc)) {
                ASSERT_GT(known.rest->rtcp.next(), old.index);
            }
        } else {
            packet again = make(old.ssrc, old.sequence, false, false, 0);
            const drop result = send_packet(*copy, again, op);
            ASSERT_TRUE(result != drop::none || op.index != old.index || op.epoch != old.epoch)
                << "index sent twice: ssrc " << old.ssrc << " index " << old.index;
        }
    }
}

// Wrap, reordering, gaps beyond the window, duplicates, new SSRCs, more than a side has places for, RTCP, an epoch
// switch, and a sequence that begins anew: in by the new key, out because the source's did.
void nasty_sequence(shared& all, api::side which, crypto::engine& engine) {
    struct step {
        std::uint32_t ssrc;
        std::uint16_t sequence;
        bool rtcp, anew = false;
    };
    static constexpr step steps[] = {{1, 65533, false},  {1, 65535, false},
                                     {1, 65534, false},  {1, 0, true},
                                     {1, 2, false},      {1, 0, false},
                                     {1, 1, false},      {1, 1, true},
                                     {2, 65535, false},  {2, 0, false},
                                     {4, 9, false},      {5, 9, false},
                                     {6, 9, false},      {7, 9, true},
                                     {8, 9, false},      {9, 9, false},
                                     {10, 9, false},     {10, 8, false},
                                     {11, 9, true},      {9, 10, false},
                                     {1, 7, false},      {1, 65000, false, true},
                                     {1, 65001, false},  {1, 64999, false},
                                     {1, 3, true},       {1, 2, false},
                                     {1, 1, false},      {10, 20000, false, true},
                                     {10, 20001, false}, {10, 19999, false},
                                     {1, 300, false},    {1, 299, false},
                                     {1, 300, false},    {3, 7, true},
                                     {2, 127, false},    {2, 129, false},
                                     {2, 128, false},    {1, 364, false},
                                     {1, 428, false},    {1, 427, false}};
    std::uint32_t done = 0;
    for (const step& it : steps) {
        constexpr std::uint32_t new_key = 21;
        const std::uint32_t epoch = done >= new_key ? 1 : 0;
        if (which == api::side::out && done == new_key)
            static_cast<void>(switch_to(all.state.out, 1));
        crypto::op op;
        packet one = make(it.ssrc, it.sequence, it.rtcp, which == api::side::in, epoch);
        const drop result = which == api::side::in ? receive_packet(all.state, engine, one, op)
                                                   : send_packet(all.state, one, op, it.anew);
        if (result == drop::none)
            hand_on(all, op);
        ++done;
    }
}

class Crash : public ::testing::TestWithParam<api::side> {
protected:
    memory all_;
    believer engine_;
};

TEST_P(Crash, StoppedAfterEveryInstruction) {
    begin(*all_, engine_);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0)
            _exit(77);
        raise(SIGSTOP);
        nasty_sequence(*all_, GetParam(), engine_);
        all_->finished = 1;
        _exit(0);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        GTEST_SKIP() << "ptrace is not permitted here";
    std::size_t stops = 0;
    std::size_t states = 0;
    const auto last = std::make_unique<shared>(*all_);
    while (all_->finished == 0) {
        ASSERT_EQ(ptrace(PTRACE_SINGLESTEP, child, nullptr, nullptr), 0);
        ASSERT_EQ(waitpid(child, &status, 0), child);
        ASSERT_TRUE(WIFSTOPPED(status));
        ++stops;
        if (std::memcmp(last.get(), &*all_, offsetof(shared, log)) == 0)
            continue; // no store since the last look
        std::memcpy(static_cast<void*>(last.get()), &*all_, sizeof(shared));
        ++states;
        expect_nothing_repeats(*last, GetParam(), engine_);
        if (HasFatalFailure())
            break;
    }
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    EXPECT_GE(all_->handed_count, 36U);
    EXPECT_GT(states, 200U);
    // Eleven SSRCs; out: the last one took the place of one that was not used under the new key.
    EXPECT_EQ(all_->state.streams().used(), (GetParam() == api::side::in ? 11 : 10) - own_streams);
    const std::uint64_t first = all_->state.in.first_id;
    EXPECT_EQ((first & detail::id_anew) != 0, GetParam() == api::side::in) << "SSRC 1 began anew under the new key";
    RecordProperty("instructions", static_cast<int>(stops));
    RecordProperty("states", static_cast<int>(states));
}

constexpr std::uint32_t ssrcs = 12; // more than a side's own places

// The child's endless work: a sender near the wrap with loss, reordering and duplicates on a dozen SSRCs; towards an
// out-side, restarts.
void work_for_ever(shared& all, api::side which, crypto::engine& engine, std::uint64_t seed,
                   std::map<std::uint32_t, std::uint16_t>& sequences) {
    std::mt19937_64 random(seed);
    for (;;) {
        all.begun = 1;
        const auto ssrc = static_cast<std::uint32_t>(random() % ssrcs);
        std::uint16_t& sequence = sequences[ssrc];
        const bool anew = which == api::side::out && random() % 200 == 0;
        if (anew)
            sequence = static_cast<std::uint16_t>(random());
        sequence = static_cast<std::uint16_t>(sequence + (random() % 50 == 0 ? random() % 200 : random() % 2));
        const auto shown =
            static_cast<std::uint16_t>(random() % 4 == 0 ? sequence - static_cast<unsigned>(random() % 40) : sequence);
        crypto::op op;
        packet one = make(ssrc, shown, random() % 16 == 0, which == api::side::in, 0);
        const drop result =
            which == api::side::in ? receive_packet(all.state, engine, one, op) : send_packet(all.state, one, op, anew);
        if (result == drop::none)
            hand_on(all, op);
        if (all.handed_count == std::size(all.log))
            pause();
    }
}

TEST_P(Crash, KilledAtRandomPoints) {
    const std::size_t trials = sanitized ? 150 : 1200;
    std::mt19937_64 random(65535);
    std::map<std::uint32_t, std::uint16_t> sequences;
    std::set<std::pair<std::uint64_t, std::uint64_t>> every; // (ssrc, rtcp) and index, over all lives
    std::size_t handed_on = 0;
    begin(*all_, engine_);
    for (std::size_t trial = 0; trial < trials; ++trial) {
        if (trial % 100 == 0) { // a new call
            begin(*all_, engine_);
            every.clear();
            for (std::uint32_t ssrc = 0; ssrc < ssrcs; ++ssrc)
                sequences[ssrc] = static_cast<std::uint16_t>(65400 + random() % 136);
        }
        all_->handed_count = 0;
        all_->begun = 0;
        const std::uint64_t seed = random();
        const pid_t child = fork();
        ASSERT_GE(child, 0);
        if (child == 0) {
            work_for_ever(*all_, GetParam(), engine_, seed, sequences);
            _exit(1);
        }
        while (all_->begun == 0)
            sched_yield();
        for (std::uint64_t spin = random() % 6000; spin > 0; --spin)
            std::atomic_signal_fence(std::memory_order_seq_cst);
        kill(child, SIGKILL);
        int status = 0;
        ASSERT_EQ(waitpid(child, &status, 0), child);
        const std::uint32_t count = all_->handed_count;
        expect_nothing_repeats(*all_, GetParam(), engine_);
        for (std::uint32_t i = 0; i < count; ++i) {
            const handed& one = all_->log[i];
            ASSERT_TRUE(every.emplace(std::uint64_t{one.ssrc} << 1 | (one.rtcp ? 1 : 0), one.index).second)
                << "trial " << trial << ": ssrc " << one.ssrc << " index " << one.index << " twice";
            if (!one.rtcp)
                sequences[one.ssrc] = one.sequence; // the network's sender goes on
        }
        handed_on += count;
        recover_all(all_->state, engine_); // the next life
    }
    EXPECT_GT(handed_on, trials);
    // And traffic goes on after the last crash.
    std::size_t accepted = 0;
    for (std::uint16_t i = 1; i <= 300; ++i) {
        crypto::op op;
        packet one = make(0, static_cast<std::uint16_t>(sequences[0] + i), false, GetParam() == api::side::in, 0);
        if ((GetParam() == api::side::in ? receive_packet(all_->state, engine_, one, op)
                                         : send_packet(all_->state, one, op)) == drop::none)
            ++accepted;
    }
    EXPECT_GT(accepted, 50U);
    RecordProperty("handed_on", static_cast<int>(handed_on));
}

// Whether these tests can fail: the same, with a recover() that forgets to distrust the bitmap, accepts replays.
TEST(CrashCheck, ATornBitmapWithoutRecoverWouldAcceptAReplay) {
    rtp::replay_window window;
    window.update(200);
    window.update(150);
    struct raw {
        std::uint64_t next;
        std::uint64_t bits[2];
    };
    raw torn;
    std::memcpy(&torn, &window, sizeof torn);
    torn.bits[150 / 64 % 2] &=
        ~(std::uint64_t{1} << 150 % 64); // cleared for a later index, the process died before `next`
    rtp::replay_window left;
    std::memcpy(static_cast<void*>(&left), &torn, sizeof left);
    EXPECT_EQ(left.check(150), drop::none);
    left.recover();
    EXPECT_EQ(left.check(150), drop::srtp_replay);
}

// Runs `work` in a child, one instruction after the other, and `look`s at a copy of every state that it passes. False
// where that is not permitted.
template <class Work, class Look>
bool step_through(memory& all, Work&& work, Look&& look) {
    const pid_t child = fork();
    if (child == 0) {
        if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0)
            _exit(77);
        raise(SIGSTOP);
        work();
        all->finished = 1;
        _exit(0);
    }
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        return false;
    const auto last = std::make_unique<world>(all->state);
    while (all->finished == 0 && !::testing::Test::HasFatalFailure()) {
        EXPECT_EQ(ptrace(PTRACE_SINGLESTEP, child, nullptr, nullptr), 0);
        if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status)) {
            ADD_FAILURE() << "the child ended by itself";
            return true;
        }
        if (std::memcmp(last.get(), &all->state, sizeof(world)) == 0)
            continue; // no store since the last look
        std::memcpy(static_cast<void*>(last.get()), &all->state, sizeof(world));
        const auto copy = std::make_unique<world>(*last);
        look(*copy);
    }
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    return true;
}

// Killed in the middle of the control thread's work, at every instruction of install, switch and retire.
TEST(CrashControl, EpochsAreWholeOrAbsent) {
    memory all;
    believer engine;
    std::memset(static_cast<void*>(&*all), 0, sizeof(shared));
    ASSERT_EQ(init_side(all->state.out, api::side::out, suite, 4), api::status::ok);
    crypto::session_keys warm; // OpenSSL's own start-up is not to be stepped through
    ASSERT_TRUE(crypto::derive_session_keys(suite, bytes(16), bytes(12), warm));
    std::set<std::uint32_t> seen;
    const bool stepped = step_through(
        all,
        [&] {
            auto pool = all->state.pool();
            static_cast<void>(install(all->state.out, pool, engine, master(suite, 0, 1)));
            static_cast<void>(install(all->state.out, pool, engine, master(suite, 1, 1)));
            static_cast<void>(switch_to(all->state.out, 1));
            pool.release(retire(all->state.out, 0).key.value());
        },
        [&](world& copy) {
            recover_all(copy, engine);
            std::uint32_t epochs[max_epochs];
            const unsigned count = list_epochs(copy.out, epochs);
            ASSERT_EQ(copy.pool().used(), count) << "every key belongs to an epoch, every epoch has its key";
            seen.insert(count << 8 | sending_epoch(copy.out));
            if (count == 0)
                return;
            ASSERT_NE(copy.out.sending, 0); // whatever is sent under exists and is whole
            crypto::op op;
            packet one = make(1, 1, false, false, 0);
            ASSERT_EQ(send_packet(copy, one, op), drop::none);
            const auto expected = master(suite, op.epoch, 1);
            crypto::session_keys keys;
            ASSERT_TRUE(crypto::derive_session_keys(suite, {expected.key, 16}, {expected.salt, 12}, keys));
            ASSERT_EQ(std::memcmp(&op.key->cold().raw, &keys, sizeof keys), 0);
        });
    if (!stepped)
        GTEST_SKIP() << "ptrace is not permitted here";
    const std::set<std::uint32_t> all_states{0U, 1U << 8, 2U << 8, 2U << 8 | 1, 1U << 8 | 1};
    EXPECT_EQ(seen, all_states);
}

// Likewise with equal keys: one object that every state after recovery has once, as long as an epoch names it.
TEST(CrashControl, EqualKeysAreOneObjectInEveryState) {
    memory all;
    believer engine;
    std::memset(static_cast<void*>(&*all), 0, sizeof(shared));
    ASSERT_EQ(init_side(all->state.in, api::side::in, suite, 4), api::status::ok);
    crypto::session_keys warm;
    ASSERT_TRUE(crypto::derive_session_keys(suite, bytes(16), bytes(12), warm));
    api::epoch_key again = master(suite, 0, 1);
    again.epoch = again.mki = 1;
    std::set<std::uint32_t> seen;
    const bool stepped = step_through(
        all,
        [&] {
            auto pool = all->state.pool();
            static_cast<void>(install(all->state.in, pool, engine, master(suite, 0, 1)));
            static_cast<void>(install(all->state.in, pool, engine, again));
            const retired first = retire(all->state.in, 0);
            const retired last = retire(all->state.in, 1);
            if (!first.key)
                pool.release(last.key.value());
        },
        [&](world& copy) {
            recover_all(copy, engine);
            std::uint32_t epochs[max_epochs];
            const unsigned count = list_epochs(copy.in, epochs);
            ASSERT_EQ(copy.pool().used(), count == 0 ? 0U : 1U);
            ASSERT_EQ(copy.in.generation, count == 0 ? all->state.in.generation : 1);
            seen.insert(count << 8 | (count == 1 ? epochs[0] : 0));
        });
    if (!stepped)
        GTEST_SKIP() << "ptrace is not permitted here";
    EXPECT_EQ(all->state.in.generation, 1U);
    const std::set<std::uint32_t> all_states{0U, 1U << 8, 2U << 8, 1U << 8 | 1};
    EXPECT_EQ(seen, all_states);
}

INSTANTIATE_TEST_SUITE_P(Srtp, Crash, ::testing::Values(api::side::in, api::side::out),
                         [](const auto& chosen) { return chosen.param == api::side::in ? "in" : "out"; });

} // namespace
} // namespace tandem::flow
