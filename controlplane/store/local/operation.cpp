// SPDX-License-Identifier: Apache-2.0
// Operations as bytes and back (operation.hpp). Pure.
#include "controlplane/store/local/operation.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "controlplane/store/record_text.hpp"

namespace tandem::store {

namespace {

constexpr std::int64_t ship_bit = 1 << 8;

void append(std::string& to, std::int64_t number) {
    std::array<char, sizeof number> bytes{};
    std::memcpy(bytes.data(), &number, sizeof number);
    to.append(bytes.data(), bytes.size());
}
void append(std::string& to, const std::string& text) {
    append(to, static_cast<std::int64_t>(text.size()));
    to += text;
}

std::int64_t take_number(std::string_view& from) {
    std::int64_t number = 0;
    if (from.size() < sizeof number) {
        from = {};
        return 0;
    }
    std::memcpy(&number, from.data(), sizeof number);
    from.remove_prefix(sizeof number);
    return number;
}
std::string take_text(std::string_view& from) {
    const auto size = std::min(static_cast<std::size_t>(take_number(from)), from.size());
    const std::string text(from.substr(0, size));
    from.remove_prefix(size);
    return text;
}

} // namespace

finished finished_of(call_record record, bool to_ship) {
    finished done;
    done.pair = pair_of(record);
    done.call = past_call_of(record);
    done.to_ship = to_ship;
    record.media.clear();
    record.why.clear();
    done.record = std::move(record);
    return done;
}

void append(std::string& to, const operation& op) {
    append(to, static_cast<std::int64_t>(op.kind) | (op.done && op.done->to_ship ? ship_bit : 0));
    append(to, op.key);
    append(to, op.call);
    append(to, op.name);
    append(to, op.extra);
    append(to, op.body);
}

std::vector<operation> operations_of(std::string_view change) {
    std::vector<operation> all;
    while (!change.empty()) {
        auto& op = all.emplace_back();
        const auto kind = take_number(change);
        op.kind = static_cast<what>(kind & ~ship_bit);
        op.key = take_number(change);
        op.call = take_number(change);
        op.name = take_text(change);
        op.extra = take_text(change);
        op.body = take_text(change);
        if (op.kind != what::record_made)
            continue;
        op.done = std::make_unique<finished>();
        if (auto record = call_record_from_json(op.body))
            *op.done = finished_of(std::move(*record), (kind & ship_bit) != 0);
    }
    if (!all.empty())
        all.back().last = true;
    return all;
}

} // namespace tandem::store
