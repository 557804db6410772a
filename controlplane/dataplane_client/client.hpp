// SPDX-License-Identifier: Apache-2.0
// The only code that speaks the contract (dataplane/api/contract.hpp): one SOCK_SEQPACKET connection to the data plane,
// kept open (reconnect, HELLO), every request as an awaitable call over batches, events by callback. What holds a key
// is wiped after it was handed to the socket. Owner thread: the control plane's io_context.
#pragma once

#include <array>
#include <asio/awaitable.hpp>
#include <asio/generic/seq_packet_protocol.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/address.hpp>
#include <asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include <tl/expected.hpp>

#include "controlplane/dataplane_client/packets.hpp"
#include "dataplane/api/contract.hpp"

namespace tandem::dataplane_client {

struct failure {
    api::status status = api::status::ok; // what the data plane said; ok where it said nothing
    bool connected = true;                // false: there was no connection, or it was lost meanwhile
    std::string text;                     // a sentence for people
};
template <class T>
using result = tl::expected<T, failure>;

struct local_address {
    std::uint32_t index = 0;
    asio::ip::address ip;
    std::string name;
};

struct greeting {
    api::hello_reply reply{};
    std::vector<local_address> addresses;
    std::string stats_path;
};

// IPv4 travels as IPv4-mapped IPv6.
[[nodiscard]] api::net_address to_net_address(const asio::ip::address& ip, std::uint16_t port) noexcept;
[[nodiscard]] asio::ip::address from_net_ip(const std::uint8_t (&ip)[16]) noexcept;
[[nodiscard]] std::string_view text(api::status status) noexcept;

class client {
public:
    client(asio::io_context& io, std::string path);
    ~client();
    client(const client&) = delete;
    client& operator=(const client&) = delete;

    void start(); // connects, and again whenever the connection is lost
    void stop();

    [[nodiscard]] bool connected() const noexcept { return greeting_.has_value(); }
    [[nodiscard]] const std::optional<greeting>& hello() const noexcept { return greeting_; }
    [[nodiscard]] const std::string& path() const noexcept { return path_; }
    // Why there is no connection, as a sentence with the remedy; empty while connected.
    [[nodiscard]] const std::string& trouble() const noexcept { return trouble_; }
    [[nodiscard]] std::uint32_t connects() const noexcept { return connects_; }

    // The generation that an earlier life of this control plane knew (journal); 0 = none.
    void expect_generation(std::uint64_t generation) noexcept { generation_ = generation; }

    // Batches of any length; the answer has one status per item, in order. A batch is cut into messages where needed,
    // and what several callers ask in one turn of the io_context goes in one: items reach the data plane in the order
    // in which they were asked for, whoever asks.
    using statuses = result<std::vector<api::item_status>>;
    asio::awaitable<statuses> flow_add(std::span<const api::flow_config> items);
    asio::awaitable<statuses> update_flows(std::span<const api::flow_update> items);
    asio::awaitable<statuses> flow_remove(std::span<const api::flow_ref> items);
    // Items of one `group` stand together and take force at once; the number counts within this call only.
    asio::awaitable<statuses> flow_replace(std::span<const api::flow_replacement> items);
    asio::awaitable<statuses> epoch_install(std::span<const api::epoch_key> items);
    asio::awaitable<statuses> epoch_switch(std::span<const api::epoch_ref> items);
    asio::awaitable<statuses> epoch_retire(std::span<const api::epoch_ref> items);
    asio::awaitable<result<std::vector<api::flow_entry>>> flow_list();
    asio::awaitable<result<std::vector<api::port_entry>>> port_list();
    // Streams of SRTP sides: as they are, in the order of flows; and from such a copy (items of one side stand
    // together).
    asio::awaitable<result<std::vector<api::stream_item>>> stream_list();
    asio::awaitable<statuses> stream_put(std::span<const api::stream_item> items);
    asio::awaitable<statuses> source_prove(std::vector<api::proven_source> items);
    asio::awaitable<statuses> inner_set(const api::inner_perimeter& perimeter);
    asio::awaitable<result<std::vector<api::health_entry>>> health(); // see health.hpp
    // From a flow's port to anywhere: ok = it leaves, or waits for a neighbour for a second. 1 to max_packet_bytes.
    asio::awaitable<result<api::status>> send_packet(api::flow_id from, api::net_address to,
                                                     std::span<const std::uint8_t> bytes);

    // Called on the io_context. flows_lost: the data plane's flow memory is not the one known before.
    std::function<void(const greeting&, bool flows_lost)> on_connect;
    std::function<void(const std::string& why)> on_disconnect;
    std::function<void(const api::flow_event&)> on_event;
    std::function<void(const punted_packet&)> on_packet; // which nobody has authenticated

private:
    using protocol = asio::generic::seq_packet_protocol;
    // One message: waiting to be sent, or for its reply. Whoever has items in it waits on `wake`.
    struct pending {
        pending(asio::io_context& io, api::message_type what) : type(what), wake(io) {}
        ~pending();
        pending(const pending&) = delete;
        pending& operator=(const pending&) = delete;
        void append(std::span<const std::uint8_t> items, std::size_t items_count); // keys: no copy stays behind
        api::message_type type;
        std::uint32_t sequence = 0;
        std::vector<std::uint8_t> message; // header and items
        std::size_t count = 0;
        asio::steady_timer wake;
        std::vector<std::uint8_t> reply;
        bool done = false;
        bool lost = false;
    };
    using pending_ptr = std::shared_ptr<pending>;

    asio::awaitable<void> run();
    asio::awaitable<std::string> connect_and_greet();
    asio::awaitable<std::string> read_until_lost();
    void dispatch(std::span<const std::uint8_t> message);
    void lose(const std::string& why);
    pending_ptr enqueue(api::message_type type, std::span<const std::uint8_t> items, std::size_t count,
                        std::size_t most);
    asio::awaitable<void> send_queue();
    asio::awaitable<result<std::span<const std::uint8_t>>> reply_to(pending_ptr request);
    asio::awaitable<result<std::span<const std::uint8_t>>> statuses_of(pending_ptr request);
    template <api::message_type type>
    asio::awaitable<statuses> batch(std::span<const api::request_of<type>> items);
    template <api::message_type type>
    asio::awaitable<result<std::vector<api::reply_of<type>>>> ask(std::span<const api::request_of<type>> one);

    asio::io_context& io_;
    std::string path_;
    protocol::socket socket_;
    asio::steady_timer retry_;
    asio::steady_timer deadline_;
    std::vector<std::uint8_t> buffer_;
    std::optional<greeting> greeting_;
    std::string trouble_;
    std::uint64_t generation_ = 0;
    std::uint32_t sequence_ = 0;
    std::uint32_t connects_ = 0;
    std::uint32_t groups_ = 0; // of flow_replace: several callers' may share a message
    bool stopped_ = true;
    std::deque<pending_ptr> queue_;                          // to be sent, in this order
    bool sending_ = false;                                   // send_queue() runs or will
    std::unordered_map<std::uint32_t, pending_ptr> waiting_; // sent; by sequence
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

} // namespace tandem::dataplane_client
