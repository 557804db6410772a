// SPDX-License-Identifier: Apache-2.0
// See contract_server.hpp and the contract itself.
#include "dataplane/app/contract_server.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <utility>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

namespace tandem::app {

namespace {

constexpr std::size_t max_connections = 16;
constexpr int most_unread = 1 << 20;                // bytes of a quarter of the socket's room
constexpr auto turn = std::chrono::milliseconds(5); // of one connection's messages; begun ones are finished

template <class T>
T read_item(std::span<const std::byte> body, std::size_t index) noexcept {
    T item;
    std::memcpy(&item, body.data() + index * sizeof(T), sizeof(T));
    return item;
}

// Consecutive items of one group.
template <class Each>
void for_groups(std::span<const api::flow_replacement> items, Each&& each) {
    for (std::size_t at = 0, end = 0; at < items.size(); at = end) {
        while (end < items.size() && items[end].group == items[at].group)
            ++end;
        each(at, end - at);
    }
}

template <class T>
void append(std::vector<std::byte>& to, const T& item) {
    const auto* first = reinterpret_cast<const std::byte*>(&item);
    to.insert(to.end(), first, first + sizeof(T));
}

} // namespace

tl::expected<std::unique_ptr<contract_server>, std::string>
contract_server::listen(const std::string& path, std::uint32_t permitted_uid, contract_handler& handler) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path)
        return tl::unexpected(fmt::format("{}: path too long for a socket; choose a shorter run_dir", path));
    path.copy(address.sun_path, path.size());
    const auto failed = [&](std::string_view what) {
        return tl::unexpected(fmt::format("contract socket {}: {}: {}", path, what, std::strerror(errno)));
    };
    const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return failed("socket");
    unlink(path.c_str());
    const mode_t old = umask(0177);
    const int bound = bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
    umask(old);
    if (bound != 0 || ::listen(fd, 8) != 0) {
        auto wrong = failed("cannot be made");
        close(fd);
        return wrong;
    }
    return std::unique_ptr<contract_server>(new contract_server(path, fd, permitted_uid, handler));
}

contract_server::contract_server(std::string path, int fd, std::uint32_t permitted_uid, contract_handler& handler)
    : path_(std::move(path)), listen_fd_(fd), permitted_uid_(permitted_uid), handler_(handler) {
    void* at = mmap(nullptr, api::contract_max_message, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        throw std::bad_alloc();
    madvise(at, api::contract_max_message, MADV_DONTDUMP);
    mlock(at, api::contract_max_message);
    buffer_ = {static_cast<std::byte*>(at), api::contract_max_message};
}

contract_server::~contract_server() {
    for (const auto& c : connections_)
        close(c.fd);
    close(listen_fd_);
    unlink(path_.c_str());
    munmap(buffer_.data(), buffer_.size());
}

void contract_server::add_descriptors(std::vector<pollfd>& to) const {
    to.push_back({listen_fd_, POLLIN, 0});
    for (const auto& c : connections_)
        to.push_back({c.fd, POLLIN, 0});
}

void contract_server::ready(std::span<const pollfd> polled) {
    for (const auto& p : polled) {
        if (p.revents == 0)
            continue;
        if (p.fd == listen_fd_) {
            accept_one();
            continue;
        }
        const auto found =
            std::find_if(connections_.begin(), connections_.end(), [&](auto& c) { return c.fd == p.fd; });
        if (found != connections_.end() && !receive(*found))
            close_connection(p.fd);
    }
}

void contract_server::accept_one() {
    const int fd = accept4(listen_fd_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    ucred peer{};
    socklen_t length = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) {
        close(fd);
        return;
    }
    if (connections_.size() >= max_connections)
        make_room();
    const int bytes = 4 << 20; // many replies and events before a slow reader is given up
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    connections_.push_back({fd, peer.uid, static_cast<std::uint32_t>(peer.pid)});
}

// The oldest that neither controls nor observes goes: who says nothing keeps nobody out. One controls, two observe.
void contract_server::make_room() {
    const auto is_idle = [&](const connection& c) {
        return c.fd != controller_ && !(observer_ != nullptr && observer_->serves(c.fd));
    };
    const auto oldest = std::ranges::find_if(connections_, is_idle);
    if (oldest == connections_.end())
        return;
    spdlog::warn(
        "contract: {} connections: that of process {} makes room, it neither controls nor observes ({} so far)",
        connections_.size(), oldest->pid, ++made_room_);
    close_connection(oldest->fd);
}

bool contract_server::receive(const connection& from) {
    const connection peer = from; // handling may move the list
    const auto begin = std::chrono::steady_clock::now();
    while (std::chrono::steady_clock::now() - begin < turn) { // events, ageing and news wait for nobody's batch
        iovec part{buffer_.data(), buffer_.size()};
        msghdr message{};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        const ssize_t got = recvmsg(peer.fd, &message, 0);
        if (got < 0)
            return errno == EAGAIN || errno == EINTR;
        if (got == 0)
            return false;
        const auto bytes = static_cast<std::size_t>(got);
        const bool cut = (message.msg_flags & MSG_TRUNC) != 0;
        const bool keep = !cut && handle(peer, buffer_.first(bytes));
        explicit_bzero(buffer_.data(), bytes);
        if (!keep)
            return false;
    }
    return true;
}

bool contract_server::handle(const connection& from, std::span<const std::byte> message) {
    api::contract_header header{};
    if (message.size() < sizeof header)
        return refuse(from.fd, header, api::status::bad_message, "message shorter than its header");
    std::memcpy(&header, message.data(), sizeof header);
    if (header.magic != api::contract_magic)
        return refuse(from.fd, header, api::status::bad_message, "wrong magic") && false;
    const bool observes = observer_ != nullptr && (header.type == api::message_type::trace_start ||
                                                   header.type == api::message_type::capture_start);
    if (from.uid != permitted_uid_ && !(observes && from.uid == 0)) {
        spdlog::warn("contract: a process of user {} was refused; controller_uid is {}", from.uid, permitted_uid_);
        refuse(from.fd, header, api::status::not_permitted,
               "this user may not control the data plane (controller_uid)");
        return false;
    }
    if (header.version != api::contract_version)
        return refuse_version(from.fd, header, header.version);
    const auto body = message.subspan(sizeof header);
    if (observes)
        return observe(from, header, body);
    if (header.type == api::message_type::hello)
        return hello(from.fd, header, body);
    if (from.fd != controller_)
        return refuse(from.fd, header, api::status::not_controlling,
                      "say HELLO first; another connection may have taken over");
    return dispatch(from.fd, header, body);
}

bool contract_server::dispatch(int fd, const api::contract_header& header, std::span<const std::byte> body) {
    using type = api::message_type;
    switch (header.type) {
    case type::flow_add:
        return each<type::flow_add>(fd, header, body,
                                    [&](auto& item, auto& value) { return handler_.flow_add(item, value); });
    case type::flow_update:
        return each<type::flow_update>(fd, header, body, [&](auto& item, auto&) { return handler_.flow_update(item); });
    case type::flow_remove:
        return each<type::flow_remove>(fd, header, body, [&](auto& item, auto&) { return handler_.flow_remove(item); });
    case type::epoch_install:
        return each<type::epoch_install>(fd, header, body, [&](auto& item, auto&) {
            const auto status = handler_.epoch_install(item);
            explicit_bzero(&item, sizeof item);
            return status;
        });
    case type::epoch_switch:
        return each<type::epoch_switch>(fd, header, body,
                                        [&](auto& item, auto&) { return handler_.epoch_switch(item); });
    case type::epoch_retire:
        return each<type::epoch_retire>(fd, header, body,
                                        [&](auto& item, auto&) { return handler_.epoch_retire(item); });
    case type::flow_replace:
        return together<type::flow_replace>(fd, header, body, [&](auto items, auto statuses) {
            for_groups(items, [&](std::size_t at, std::size_t count) {
                handler_.flow_replace(items.subspan(at, count), statuses.subspan(at, count));
            });
        });
    case type::stream_put:
        return together<type::stream_put>(fd, header, body,
                                          [&](auto items, auto statuses) { handler_.stream_put(items, statuses); });
    case type::flow_list:
        return list<type::flow_list>(fd, header, body, [&](const auto& from) { return handler_.flow_list(from); });
    case type::stream_list:
        return list<type::stream_list>(fd, header, body, [&](const auto& from) { return handler_.stream_list(from); });
    case type::inner_set:
        return each<type::inner_set>(fd, header, body,
                                     [&](auto& item, auto& value) { return handler_.inner_set(item, value); });
    case type::source_prove:
        return each<type::source_prove>(fd, header, body,
                                        [&](auto& item, auto&) { return handler_.source_prove(item); });
    case type::packet_out:
        return packets(fd, header, body);
    case type::port_list:
        return tell(fd, header, handler_.port_list());
    case type::health:
        return tell(fd, header, handler_.health());
    default:
        return refuse(fd, header, api::status::bad_message,
                      fmt::format("unknown message type {}", static_cast<unsigned>(header.type)));
    }
}

template <api::message_type type, class Each>
bool contract_server::each(int fd, const api::contract_header& header, std::span<const std::byte> body, Each&& what) {
    using Item = api::request_of<type>;
    static_assert(std::is_same_v<api::reply_of<type>, api::item_status>);
    if (body.size() != header.count * sizeof(Item))
        return refuse_length(fd, header, sizeof(Item), body.size());
    std::vector<std::byte> reply;
    reply.reserve(header.count * sizeof(api::item_status));
    for (std::size_t i = 0; i < header.count; ++i) {
        auto item = read_item<Item>(body, i);
        const api::flow_id id = item.id;
        std::uint32_t value = 0;
        const auto status = what(item, value);
        append(reply, api::item_status{id, status, 0, value});
    }
    handler_.end_of_request();
    return send(fd, header, api::reply_to(type), header.count, reply);
}

// Items that are not looked at one by one. They are read where they lie, so that no copy of a key is made.
template <api::message_type type, class All>
bool contract_server::together(int fd, const api::contract_header& header, std::span<const std::byte> body,
                               All&& what) {
    using Item = api::request_of<type>;
    static_assert(std::is_same_v<api::reply_of<type>, api::item_status> && alignof(Item) <= sizeof header);
    if (body.size() != header.count * sizeof(Item))
        return refuse_length(fd, header, sizeof(Item), body.size());
    const std::span items(reinterpret_cast<const Item*>(body.data()),
                          header.count); // behind the header, in whole pages
    std::vector<api::item_status> statuses(items.size());
    what(items, std::span(statuses));
    handler_.end_of_request();
    return send(fd, header, api::reply_to(type), header.count, std::as_bytes(std::span(statuses)));
}

// Items of their own lengths.
bool contract_server::packets(int fd, const api::contract_header& header, std::span<const std::byte> body) {
    std::vector<packet_to_send> items;
    items.reserve(header.count);
    for (std::size_t i = 0; i < header.count && body.size() >= sizeof(api::packet_out); ++i) {
        const auto what = read_item<api::packet_out>(body, 0);
        body = body.subspan(sizeof what);
        if (what.length == 0 || what.length > api::max_packet_bytes || body.size() < api::padded_packet(what.length))
            break;
        items.push_back({what, body.first(what.length)});
        body = body.subspan(api::padded_packet(what.length));
    }
    if (items.size() != header.count || !body.empty())
        return refuse(fd, header, api::status::bad_message,
                      fmt::format("{} packets of 1 to {} bytes announced, other lengths came", header.count,
                                  api::max_packet_bytes));
    std::vector<api::item_status> statuses(items.size());
    handler_.packet_out(items, statuses);
    handler_.end_of_request();
    return send(fd, header, api::reply_to(header.type), header.count, std::as_bytes(std::span(statuses)));
}

bool contract_server::refuse_length(int fd, const api::contract_header& header, std::size_t item, std::size_t came) {
    return refuse(fd, header, api::status::bad_message,
                  fmt::format("{} items of {} bytes announced, {} bytes came", header.count, item, came));
}

bool contract_server::hello(int fd, const api::contract_header& header, std::span<const std::byte> body) {
    if (header.count != 1 || body.size() != sizeof(api::hello))
        return refuse(fd, header, api::status::bad_message, "HELLO holds one hello item");
    const auto said = read_item<api::hello>(body, 0);
    if (said.contract_version != api::contract_version)
        return refuse_version(fd, header, said.contract_version);
    if (controller_ >= 0 && controller_ != fd) {
        spdlog::info("contract: process {} takes over control", said.pid);
        close_connection(controller_);
    }
    controller_ = fd;
    api::hello_reply reply{};
    std::vector<api::address_entry> addresses;
    handler_.hello(reply, addresses);
    std::vector<std::byte> bytes;
    append(bytes, reply);
    for (const auto& a : addresses)
        append(bytes, a);
    return send(fd, header, api::reply_to(header.type), static_cast<std::uint16_t>(addresses.size()), bytes);
}

template <api::message_type type, class Answer>
bool contract_server::list(int fd, const api::contract_header& header, std::span<const std::byte> body,
                           Answer&& answer) {
    if (header.count != 1 || body.size() != sizeof(api::list_request))
        return refuse(fd, header, api::status::bad_message, "a list is asked for with one list_request");
    const std::vector<api::reply_of<type>> page = answer(read_item<api::request_of<type>>(body, 0));
    return send(fd, header, api::reply_to(type), static_cast<std::uint16_t>(page.size()),
                std::as_bytes(std::span(page)));
}

// The answer to a request that names no items: there are few of them.
template <class Item>
bool contract_server::tell(int fd, const api::contract_header& header, const std::vector<Item>& all) {
    return send(fd, header, api::reply_to(header.type), static_cast<std::uint16_t>(all.size()),
                std::as_bytes(std::span(all)));
}

bool contract_server::observe(const connection& from, const api::contract_header& header,
                              std::span<const std::byte> body) {
    const observe_handler::peer who{from.fd, from.uid, from.pid};
    const bool trace = header.type == api::message_type::trace_start;
    if (header.count != 1 || body.size() != (trace ? sizeof(api::trace_request) : sizeof(api::capture_request)))
        return refuse(from.fd, header, api::status::bad_message, "TRACE_START and CAPTURE_START hold one request");
    const auto answer = trace ? observer_->trace(who, read_item<api::trace_request>(body, 0))
                              : observer_->capture(who, read_item<api::capture_request>(body, 0));
    if (!answer)
        return refuse(from.fd, header, answer.error().status, answer.error().text);
    std::vector<std::byte> bytes;
    append(bytes, answer->reply);
    for (const auto& port : answer->ports)
        append(bytes, port);
    return send(from.fd, header, api::reply_to(header.type), static_cast<std::uint16_t>(answer->ports.size()), bytes);
}

bool contract_server::refuse(int fd, const api::contract_header& header, api::status status, std::string_view text) {
    api::contract_error error{};
    error.status = status;
    text.copy(error.text, sizeof error.text - 1);
    return send(fd, header, api::message_type::error_reply, 1, std::as_bytes(std::span(&error, 1)));
}

bool contract_server::refuse_version(int fd, const api::contract_header& header, std::uint32_t asked) {
    return refuse(fd, header, api::status::bad_version,
                  fmt::format("contract version {} here, {} asked: install data plane and control plane of one release",
                              api::contract_version, asked));
}

bool contract_server::send(int fd, const api::contract_header& request, api::message_type type, std::uint16_t count,
                           std::span<const std::byte> body) {
    api::contract_header header{api::contract_magic, api::contract_version, type, request.sequence, count, 0};
    iovec parts[2] = {{&header, sizeof header}, {const_cast<std::byte*>(body.data()), body.size()}};
    msghdr message{};
    message.msg_iov = parts;
    message.msg_iovlen = 2;
    if (sendmsg(fd, &message, MSG_NOSIGNAL) >= 0)
        return true;
    if (errno == EAGAIN)
        spdlog::warn("contract: the peer does not read its replies; closing");
    return false;
}

void contract_server::send_events(std::span<const api::flow_event> events) {
    constexpr std::size_t at_once = 512;
    while (controller_ >= 0 && !events.empty()) {
        const auto part = events.first(std::min(at_once, events.size()));
        if (!send(controller_, {}, api::message_type::event, static_cast<std::uint16_t>(part.size()),
                  std::as_bytes(part)))
            close_connection(controller_);
        events = events.subspan(part.size());
    }
}

// A controller that is behind with what it asked for and what happened gets no packets on top.
bool contract_server::send_packets(std::span<const std::byte> items, std::uint16_t count) {
    int unread = 0;
    if (controller_ < 0 || ioctl(controller_, SIOCOUTQ, &unread) != 0 || unread > most_unread)
        return false;
    return send(controller_, {}, api::message_type::packet_in, count, items);
}

void contract_server::close_connection(int fd) {
    std::erase_if(connections_, [&](const auto& c) { return c.fd == fd; });
    if (fd == controller_)
        controller_ = -1;
    if (observer_ != nullptr)
        observer_->closed(fd);
    close(fd);
}

} // namespace tandem::app
