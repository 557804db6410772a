// SPDX-License-Identifier: Apache-2.0
// TLS 1.3 over TCP with the framing of controlplane/protocol. RFC 8446 6.2 for what a refused key looks like.
#include "tools/agent/link/connection.hpp"

#include <algorithm>

#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/write.hpp>
#include <fmt/format.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <spdlog/spdlog.h>

#include "controlplane/protocol/spawn.hpp"
#include "controlplane/protocol/tls.hpp"

namespace tandem::agent {

using protocol::message;
using protocol::status;

namespace {

constexpr std::size_t write_chunk = 16 * 1024; // one TLS record; what control may have to wait for in our queue
constexpr int unsent_limit = 32 * 1024;        // and in the kernel's

auto with(asio::error_code& error) {
    return asio::redirect_error(asio::use_awaitable, error);
}

bool is_alert(const asio::error_code& error) {
    return error.category() == asio::error::get_ssl_category() &&
           ERR_GET_REASON(static_cast<unsigned long>(error.value())) >= SSL_AD_REASON_OFFSET;
}

} // namespace

connection::connection(asio::io_context& io, asio::ssl::context& tls, std::shared_ptr<protocol::channel_driver> channel,
                       std::string id_code, handlers handle)
    : io_(io), stream_(io, tls), channel_(std::move(channel)), id_code_(std::move(id_code)), handle_(std::move(handle)),
      wake_(io) {}

failure connection::explain(const asio::error_code& error, bool timed_out) const {
    const std::string where = fmt::format("gateway {}:{}", gateway_.address().to_string(), gateway_.port());
    if (timed_out)
        return {
            fmt::format("{} did not answer in time; check the network and the gateway's address", where), false, {}};
    if (is_alert(error))
        return {
            fmt::format("gateway refused the key of id '{}' ({}, at {}); check id and psk_file or certificate against "
                        "`tandemctl unit show {}` on the gateway",
                        id_code_, error.message(), where, id_code_),
            true,
            {}};
    if (error.category() == asio::error::get_ssl_category())
        return {fmt::format("{} could not prove who it is ({}); check that it knows id '{}', and ca where certificates "
                            "are used",
                            where, error.message(), id_code_),
                true,
                {}};
    return {fmt::format("{}: {}", where, error.message()), false, {}};
}

asio::awaitable<tl::expected<void, failure>> connection::open(tcp::endpoint gateway,
                                                              std::chrono::milliseconds patience) {
    const auto self = shared_from_this();
    gateway_ = gateway;
    auto timed_out = std::make_shared<bool>(false);
    asio::steady_timer deadline(io_, patience);
    deadline.async_wait([self, timed_out](const asio::error_code& error) {
        if (error)
            return;
        *timed_out = true;
        asio::error_code ignored;
        self->stream_.lowest_layer().close(ignored);
    });
    asio::error_code error;
    co_await stream_.lowest_layer().async_connect(gateway, with(error));
    if (!error) {
        stream_.lowest_layer().set_option(tcp::no_delay(true), error);
        ::setsockopt(stream_.lowest_layer().native_handle(), IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent_limit,
                     sizeof unsent_limit);
        co_await stream_.async_handshake(asio::ssl::stream_base::client, with(error));
    }
    deadline.cancel();
    if (closed_)
        co_return tl::unexpected(failure{why_, false, {}});
    if (error || *timed_out) {
        closed_ = true;
        asio::error_code ignored;
        stream_.lowest_layer().close(ignored);
        co_return tl::unexpected(explain(error, *timed_out));
    }
    running_ = true;
    link_ = channel_->attach(protocol::carrier::stream, weak_from_this());
    protocol::spawn(io_, "reader of the primary", [self] { return self->read_loop(); });
    protocol::spawn(io_, "writer of the primary", [self] { return self->write_loop(); });
    co_return tl::expected<void, failure>{};
}

void connection::close(const std::string& why) {
    if (closed_)
        return;
    closed_ = true;
    why_ = why;
    asio::error_code ignored;
    stream_.lowest_layer().close(ignored);
    wake_.cancel();
    channel_->lost(link_);
    if (running_ && handle_.lost)
        handle_.lost(*this);
}

std::string connection::cipher() const {
    const char* name = SSL_get_cipher_name(const_cast<connection*>(this)->stream_.native_handle());
    return name == nullptr ? std::string() : std::string(name);
}

asio::awaitable<void> connection::read_loop() {
    const auto self = shared_from_this();
    while (!closed_) {
        asio::error_code error;
        const auto room = framer_.prepare();
        const std::size_t got = co_await stream_.async_read_some(asio::buffer(room.data(), room.size()), with(error));
        if (error) {
            close(error == asio::error::eof || error == asio::ssl::error::stream_truncated
                      ? std::string("the gateway closed the connection")
                  : is_alert(error) ? explain(error, false).text
                                    : error.message());
            break;
        }
        framer_.commit(got);
        while (!closed_) {
            const auto frame = framer_.next();
            if (!frame)
                break;
            take_frame(*frame);
        }
    }
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
    if (writing_.empty())
        wake_.cancel();
    return true;
}

// Control first, all of it; then whole bulk frames up to a record.
void connection::compose() {
    while (!control_.empty()) {
        protocol::append_frame(writing_, control_.front());
        control_waits_ -= control_.front().size();
        control_.pop_front();
    }
    control_bytes_ = writing_.size();
    while (bulk_sent_ < bulk_.size() && writing_.size() < write_chunk) {
        const std::size_t length =
            (std::size_t{bulk_[bulk_sent_]} << 8 | bulk_[bulk_sent_ + 1]) + protocol::frame_prefix;
        if (!writing_.empty() && writing_.size() + length > write_chunk)
            break;
        const auto begin = bulk_.begin() + static_cast<std::ptrdiff_t>(bulk_sent_);
        writing_.insert(writing_.end(), begin, begin + static_cast<std::ptrdiff_t>(length));
        bulk_sent_ += length;
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
        asio::error_code error;
        if (control_.empty() && bulk_.empty()) {
            wake_.expires_at(std::chrono::steady_clock::time_point::max());
            co_await wake_.async_wait(with(error));
            continue;
        }
        compose();
        protocol::count_record(stream_.native_handle());
        co_await asio::async_write(stream_, asio::buffer(writing_), with(error));
        protocol::wipe(writing_.data(), control_bytes_);
        writing_.clear();
        if (error)
            close(error.message());
    }
}

} // namespace tandem::agent
