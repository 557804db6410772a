// SPDX-License-Identifier: Apache-2.0
// One connection to a gateway. See connection.hpp. RFC 8446 6.2 for what a refused key looks like.
#include "tools/agent/link/connection.hpp"

#include <algorithm>
#include <cerrno>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "controlplane/link/error.hpp"
#include "controlplane/link/with.hpp"
#include "controlplane/protocol/address_asio.hpp"
#include "controlplane/protocol/spawn.hpp"
#include "tools/agent/device/paths.hpp"

namespace tandem::agent {

using protocol::message;
using protocol::status;

namespace {

constexpr link::tls_options carrier_options{.unsent_limit = 32 * 1024};

// Its address too: of several on the interface the one that the choice means. Of the other family it says nothing.
std::error_code leave_by(int socket, const path_place& from) noexcept {
    if (from.interface.empty())
        return {};
    if (const int refused = bind_to(socket, from.interface))
        return {refused, std::system_category()};
    sockaddr_storage mine{};
    socklen_t length = sizeof mine;
    if (::getsockname(socket, reinterpret_cast<sockaddr*>(&mine), &length) != 0 ||
        (mine.ss_family == AF_INET) != is_ipv4(from.source))
        return {};
    const auto address = protocol::from_wire({from.source});
    const asio::ip::tcp::endpoint at(address, 0);
    return ::bind(socket, at.data(), static_cast<socklen_t>(at.size())) == 0
               ? std::error_code()
               : std::error_code(errno, std::system_category());
}

} // namespace

connection::connection(asio::io_context& io, SSL_CTX* tls, std::shared_ptr<protocol::channel_driver> channel,
                       std::string id_code, handlers handle)
    : io_(io), carrier_(io.get_executor(), carrier_options), tls_(tls), channel_(std::move(channel)),
      id_code_(std::move(id_code)), handle_(std::move(handle)), wake_(io) {}

failure connection::explain(const std::error_code& error, bool timed_out) const {
    const std::string where = "gateway " + text_of(carrier_.remote());
    if (timed_out)
        return {
            fmt::format("{} did not answer in time; check the network and the gateway's address", where), false, {}};
    if (link::is_alert(error))
        return {
            fmt::format("gateway refused the key of id '{}' ({}, at {}); check id and psk_file or certificate against "
                        "`tandemctl unit show {}` on the gateway",
                        id_code_, error.message(), where, id_code_),
            true,
            {}};
    if (link::is_tls(error))
        return {fmt::format("{} could not prove who it is ({}); check that it knows id '{}', and ca where certificates "
                            "are used",
                            where, error.message(), id_code_),
                true,
                {}};
    return {fmt::format("{}: {}", where, error.message()), false, {}};
}

asio::awaitable<tl::expected<void, failure>> connection::open(link::endpoint gateway,
                                                              std::chrono::milliseconds patience, path_place from) {
    const auto self = shared_from_this();
    from_ = std::move(from);
    auto timed_out = std::make_shared<bool>(false);
    asio::steady_timer deadline(io_, patience);
    deadline.async_wait([self, timed_out](const std::error_code& cancelled) {
        if (cancelled)
            return;
        *timed_out = true;
        self->carrier_.close();
    });
    std::error_code error;
    // With a name: g++ 12 destroys what a temporary of a co_await expression captured twice.
    const link::tls_tcp::preparation prepare = [this](int socket) { return leave_by(socket, from_); };
    co_await carrier_.connect(gateway, error, prepare);
    if (!error)
        co_await carrier_.handshake(tls_, link::side::client, error);
    deadline.cancel();
    if (closed_)
        co_return tl::unexpected(failure{why_, false, {}});
    if (error || *timed_out) {
        closed_ = true;
        carrier_.close();
        co_return tl::unexpected(explain(error, *timed_out));
    }
    running_ = true;
    link_ = channel_->attach(carrier_.kind(), weak_from_this());
    protocol::spawn(io_, "reader of the primary", [self] { return self->read_loop(); });
    protocol::spawn(io_, "writer of the primary", [self] { return self->write_loop(); });
    co_return tl::expected<void, failure>{};
}

void connection::close(const std::string& why) {
    if (closed_)
        return;
    closed_ = true;
    why_ = why;
    carrier_.close();
    wake_.cancel();
    channel_->lost(link_);
    rider_.dismount();
    if (running_ && handle_.lost)
        handle_.lost(*this);
}

asio::awaitable<void> connection::read_loop() {
    const auto self = shared_from_this();
    const link::transport::frame_handler take = [this](const protocol::frame& frame) { take_frame(frame); };
    std::error_code error;
    while (!closed_ && !error)
        co_await carrier_.receive(take, error);
    if (error)
        close(error == asio::error::eof || error == link::failure::truncated
                  ? std::string("the gateway closed the connection")
              : link::is_alert(error) ? explain(error, false).text
                                      : error.message());
}

void connection::take_frame(const protocol::frame& frame) {
    switch (frame.kind) {
    case protocol::frame_kind::ipv4:
    case protocol::frame_kind::ipv6:
        count_.rx_packets++;
        count_.rx_bytes += frame.bytes.size();
        channel_->heard(link_);
        handle_.packet(frame.bytes);
        break;
    case protocol::frame_kind::control:
        channel_->receive(link_, frame.bytes);
        break;
    case protocol::frame_kind::session:
        channel_->heard(link_);
        if (!rider_.take(frame.bytes))
            count_.malformed++;
        break;
    case protocol::frame_kind::other:
        count_.malformed++;
        break;
    }
}

void connection::send(protocol::wiped_bytes message, bool) {
    if (closed_)
        return;
    control_waits_ += message.size();
    control_.push_back(std::move(message));
    if (control_waits_ > max_control_bytes)
        return close("the gateway does not read its control messages");
    wake_.cancel();
}

void connection::serve(message request) {
    if (begun_)
        handle_.request(*this, std::move(request));
    else
        early_.push_back(std::move(request));
}

void connection::begin() {
    begun_ = true;
    for (; !early_.empty() && !closed_; early_.pop_front())
        handle_.request(*this, std::move(early_.front()));
}

void connection::hang_up(protocol::ending why) {
    switch (why) {
    case protocol::ending::wrong_tsid: // ORA-08
        return close("the gateway sent a message with another session's TSID");
    case protocol::ending::silent:
        fell_silent_ = true;
        return close("nothing heard for three keepalive intervals");
    case protocol::ending::replaced:
        return close("replaced by a newer connection");
    }
}

void connection::count(std::optional<status> refused) {
    if (!refused)
        ++count_.unmatched;
    else if (*refused == status::bad_sequence)
        ++count_.bad_sequence;
    else if (*refused != status::bad_tsid && *refused != status::not_configured)
        ++count_.malformed;
}

tl::expected<message, failure> connection::read(std::string_view name, reply got) const {
    if (got.how != protocol::outcome::response)
        return tl::unexpected(
            failure{closed_ ? why_ : fmt::format("the gateway did not answer the {} request", name), false, {}});
    auto& answer = *got.response;
    if (answer.code() == status::ok)
        return std::move(answer);
    const auto reason = answer.get<protocol::tlv::reason>().value_or(protocol::text_of(answer.code()));
    return tl::unexpected(
        failure{fmt::format("the gateway refused the {} request: {}", name, reason), true, answer.code()});
}

asio::awaitable<tl::expected<message, failure>> connection::configure(message config,
                                                                      std::chrono::milliseconds patience) {
    const auto self = shared_from_this();
    const auto name = protocol::name_of(config.what());
    auto got = co_await channel_->configure(link_, std::move(config), patience);
    co_return read(name, std::move(got));
}

asio::awaitable<tl::expected<message, failure>> connection::request(message what, std::chrono::milliseconds patience) {
    const auto self = shared_from_this();
    const auto name = protocol::name_of(what.what());
    auto got = co_await channel_->request(std::move(what), patience);
    co_return read(name, std::move(got));
}

bool connection::send_packet(std::span<const std::uint8_t> packet) {
    if (closed_ || bulk_full() || !protocol::append_frame(bulk_, packet))
        return false;
    count_.tx_packets++;
    count_.tx_bytes += packet.size();
    if (!writing_)
        wake_.cancel();
    return true;
}

// Control first, all of it; then whole bulk frames as far as a record goes, by turns with the rider.
void connection::compose() {
    if (control_.empty() && rider_.takes_turn(!bulk_.empty()))
        return rider_.fill(carrier_);
    for (; !control_.empty() && carrier_.add(control_.front()); control_.pop_front())
        control_waits_ -= control_.front().size();
    while (control_.empty() && bulk_sent_ < bulk_.size()) {
        const std::size_t length = std::size_t{bulk_[bulk_sent_]} << 8 | bulk_[bulk_sent_ + 1];
        if (!carrier_.add(std::span(bulk_).subspan(bulk_sent_ + protocol::frame_prefix, length)))
            break;
        bulk_sent_ += protocol::frame_prefix + length;
    }
    if (bulk_sent_ == bulk_.size()) {
        bulk_.clear();
        bulk_sent_ = 0;
    } else if (bulk_sent_ >= bulk_limit / 2) {
        bulk_.erase(bulk_.begin(), bulk_.begin() + static_cast<std::ptrdiff_t>(bulk_sent_));
        bulk_sent_ = 0;
    }
}

asio::awaitable<void> connection::write_loop() {
    const auto self = shared_from_this();
    while (!closed_) {
        std::error_code error;
        if (control_.empty() && bulk_.empty() && !rider_.waits()) {
            wake_.expires_at(std::chrono::steady_clock::time_point::max());
            co_await wake_.async_wait(link::with(error));
            continue;
        }
        writing_ = true;
        compose();
        co_await carrier_.flush(error);
        writing_ = false;
        if (error)
            close(error.message());
    }
}

} // namespace tandem::agent
