// SPDX-License-Identifier: Apache-2.0
// The loader against real interfaces, in a network namespace of its own: claims, stale and foreign programs, modes.
#include <cstdlib>
#include <utility>

#include <fcntl.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "bpf/edge_fixture.hpp"
#include "bpf/loader/testing/programs.hpp"

namespace tandem::bpf::testing {

namespace {

class loader : public edge_test {
protected:
    void SetUp() override {
        edge_test::SetUp();
        if (IsSkipped() || HasFatalFailure())
            return;
        if (::unshare(CLONE_NEWNET) != 0)
            GTEST_SKIP() << "cannot make a network namespace";
        ASSERT_EQ(std::system("ip link add tt0 type veth peer name tt1 && ip link set tt0 up"), 0);
        veth_ = ::if_nametoindex("tt0");
        loopback_ = ::if_nametoindex("lo");
        ASSERT_NE(veth_, 0u);
    }

    void attach(unsigned ifindex, int program, std::uint32_t flags = 0) {
        ASSERT_EQ(bpf_xdp_attach(static_cast<int>(ifindex), program, flags, nullptr), 0);
    }
    unsigned veth_ = 0;
    unsigned loopback_ = 0; // its driver has no XDP
};

TEST_F(loader, OneTandemPerInterface) {
    {
        auto mine = interface_claim::take(veth_, "tt0");
        ASSERT_TRUE(mine);
        auto second = interface_claim::take(veth_, "tt0");
        ASSERT_FALSE(second);
        EXPECT_NE(second.error().find("another Tandem data plane already uses tt0"), std::string::npos)
            << second.error();
        EXPECT_TRUE(interface_claim::take(loopback_, "lo")) << "another interface is free";
    }
    EXPECT_TRUE(interface_claim::take(veth_, "tt0")) << "given up";
    // One that is killed leaves nothing behind.
    int ready[2];
    ASSERT_EQ(::pipe(ready), 0);
    pid_t child = ::fork();
    if (child == 0) {
        auto theirs = interface_claim::take(veth_, "tt0");
        char done = theirs ? 'y' : 'n';
        (void)!::write(ready[1], &done, 1);
        ::pause();
        _exit(0);
    }
    char done = 0;
    ASSERT_EQ(::read(ready[0], &done, 1), 1);
    ASSERT_EQ(done, 'y');
    EXPECT_FALSE(interface_claim::take(veth_, "tt0"));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    EXPECT_TRUE(interface_claim::take(veth_, "tt0"));
}

// All namespaces share /run: the claim is of this one's interface.
TEST_F(loader, AClaimIsOfItsNamespace) {
    auto here = interface_claim::take(loopback_, "lo");
    ASSERT_TRUE(here) << here.error();
    const pid_t child = ::fork();
    if (child == 0) {
        const bool elsewhere = ::unshare(CLONE_NEWNET) == 0 && interface_claim::take(loopback_, "lo").has_value();
        _exit(elsewhere ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0) << "another namespace's loopback of the same index";
}

// A local user neither holds a lock of ours beforehand nor keeps one.
TEST_F(loader, NobodyElseHoldsAClaim) {
    struct stat space {};
    ASSERT_EQ(::stat("/proc/thread-self/ns/net", &space), 0);
    const std::string path = std::string(lock_directory) + "/interface-" + std::to_string(space.st_ino) + "-" +
                             std::to_string(veth_) + ".lock";
    auto mine = interface_claim::take(veth_, "tt0");
    ASSERT_TRUE(mine) << mine.error();
    struct stat file {};
    ASSERT_EQ(::stat(path.c_str(), &file), 0);
    EXPECT_EQ(file.st_mode & 07777, 0600U);
    const pid_t child = ::fork();
    if (child == 0) {
        const bool user = ::setresgid(65534, 65534, 65534) == 0 && ::setresuid(65534, 65534, 65534) == 0;
        _exit(user && ::open(path.c_str(), O_RDONLY) < 0 && ::unlink(path.c_str()) != 0 ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
}

TEST_F(loader, StaleProgramIsReplaced) {
    for (const unsigned ifindex : {veth_, loopback_}) {
        const auto first = tandem::bpf::attach(ifindex, "it", program_);
        ASSERT_TRUE(first) << first.error();
        EXPECT_FALSE(first->replaced) << "nothing was there";
        EXPECT_EQ(first->mode, ifindex == veth_ ? attach_mode::driver : attach_mode::generic);
        detach(ifindex);
        EXPECT_EQ(attached(ifindex), 0u);
        ASSERT_TRUE(attach_stale(ifindex));
        const std::uint32_t stale = attached(ifindex);
        const auto second = tandem::bpf::attach(ifindex, "it", program_);
        ASSERT_TRUE(second) << second.error();
        EXPECT_TRUE(second->replaced);
        EXPECT_EQ(second->mode, first->mode);
        EXPECT_NE(attached(ifindex), 0u);
        EXPECT_NE(attached(ifindex), stale);
    }
}

TEST_F(loader, ForeignProgramIsLeftAlone) {
    ASSERT_TRUE(attach_foreign(veth_));
    const std::uint32_t theirs = attached(veth_);
    auto refused = tandem::bpf::attach(veth_, "tt0", program_);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().find("another XDP program ('someone_else'"), std::string::npos) << refused.error();
    EXPECT_NE(refused.error().find("ip link set dev tt0 xdp off"), std::string::npos) << refused.error();
    detach(veth_);
    EXPECT_EQ(attached(veth_), theirs);
    auto opened = edge::open(veth_, "tt0");
    ASSERT_FALSE(opened);
    EXPECT_EQ(opened.error(), "Tandem's XDP program is not attached to tt0");
}

TEST_F(loader, TellsTheMode) {
    attach(veth_, program_);
    auto driver = edge::open(veth_, "tt0");
    ASSERT_TRUE(driver) << driver.error();
    EXPECT_EQ(driver->mode(), attach_mode::driver);
    attach(loopback_, program_);
    auto generic = edge::open(loopback_, "lo");
    ASSERT_TRUE(generic) << generic.error();
    EXPECT_EQ(generic->mode(), attach_mode::generic);
    // Both see the same maps, being one program.
    driver->open_port(3, 1234);
    EXPECT_TRUE(generic->is_open(3, 1234));
    generic->close_port(3, 1234);
    EXPECT_FALSE(driver->is_open(3, 1234));
}

TEST_F(loader, SeesWhatIsOnAnInterface) {
    EXPECT_EQ(edge_->on(veth_), attached_program::none);
    attach(veth_, program_);
    EXPECT_EQ(edge_->on(veth_), attached_program::ours);
    detach(veth_);
    ASSERT_TRUE(attach_stale(veth_)) << "the same program, loaded by another";
    EXPECT_EQ(edge_->on(veth_), attached_program::other);
    ASSERT_EQ(std::system("ip link del tt0"), 0);
    EXPECT_EQ(edge_->on(veth_), attached_program::none);
}

TEST_F(loader, SeesWhetherAQueueHasASocket) {
    const auto before = edge_->verdicts().value();
    EXPECT_FALSE(edge_->has_socket(0));
    give_socket();
    EXPECT_TRUE(edge_->has_socket(0));
    EXPECT_FALSE(edge_->has_socket(1));
    const std::uint32_t queue = 0;
    ASSERT_EQ(bpf_map_delete_elem(bpf_map__fd(skeleton_->maps.xsks_map), &queue), 0);
    EXPECT_FALSE(edge_->has_socket(0)) << "taken out of the map";
    ASSERT_EQ(bpf_map_update_elem(bpf_map__fd(skeleton_->maps.xsks_map), &queue, &socket_, BPF_ANY), 0);
    EXPECT_TRUE(edge_->has_socket(0));
    ::close(std::exchange(socket_, -1));
    EXPECT_FALSE(edge_->has_socket(0)) << "the map's entry goes with its socket";
    EXPECT_EQ(edge_->verdicts().value(), before) << "nothing of it is counted";
}

TEST_F(loader, ObjectIsFoundAndLoads) {
    auto path = object_path();
    ASSERT_TRUE(path) << path.error();
    bpf_object* object = bpf_object__open_file(path->c_str(), nullptr);
    ASSERT_NE(object, nullptr);
    // What net_af_xdp needs of it: a single XDP program, and this map.
    bpf_program* first = bpf_object__next_program(object, nullptr);
    ASSERT_NE(first, nullptr);
    EXPECT_EQ(bpf_program__name(first), program_name);
    EXPECT_EQ(bpf_object__next_program(object, first), nullptr);
    EXPECT_NE(bpf_object__find_map_by_name(object, "xsks_map"), nullptr);
    bpf_object__close(object);
}

} // namespace

} // namespace tandem::bpf::testing
