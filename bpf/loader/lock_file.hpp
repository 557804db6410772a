// SPDX-License-Identifier: Apache-2.0
// A lock of this host's by name: a file of /run/tandem that nobody else may open, so that nobody else can hold it. It
// goes with its process, however that ends.
#pragma once

#include <string>
#include <string_view>

#include <tl/expected.hpp>

#include "base/descriptor.hpp"

namespace tandem::bpf {

inline constexpr std::string_view lock_directory = "/run/tandem";

class lock_file {
public:
    // Least number of a lock's descriptor: the kernel closes a dead process's files from the highest down, and the next
    // one waits for the lock.
    static constexpr int first_descriptor = 900; // below the usual limit of 1,024
    struct refusal {
        bool held = false; // by another process
        std::string text;  // else: why it cannot be had
    };
    [[nodiscard]] static tl::expected<lock_file, refusal> take(std::string_view name);
    lock_file(lock_file&& other) noexcept = default;
    lock_file& operator=(lock_file&& other) noexcept;
    ~lock_file();

private:
    lock_file(descriptor fd, std::string path) noexcept : fd_(std::move(fd)), path_(std::move(path)) {}
    descriptor fd_;
    std::string path_;
};

} // namespace tandem::bpf
