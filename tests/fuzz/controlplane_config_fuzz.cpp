// SPDX-License-Identifier: Apache-2.0
// fuzz: dep_control_config
// controlplane.toml of any content: a configuration whose levels pass their own checks, or one sentence that names the
// file.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "controlplane/app/config.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string text(reinterpret_cast<const char*>(data), size);
    const auto read = tandem::control::parse_config(text, "controlplane.toml");
    const bool good = read ? !read->tunnel.listen.empty() && (read->tunnel.inner4 || read->tunnel.inner6) &&
                                 read->media.first_port < read->media.last_port &&
                                 read->policy.levels.check_all({read->tunnel.lifetime}, read->policy.default_level)
                           : read.error().rfind("controlplane.toml", 0) == 0;
    if (!good)
        std::abort();
    return 0;
}
