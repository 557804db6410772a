// SPDX-License-Identifier: Apache-2.0
// Inside of the loader: which XDP program an interface has.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <tl/expected.hpp>

#include "bpf/loader/edge.hpp"

namespace tandem::bpf {

struct program_info {
    std::uint32_t id = 0; // 0 = none
    attach_mode mode = attach_mode::generic;
    std::string name;
};

// Id and mode only, by netlink: needs no privilege. The error is an errno.
[[nodiscard]] tl::expected<program_info, int> query_attached(unsigned ifindex) noexcept;

// With its name: for who may open programs by their id (CAP_SYS_ADMIN).
[[nodiscard]] tl::expected<program_info, std::string> query_program(unsigned ifindex, std::string_view name);

// errno in words, with the remedy where privileges are missing.
[[nodiscard]] std::string describe_error(int code);

} // namespace tandem::bpf
