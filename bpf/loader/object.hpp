// SPDX-License-Identifier: Apache-2.0
// Inside of the loader: where a compiled program is.
#pragma once

#include <string>
#include <string_view>

#include <tl/expected.hpp>

namespace tandem::bpf {

// NAME.bpf.o of the build for a program that was itself started from the build, else the installed one: an installed
// one must not load code from a directory that somebody else may be able to create.
[[nodiscard]] tl::expected<std::string, std::string> readable_object(std::string_view name, std::string_view what);

} // namespace tandem::bpf
