// SPDX-License-Identifier: Apache-2.0
// Codec of the session layer's messages. See wire.hpp; every check of the form is made here.
#include "controlplane/session_layer/wire.hpp"

#include <algorithm>

#include "controlplane/protocol/message.hpp"

namespace tandem::session_layer {
namespace {

using protocol::load_be;
using protocol::store_be;

constexpr std::size_t widths[] = {
#define FIELD(name, octets) octets,
#include "controlplane/session_layer/wire.def"
};

struct row {
    verb what;
    const char* name;
    std::size_t tail; // the most
    std::size_t size; // without it
    std::array<field, 4> fields;
    std::size_t count;
};

template <class... Fields>
constexpr row make_row(verb what, const char* name, std::size_t tail, Fields... fields) {
    static_assert(sizeof...(fields) <= 4);
    const std::size_t own = 1 + (tail > 0 ? 2U : 0U);
    return {what, name, tail, (own + ... + widths[static_cast<std::size_t>(fields)]), {fields...}, sizeof...(fields)};
}

constexpr row rows[] = {
#define MESSAGE(name, number, tail, ...) make_row(verb::name, #name, tail __VA_OPT__(, ) __VA_ARGS__),
#include "controlplane/session_layer/wire.def"
};
constexpr bool numbered_in_order() {
    for (std::size_t i = 0; i < std::size(rows); ++i)
        if (static_cast<std::size_t>(rows[i].what) != i + 1)
            return false;
    return true;
}
static_assert(numbered_in_order());

const row& row_of(verb what) noexcept {
    return rows[static_cast<std::size_t>(what) - 1];
}

std::size_t width(field f) noexcept {
    return widths[static_cast<std::size_t>(f)];
}

} // namespace

const char* name_of(verb what) noexcept {
    return row_of(what).name;
}

std::size_t size_of(verb what) noexcept {
    return row_of(what).size;
}

bool frame_writer::put(const message& m) {
    const auto& r = row_of(m.what());
    const std::size_t size = r.size + m.tail().size();
    if (m.tail().size() > r.tail || used() + size > max_)
        return false;
    if (empty())
        out_.push_back(frame_mark);
    std::size_t at = out_.size();
    out_.resize(at + size);
    const std::span all(out_);
    out_[at++] = static_cast<std::uint8_t>(m.what());
    for (std::size_t i = 0; i < r.count; ++i) {
        store_be(all.subspan(at, width(r.fields[i])), m[r.fields[i]]);
        at += width(r.fields[i]);
    }
    if (r.tail > 0) {
        store_be(all.subspan(at, 2), m.tail().size());
        std::ranges::copy(m.tail(), out_.begin() + static_cast<std::ptrdiff_t>(at + 2));
    }
    return true;
}

std::size_t frame_writer::room(verb what) const noexcept {
    const std::size_t taken = used() + size_of(what);
    return taken < max_ ? std::min(max_ - taken, row_of(what).tail) : 0;
}

frame_reader::frame_reader(std::span<const std::uint8_t> frame) noexcept
    : rest_(frame), bad_(frame.empty() || frame[0] != frame_mark) {
    rest_ = bad_ ? std::span<const std::uint8_t>{} : frame.subspan(1);
}

std::optional<message> frame_reader::fail() noexcept {
    bad_ = true;
    rest_ = {};
    return std::nullopt;
}

std::optional<message> frame_reader::next() noexcept {
    if (rest_.empty())
        return std::nullopt;
    if (rest_[0] == 0 || rest_[0] > std::size(rows))
        return fail();
    const auto& r = rows[rest_[0] - 1];
    if (rest_.size() < r.size)
        return fail();
    message m(r.what);
    auto at = rest_.subspan(1);
    for (std::size_t i = 0; i < r.count; ++i) {
        m.set(r.fields[i], load_be(at.first(width(r.fields[i]))));
        at = at.subspan(width(r.fields[i]));
    }
    if (r.tail > 0) {
        const auto length = static_cast<std::size_t>(load_be(at.first(2)));
        at = at.subspan(2);
        if (length > r.tail || length > at.size())
            return fail();
        m.set_tail(at.first(length));
        at = at.subspan(length);
    }
    rest_ = at;
    return m;
}

} // namespace tandem::session_layer
