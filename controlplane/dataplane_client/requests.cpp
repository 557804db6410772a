// SPDX-License-Identifier: Apache-2.0
// What may be asked of the data plane: batches with a status for each item, lists by pages. Owner thread: io_context.
#include <algorithm>
#include <cstring>
#include <string.h>
#include <type_traits>

#include "controlplane/dataplane_client/client.hpp"
#include "controlplane/dataplane_client/message.hpp"

namespace tandem::dataplane_client {

namespace {

constexpr std::size_t batch_items = 2000; // at most, where so many fit into a message

// Items that are not to be sent apart: they take force together.
template <class Item>
constexpr bool belong_together(const Item&, const Item&) noexcept {
    return false;
}
template <>
constexpr bool belong_together(const api::flow_replacement& a, const api::flow_replacement& b) noexcept {
    return a.group == b.group;
}
template <>
constexpr bool belong_together(const api::stream_item& a, const api::stream_item& b) noexcept {
    return a.id == b.id && a.side == b.side;
}

// How many of the items go into a message that holds `most`.
template <class Item>
std::size_t message_part(std::span<const Item> items, std::size_t most) noexcept {
    std::size_t count = std::min(most, items.size());
    while (count != 0 && count < items.size() && belong_together(items[count - 1], items[count]))
        --count;
    return count != 0 ? count : std::min(most, items.size()); // more than a message holds: refused there
}

// A copy of items with keys, which does not stay behind.
struct keyed_items {
    explicit keyed_items(std::span<const api::flow_replacement> from) : items(from.begin(), from.end()) {}
    ~keyed_items() { explicit_bzero(items.data(), items.size() * sizeof(api::flow_replacement)); }
    keyed_items(const keyed_items&) = delete;
    keyed_items& operator=(const keyed_items&) = delete;
    std::vector<api::flow_replacement> items;
};

} // namespace

// One for each of its items.
asio::awaitable<result<std::span<const std::uint8_t>>> client::statuses_of(pending_ptr request) {
    const auto reply = co_await reply_to(request);
    if (!reply)
        co_return tl::unexpected(reply.error());
    const auto body = reply->subspan(sizeof(api::contract_header));
    if (body.size() != request->count * sizeof(api::item_status))
        co_return tl::unexpected(failure{api::status::bad_message, true, "data plane's answer has a wrong length"});
    co_return body;
}

template <api::message_type type>
asio::awaitable<client::statuses> client::batch(std::span<const api::request_of<type>> items) {
    using Item = api::request_of<type>;
    static_assert(std::is_same_v<api::reply_of<type>, api::item_status>);
    constexpr std::size_t most =
        std::min(batch_items, (api::contract_max_message - sizeof(api::contract_header)) / sizeof(Item));
    std::vector<api::item_status> out;
    out.reserve(items.size());
    while (!items.empty()) {
        if (!greeting_)
            co_return tl::unexpected(failure{api::status::ok, false, trouble_});
        const auto part = items.first(message_part(items, most));
        items = items.subspan(part.size());
        const auto bytes = std::as_bytes(part);
        const auto request =
            enqueue(type, {reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()}, part.size(), most);
        const auto first = request->count - part.size();
        const auto body = co_await statuses_of(request);
        if (!body)
            co_return tl::unexpected(body.error());
        for (std::size_t i = 0; i < part.size(); ++i)
            out.push_back(item_at<api::item_status>(*body, first + i));
    }
    co_return out;
}

asio::awaitable<client::statuses> client::flow_add(std::span<const api::flow_config> items) {
    return batch<api::message_type::flow_add>(items);
}
asio::awaitable<client::statuses> client::update_flows(std::span<const api::flow_update> items) {
    return batch<api::message_type::flow_update>(items);
}
asio::awaitable<client::statuses> client::flow_remove(std::span<const api::flow_ref> items) {
    return batch<api::message_type::flow_remove>(items);
}
asio::awaitable<client::statuses> client::epoch_install(std::span<const api::epoch_key> items) {
    return batch<api::message_type::epoch_install>(items);
}
asio::awaitable<client::statuses> client::epoch_switch(std::span<const api::epoch_ref> items) {
    return batch<api::message_type::epoch_switch>(items);
}
asio::awaitable<client::statuses> client::epoch_retire(std::span<const api::epoch_ref> items) {
    return batch<api::message_type::epoch_retire>(items);
}

asio::awaitable<client::statuses> client::flow_replace(std::span<const api::flow_replacement> items) {
    keyed_items numbered(items);
    for (std::size_t i = 0; i < items.size(); ++i) {
        if (i == 0 || items[i].group != items[i - 1].group)
            ++groups_;
        numbered.items[i].group = groups_;
    }
    co_return co_await batch<api::message_type::flow_replace>(numbered.items);
}
asio::awaitable<client::statuses> client::stream_put(std::span<const api::stream_item> items) {
    return batch<api::message_type::stream_put>(items);
}

asio::awaitable<client::statuses> client::source_prove(std::vector<api::proven_source> items) {
    co_return co_await batch<api::message_type::source_prove>(items);
}

asio::awaitable<client::statuses> client::inner_set(const api::inner_perimeter& perimeter) {
    const api::inner_perimeter kept = perimeter; // the caller's may go
    co_return co_await batch<api::message_type::inner_set>({&kept, 1});
}

asio::awaitable<result<api::status>> client::send_packet(api::flow_id from, api::net_address to,
                                                         std::span<const std::uint8_t> bytes) {
    constexpr std::size_t longest = sizeof(api::packet_out) + api::padded_packet(api::max_packet_bytes);
    constexpr std::size_t most = (api::contract_max_message - sizeof(api::contract_header)) / longest;
    if (!greeting_)
        co_return tl::unexpected(failure{api::status::ok, false, trouble_});
    const auto item = packet_item(from, to, bytes);
    if (item.empty())
        co_return api::status::bad_message;
    const auto request = enqueue(api::message_type::packet_out, item, 1, most);
    const auto at = request->count - 1;
    const auto body = co_await statuses_of(request);
    if (!body)
        co_return tl::unexpected(body.error());
    co_return item_at<api::item_status>(*body, at).status;
}

// A request of one item, or of none, that is answered by a list.
template <api::message_type type>
asio::awaitable<result<std::vector<api::reply_of<type>>>> client::ask(std::span<const api::request_of<type>> one) {
    using Item = api::reply_of<type>;
    if (!greeting_)
        co_return tl::unexpected(failure{api::status::ok, false, trouble_});
    const auto bytes = std::as_bytes(one);
    const auto request =
        enqueue(type, {reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()}, one.size(), one.size());
    const auto reply = co_await reply_to(request);
    if (!reply)
        co_return tl::unexpected(reply.error());
    const auto count = item_at<api::contract_header>(*reply, 0).count;
    const auto body = reply->subspan(sizeof(api::contract_header));
    if (body.size() != count * sizeof(Item))
        co_return tl::unexpected(failure{api::status::bad_message, true, "data plane's list has a wrong length"});
    std::vector<Item> out;
    for (std::size_t i = 0; i < count; ++i)
        out.push_back(item_at<Item>(body, i));
    co_return out;
}

asio::awaitable<result<std::vector<api::flow_entry>>> client::flow_list() {
    std::vector<api::flow_entry> out;
    out.reserve(greeting_ ? greeting_->reply.flows : 0); // many: a vector that grows would need thrice the memory
    for (api::list_request from{};;) {
        const auto page = co_await ask<api::message_type::flow_list>({&from, 1});
        if (!page)
            co_return tl::unexpected(page.error());
        out.insert(out.end(), page->begin(), page->end());
        if (page->size() < api::list_page)
            co_return out;
        from = {out.back().config.id, 1};
    }
}

asio::awaitable<result<std::vector<api::stream_item>>> client::stream_list() {
    std::vector<api::stream_item> out;
    for (api::list_request from{};;) {
        const auto page = co_await ask<api::message_type::stream_list>({&from, 1});
        if (!page)
            co_return tl::unexpected(page.error());
        if (page->empty())
            co_return out;
        out.insert(out.end(), page->begin(), page->end());
        from = {out.back().id, 1};
    }
}

asio::awaitable<result<std::vector<api::port_entry>>> client::port_list() {
    return ask<api::message_type::port_list>({});
}
asio::awaitable<result<std::vector<api::health_entry>>> client::health() {
    return ask<api::message_type::health>({});
}

} // namespace tandem::dataplane_client
