// SPDX-License-Identifier: Apache-2.0
// For tests: this process in a network namespace of its own with tt0, and a neighbour in a second one with tt1, joined
// by veth. Both vanish with the test.
#pragma once

#include <array>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace tandem::io::testing {

class two_namespaces {
public:
    // False where a namespace cannot be made (no privileges).
    bool make() {
        if (::unshare(CLONE_NEWNET) != 0)
            return false;
        int ready[2];
        if (::pipe(ready) != 0)
            return false;
        neighbour_ = ::fork();
        if (neighbour_ == 0) {
            ::prctl(PR_SET_PDEATHSIG, SIGKILL);
            char ok = ::unshare(CLONE_NEWNET) == 0 ? 1 : 0;
            (void)!::write(ready[1], &ok, 1);
            for (;;)
                ::pause();
        }
        char ok = 0;
        (void)!::read(ready[0], &ok, 1);
        ::close(ready[0]);
        ::close(ready[1]);
        if (ok == 0)
            return false;
        here("ip link set lo up");
        here("ip link add tt0 type veth peer name tt1");
        here(fmt::format("ip link set tt1 netns {}", neighbour_));
        there("ip link set tt1 address 02:00:00:00:00:09");
        here("ip link set tt0 up");
        there("ip link set tt1 up");
        here("ip addr add 192.0.2.1/24 dev tt0");
        here("ip addr add 2001:db8::1/64 dev tt0 nodad");
        there("ip addr add 192.0.2.9/24 dev tt1");
        there("ip addr add 2001:db8::9/64 dev tt1 nodad");
        return true;
    }
    ~two_namespaces() {
        if (neighbour_ > 0) {
            ::kill(neighbour_, SIGKILL);
            ::waitpid(neighbour_, nullptr, 0);
        }
    }

    void here(const std::string& command) { EXPECT_EQ(std::system(command.c_str()), 0) << command; }
    void there(const std::string& command) { here(fmt::format("nsenter -t {} -n {}", neighbour_, command)); }
    static void sysctl(const std::string& path, const std::string& value) {
        std::ofstream("/proc/sys/net/" + path) << value;
    }
    static std::string output(const std::string& command) {
        std::string text;
        FILE* pipe = ::popen(command.c_str(), "r");
        char buffer[256];
        while (pipe != nullptr && std::fgets(buffer, sizeof(buffer), pipe) != nullptr)
            text += buffer;
        if (pipe != nullptr)
            ::pclose(pipe);
        return text;
    }
    [[nodiscard]] pid_t neighbour() const { return neighbour_; }

private:
    pid_t neighbour_ = -1;
};

inline constexpr std::array<std::uint8_t, 6> neighbour_mac{2, 0, 0, 0, 0, 9};

} // namespace tandem::io::testing
