// SPDX-License-Identifier: Apache-2.0
// fuzz: dep_callcontrol_pure
// bencode (ng protocol, UDP from the SIP proxy): no crash, no over-read, bounded work; what is read prints and reads
// back.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "controlplane/callcontrol/bencode.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace tandem::callcontrol;
    const auto parsed = bencode::parse({reinterpret_cast<const char*>(data), size});
    if (!parsed)
        return 0;
    if (parsed->length > size)
        std::abort();
    const auto again = bencode::parse(bencode::print(parsed->what));
    if (!again || !(again->what == parsed->what))
        std::abort();
    return 0;
}
