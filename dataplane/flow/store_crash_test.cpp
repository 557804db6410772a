// SPDX-License-Identifier: Apache-2.0
// kill -9 while the control thread adds, changes and removes flows and epochs: a child does so in the shared memory, is
// killed at a random moment, and the next process finds whole flows only, every key of a flow and no other, and nothing
// lost of the room.
#include <csignal>
#include <gtest/gtest.h>
#include <random>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dataplane/flow/store.hpp"

namespace tandem::flow {
namespace {

constexpr std::uint32_t room = 24;
constexpr auto suite = api::suite::aead_aes_128_gcm;

struct at_once final : executor {
    void run(unsigned, const std::function<void()>& what) override { what(); }
    void quiesce() override {}
};

// A store on the shared memory, as a process has it.
struct process {
    explicit process(int fd)
        : state(std::move(*memory::adopt(fd, room))), engine(std::move(*crypto::make_engine("auto"))),
          flows(state, table, *engine, workers, 1) {
        flows.recover();
        ++state.header().starts;
    }
    memory state;
    port_table table{{ip_bytes{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1}}};
    std::unique_ptr<crypto::engine> engine;
    at_once workers;
    store flows;
};

api::net_address remote(std::uint16_t port) {
    api::net_address a{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 9}, port, {}};
    return a;
}

// Everything in a flow follows from its port, so that a torn one shows.
api::flow_config flow_at(std::uint16_t port) {
    api::flow_config c{};
    c.id = port;
    c.tag = port * std::uint64_t{0x0001000100010001};
    c.in.suite = c.out.suite = suite;
    c.in.mki_length = c.out.mki_length = 4;
    c.carries = api::carries_rtp | api::carries_rtcp;
    c.route.rtp_out = c.route.rtcp_out = port;
    c.route.rtp_remote = c.route.rtcp_remote = remote(port);
    return c;
}

api::epoch_key key_for(std::uint16_t port, api::side side, std::uint32_t epoch) {
    api::epoch_key k{};
    k.id = port;
    k.side = side;
    k.epoch = k.mki = epoch;
    k.key_length = 16;
    k.salt_length = 12;
    std::memset(k.key, static_cast<int>(port + epoch), sizeof k.key);
    return k;
}

// What the control plane does, in any order, without end.
[[noreturn]] void churn(int fd, unsigned seed, int ready) {
    process p(fd);
    std::mt19937 random(seed);
    std::vector<std::uint32_t> epochs(100, 0);
    if (write(ready, "r", 1) != 1)
        _exit(1);
    for (;;) {
        const auto port = static_cast<std::uint16_t>(1 + random() % 30); // more than there is room for
        const auto side = random() % 2 == 0 ? api::side::in : api::side::out;
        switch (random() % 8) {
        case 0:
        case 1:
            (void)p.flows.add(flow_at(port), 1);
            break;
        case 2:
            (void)p.flows.remove(port);
            break;
        case 3: {
            api::flow_update u{};
            u.id = port;
            u.mask = api::update_remote;
            u.route.rtp_out = u.route.rtcp_out = port;
            u.route.rtp_remote = u.route.rtcp_remote =
                remote(static_cast<std::uint16_t>(port + 1000 * (random() % 10)));
            (void)(random() % 2 == 0 ? p.flows.update(u) : p.flows.update_later(u)); // the latter until finish()
            break;
        }
        case 4:
        case 5:
            (void)p.flows.install(key_for(port, side, ++epochs[port]));
            break;
        case 6:
            (void)p.flows.switch_to({port, epochs[port], api::side::out, {}});
            break;
        default:
            (void)p.flows.retire({port, epochs[port] - static_cast<std::uint32_t>(random() % 3), side, {}});
        }
        if (random() % 3 == 0)
            p.flows.finish();
    }
}

void expect_wiped(const void* what, std::size_t length, const char* name) {
    const auto* bytes = static_cast<const std::uint8_t*>(what);
    for (std::size_t i = 0; i < length; ++i)
        if (bytes[i] != 0) {
            ADD_FAILURE() << name << " of a free flow holds something at " << i;
            return;
        }
}

void check(process& p) {
    unsigned keys = 0, found = 0;
    for (slot_index slot = 0; slot < p.state.slots(); ++slot) {
        const record& r = p.state.records()[slot];
        if (load_state(r) != state::active) {
            expect_wiped(&r, sizeof r, "record");
            expect_wiped(&p.state.ins()[slot], sizeof(side), "in-side");
            expect_wiped(&p.state.outs()[slot], sizeof(side), "out-side");
            continue;
        }
        ++found;
        EXPECT_EQ(p.flows.find(r.id), slot);
        const auto entry = describe(p.state, slot);
        const auto should = flow_at(static_cast<std::uint16_t>(r.id));
        EXPECT_EQ(entry.config.tag, should.tag);
        EXPECT_EQ(entry.config.in.suite, suite);
        EXPECT_EQ(entry.config.route.rtp_out, r.id);
        EXPECT_TRUE(same_address(entry.config.route.rtp_remote, entry.config.route.rtcp_remote))
            << "half of a changed route";
        EXPECT_EQ(entry.config.route.rtp_remote.port % 1000, r.id);
        keys += entry.in_epoch_count + entry.out_epoch_count;
    }
    EXPECT_EQ(p.flows.count(), found);
    EXPECT_EQ(p.state.keys().used(), keys) << "keys without a flow, or flows without their keys";
}

TEST(StoreCrash, KilledAnywhereWhileFlowsChange) {
    const int fd = memfd_create("state", MFD_ALLOW_SEALING);
    std::mt19937 random(42);
    for (unsigned round = 0; round < 150 && !HasFailure(); ++round) {
        int ready[2];
        ASSERT_EQ(pipe(ready), 0);
        const pid_t child = fork();
        if (child == 0)
            churn(fd, round, ready[1]);
        char byte = 0;
        ASSERT_EQ(read(ready[0], &byte, 1), 1);
        close(ready[0]);
        close(ready[1]);
        usleep(static_cast<useconds_t>(random() % 3000));
        kill(child, SIGKILL);
        int status = 0;
        ASSERT_EQ(waitpid(child, &status, 0), child);
        ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << "the child ended by itself: " << status;
        process p(fd);
        check(p);
    }
    // All the room is there again, for flows and for keys.
    process p(fd);
    for (std::uint16_t port = 1; port <= 30; ++port)
        (void)p.flows.remove(port);
    p.flows.finish();
    EXPECT_EQ(p.state.keys().used(), 0u);
    for (std::uint16_t port = 1; port <= room; ++port) {
        ASSERT_EQ(p.flows.add(flow_at(port), 1), api::status::ok);
        for (const auto which : {api::side::in, api::side::out})
            for (std::uint32_t epoch = 0; epoch < 2; ++epoch)
                ASSERT_EQ(p.flows.install(key_for(port, which, epoch)), api::status::ok);
    }
    EXPECT_EQ(p.flows.add(flow_at(99), 1), api::status::table_full);
    close(fd);
}

} // namespace
} // namespace tandem::flow
