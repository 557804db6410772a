// SPDX-License-Identifier: Apache-2.0
// A contract client that keeps some requests under way, as fast as one thread can: what it measures is the data plane.
// Own code, blocking; the control plane's is asynchronous. Keys are made up. Owner: the caller's thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "dataplane/api/contract.hpp"

namespace tandem::bench::setup {

class client {
public:
    explicit client(const std::string& path); // connects and says HELLO; throws where it cannot
    ~client();
    client(const client&) = delete;
    client& operator=(const client&) = delete;

    // Sends the items in messages as full as they may be. Throws where an item is not ok (after flush() at the latest).
    template <api::message_type type>
    void send(std::span<const api::request_of<type>> items) {
        using Item = api::request_of<type>;
        constexpr std::size_t most = (api::contract_max_message - sizeof(api::contract_header)) / sizeof(Item);
        for (; !items.empty(); items = items.subspan(std::min(most, items.size()))) {
            const auto part = items.first(std::min(most, items.size()));
            message(type, std::as_bytes(part), static_cast<std::uint16_t>(part.size()));
        }
    }
    void flush(); // every answer is there

private:
    void message(api::message_type type, std::span<const std::byte> items, std::uint16_t count);
    void read_answer();

    int fd_;
    std::uint32_t sequence_ = 0;
    unsigned under_way_ = 0;
    std::vector<std::byte> out_, in_;
};

} // namespace tandem::bench::setup
