// SPDX-License-Identifier: Apache-2.0
// A directory of a test's own, with the agent's files in it, gone with the test. For tests only.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

namespace tandem::agent {

struct temporary_directory {
    std::string path = "/tmp/tandem-agent-test-XXXXXX";
    temporary_directory() {
        if (::mkdtemp(path.data()) == nullptr)
            std::abort();
    }
    temporary_directory(const temporary_directory&) = delete;
    temporary_directory& operator=(const temporary_directory&) = delete;
    ~temporary_directory() {
        std::error_code ignored;
        std::filesystem::remove_all(path, ignored);
    }
};

} // namespace tandem::agent
