// SPDX-License-Identifier: Apache-2.0
// TLS over TCP. See tls_tcp.hpp. RFC 8446 5.5 (limits of keys), 6.1 (close_notify).
#include "controlplane/link/tls_tcp.hpp"

#include <cerrno>

#include <asio/post.hpp>
#include <netinet/tcp.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <sys/socket.h>

#include "controlplane/link/buffers.hpp"
#include "controlplane/link/client_hello.hpp"
#include "controlplane/link/error.hpp"
#include "controlplane/link/with.hpp"

namespace tandem::link {
namespace {

constexpr std::size_t least_room = 2048; // a read of less is not worth its call

} // namespace

// OpenSSL's way to the socket.
struct socket_bio {
    static tls_tcp& of(BIO* bio) { return *static_cast<tls_tcp*>(BIO_get_data(bio)); }

    static int read(BIO* bio, char* to, int length) {
        auto& link = of(bio);
        BIO_clear_retry_flags(bio);
        if (!link.socket_empty_) {
            const ssize_t got =
                ::recv(link.socket_.native_handle(), to, static_cast<std::size_t>(length), MSG_DONTWAIT);
            if (got < 0 && errno != EAGAIN)
                link.io_error_.assign(errno, std::system_category());
            if (got == 0 || link.io_error_)
                return static_cast<int>(got);
            link.socket_empty_ = got < length;
            if (got > 0)
                return static_cast<int>(got);
        }
        BIO_set_retry_read(bio);
        return -1;
    }
    static int write(BIO* bio, const char* from, int length) {
        auto& link = of(bio);
        BIO_clear_retry_flags(bio);
        const ssize_t sent =
            ::send(link.socket_.native_handle(), from, static_cast<std::size_t>(length), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent >= 0)
            return static_cast<int>(sent);
        if (errno == EAGAIN)
            BIO_set_retry_write(bio);
        else
            link.io_error_.assign(errno, std::system_category());
        return -1;
    }
    static long control(BIO*, int what, long, void*) { return what == BIO_CTRL_FLUSH ? 1 : 0; }

    static BIO* make(tls_tcp& link) {
        static BIO_METHOD* const method = [] {
            auto* m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "socket in place");
            BIO_meth_set_read(m, &read);
            BIO_meth_set_write(m, &write);
            BIO_meth_set_ctrl(m, &control);
            return m;
        }();
        BIO* bio = BIO_new(method);
        if (bio != nullptr) {
            BIO_set_data(bio, &link);
            BIO_set_init(bio, 1);
        }
        return bio;
    }
};

tls_tcp::tls_tcp(tcp::socket connected, tls_options options) : socket_(std::move(connected)), options_(options) {
    std::error_code gone;
    const auto from = socket_.remote_endpoint(gone);
    if (!gone)
        remote_ = {from.address(), from.port()};
    tune();
}

// Both options only make it quicker: no error matters.
void tls_tcp::tune() {
    std::error_code ignored;
    socket_.set_option(tcp::no_delay(true), ignored);
    using unsent_limit = asio::detail::socket_option::integer<IPPROTO_TCP, TCP_NOTSENT_LOWAT>;
    socket_.set_option(unsent_limit(options_.unsent_limit), ignored);
}

endpoint tls_tcp::local() const {
    std::error_code gone;
    const auto at = socket_.local_endpoint(gone);
    return gone ? endpoint{} : endpoint{at.address(), at.port()};
}

asio::awaitable<void> tls_tcp::connect(endpoint to, std::error_code& error, preparation prepare) {
    remote_ = to;
    const tcp::endpoint at(to.address, to.port);
    socket_.open(at.protocol(), error);
    if (error)
        co_return;
    if (prepare && (error = prepare(socket_.native_handle())))
        co_return;
    co_await socket_.async_connect(at, with(error));
    if (!error)
        tune();
}

asio::awaitable<bool> tls_tcp::greeted(std::function<void()> begun) {
    using low_water = asio::detail::socket_option::integer<SOL_SOCKET, SO_RCVLOWAT>;
    for (std::size_t before = 0;;) {
        std::error_code error;
        co_await socket_.async_wait(tcp::socket::wait_read, with(error));
        if (error || !socket_.is_open())
            co_return false;
        const auto seen = look_for_hello(socket_.native_handle());
        if (seen.there == 0)
            co_return false;
        const bool whole = seen.there >= seen.needed || seen.there == before; // the same again: the peer has closed
        socket_.set_option(low_water(whole ? 1 : static_cast<int>(seen.needed)), error);
        if (whole)
            co_return true;
        if (before == 0)
            begun();
        before = seen.there;
    }
}

std::error_code tls_tcp::make_ssl(SSL_CTX* context, side which) {
    ERR_clear_error();
    ssl_.reset(SSL_new(context));
    BIO* bio = ssl_ ? socket_bio::make(*this) : nullptr;
    if (bio == nullptr)
        return failure::no_memory;
    SSL_set_bio(ssl_.get(), bio, bio); // one reference serves both
    SSL_set_read_ahead(ssl_.get(), 1); // several records in one read of the socket
    SSL_set_mode(ssl_.get(), SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (which == side::server)
        SSL_set_accept_state(ssl_.get());
    else
        SSL_set_connect_state(ssl_.get());
    return {};
}

// What OpenSSL waits for, or the error that ended it.
asio::ip::tcp::socket::wait_type tls_tcp::obstacle(int result, std::error_code& error) {
    switch (SSL_get_error(ssl_.get(), result)) {
    case SSL_ERROR_WANT_READ:
        return tcp::socket::wait_read;
    case SSL_ERROR_WANT_WRITE:
        return tcp::socket::wait_write;
    case SSL_ERROR_ZERO_RETURN:
        error = asio::error::eof;
        break;
    case SSL_ERROR_SYSCALL:
        error = io_error_ ? io_error_ : make_error_code(failure::truncated);
        break;
    default:
        const auto why = ERR_get_error();
        error = tls_error(why != 0 ? why : ERR_PACK(ERR_LIB_SSL, 0, ERR_R_INTERNAL_ERROR)); // an error in any case
    }
    return tcp::socket::wait_error;
}

asio::awaitable<void> tls_tcp::wait(tcp::socket::wait_type what, std::error_code& error) {
    co_await socket_.async_wait(what, with(error));
    if (what == tcp::socket::wait_read)
        socket_empty_ = false;
    if (!error && !socket_.is_open())
        error = asio::error::operation_aborted;
}

// A call of OpenSSL, again whenever the socket lets it go on. Success is a result above 0.
template <class Call>
asio::awaitable<void> tls_tcp::drive(Call call, std::error_code& error) {
    error = socket_.is_open() ? std::error_code() : asio::error::operation_aborted;
    while (!error) {
        ERR_clear_error();
        io_error_.clear();
        const int result = call(ssl_.get());
        if (result > 0)
            co_return;
        const auto what = obstacle(result, error);
        if (!error)
            co_await wait(what, error);
    }
}

asio::awaitable<void> tls_tcp::handshake(SSL_CTX* context, side which, std::error_code& error) {
    error = make_ssl(context, which);
    if (!error)
        co_await drive([](SSL* ssl) { return SSL_do_handshake(ssl); }, error);
}

std::optional<protocol::peer_identity> tls_tcp::peer() const {
    return ssl_ ? protocol::authenticated_peer(ssl_.get()) : std::nullopt;
}

std::optional<protocol::offered_identity> tls_tcp::offered() const {
    return ssl_ ? protocol::offered_peer(ssl_.get()) : std::nullopt;
}

std::string tls_tcp::cipher() const {
    const char* name = ssl_ ? SSL_get_cipher_name(ssl_.get()) : nullptr;
    return name != nullptr ? name : "";
}

bool tls_tcp::exported(std::string_view label, std::span<const std::uint8_t> context,
                       std::span<std::uint8_t> out) const {
    return ssl_ && SSL_export_keying_material(ssl_.get(), out.data(), out.size(), label.data(), label.size(),
                                              context.data(), context.size(), 1) == 1;
}

bool tls_tcp::add(std::span<const std::uint8_t> frame) {
    if (batch_.capacity() == 0)
        batch_ = spare_batches().get();
    if (!batch_.empty() && batch_.size() + protocol::frame_prefix + frame.size() > record)
        return false;
    if (protocol::append_frame(batch_, frame) && protocol::kind_of(frame) == protocol::frame_kind::control)
        control_end_ = batch_.size();
    return true;
}

// Renews the sending keys well before AES-GCM's limit.
void tls_tcp::count_records() {
    records_ += (batch_.size() + record - 1) / record;
    if (records_ >= options_.records_per_key && SSL_key_update(ssl_.get(), SSL_KEY_UPDATE_NOT_REQUESTED) == 1)
        records_ = 0;
}

void tls_tcp::batch_is_out() {
    protocol::wipe(batch_.data(), control_end_);
    control_end_ = 0;
    batch_.clear();
    spare_batches().put(std::move(batch_));
    batch_ = {};
}

asio::awaitable<void> tls_tcp::flush(std::error_code& error) {
    error.clear();
    if (batch_.empty())
        co_return;
    count_records();
    co_await drive(
        [this](SSL* ssl) {
            std::size_t sent = 0;
            return SSL_write_ex(ssl, batch_.data(), batch_.size(), &sent);
        },
        error);
    const bool was_long = batch_.size() >= record / 2;
    batch_is_out();
    if (was_long) // others have their turn: a reader that is as fast finds it in the CPU's cache
        co_await asio::post(socket_.get_executor(), asio::use_awaitable);
}

// What OpenSSL and the socket have, while there is room. False: nothing; `then` says what to wait for, or read_error_
// what ended it.
bool tls_tcp::fill(tcp::socket::wait_type& then) {
    if (!framer_.has_storage()) {
        auto storage = spare_inputs().get();
        storage.resize(spare_buffers::size);
        framer_.use(std::move(storage));
    }
    bool any = false;
    for (more_ = false; !more_; more_ = framer_.room() < least_room) {
        const auto room = framer_.prepare();
        ERR_clear_error();
        io_error_.clear();
        std::size_t got = 0;
        const int result = SSL_read_ex(ssl_.get(), room.data(), room.size(), &got);
        if (result <= 0) {
            then = obstacle(result, read_error_);
            return any;
        }
        framer_.commit(got);
        any = true;
    }
    return true;
}

void tls_tcp::hand_up(const frame_handler& take) {
    while (socket_.is_open()) {
        const auto frame = framer_.next();
        if (!frame)
            return;
        take(*frame);
    }
}

void tls_tcp::give_input_back() {
    if (framer_.is_empty())
        spare_inputs().put(framer_.give_back());
}

asio::awaitable<void> tls_tcp::receive(const frame_handler& take, std::error_code& error) {
    error.clear();
    if (more_) // others have their turn between
        co_await asio::post(socket_.get_executor(), asio::use_awaitable);
    while (!error) {
        if (!socket_.is_open()) {
            error = asio::error::operation_aborted;
            break;
        }
        tcp::socket::wait_type then{};
        if (!read_error_ && fill(then)) {
            hand_up(take);
            co_return;
        }
        error = read_error_;
        give_input_back();
        if (!error)
            co_await wait(then, error);
    }
}

asio::awaitable<void> tls_tcp::shutdown(std::error_code& error) {
    return drive(
        [](SSL* ssl) {
            const int result = SSL_shutdown(ssl);
            return result == 0 ? 1 : result; // 0: sent, and the peer's is not there yet
        },
        error);
}

void tls_tcp::close() noexcept {
    std::error_code ignored;
    socket_.close(ignored);
}

} // namespace tandem::link
