// SPDX-License-Identifier: Apache-2.0
// fuzz: dep_agent
// The agent's files in state_dir of any content: refused with a sentence that names the file, or read whole, and then
// what is written of it is read the same.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "tools/agent/advice/contacts.hpp"
#include "tools/agent/advice/history.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace tandem::agent;
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    if (const auto book = contact_book::parse(text, "contacts.toml")) {
        const auto again = contact_book::parse(book->to_toml(), "again");
        if (!again || again->contacts() != book->contacts() || again->categories() != book->categories())
            std::abort();
    } else if (book.error().rfind("contacts.toml:", 0) != 0) {
        std::abort();
    }
    if (const auto all = parse_profiles(text, "alice", "profiles.json")) {
        const auto again = parse_profiles(format_profiles(*all), "alice", "again");
        if (!again || *again != *all)
            std::abort();
    } else if (all.error().rfind("profiles.json:", 0) != 0) {
        std::abort();
    }
    return 0;
}
