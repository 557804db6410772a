// SPDX-License-Identifier: Apache-2.0
// fuzz: dep_policy_text
// `policy import` of any text: rules that come back the same out of their own export, or one sentence with a place.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "controlplane/policy/csv.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace tandem::policy;
    const auto read = parse_csv({reinterpret_cast<const char*>(data), size}, "rules.csv",
                                [](std::string_view level) { return level != "gone"; });
    if (!read) {
        if (read.error().rfind("rules.csv:", 0) != 0 || read.error().find('\n') != std::string::npos)
            std::abort();
        return 0;
    }
    const auto again = parse_csv(to_csv(*read), "rules.csv", {});
    if (!again || *again != *read)
        std::abort();
    return 0;
}
