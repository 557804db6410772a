// SPDX-License-Identifier: Apache-2.0
// Which CPUs workers get, on machines that are made up here: one node or two, with and without hardware threads.
#include <algorithm>

#include <gtest/gtest.h>

#include "dataplane/io/cpus.hpp"

namespace tandem::io {
namespace {

// Two nodes of two cores with two threads each: 0-3 are first threads, 4-7 their siblings; 0,1,4,5 on node 0.
std::vector<cpu> two_nodes() {
    return {{0, 0, 0}, {1, 0, 1}, {2, 1, 2}, {3, 1, 3}, {4, 0, 0}, {5, 0, 1}, {6, 1, 2}, {7, 1, 3}};
}

std::vector<unsigned> chosen(const std::vector<cpu>& present, unsigned workers, int node = -1) {
    const auto got = choose_cpus(present, workers, {}, node);
    EXPECT_TRUE(got);
    std::vector<unsigned> ids;
    for (const cpu& c : *got)
        ids.push_back(c.id);
    return ids;
}

using list = std::vector<unsigned>;

TEST(Cpus, TwoStayFreeOrTheSchedulerPlaces) {
    const std::vector<cpu> four = {{0, 0, 0}, {1, 0, 1}, {2, 0, 2}, {3, 0, 3}};
    EXPECT_EQ(chosen(four, 2), (list{1, 2}));
    EXPECT_EQ(chosen(four, 3), list{});
    EXPECT_EQ(chosen({{0, 0, 0}, {1, 0, 1}}, 1), list{});
}

TEST(Cpus, NodeOfThePortsThenWholeCores) {
    EXPECT_EQ(chosen(two_nodes(), 2, 1), (list{2, 3}));
    EXPECT_EQ(chosen(two_nodes(), 4, 1), (list{2, 3, 6, 7})) << "a second thread here before another node";
    EXPECT_EQ(chosen(two_nodes(), 3), (list{1, 2, 3})) << "no node known: whole cores";
    EXPECT_EQ(chosen(two_nodes(), 1, 0), (list{1})) << "CPU 0 is the control thread's";
}

TEST(Cpus, OnlyPermittedOnes) {
    auto some = two_nodes();
    some[2].permitted = some[0].permitted = false;
    EXPECT_EQ(chosen(some, 2), (list{3, 4})) << "5 is the other thread of the control thread's core";
}

TEST(Cpus, ToldOnesAreChecked) {
    auto all = two_nodes();
    const auto told = choose_cpus(all, 2, {7, 2}, -1);
    ASSERT_TRUE(told);
    EXPECT_EQ((*told)[0].id, 7u) << "in the configuration's order";
    EXPECT_EQ((*told)[1].id, 2u);
    EXPECT_EQ(choose_cpus(all, 1, {8}, -1).error(),
              "cpus names CPU 8, which is not there or offline; there are: 0, 1, 2, 3, 4, 5, 6, 7");
    all[2].permitted = false;
    EXPECT_NE(choose_cpus(all, 1, {2}, -1).error().find("CPU 2, which this process may not use; it may use: 0, 1, 3"),
              std::string::npos);
}

TEST(Cpus, ThisMachine) {
    const auto here = read_cpus();
    ASSERT_FALSE(here.empty());
    EXPECT_TRUE(std::any_of(here.begin(), here.end(), [](const cpu& c) { return c.permitted; }));
    EXPECT_TRUE(choose_cpus(here, 1, {here.front().id}, -1) || !here.front().permitted);
    EXPECT_EQ(interface_node("no-such-interface"), -1);
    const memory_on_node any(node_of({"no-such-interface"}));
}

} // namespace
} // namespace tandem::io
