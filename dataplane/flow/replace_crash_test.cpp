// SPDX-License-Identifier: Apache-2.0
// kill -9 while flows take the place of others (store_replace.cpp): after a restart the group's old flows are in force
// or its new ones, with all that was accepted and sent before; no index is sent twice, no replay accepted, nothing left
// behind. Single-stepped by ptrace through a mux and an un-mux, and SIGKILLed at random between packets and changes.
#include <algorithm>
#include <array>
#include <csignal>
#include <set>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <tuple>
#include <unistd.h>

#include "dataplane/flow/crash_testing.hpp"
#include "dataplane/flow/side_testing.hpp"
#include "dataplane/flow/store.hpp"

namespace tandem::flow {
namespace {

using namespace testing;
using api::drop;

constexpr std::uint32_t room = 10;
constexpr auto suite = api::suite::aead_aes_128_gcm;
constexpr std::uint16_t ports[2] = {10, 20}; // of two legs; RTCP has the next one where it is apart
constexpr std::uint32_t ssrcs[2] = {1, 2};

struct at_once final : executor {
    void run(unsigned, const std::function<void()>& what) override { what(); }
    void quiesce() override {}
};

struct process {
    explicit process(int fd)
        : state(std::move(*flow::memory::adopt(fd, room))), flows(state, table, engine, workers, 1) {
        flows.recover();
        ++state.header().starts;
    }
    // The flow that leg's packets of this kind come to.
    [[nodiscard]] slot_index at(unsigned leg, bool rtcp) const {
        const slot_index apart = flows.find(ports[leg] + 1u);
        return rtcp && apart != no_slot ? apart : flows.find(ports[leg]);
    }
    [[nodiscard]] bool muxes(unsigned leg) const { return flows.find(ports[leg] + 1u) == no_slot; }

    flow::memory state;
    port_table table{{ip_bytes{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1}}};
    believer engine;
    at_once workers;
    store flows;
    crypto::key_pool keys = state.keys();
    stream_pool streams = state.streams();
};

// Every flow of the media as it is when these legs mux.
std::vector<api::flow_config> plan(const std::array<bool, 2>& mux) {
    std::vector<api::flow_config> flows;
    for (unsigned leg = 0; leg < 2; ++leg)
        for (const unsigned apart : {0u, 1u}) {
            if (apart == 1 && mux[leg])
                break;
            api::flow_config c{};
            c.id = ports[leg] + apart;
            c.reverse = ports[1 - leg] + (apart == 1 && !mux[1 - leg] ? 1u : 0u);
            c.tag = 7;
            c.in = c.out = {suite, 4, 0};
            c.carries = mux[leg] ? 3 : apart == 0 ? api::carries_rtp : api::carries_rtcp;
            c.route.rtp_out = ports[1 - leg];
            c.route.rtcp_out = ports[1 - leg] + (mux[1 - leg] ? 0u : 1u);
            flows.push_back(c);
        }
    return flows;
}

std::vector<api::flow_replacement> replacements(const std::array<bool, 2>& before, const std::array<bool, 2>& now) {
    std::vector<api::flow_replacement> items;
    for (const auto& c : plan(now)) {
        api::flow_replacement r{};
        r.config = c;
        const unsigned leg = c.id < ports[1] ? 0 : 1;
        const bool apart = c.carries == api::carries_rtcp;
        r.in_from[0] = r.out_from[0] = ports[leg] + (apart && !before[leg] ? 1u : 0u);
        if (now[leg] && !before[leg])
            r.in_from[1] = r.out_from[1] = ports[leg] + 1u;
        items.push_back(r);
    }
    return items;
}

// False where the store refused it.
bool replace(process& p, const std::array<bool, 2>& before, const std::array<bool, 2>& now) {
    const auto items = replacements(before, now);
    std::vector<api::status> said(items.size());
    p.flows.replace(items, 1, said);
    return std::all_of(said.begin(), said.end(), [](auto s) { return s == api::status::ok; });
}

void begin(process& p, const std::array<bool, 2>& mux) {
    for (const auto& c : plan(mux)) {
        ASSERT_EQ(p.flows.add(c, 1), api::status::ok);
        for (const auto side : {api::side::in, api::side::out}) {
            auto key = master(suite, 0, side == api::side::in ? 1 : 2);
            key.id = c.id;
            key.side = side;
            ASSERT_EQ(p.flows.install(key), api::status::ok);
        }
    }
}

struct passed {
    std::uint64_t in = 0, out = 0; // indices
    bool accepted = false, sent = false;
};

// A leg's packet, as far as another side would have it on the wire. `number`: sequence or SRTCP index.
passed pass(process& p, unsigned leg, bool rtcp, std::uint16_t number) {
    passed done;
    const slot_index slot = p.at(leg, rtcp);
    side &in = p.state.ins()[slot], &out = p.state.outs()[slot];
    packet one = make(ssrcs[leg], number, rtcp, true, 0);
    crypto::op op;
    if (prepare_unprotect(in, p.keys, p.streams, one.bytes, one.length, op) != drop::none ||
        commit_unprotect(in, p.keys, p.streams, p.engine, op) != drop::none)
        return done;
    done.in = op.index;
    done.accepted = true;
    one.length = op.length;
    if (prepare_protect(out, p.keys, p.streams, rtp::max_trailer, op) != drop::none)
        return done;
    done.out = op.index;
    done.sent = true;
    return done;
}

void expect_wiped(const void* what, std::size_t length) {
    const auto* bytes = static_cast<const std::uint8_t*>(what);
    ASSERT_TRUE(std::all_of(bytes, bytes + length, [](auto b) { return b == 0; }))
        << "of a free flow something is left";
}

// After recovery: whole flows of one of the two plans, and nothing else.
void expect_whole(process& p) {
    const auto flows = plan({p.muxes(0), p.muxes(1)});
    ASSERT_EQ(p.flows.count(), flows.size());
    ASSERT_EQ(p.state.header().decided, 0u);
    std::size_t keys = 0;
    for (const auto& c : flows) {
        const slot_index slot = p.flows.find(c.id);
        ASSERT_NE(slot, no_slot);
        const auto entry = describe(p.state, slot);
        ASSERT_EQ(entry.config.carries, c.carries) << "an old flow beside a new one";
        ASSERT_EQ(entry.in_epoch_count, 1);
        ASSERT_EQ(entry.out_epoch_count, 1);
        ASSERT_EQ(entry.sending_epoch, 0u);
        ASSERT_NE(p.state.outs()[slot].sending, 0);
        keys += 2;
    }
    ASSERT_EQ(p.state.keys().used(), keys);
    ASSERT_EQ(p.state.streams().used(), 0u);
    for (slot_index slot = 0; slot < p.state.slots(); ++slot)
        if (load_state(p.state.records()[slot]) == state::active) {
            ASSERT_EQ(p.state.records()[slot].part, part::none);
        } else {
            expect_wiped(&p.state.records()[slot], sizeof(record));
            expect_wiped(&p.state.ins()[slot], sizeof(side));
            expect_wiped(&p.state.outs()[slot], sizeof(side));
        }
}

int copy_of(int fd, std::vector<std::byte>& bytes) {
    if (pread(fd, bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()))
        return -1;
    const int copy = memfd_create("copy", MFD_ALLOW_SEALING);
    if (ftruncate(copy, static_cast<off_t>(bytes.size())) != 0 ||
        pwrite(copy, bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()))
        return -1;
    return copy;
}

constexpr std::uint16_t talked = 40;

void talk(process& p) { // beyond the first wrap
    for (std::uint16_t n = 0; n < talked; ++n)
        for (unsigned leg = 0; leg < 2; ++leg) {
            ASSERT_TRUE(pass(p, leg, false, static_cast<std::uint16_t>(65'510 + n)).sent);
            ASSERT_TRUE(pass(p, leg, true, n).sent);
        }
}

// What was said is refused, what is new gets new indices.
void expect_state(process& p) {
    for (unsigned leg = 0; leg < 2; ++leg) {
        constexpr std::uint16_t next = static_cast<std::uint16_t>(65'510 + talked);
        ASSERT_FALSE(pass(p, leg, false, next - 1).accepted) << "RTP replayed";
        ASSERT_FALSE(pass(p, leg, true, talked - 1).accepted) << "RTCP replayed";
        const passed rtp = pass(p, leg, false, next), rtcp = pass(p, leg, true, talked);
        ASSERT_TRUE(rtp.sent && rtcp.sent);
        ASSERT_EQ(rtp.in, 0x10000u | next);
        ASSERT_EQ(rtp.out, 0x10000u | next);
        ASSERT_EQ(rtcp.out, talked) << "SRTCP index";
    }
}

class Stepped : public ::testing::TestWithParam<std::pair<std::array<bool, 2>, std::array<bool, 2>>> {};
INSTANTIATE_TEST_SUITE_P(Replace, Stepped,
                         ::testing::Values(std::pair{std::array{true, true}, std::array{false, true}},
                                           std::pair{std::array{false, true}, std::array{true, false}}),
                         [](const auto& p) { return p.param.first[0] ? "UnMux" : "MuxAndUnMux"; });

TEST_P(Stepped, KilledAfterAnyStore) {
    const auto [before, now] = GetParam();
    const int fd = memfd_create("state", MFD_ALLOW_SEALING);
    auto& finished = *static_cast<volatile int*>(
        mmap(nullptr, sizeof(int), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    {
        process p(fd);
        begin(p, before);
        talk(p);
    }
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        process p(fd);
        if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0)
            _exit(77);
        raise(SIGSTOP);
        const bool done = replace(p, before, now);
        p.flows.finish();
        finished = done ? 1 : 2;
        _exit(0);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        GTEST_SKIP() << "ptrace is not permitted here";
    const auto bytes = static_cast<std::size_t>(lseek(fd, 0, SEEK_END));
    const auto* const live = static_cast<const std::byte*>(mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd, 0));
    std::vector<std::byte> last(bytes);
    std::size_t states = 0, as_before = 0, as_after = 0;
    while (finished == 0 && !HasFatalFailure()) {
        ASSERT_EQ(ptrace(PTRACE_SINGLESTEP, child, nullptr, nullptr), 0);
        ASSERT_EQ(waitpid(child, &status, 0), child);
        ASSERT_TRUE(WIFSTOPPED(status));
        if (std::memcmp(last.data(), live, bytes) == 0)
            continue; // no store since the last look
        const int copy = copy_of(fd, last);
        ASSERT_GE(copy, 0);
        process p(copy);
        close(copy);
        ++states;
        expect_whole(p);
        if (HasFatalFailure())
            break;
        ++(p.muxes(0) == now[0] ? as_after : as_before);
        ASSERT_TRUE(p.muxes(0) == now[0] ? p.muxes(1) == now[1] : p.muxes(1) == before[1]) << "one of each";
        expect_state(p);
    }
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    EXPECT_EQ(finished, 1);
    EXPECT_GT(as_before, 50u);
    EXPECT_GT(as_after, 10u);
    RecordProperty("states", static_cast<int>(states));
    munmap(const_cast<std::byte*>(live), bytes);
    close(fd);
}

// --- killed at random, over many lives of one memory

struct handed {
    std::uint8_t leg;
    bool rtcp, out;
    std::uint64_t index;
    std::uint16_t number;
};
struct shared {
    std::uint16_t numbers[2][2]; // by leg and kind: what its peer sends next
    volatile std::uint32_t begun, count, changes;
    handed log[8192];
};

void note(shared& all, const handed& one) {
    const std::uint32_t at = all.count;
    all.log[at] = one;
    std::atomic_signal_fence(std::memory_order_seq_cst);
    all.count = at + 1; // from here on the world has seen it
}

[[noreturn]] void work_for_ever(int fd, shared& all, unsigned seed) {
    process p(fd);
    std::mt19937 random(seed);
    for (all.begun = 1;;) {
        if (all.count + 2 >= std::size(all.log))
            pause();
        if (random() % 8 == 0) {
            const std::array before{p.muxes(0), p.muxes(1)};
            const bool done = replace(p, before, {random() % 2 == 0, random() % 2 == 0});
            if (random() % 2 == 0)
                p.flows.finish();
            all.changes = all.changes + (done ? 1 : 0);
            continue;
        }
        const unsigned leg = random() % 2;
        const bool rtcp = random() % 4 == 0;
        std::uint16_t& next = all.numbers[leg][rtcp];
        next = static_cast<std::uint16_t>(next + 1 + random() % 2); // one may be lost
        const auto number = static_cast<std::uint16_t>(random() % 4 == 0 ? next - random() % 30 : next);
        const passed done = pass(p, leg, rtcp, number);
        const auto place = static_cast<std::uint8_t>(leg);
        if (done.accepted)
            note(all, {place, rtcp, false, done.in, number});
        if (done.sent)
            note(all, {place, rtcp, true, done.out, number});
    }
}

TEST(ReplaceCrash, KilledAtRandomPoints) {
    const unsigned lives = sanitized ? 60 : 300;
    const int fd = memfd_create("state", MFD_ALLOW_SEALING);
    auto& all =
        *static_cast<shared*>(mmap(nullptr, sizeof(shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    {
        process p(fd);
        begin(p, {true, true});
    }
    all.numbers[0][0] = all.numbers[1][0] = 65'000;
    std::mt19937 random(42);
    std::set<std::tuple<unsigned, bool, bool, std::uint64_t>> every;
    std::uint32_t changes = 0;
    for (unsigned life = 0; life < lives && !::testing::Test::HasFatalFailure(); ++life) {
        all.begun = 0;
        all.count = 0;
        all.changes = 0;
        const pid_t child = fork();
        ASSERT_GE(child, 0);
        if (child == 0)
            work_for_ever(fd, all, life);
        while (all.begun == 0)
            sched_yield();
        usleep(static_cast<useconds_t>(random() % (sanitized ? 15'000 : 1500)));
        kill(child, SIGKILL);
        int status = 0;
        ASSERT_EQ(waitpid(child, &status, 0), child);
        ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << "the child ended by itself: " << status;
        changes += all.changes;
        process p(fd);
        expect_whole(p);
        for (std::uint32_t i = 0; i < all.count; ++i) {
            const handed& one = all.log[i];
            ASSERT_TRUE(every.emplace(one.leg, one.rtcp, one.out, one.index).second)
                << "life " << life << " leg " << unsigned{one.leg} << (one.out ? " sent " : " accepted ")
                << (one.rtcp ? "RTCP " : "RTP ") << one.index << " twice";
            if (!one.out && i + 100 >= all.count) {
                ASSERT_FALSE(pass(p, one.leg, one.rtcp, one.number).accepted) << "a replay";
            }
        }
    }
    // Sanitized, a life of some milliseconds begins little; the plain run holds the full numbers.
    EXPECT_GT(changes, (sanitized ? 1 : 10) * lives);
    EXPECT_GT(every.size(), (sanitized ? 10 : 100) * lives);
    RecordProperty("changes", static_cast<int>(changes));
    RecordProperty("packets", static_cast<int>(every.size()));
    munmap(&all, sizeof all);
    close(fd);
}

} // namespace
} // namespace tandem::flow
