// SPDX-License-Identifier: Apache-2.0
// The security database as CSV (csv.hpp).
#include "controlplane/policy/csv.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>

#include "controlplane/policy/config_file.hpp"
#include "controlplane/protocol/address_name.hpp"
#include "controlplane/protocol/message.hpp"

namespace tandem::policy {

namespace {

constexpr std::array<std::string_view, 5> columns{"address", "level", "keygen", "path", "comment"};
constexpr std::size_t longest_comment = 255;

// UTF-8 without control characters, as everything that a log or a reply may show.
bool is_plain(std::string_view text) {
    return protocol::valid_text({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
}

// For sentences: one line of plain letters, whatever was in the field.
std::string shown(std::string_view text) {
    std::string plain = "\"";
    for (const char c : text.substr(0, 64))
        plain += c >= 0x20 && c < 0x7f ? c : '?';
    return plain + (text.size() > 64 ? "...\"" : "\"");
}

using fault = std::optional<std::string>;

fault put_level(rule& row, std::string_view text, const level_exists& exists) {
    if (text.empty())
        return "the level is empty: every row names one, or deny";
    if (text.size() > 32 || !is_plain(text) || (exists && text != deny && !exists(text)))
        return shown(text) + " is no level; `tandemctl level list` names them, and deny refuses the call";
    row.level = text;
    return {};
}

fault put_comment(rule& row, std::string_view text) {
    if (text.size() > longest_comment)
        return fmt::format("a comment of {} bytes is too long; write {} at most", text.size(), longest_comment);
    if (!is_plain(text))
        return "the comment has control characters or is no UTF-8; write plain text on one line";
    row.comment = text;
    return {};
}

fault put(rule& row, std::size_t column, std::string_view text, const level_exists& exists) {
    switch (column) {
    case 0: {
        auto name = protocol::parse_address_name(text);
        if (!name)
            return name.error();
        row.address = std::move(name->text);
        return {};
    }
    case 1:
        return put_level(row, text, exists);
    case 2:
        row.keys = key_source_of(text);
        return text.empty() || row.keys ? fault()
                                        : shown(text) + " makes no keys; write gateway, device, both or nothing";
    case 3:
        row.path = path_choice_of(text);
        return text.empty() || row.path ? fault() : shown(text) + " is no path; write wlan, wwan, either or nothing";
    default:
        return put_comment(row, text);
    }
}

struct refused {
    std::size_t line, column;
    std::string what;
};

// Field after field, with the place where each begins.
class csv_reader {
public:
    explicit csv_reader(std::string_view text) : text_(text) {
        if (text_.substr(0, 3) == "\xef\xbb\xbf") // what some editors put before UTF-8
            at_ = line_begin_ = 3;
    }

    [[nodiscard]] bool at_end() const noexcept { return at_ == text_.size(); }
    [[nodiscard]] std::size_t line() const noexcept { return line_; }
    [[nodiscard]] std::size_t column() const noexcept { return field_ - line_begin_ + 1; } // of the last field

    // One more field of the line; last: the line ends behind it.
    std::string_view field(bool& last) {
        field_ = at_;
        const auto value = at_ < text_.size() && text_[at_] == '"' ? quoted() : bare();
        last = end_of_field();
        return value;
    }
    // After a line's last field: the next field is on the next line that is not empty.
    void next_line() {
        for (;;) {
            if (std::exchange(ended_line_, false)) {
                ++line_;
                line_begin_ = at_;
            }
            if (at_end() || (text_[at_] != '\n' && text_.substr(at_, 2) != "\r\n"))
                return;
            end_of_field();
        }
    }
    [[noreturn]] void fail(std::string what) const { throw refused{line_, column(), std::move(what)}; }

private:
    std::string_view bare() {
        const auto end = std::min(text_.find_first_of(",\r\n\"", at_), text_.size());
        if (end < text_.size() && text_[end] == '"') {
            field_ = end;
            fail("a quote inside of a field that does not begin with one; write \"a \"\"word\"\"\"");
        }
        const auto value = text_.substr(at_, end - at_);
        at_ = end;
        return value;
    }
    std::string_view quoted() {
        unquoted_.clear();
        for (auto from = at_ + 1;;) {
            const auto quote = text_.find('"', from);
            const auto end = std::min(quote, text_.size());
            if (text_.substr(from, end - from).find('\n') != std::string_view::npos || quote == std::string_view::npos)
                fail("the quote that begins here does not end on its line");
            unquoted_ += text_.substr(from, end - from);
            at_ = quote + 1;
            if (at_ == text_.size() || text_[at_] != '"')
                return unquoted_;
            unquoted_ += '"';
            from = at_ + 1;
        }
    }
    bool end_of_field() {
        if (at_end())
            return true;
        if (text_[at_] == ',') {
            ++at_;
            return false;
        }
        const std::size_t size = text_[at_] == '\n' ? 1 : text_.substr(at_, 2) == "\r\n" ? 2 : 0;
        if (size == 0) {
            field_ = at_;
            fail(text_[at_] == '\r' ? "a carriage return inside of a line"
                                    : "letters behind the closing quote; put a comma there");
        }
        ended_line_ = true;
        at_ += size;
        return true;
    }

    std::string_view text_;
    std::size_t at_ = 0, field_ = 0, line_ = 1, line_begin_ = 0;
    bool ended_line_ = false;
    std::string unquoted_;
};

void read_header(csv_reader& in) {
    bool last = false;
    std::size_t number = 0;
    for (; !last; ++number) {
        const auto name = in.field(last);
        if (number >= columns.size() || name != columns[number])
            in.fail(fmt::format("{} is no column here; the first line is: {}", shown(name), fmt::join(columns, ",")));
    }
    if (number < 2)
        in.fail("the columns address and level are needed");
    in.next_line();
}

std::vector<rule> read_rows(csv_reader& in, const level_exists& exists) {
    std::vector<rule> rows;
    std::unordered_map<std::string, std::size_t> seen; // address -> line
    for (;;) {
        if (in.at_end())
            return rows;
        rule& row = rows.emplace_back();
        const auto line = in.line();
        bool last = false;
        std::size_t number = 0;
        for (; !last; ++number) {
            const auto text = in.field(last);
            if (number >= columns.size())
                in.fail(fmt::format("a row has {} columns at most; put quotes around a comment with commas",
                                    columns.size()));
            if (auto wrong = put(row, number, text, exists))
                in.fail(std::move(*wrong));
            if (number == 0)
                if (const auto [first, fresh] = seen.emplace(row.address, line); !fresh)
                    in.fail(fmt::format("{} is in line {} too; keep one of them", row.address, first->second));
        }
        if (number < 2)
            in.fail("a row needs an address and a level");
        in.next_line();
    }
}

void append_field(std::string& to, std::string_view text) {
    if (text.find_first_of(",\"\r\n") == std::string_view::npos) {
        to += text;
        return;
    }
    to += '"';
    for (const char c : text) {
        if (c == '"')
            to += '"';
        to += c;
    }
    to += '"';
}

} // namespace

tl::expected<std::vector<rule>, std::string> parse_csv(std::string_view text, const std::string& file,
                                                       const level_exists& exists) {
    try {
        csv_reader in(text);
        read_header(in);
        return read_rows(in, exists);
    } catch (const refused& at) {
        return tl::unexpected(fmt::format("{}:{}:{}: {}", file, at.line, at.column, at.what));
    }
}

void append_csv(std::string& to, const rule& row) {
    append_field(to, row.address);
    to += ',';
    append_field(to, row.level);
    to += ',';
    to += row.keys ? name_of(*row.keys) : std::string_view();
    to += ',';
    to += row.path ? name_of(*row.path) : std::string_view();
    to += ',';
    append_field(to, row.comment);
    to += '\n';
}

std::string to_csv(const std::vector<rule>& rows) {
    std::string text(csv_header);
    for (const auto& row : rows)
        append_csv(text, row);
    return text;
}

tl::expected<rule, std::string> make_rule(std::string_view address, std::string_view level, std::string_view keygen,
                                          std::string_view path, std::string_view comment, const level_exists& exists) {
    rule row;
    std::size_t column = 0;
    for (const auto text : {address, level, keygen, path, comment})
        if (auto wrong = put(row, column++, text, exists))
            return tl::unexpected(std::move(*wrong));
    return row;
}

} // namespace tandem::policy
