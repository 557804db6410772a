// SPDX-License-Identifier: Apache-2.0
// Contract client: connection, HELLO, messages and their replies by sequence, events. What is asked for: requests.cpp.
// Owner thread: io_context.
#include "controlplane/dataplane_client/client.hpp"
#include "controlplane/dataplane_client/message.hpp"

#include <algorithm>
#include <asio/post.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <cstring>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <utility>

#include "controlplane/protocol/spawn.hpp"

namespace tandem::dataplane_client {

namespace {

constexpr auto reply_timeout = std::chrono::seconds(3);
constexpr auto retry_interval = std::chrono::milliseconds(250);

void wipe(std::vector<std::uint8_t>& bytes) noexcept {
    explicit_bzero(bytes.data(), bytes.size());
}

std::string remedy(const std::string& path, const asio::error_code& error) {
    if (error == asio::error::connection_refused || error.value() == ENOENT)
        return fmt::format(
            "data plane is not there ({}: {}): start tandem-dataplane, or set `dataplane` in controlplane.toml", path,
            error.message());
    if (error.value() == EACCES || error.value() == EPERM)
        return fmt::format("no permission for {}: run as the data plane's user, or set its controller_uid", path);
    return fmt::format("connection to the data plane ({}) failed: {}", path, error.message());
}

} // namespace

std::string_view text(api::status status) noexcept {
    switch (status) {
    case api::status::ok:
        return "ok";
    case api::status::bad_message:
        return "message malformed";
    case api::status::bad_version:
        return "contract version differs: update both programs together";
    case api::status::unknown_flow:
        return "no such flow";
    case api::status::flow_exists:
        return "a flow is there already";
    case api::status::bad_address:
        return "address is not configured in the data plane, or its family differs from the remote's";
    case api::status::bad_port:
        return "port is out of range";
    case api::status::bad_suite:
        return "suite is unknown";
    case api::status::bad_key_length:
        return "key length does not fit the suite";
    case api::status::bad_epoch:
        return "epoch is not installed, or installed with another key";
    case api::status::too_many_epochs:
        return "three epochs are in force";
    case api::status::table_full:
        return "flow table is full: raise max_flows in dataplane.toml";
    case api::status::bad_timeout:
        return "timeout is out of range";
    case api::status::not_permitted:
        return "not permitted: run as the data plane's user, or set its controller_uid";
    case api::status::not_controlling:
        return "another control plane took over";
    case api::status::busy:
    case api::status::not_possible:
        return "refused: it cannot be done now";
    case api::status::bad_state:
        return "stream state cannot be true, or has no place there";
    case api::status::not_yours:
        return "a flow of another media";
    case api::status::group_refused:
        return "another flow of the group was refused";
    }
    return "unknown status";
}

api::net_address to_net_address(const asio::ip::address& ip, std::uint16_t port) noexcept {
    api::net_address out{};
    const auto v6 = ip.is_v4() ? asio::ip::make_address_v6(asio::ip::v4_mapped, ip.to_v4()) : ip.to_v6();
    const auto bytes = v6.to_bytes();
    std::copy(bytes.begin(), bytes.end(), out.ip);
    out.port = port;
    return out;
}

asio::ip::address from_net_ip(const std::uint8_t (&ip)[16]) noexcept {
    asio::ip::address_v6::bytes_type bytes;
    std::copy(std::begin(ip), std::end(ip), bytes.begin());
    const asio::ip::address_v6 v6(bytes);
    if (v6.is_v4_mapped())
        return asio::ip::make_address_v4(asio::ip::v4_mapped, v6);
    return v6;
}

client::client(asio::io_context& io, std::string path)
    : io_(io), path_(std::move(path)), socket_(io), retry_(io), deadline_(io), buffer_(api::contract_max_message) {
    trouble_ = fmt::format("not connected to the data plane ({}) yet", path_);
}

client::~client() {
    *alive_ = false;
    wipe(buffer_);
}

void client::start() {
    if (!stopped_)
        return;
    stopped_ = false;
    tandem::protocol::spawn(io_, "connection to the data plane", run());
}

void client::stop() {
    stopped_ = true;
    asio::error_code ignored;
    socket_.close(ignored);
    retry_.cancel();
    deadline_.cancel();
    lose("stopped");
}

asio::awaitable<void> client::run() {
    const auto alive = alive_;
    while (*alive && !stopped_) {
        auto why = co_await connect_and_greet();
        if (!*alive)
            co_return;
        if (why.empty() && !stopped_) {
            why = co_await read_until_lost();
            if (!*alive)
                co_return;
            lose(why);
        }
        trouble_ = why;
        asio::error_code ignored;
        socket_.close(ignored);
        if (stopped_)
            co_return;
        retry_.expires_after(retry_interval);
        co_await retry_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    }
}

// Empty = connected, else why not.
asio::awaitable<std::string> client::connect_and_greet() {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path_.size() >= sizeof(address.sun_path))
        co_return fmt::format("path of the contract socket is too long ({}): choose a shorter run_dir", path_);
    std::memcpy(address.sun_path, path_.data(), path_.size());
    const protocol::endpoint endpoint(&address, sizeof(address));

    asio::error_code error;
    socket_ = protocol::socket(io_);
    socket_.open(protocol(AF_UNIX, 0), error);
    if (error)
        co_return remedy(path_, error);
    const int room = 1 << 20; // several full batches
    ::setsockopt(socket_.native_handle(), SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
    co_await socket_.async_connect(endpoint, asio::redirect_error(asio::use_awaitable, error));
    if (error)
        co_return remedy(path_, error);

    struct {
        api::contract_header header;
        api::hello body;
    } request{};
    request.header = {api::contract_magic, api::contract_version, api::message_type::hello, ++sequence_, 1, 0};
    request.body = {api::contract_version, static_cast<std::uint32_t>(::getpid())};
    co_await socket_.async_send(asio::buffer(&request, sizeof(request)), 0,
                                asio::redirect_error(asio::use_awaitable, error));
    if (error)
        co_return remedy(path_, error);

    // A data plane that accepts but never answers must not hold us for ever.
    deadline_.expires_after(reply_timeout);
    deadline_.async_wait([this, alive = alive_](const asio::error_code& stopped) {
        asio::error_code ignored;
        if (!stopped && *alive)
            socket_.cancel(ignored);
    });
    asio::socket_base::message_flags flags = 0;
    const auto alive = alive_;
    const auto length =
        co_await socket_.async_receive(asio::buffer(buffer_), flags, asio::redirect_error(asio::use_awaitable, error));
    if (!*alive)
        co_return "";
    deadline_.cancel();
    if (error == asio::error::operation_aborted)
        co_return "data plane accepted the connection but does not answer: is it stuck?";
    if (error || length == 0)
        co_return error ? remedy(path_, error) : fmt::format("data plane closed the connection ({})", path_);

    const std::span<const std::uint8_t> bytes(buffer_.data(), length);
    if (length < sizeof(api::contract_header))
        co_return "data plane's greeting is too short: update both programs together";
    const auto header = item_at<api::contract_header>(bytes, 0);
    const auto body = bytes.subspan(sizeof(header));
    if (header.type == api::message_type::error_reply && body.size() >= sizeof(api::contract_error)) {
        const auto refused = item_at<api::contract_error>(body, 0);
        co_return fmt::format("data plane refused the control plane: {} ({})", text(refused.status),
                              std::string(refused.text, strnlen(refused.text, sizeof(refused.text))));
    }
    if (header.magic != api::contract_magic || header.version != api::contract_version ||
        header.type != api::reply_to(api::message_type::hello) ||
        body.size() != sizeof(api::hello_reply) + header.count * sizeof(api::address_entry))
        co_return "data plane speaks another contract version: update both programs together";

    greeting hello;
    hello.reply = item_at<api::hello_reply>(body, 0);
    hello.stats_path.assign(hello.reply.stats_path, strnlen(hello.reply.stats_path, sizeof(hello.reply.stats_path)));
    for (std::size_t i = 0; i < header.count; ++i) {
        const auto entry = item_at<api::address_entry>(body.subspan(sizeof(api::hello_reply)), i);
        hello.addresses.push_back(
            {entry.index, from_net_ip(entry.ip), std::string(entry.name, strnlen(entry.name, sizeof(entry.name)))});
    }
    const bool lost = generation_ != 0 && generation_ != hello.reply.generation;
    generation_ = hello.reply.generation;
    greeting_ = std::move(hello);
    trouble_.clear();
    ++connects_;
    if (on_connect)
        on_connect(*greeting_, lost);
    co_return "";
}

asio::awaitable<std::string> client::read_until_lost() {
    const auto alive = alive_;
    for (;;) {
        asio::error_code error;
        asio::socket_base::message_flags flags = 0;
        const auto length = co_await socket_.async_receive(asio::buffer(buffer_), flags,
                                                           asio::redirect_error(asio::use_awaitable, error));
        if (!*alive)
            co_return "";
        if (error)
            co_return fmt::format("connection to the data plane lost: {}", error.message());
        if (length == 0)
            co_return "data plane closed the connection";
        dispatch({buffer_.data(), length});
    }
}

void client::dispatch(std::span<const std::uint8_t> message) {
    if (message.size() < sizeof(api::contract_header))
        return;
    const auto header = item_at<api::contract_header>(message, 0);
    if (header.magic != api::contract_magic)
        return;
    if (header.type == api::message_type::event) {
        const auto body = message.subspan(sizeof(header));
        const std::size_t count = std::min<std::size_t>(header.count, body.size() / sizeof(api::flow_event));
        for (std::size_t i = 0; i < count && on_event; ++i)
            on_event(item_at<api::flow_event>(body, i));
        return;
    }
    if (header.type == api::message_type::packet_in) {
        for_packets(message.subspan(sizeof(header)), header.count, [this](const punted_packet& packet) {
            if (on_packet)
                on_packet(packet);
        });
        return;
    }
    const auto found = waiting_.find(header.sequence);
    if (found == waiting_.end())
        return; // its caller has given up
    found->second->reply.assign(message.begin(), message.end());
    found->second->done = true;
    found->second->wake.cancel();
}

void client::lose(const std::string& why) {
    const bool was = greeting_.has_value();
    greeting_.reset();
    trouble_ = why;
    for (auto& request : std::exchange(queue_, {})) {
        request->lost = true;
        request->wake.cancel();
    }
    for (auto& [sequence, request] : waiting_) {
        request->lost = true;
        request->wake.cancel();
    }
    if (was && on_disconnect)
        on_disconnect(why);
}

client::pending::~pending() {
    wipe(message);
}

void client::pending::append(std::span<const std::uint8_t> items, std::size_t items_count) {
    const auto wanted = message.size() + items.size();
    if (wanted > message.capacity()) {
        std::vector<std::uint8_t> larger;
        larger.reserve(std::max(wanted, 2 * message.capacity()));
        larger = message; // fits: no other block is taken
        message.swap(larger);
        wipe(larger);
    }
    message.insert(message.end(), items.begin(), items.end());
    count += items_count;
}

// Joins the youngest message where that is of the same type and not sent yet; only that one, so that nothing overtakes.
client::pending_ptr client::enqueue(api::message_type type, std::span<const std::uint8_t> items, std::size_t count,
                                    std::size_t most) {
    if (queue_.empty() || queue_.back()->type != type || queue_.back()->count + count > most) {
        queue_.push_back(std::make_shared<pending>(io_, type));
        queue_.back()->message.resize(sizeof(api::contract_header));
        queue_.back()->wake.expires_after(reply_timeout);
    }
    queue_.back()->append(items, count);
    if (!std::exchange(sending_, true))
        asio::post(io_, [this, alive = alive_] {
            if (*alive)
                tandem::protocol::spawn(io_, "requests to the data plane", send_queue());
        });
    return queue_.back();
}

asio::awaitable<void> client::send_queue() {
    const auto alive = alive_;
    while (!queue_.empty()) {
        const auto request = std::move(queue_.front());
        queue_.pop_front();
        request->sequence = ++sequence_;
        const api::contract_header header{api::contract_magic,
                                          api::contract_version,
                                          request->type,
                                          request->sequence,
                                          static_cast<std::uint16_t>(request->count),
                                          0};
        std::memcpy(request->message.data(), &header, sizeof(header));
        waiting_.emplace(request->sequence, request);
        asio::error_code error;
        co_await socket_.async_send(asio::buffer(request->message), 0,
                                    asio::redirect_error(asio::use_awaitable, error));
        wipe(request->message); // it may hold keys
        if (!*alive)
            co_return;
        if (error) {
            request->lost = true;
            request->wake.cancel();
        }
    }
    sending_ = false;
}

// The reply's items, which belong to `request`.
asio::awaitable<result<std::span<const std::uint8_t>>> client::reply_to(pending_ptr request) {
    const auto alive = alive_;
    if (!request->done && !request->lost) {
        asio::error_code ignored;
        co_await request->wake.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    }
    if (!*alive)
        co_return tl::unexpected(failure{api::status::ok, false, "stopped"});
    waiting_.erase(request->sequence);
    if (request->lost)
        co_return tl::unexpected(failure{api::status::ok, false, "connection to the data plane was lost"});
    if (!request->done)
        co_return tl::unexpected(failure{api::status::ok, true, "data plane did not answer in time"});

    const std::span<const std::uint8_t> reply(request->reply);
    const auto answer = item_at<api::contract_header>(reply, 0);
    if (answer.type == api::message_type::error_reply && reply.size() >= sizeof(answer) + sizeof(api::contract_error)) {
        const auto refused = item_at<api::contract_error>(reply.subspan(sizeof(answer)), 0);
        co_return tl::unexpected(
            failure{refused.status, true,
                    fmt::format("data plane refused: {} ({})", text(refused.status),
                                std::string(refused.text, strnlen(refused.text, sizeof(refused.text))))});
    }
    if (answer.type != api::reply_to(request->type))
        co_return tl::unexpected(
            failure{api::status::bad_message, true, "data plane answered with another message type"});
    co_return reply;
}

} // namespace tandem::dataplane_client
