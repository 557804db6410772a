// SPDX-License-Identifier: Apache-2.0
// The contract's socket (dataplane/api/contract.hpp): framing, permission, takeover. What a message does is the
// handler's. Owner: the control thread, which polls the descriptors and calls ready(). Never blocks: a peer that does
// not read its replies is disconnected. Requests may hold keys: the receive buffer is locked and wiped after every
// message.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <poll.h>
#include <span>
#include <string>
#include <vector>

#include <tl/expected.hpp>

#include "dataplane/api/contract.hpp"
#include "dataplane/app/observe_handler.hpp"

namespace tandem::app {

// An item of PACKET_OUT.
struct packet_to_send {
    api::packet_out what;
    std::span<const std::byte> bytes; // what.length of them, at least one
};

// Answers requests. Every function fills `reply` items for the items given; lengths were checked.
class contract_handler {
public:
    virtual ~contract_handler() = default;
    virtual void hello(api::hello_reply& reply, std::vector<api::address_entry>& addresses) = 0;
    virtual api::status flow_add(const api::flow_config& item, std::uint32_t& stats_index) = 0;
    virtual api::status flow_update(const api::flow_update& item) = 0;
    virtual api::status flow_remove(const api::flow_ref& item) = 0;
    virtual api::status epoch_install(const api::epoch_key& item) = 0;
    virtual api::status epoch_switch(const api::epoch_ref& item) = 0;
    virtual api::status epoch_retire(const api::epoch_ref& item) = 0;
    // One group: in force at once, or not at all.
    virtual void flow_replace(std::span<const api::flow_replacement> group, std::span<api::item_status> statuses) = 0;
    virtual void stream_put(std::span<const api::stream_item> items, std::span<api::item_status> statuses) = 0;
    virtual std::vector<api::stream_item> stream_list(const api::list_request& from) = 0;
    virtual std::vector<api::flow_entry> flow_list(const api::list_request& from) = 0;
    virtual std::vector<api::port_entry> port_list() = 0;
    virtual std::vector<api::health_entry> health() = 0;
    virtual api::status source_prove(const api::proven_source& item) = 0;
    virtual api::status inner_set(const api::inner_perimeter& item, std::uint32_t& ports) = 0;
    virtual void packet_out(std::span<const packet_to_send> items, std::span<api::item_status> statuses) = 0;
    virtual void end_of_request() {} // after the last item: what can be done once for all of them
};

class contract_server {
public:
    // Takes the socket: the caller holds the instance's lock, so a socket file that is there is a dead one's.
    [[nodiscard]] static tl::expected<std::unique_ptr<contract_server>, std::string>
    listen(const std::string& path, std::uint32_t permitted_uid, contract_handler& handler);
    ~contract_server();
    contract_server(const contract_server&) = delete;
    contract_server& operator=(const contract_server&) = delete;

    void add_descriptors(std::vector<pollfd>& to) const;
    void ready(std::span<const pollfd> polled); // any order, foreign ones are ignored
    void observe_by(observe_handler& observer) noexcept { observer_ = &observer; }
    void send_events(std::span<const api::flow_event> events);
    // PACKET_IN: `count` of them, each padded. False where nobody reads them, or not fast enough: they are lost, and
    // the connection stays.
    [[nodiscard]] bool send_packets(std::span<const std::byte> items, std::uint16_t count);
    [[nodiscard]] bool controlled() const noexcept { return controller_ >= 0; }

private:
    struct connection {
        int fd;
        std::uint32_t uid;
        std::uint32_t pid;
    };
    contract_server(std::string path, int fd, std::uint32_t permitted_uid, contract_handler& handler);
    void accept_one();
    void make_room();
    bool receive(const connection& from); // false: to be closed
    bool handle(const connection& from, std::span<const std::byte> message);
    bool dispatch(int fd, const api::contract_header& header, std::span<const std::byte> body);
    bool hello(int fd, const api::contract_header& header, std::span<const std::byte> body);
    template <api::message_type type, class Answer>
    bool list(int fd, const api::contract_header& header, std::span<const std::byte> body, Answer&& answer);
    template <api::message_type type, class All>
    bool together(int fd, const api::contract_header& header, std::span<const std::byte> body, All&& what);
    bool packets(int fd, const api::contract_header& header, std::span<const std::byte> body);
    bool refuse_length(int fd, const api::contract_header& header, std::size_t item, std::size_t came);
    template <class Item>
    bool tell(int fd, const api::contract_header& header, const std::vector<Item>& all);
    bool observe(const connection& from, const api::contract_header& header, std::span<const std::byte> body);
    template <api::message_type type, class Each>
    bool each(int fd, const api::contract_header& header, std::span<const std::byte> body, Each&& what);
    bool refuse(int fd, const api::contract_header& header, api::status status, std::string_view text);
    bool refuse_version(int fd, const api::contract_header& header, std::uint32_t asked);
    bool send(int fd, const api::contract_header& request, api::message_type type, std::uint16_t count,
              std::span<const std::byte> body);
    void close_connection(int fd);

    std::string path_;
    int listen_fd_;
    std::uint32_t permitted_uid_;
    contract_handler& handler_;
    observe_handler* observer_ = nullptr;
    std::vector<connection> connections_; // oldest first
    std::uint64_t made_room_ = 0;
    int controller_ = -1;
    std::span<std::byte> buffer_; // locked pages
};

} // namespace tandem::app
