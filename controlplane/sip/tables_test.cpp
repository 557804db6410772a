// SPDX-License-Identifier: Apache-2.0
#include "controlplane/sip/tables.hpp"

#include <cstdlib>
#include <filesystem>
#include <gtest/gtest.h>
#include <sys/stat.h>

namespace tandem::sip {
namespace {

struct tables_test : testing::Test {
    std::string directory = [] {
        std::string name = testing::TempDir() + "tables-XXXXXX";
        return std::string(::mkdtemp(name.data()));
    }();
    ~tables_test() override { std::filesystem::remove_all(directory); }
    [[nodiscard]] struct stat about(const std::string& path) const {
        struct stat found {};
        EXPECT_EQ(::stat(path.c_str(), &found), 0);
        return found;
    }
};

TEST_F(tables_test, WhatIsWrittenIsRead) {
    const auto path = directory + "/subscriber";
    const table written{users_columns, {{"alice", "tandem", "00ff"}, {"a:b\\c\n", "", "x"}}};
    ASSERT_TRUE(write_table(path, written));
    const auto read = read_table(path);
    ASSERT_TRUE(read);
    EXPECT_EQ(read->columns, users_columns);
    EXPECT_EQ(read->rows, written.rows);
    EXPECT_EQ(about(path).st_mode & 07777, 0640u);
}

TEST_F(tables_test, AFilesTimeRisesByWholeSecondsAtEachWrite) {
    const auto path = directory + "/unit_name";
    ASSERT_TRUE(write_table(path, {names_columns, {}}));
    auto last = about(path).st_mtim.tv_sec;
    for (int i = 0; i < 3; ++i) {
        ASSERT_TRUE(write_table(path, {names_columns, {}}));
        EXPECT_GT(about(path).st_mtim.tv_sec, last);
        last = about(path).st_mtim.tv_sec;
    }
}

TEST_F(tables_test, AWriteThatFailsLeavesTheTable) {
    EXPECT_FALSE(write_table(directory + "/none/unit_name", {names_columns, {}}));
    EXPECT_FALSE(read_table(directory + "/none/unit_name"));
    EXPECT_TRUE(std::filesystem::is_empty(directory));
}

} // namespace
} // namespace tandem::sip
