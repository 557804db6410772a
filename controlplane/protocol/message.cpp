// SPDX-License-Identifier: Apache-2.0
// Codec of the control message. See message.hpp; every check is made here and nowhere else.
#include "controlplane/protocol/message.hpp"

#include <algorithm>

namespace tandem::protocol {

std::uint64_t load_be(std::span<const std::uint8_t> bytes) noexcept {
    std::uint64_t value = 0;
    for (const auto byte : bytes)
        value = value << 8 | byte;
    return value;
}

void store_be(std::span<std::uint8_t> bytes, std::uint64_t value) noexcept {
    for (std::size_t i = bytes.size(); i-- > 0; value >>= 8)
        bytes[i] = static_cast<std::uint8_t>(value & 0xFFU);
}

namespace {

// Length of the UTF-8 sequence at the start (RFC 3629: no overlong forms, no surrogates); 0 where there is none.
std::size_t utf8_sequence(std::span<const std::uint8_t> bytes) noexcept {
    const std::uint8_t lead = bytes[0];
    if (lead < 0x80)
        return lead >= 0x20 && lead != 0x7F ? 1 : 0; // control characters would forge log lines
    const std::size_t length = lead >= 0xC2 && lead <= 0xDF   ? 2
                               : (lead & 0xF0U) == 0xE0       ? 3
                               : lead >= 0xF0 && lead <= 0xF4 ? 4
                                                              : 0;
    if (length == 0 || bytes.size() < length)
        return 0;
    for (std::size_t i = 1; i < length; ++i)
        if ((bytes[i] & 0xC0U) != 0x80)
            return 0;
    const std::uint8_t second = bytes[1];
    if ((lead == 0xC2 && second < 0xA0) || (lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F) ||
        (lead == 0xF0 && second < 0x90) || (lead == 0xF4 && second > 0x8F))
        return 0;
    return length;
}

// Text cut to `max` bytes without cutting a character in two.
std::size_t cut_text(std::span<const std::uint8_t> text, std::size_t max) noexcept {
    if (text.size() <= max)
        return text.size();
    while (max > 0 && (text[max] & 0xC0U) == 0x80)
        --max;
    return max;
}

} // namespace

bool valid_text(std::span<const std::uint8_t> bytes) noexcept {
    while (!bytes.empty()) {
        const auto length = utf8_sequence(bytes);
        if (length == 0)
            return false;
        bytes = bytes.subspan(length);
    }
    return true;
}

std::optional<header> peek(std::span<const std::uint8_t> bytes) noexcept {
    if (bytes.size() < header_size)
        return std::nullopt;
    header h;
    h.version = bytes[0] >> 4;
    h.indication = bytes[0] & 0x0FU;
    h.reserved = bytes[1];
    h.type = bytes[2];
    h.tlv_count = bytes[3];
    h.tsid = load_be(bytes.subspan(4, 8));
    h.sequence = static_cast<std::uint32_t>(load_be(bytes.subspan(12, 4)));
    return h;
}

message message::refusal(const header& of, status code, std::string_view reason) {
    message answer(static_cast<std::uint8_t>(of.type | 1U));
    answer.tsid_ = of.tsid;
    answer.sequence_ = of.sequence;
    answer.add<tlv::status>(static_cast<std::uint16_t>(code));
    if (code != status::ok)
        answer.add<tlv::reason>(reason.empty() ? text_of(code) : reason);
    return answer;
}

message message::response(status code, std::string_view reason) const {
    return refusal({.type = type_, .tsid = tsid_, .sequence = sequence_}, code, reason);
}

message message::copy() const {
    message other(type_);
    other.tsid_ = tsid_;
    other.sequence_ = sequence_;
    other.entries_ = entries_;
    other.values_ = values_;
    return other;
}

status message::code() const noexcept {
    return static_cast<status>(get<tlv::status>().value_or(static_cast<std::uint16_t>(status::ok)));
}

std::span<const std::uint8_t> message::find(tlv id, std::size_t index) const noexcept {
    static constexpr std::uint8_t empty_value = 0; // an empty TLV is present: its view's data() is not null
    for (const auto& e : entries_)
        if (e.id == id && index-- == 0)
            return e.length == 0 ? std::span(&empty_value, 0)
                                 : std::span<const std::uint8_t>(values_).subspan(e.offset, e.length);
    return {};
}

std::size_t message::count(tlv id) const noexcept {
    return static_cast<std::size_t>(std::ranges::count(entries_, id, &entry::id));
}

void message::append(tlv id, std::span<const std::uint8_t> value) {
    const auto& row = info(id);
    if (row.kind == kind::text)
        value = value.first(cut_text(value, row.max));
    const std::size_t total = header_size + entries_.size() * 4 + 4 + values_.size() + value.size();
    if (value.size() < row.min || value.size() > row.max || entries_.size() == 255 || total > max_message)
        return;
    entries_.push_back({id, static_cast<std::uint16_t>(value.size()), static_cast<std::uint32_t>(values_.size())});
    values_.insert(values_.end(), value.begin(), value.end());
}

void message::append_number(tlv id, std::uint64_t value, std::size_t width) {
    std::array<std::uint8_t, 8> bytes{};
    store_be(std::span(bytes).first(width), value);
    append(id, std::span(bytes).first(width));
}

void message::append_endpoint(tlv id, const endpoint& value) {
    std::array<std::uint8_t, 18> bytes{};
    std::ranges::copy(value.address.bytes, bytes.begin());
    store_be(std::span(bytes).last(2), value.port);
    append(id, bytes);
}

wiped_bytes message::encode() const {
    wiped_bytes out(header_size + entries_.size() * 4 + values_.size());
    const std::span all(out);
    out[0] = protocol_version << 4;
    out[2] = type_;
    out[3] = static_cast<std::uint8_t>(entries_.size());
    store_be(all.subspan(4, 8), tsid_);
    store_be(all.subspan(12, 4), sequence_);
    std::size_t at = header_size;
    for (const auto& e : entries_) {
        store_be(all.subspan(at, 2), static_cast<std::uint16_t>(e.id));
        store_be(all.subspan(at + 2, 2), e.length);
        std::copy_n(values_.begin() + e.offset, e.length, out.begin() + static_cast<std::ptrdiff_t>(at + 4));
        at += 4U + e.length;
    }
    return out;
}

tl::expected<message, status> decode(std::span<const std::uint8_t> bytes) {
    const auto head = peek(bytes);
    if (!head)
        return tl::unexpected(status::bad_tlv);
    if (head->version != protocol_version)
        return tl::unexpected(status::bad_version);
    if (head->indication != 0)
        return tl::unexpected(status::bad_indication);
    if (head->reserved != 0)
        return tl::unexpected(status::bad_reserved);
    if (find_exchange(head->type) == nullptr)
        return tl::unexpected(status::unknown_type);

    message m(head->type);
    m.tsid_ = head->tsid;
    m.sequence_ = head->sequence;
    auto rest = bytes.subspan(header_size);
    for (unsigned i = 0; i < head->tlv_count; ++i) {
        if (rest.empty())
            return tl::unexpected(status::bad_count); // the header promises more
        if (rest.size() < 4)
            return tl::unexpected(status::bad_tlv);
        const auto number = static_cast<std::uint16_t>(load_be(rest.first(2)));
        const auto length = static_cast<std::size_t>(load_be(rest.subspan(2, 2)));
        rest = rest.subspan(4);
        if (length > rest.size())
            return tl::unexpected(status::bad_tlv);
        const auto value = rest.first(length);
        rest = rest.subspan(length);
        const auto* row = find_tlv(number);
        if (row == nullptr)
            continue; // a newer peer's; skipped (ORA-14)
        if (length < row->min || length > row->max || (row->kind == kind::text && !valid_text(value)))
            return tl::unexpected(status::bad_tlv);
        m.append(row->id, value);
    }
    if (!rest.empty())
        return tl::unexpected(status::bad_count); // the header promises fewer
    if (m.is_response() && m.code() != status::ok)
        return m; // an error's answer needs nothing more
    for (const auto& n : need_table)
        if (n.in == m.what() && n.response == m.is_response() && m.count(n.what) == 0)
            return tl::unexpected(status::missing_tlv);
    return m;
}

} // namespace tandem::protocol
