// SPDX-License-Identifier: Apache-2.0
// Verbs about levels: list, reload, check, set. Owner thread: io_context.
#include <fmt/format.h>

#include "controlplane/app/verb_tools.hpp"

namespace tandem::control {

using nlohmann::json;

namespace {

json config_json(const policy::config& of) {
    json levels = json::array(), prefixes = json::array();
    for (const auto& level : of.levels.rows())
        levels.push_back(to_json(level, of.default_level));
    for (const auto& [prefix, level] : of.prefixes)
        prefixes.push_back({{"prefix", prefix}, {"level", level}});
    return {{"levels", levels},
            {"default", of.default_level},
            {"floor", of.floor.empty() ? json() : json(of.floor)},
            {"ceiling", of.ceiling.empty() ? json() : json(of.ceiling)},
            {"prefixes", prefixes}};
}

} // namespace

verb_result verbs::level_list() const {
    auto out = config_json(rooms_.policy.settings());
    out["file"] = rooms_.levels.path();
    return out;
}

verb_result verbs::level_reload(const std::string& who) {
    if (auto done = rooms_.levels.reload(who); !done)
        return failed(done.error());
    return level_list();
}

verb_result verbs::level_check(const json& args) const {
    const auto text = args.find("text");
    if (text == args.end() || !text->is_string())
        return usage("level check needs the text of a levels.toml: {\"text\": \"...\", \"file\": \"its name\"}");
    const auto name = text_arg(args, "file");
    const auto read = rooms_.levels.check(text->get_ref<const std::string&>(), name.empty() ? "levels.toml" : name);
    if (!read)
        return failed(read.error());
    return config_json(*read);
}

verb_result verbs::level_set(const json& args, const std::string& who) {
    const auto name = text_arg(args, "name");
    std::map<std::string, std::string> values;
    const auto add = [&](const std::string& key, const json& value) {
        values[key] = value.is_string() ? value.get<std::string>() : value.dump();
    };
    if (const auto many = args.find("values"); many != args.end() && many->is_object())
        for (const auto& [key, value] : many->items())
            add(key, value);
    if (const auto key = text_arg(args, "key"); !key.empty() && args.contains("value"))
        add(key, args["value"]);
    if (name.empty() || values.empty())
        return usage("level set needs a level and a value: {\"name\": \"high\", \"values\": {\"rekey_s\": 5}}");
    if (auto done = rooms_.levels.set(name, values, who); !done)
        return failed(done.error());
    return level_list();
}

} // namespace tandem::control
