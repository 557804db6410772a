// SPDX-License-Identifier: Apache-2.0
// Streams' state in and out of the store (STREAM_LIST, STREAM_PUT): a copy for whoever must make a flow anew when this
// memory is lost. Control thread.
#include <algorithm>
#include <numeric>

#include "dataplane/flow/store.hpp"

namespace tandem::flow {

namespace {

constexpr std::size_t most_streams =
    (api::contract_max_message - sizeof(api::contract_header)) / sizeof(api::stream_item);
static_assert(most_streams >= 2 * max_streams, "a page holds whole flows");

} // namespace

void store::append_streams(api::flow_id id, slot_index slot, std::vector<api::stream_item>& to) const {
    for (const side* s : {&memory_.ins()[slot], &memory_.outs()[slot]}) {
        if (s->suite == api::suite::clear)
            continue;
        api::stream_state found[max_streams];
        const unsigned count = flow::list_streams(*s, streams_, found);
        for (unsigned i = 0; i < count; ++i)
            to.push_back({id, s->which, {}, found[i]});
    }
}

std::vector<api::stream_item> store::list_streams(const api::list_request& from) const {
    std::vector<api::stream_item> page, flow;
    const std::uint64_t ids = std::uint64_t{table_.addresses().size()} << 16;
    for (std::uint64_t id = from.has_after != 0 ? std::uint64_t{from.after} + 1 : 0; id < ids; ++id) {
        const slot_index slot = table_.find(static_cast<api::flow_id>(id));
        if (slot == no_slot)
            continue;
        flow.clear();
        append_streams(static_cast<api::flow_id>(id), slot, flow);
        if (page.size() + flow.size() > most_streams)
            break;
        page.insert(page.end(), flow.begin(), flow.end());
    }
    return page;
}

// All of one side, or none: what is put takes the place of what an earlier one has put.
api::status store::put_side(std::span<const api::stream_item> items, std::span<const std::size_t> which,
                            std::span<api::status> statuses) {
    const api::stream_item& first = items[which.front()];
    if (first.side > api::side::out)
        return api::status::bad_message;
    side* const to = side_of(first.id, first.side);
    if (to == nullptr)
        return api::status::unknown_flow;
    if (to->generation != 0 || to->suite == api::suite::clear)
        return api::status::bad_state; // no packet touches the streams of a side that has had no key
    side made;
    if (const auto wrong = init_side(made, to->which, to->suite, to->mki_length); wrong != api::status::ok)
        return wrong;
    for (const std::size_t i : which)
        if (statuses[i] = put_stream(made, streams_, items[i].state); statuses[i] != api::status::ok) {
            release_streams(made, streams_);
            return api::status::group_refused;
        }
    release_streams(*to, streams_);
    *to = made;
    return api::status::ok;
}

void store::put_streams(std::span<const api::stream_item> items, std::span<api::status> statuses) {
    std::vector<std::size_t> order(items.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    const auto key = [&](std::size_t i) { return std::pair(items[i].id, items[i].side); };
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return key(a) < key(b); });
    std::fill(statuses.begin(), statuses.end(), api::status::ok);
    for (std::size_t at = 0, end = 0; at < order.size(); at = end) {
        while (end < order.size() && key(order[end]) == key(order[at]))
            ++end;
        const auto which = std::span(order).subspan(at, end - at);
        const auto said = put_side(items, which, statuses);
        for (const std::size_t i : which)
            if (statuses[i] == api::status::ok)
                statuses[i] = said;
    }
}

} // namespace tandem::flow
