// SPDX-License-Identifier: Apache-2.0
// bencode reader and writer (BEP 3). Pure; any thread.
#include "controlplane/callcontrol/bencode.hpp"

#include <array>
#include <charconv>

namespace tandem::callcontrol::bencode {

namespace {

class reader {
public:
    explicit reader(std::string_view bytes) : bytes_(bytes) {}

    std::optional<value> read(unsigned depth) {
        if (depth > max_depth || ++values_ > max_values || at_ >= bytes_.size())
            return {};
        switch (bytes_[at_]) {
        case 'i':
            return read_integer();
        case 'l':
            return read_list(depth);
        case 'd':
            return read_dict(depth);
        default:
            if (auto text = read_text())
                return value(std::move(*text));
            return {};
        }
    }
    [[nodiscard]] std::size_t position() const noexcept { return at_; }

private:
    std::optional<std::int64_t> number_until(char end) {
        const auto stop = bytes_.find(end, at_);
        if (stop == std::string_view::npos || stop == at_)
            return {};
        std::int64_t number = 0;
        const auto* last = bytes_.data() + stop;
        const auto [used, fault] = std::from_chars(bytes_.data() + at_, last, number);
        if (fault != std::errc{} || used != last)
            return {};
        at_ = stop + 1;
        return number;
    }

    std::optional<value> read_integer() {
        ++at_;
        if (const auto number = number_until('e'))
            return value(*number);
        return {};
    }

    std::optional<std::string> read_text() {
        if (bytes_[at_] < '0' || bytes_[at_] > '9')
            return {};
        const auto length = number_until(':');
        if (!length || static_cast<std::uint64_t>(*length) > bytes_.size() - at_)
            return {};
        std::string text(bytes_.substr(at_, static_cast<std::size_t>(*length)));
        at_ += text.size();
        return text;
    }

    [[nodiscard]] bool at_end_mark() {
        if (at_ < bytes_.size() && bytes_[at_] == 'e') {
            ++at_;
            return true;
        }
        return false;
    }

    std::optional<value> read_list(unsigned depth) {
        ++at_;
        list items;
        while (!at_end_mark()) {
            auto item = read(depth + 1);
            if (!item)
                return {};
            items.push_back(std::move(*item));
        }
        return value(std::move(items));
    }

    std::optional<value> read_dict(unsigned depth) {
        ++at_;
        dict entries;
        while (!at_end_mark()) {
            if (at_ >= bytes_.size())
                return {};
            auto key = read_text();
            if (!key)
                return {};
            auto item = read(depth + 1);
            if (!item)
                return {};
            entries.emplace_back(std::move(*key), std::move(*item));
        }
        return value(std::move(entries));
    }

    std::string_view bytes_;
    std::size_t at_ = 0;
    std::size_t values_ = 0;
};

void append_number(std::string& out, std::int64_t number) {
    std::array<char, 24> digits;
    out.append(digits.data(), std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr);
}

void append_text(std::string& out, std::string_view text) {
    append_number(out, static_cast<std::int64_t>(text.size()));
    out += ':';
    out += text;
}

} // namespace

void append(std::string& out, const value& what) {
    if (const auto* number = what.integer()) {
        out += 'i';
        append_number(out, *number);
        out += 'e';
    } else if (const auto* text = what.text()) {
        append_text(out, *text);
    } else if (const auto* items = what.items()) {
        out += 'l';
        for (const auto& item : *items)
            append(out, item);
        out += 'e';
    } else if (const auto* entries = what.entries()) {
        out += 'd';
        for (const auto& [key, item] : *entries) {
            append_text(out, key);
            append(out, item);
        }
        out += 'e';
    } else if (const auto* whole = what.whole()) {
        out += whole->bytes;
    }
}

writer& writer::text(std::string_view words) {
    append_text(bytes_, words);
    return *this;
}

writer& writer::number(std::int64_t n) {
    bytes_ += 'i';
    append_number(bytes_, n);
    return put('e');
}

const value* value::find(std::string_view key) const noexcept {
    if (const auto* all = entries())
        for (const auto& [name, item] : *all)
            if (name == key)
                return &item;
    return nullptr;
}

std::string_view value::text_of(std::string_view key) const noexcept {
    const auto* item = find(key);
    const auto* string = item != nullptr ? item->text() : nullptr;
    return string != nullptr ? std::string_view(*string) : std::string_view();
}

value& value::add(std::string key, value item) {
    if (auto* all = std::get_if<dict>(&data_))
        all->emplace_back(std::move(key), std::move(item));
    return *this;
}

value& value::push(value item) {
    if (auto* all = std::get_if<list>(&data_))
        all->push_back(std::move(item));
    return *this;
}

bool operator==(const value& left, const value& right) {
    return left.data_ == right.data_;
}

std::optional<parsed> parse(std::string_view bytes) {
    reader from(bytes);
    auto what = from.read(1);
    if (!what)
        return {};
    return parsed{std::move(*what), from.position()};
}

std::string print(const value& what) {
    std::string out;
    append(out, what);
    return out;
}

} // namespace tandem::callcontrol::bencode
