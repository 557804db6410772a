// SPDX-License-Identifier: Apache-2.0
// fuzz: dep_dataplane_outside
// dataplane.toml of any content: a configuration within its ranges, or one sentence that names the file.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "dataplane/app/config.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string text(reinterpret_cast<const char*>(data), size);
    const auto read = tandem::app::parse_config(text, "dataplane.toml");
    const bool good =
        read ? !read->addresses.empty() && !read->ports.empty() && read->workers >= 1 && read->max_flows >= 1
             : read.error().rfind("dataplane.toml", 0) == 0;
    if (!good)
        std::abort();
    return 0;
}
