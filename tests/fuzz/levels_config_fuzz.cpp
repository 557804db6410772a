// SPDX-License-Identifier: Apache-2.0
// fuzz: dep_policy_text
// levels.toml of any content: levels that pass their own checks, in which a key can be set and is then the one that was
// set, or one sentence that names the file.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "controlplane/policy/config_file.hpp"

namespace {

using namespace tandem::policy;

void expect(bool good) {
    if (!good)
        std::abort();
}

bool is_sentence(const std::string& text) {
    return text.rfind("levels.toml:", 0) == 0 && text.find('\n') == std::string::npos;
}

bool grows(const level_table& levels) {
    const auto& rows = levels.rows();
    for (std::size_t n = 1; n < rows.size(); ++n)
        if (rows[n].rekey > rows[n - 1].rekey || rows[n].seed_length() < rows[n - 1].seed_length())
            return false;
    return true;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string text(reinterpret_cast<const char*>(data), size);
    const limits bounds;
    const auto read = parse_config(text, "levels.toml", bounds);
    if (!read)
        expect(is_sentence(read.error()));
    else
        expect(read->levels.check_all(bounds, read->default_level) && grows(read->levels));
    const std::string name = read ? read->levels.rows().back().name : "high";
    const auto edited = set_level_key(text, "levels.toml", name, "overlap_s", "0.125", bounds);
    if (!edited) {
        expect(is_sentence(edited.error()));
        return 0;
    }
    const auto again = parse_config(*edited, "levels.toml", bounds);
    expect(again && again->levels.find(name)->overlap == std::chrono::milliseconds(125));
    expect(!read || again->levels.rows().size() == read->levels.rows().size());
    return 0;
}
