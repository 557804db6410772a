// SPDX-License-Identifier: Apache-2.0
// fuzz: dep_protocol
// Names of a call's ends, as signalling and people write them: canonical text that is its own canonical text, or one
// sentence of plain letters.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "controlplane/protocol/address_name.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace tandem::protocol;
    const auto name = parse_address_name({reinterpret_cast<const char*>(data), size});
    if (!name) {
        for (const char c : name.error())
            if (c < 0x20 || c == 0x7f)
                std::abort();
        return 0;
    }
    const auto again = parse_address_name(name->text);
    if (!again || !(*again == *name) || name->text.empty() || name->text.size() > 255)
        std::abort();
    return 0;
}
