// SPDX-License-Identifier: Apache-2.0
// One key of one level changed in the text of levels.toml (config_file.hpp): a person's comments and order stay.
#include <algorithm>

#include "controlplane/policy/config_file.hpp"
#include "controlplane/policy/toml_reader.hpp"

namespace tandem::policy {

namespace {

constexpr std::array<std::string_view, 3> word_keys{"suite", "keygen", "path"};
constexpr std::array<std::string_view, 5> plain_keys{"seed_bytes", "rekey_s", "overlap_s", "tag_bits", "seed_is_key"};

bool is_blank(char c) {
    return c == ' ' || c == '\t';
}

std::string_view trimmed(std::string_view text) {
    while (!text.empty() && is_blank(text.front()))
        text.remove_prefix(1);
    while (!text.empty() && (is_blank(text.back()) || text.back() == '\r' || text.back() == '\n'))
        text.remove_suffix(1);
    return text;
}

// The value as it stands in TOML; nothing where it could be more than one value.
std::optional<std::string> literal(std::string_view key, std::string_view value) {
    value = trimmed(value);
    const bool word = std::find(word_keys.begin(), word_keys.end(), key) != word_keys.end();
    if (word && value.size() >= 2 && value.front() == '"' && value.back() == '"')
        value = value.substr(1, value.size() - 2);
    const bool fine = !value.empty() && value.size() <= 64 && std::all_of(value.begin(), value.end(), [](char c) {
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '-' ||
               c == '.' || c == '+';
    });
    if (!fine)
        return {};
    return word ? '"' + std::string(value) + '"' : std::string(value);
}

std::vector<std::string> lines_of(std::string_view text) { // each with its end
    std::vector<std::string> lines;
    while (!text.empty()) {
        const auto size = std::min(text.find('\n'), text.size() - 1) + 1;
        lines.emplace_back(text.substr(0, size));
        text.remove_prefix(size);
    }
    return lines;
}

// Is the line "[levels.NAME]", blanks, quotes and a comment aside?
bool is_header_of(std::string_view line, std::string_view name) {
    line = trimmed(line);
    const auto take = [&](std::string_view token) {
        line = trimmed(line);
        if (line.substr(0, token.size()) != token)
            return false;
        line.remove_prefix(token.size());
        return true;
    };
    if (!take("[") || !take("levels") || !take("."))
        return false;
    line = trimmed(line);
    for (const std::string quote : {"", "\"", "'"}) {
        const auto rest = line;
        if (take(quote + std::string(name) + quote) && take("]"))
            return trimmed(line).empty() || trimmed(line).front() == '#';
        line = rest;
    }
    return false;
}

class editor {
public:
    editor(std::string_view text, const toml_reader& r) : r_(r), lines_(lines_of(text)), root_(r.parse(text)) {}

    void set(std::string_view name, std::string_view key, const std::string& value) {
        const auto* levels = r_.table(root_, "levels");
        if (levels == nullptr || levels->empty())
            return add_all(name, key, value);
        const auto* level = levels->get_as<toml::table>(name);
        if (level == nullptr)
            r_.fail(
                fmt::format("there is no level \"{}\"; levels: {}; write a new one into the file, where its place says "
                            "how strong it is",
                            name, names(*levels)));
        if (const auto* node = level->get(key))
            replace(*node, key, value);
        else
            add(*level, name, key, value);
    }

    [[nodiscard]] std::string text() const { return fmt::format("{}", fmt::join(lines_, "")); }

private:
    static std::string names(const toml::table& levels) {
        std::vector<std::string_view> all;
        for (const auto& [key, node] : levels)
            all.push_back(key.str());
        return fmt::format("{}", fmt::join(all, ", "));
    }

    void replace(const toml::node& node, std::string_view key, const std::string& value) {
        const auto& [begin, end, file] = node.source();
        if (node.is_table() || node.is_array() || begin.line != end.line || begin.line == 0 ||
            begin.line > lines_.size() || end.column <= begin.column || end.column > lines_[begin.line - 1].size() + 1)
            r_.fail(node, fmt::format("{} is written in a way that cannot be changed here; edit the file", key));
        lines_[begin.line - 1].replace(begin.column - 1, end.column - begin.column, value);
    }

    // Behind the level's last key, or its header.
    void add(const toml::table& level, std::string_view name, std::string_view key, const std::string& value) {
        const auto header = std::find_if(lines_.begin(), lines_.end(),
                                         [&](const std::string& line) { return is_header_of(line, name); });
        if (header == lines_.end())
            r_.fail(
                fmt::format("level {} has no table of its own, [levels.{}], to which {} could be added; edit the file",
                            name, name, key));
        auto after = static_cast<std::size_t>(header - lines_.begin()); // index of the line behind which it goes
        for (const auto& [known, node] : level)
            after = std::max(after, std::size_t{node.source().end.line} - 1);
        after = std::min(after, lines_.size() - 1);
        end_line(after);
        const bool dos = lines_[after].ends_with("\r\n");
        lines_.insert(lines_.begin() + static_cast<std::ptrdiff_t>(after) + 1,
                      fmt::format("{} = {}{}", key, value, dos ? "\r\n" : "\n"));
    }

    // No level is written: the built-in ones are in force, and go on to be.
    void add_all(std::string_view name, std::string_view key, const std::string& value) {
        const auto built_in = level_table::built_in();
        if (built_in.find(name) == nullptr)
            r_.fail(
                fmt::format("there is no level \"{}\"; the built-in ones are basic, standard, elevated, high", name));
        if (!lines_.empty())
            end_line(lines_.size() - 1);
        for (const auto& row : built_in.rows()) {
            lines_.push_back(fmt::format("\n[levels.{}]\n", row.name));
            if (row.name == name)
                lines_.push_back(fmt::format("{} = {}\n", key, value));
        }
    }

    void end_line(std::size_t at) {
        if (!lines_[at].ends_with('\n'))
            lines_[at] += '\n';
    }

    const toml_reader& r_;
    std::vector<std::string> lines_;
    toml::table root_;
};

} // namespace

tl::expected<std::string, std::string> set_level_key(std::string_view text, const std::string& file,
                                                     std::string_view name, std::string_view key,
                                                     std::string_view value, const limits& bounds) {
    const auto among = [&](const auto& keys) { return std::find(keys.begin(), keys.end(), key) != keys.end(); };
    if (!among(word_keys) && !among(plain_keys))
        return tl::unexpected(fmt::format("unknown key \"{}\" of a level; known: {}, {}", key,
                                          fmt::join(word_keys, ", "), fmt::join(plain_keys, ", ")));
    const auto written = literal(key, value);
    if (!written)
        return tl::unexpected(
            fmt::format("\"{}\" is no value of {}; write one word or number, such as AEAD_AES_256_GCM, "
                        "32, 2.5 or true",
                        value, key));
    try {
        const toml_reader r(file);
        editor edit(text, r);
        edit.set(name, key, *written);
        auto fresh = edit.text();
        if (const auto fine = parse_config(fresh, file, bounds); !fine)
            return tl::unexpected(fine.error());
        return fresh;
    } catch (const toml_fault& fault) {
        return tl::unexpected(fault.text);
    }
}

} // namespace tandem::policy
