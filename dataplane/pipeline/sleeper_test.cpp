// SPDX-License-Identifier: Apache-2.0
// No wake-up is lost: two threads throw a ball 100,000 times, each sleeps until it comes, with a sleep that would not
// end. Also: a descriptor wakes, a nap ends by itself, nobody pays a system call for one who is awake.
#include <atomic>
#include <gtest/gtest.h>
#include <random>
#include <sys/eventfd.h>
#include <thread>
#include <unistd.h>

#include "dataplane/pipeline/sleeper.hpp"

namespace tandem::pipeline {
namespace {

constexpr std::uint64_t forever_ns = 3600'000'000'000;
constexpr unsigned throws = 100'000;

struct player {
    sleeper rest{{}, true};
    std::atomic<unsigned> ball{0};
    unsigned slept = 0, rung = 0;

    // As a worker does: looks, says that it sleeps, looks again, sleeps.
    void await(unsigned which) {
        while (ball.load(std::memory_order_acquire) != which) {
            rest.announce();
            if (ball.load(std::memory_order_acquire) != which) {
                ++slept;
                rest.sleep(forever_ns);
            }
            rest.awake();
        }
    }
    void give(unsigned which) { ball.store(which, std::memory_order_release); }
};

void pass_time(unsigned rounds) {
    for (unsigned i = 0; i < rounds; ++i)
        __builtin_ia32_pause();
}

TEST(Sleeper, NoWakeUpIsLostInAHundredThousand) {
    player left, right;
    const auto play = [](player& self, player& other, unsigned seed, bool begins) {
        std::minstd_rand random(seed); // so that the ball meets every moment of the other's falling asleep
        for (unsigned i = 1; i <= throws; ++i) {
            if (!begins)
                self.await(i);
            pass_time(static_cast<unsigned>(random() % 200));
            other.give(i);
            self.rung += other.rest.wake() ? 1 : 0;
            if (begins)
                self.await(i);
        }
    };
    std::thread one([&] { play(left, right, 1, true); });
    std::thread two([&] { play(right, left, 2, false); });
    one.join();
    two.join();
    EXPECT_GT(left.slept + right.slept, 0u);
    EXPECT_LE(left.rung, right.slept + throws);
}

TEST(Sleeper, ADescriptorWakes) {
    const int queue = eventfd(0, EFD_CLOEXEC);
    sleeper rest(std::span(&queue, 1), true);
    for (int i = 0; i < 100; ++i) {
        std::thread brings([&] { eventfd_write(queue, 1); });
        rest.announce();
        rest.sleep(forever_ns);
        rest.awake();
        brings.join();
    }
    eventfd_write(queue, 1); // before it sleeps: it does not
    rest.announce();
    rest.sleep(forever_ns);
    rest.awake();
    close(queue);
}

TEST(Sleeper, WithoutADescriptorItOnlyNaps) {
    sleeper rest({}, false);
    rest.sleep(forever_ns);
    const int wrong = -1;
    sleeper other(std::span(&wrong, 1), true); // cannot be watched: not trusted either
    other.sleep(forever_ns);
}

TEST(Sleeper, NobodyIsWokenTwice) {
    sleeper rest({}, true);
    EXPECT_FALSE(rest.wake()) << "it is awake";
    rest.announce();
    EXPECT_TRUE(rest.wake());
    EXPECT_FALSE(rest.wake()) << "once is enough";
    rest.sleep(forever_ns); // ends at once: the bell rang
    rest.awake();
    EXPECT_FALSE(rest.wake());
}

} // namespace
} // namespace tandem::pipeline
