// SPDX-License-Identifier: Apache-2.0
// Who may have a primary (RIM-04, RIM-05): PSK, certificate, TLS 1.3 with AES-256-GCM only; what a failure shows and
// logs; limits on those who never finish.
#include <asio/detached.hpp>

#include <sstream>

#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include "controlplane/link/client_hello.hpp"
#include "controlplane/session/test_ca.hpp"
#include "controlplane/session/test_unit.hpp"

namespace tandem::session::testing {
namespace {

using context = tl::expected<protocol::ssl_context, std::string>;

class Security : public Gateway {
protected:
    Security() : sink_(std::make_shared<spdlog::sinks::ostream_sink_mt>(log_)) {
        spdlog::default_logger()->sinks().push_back(sink_);
    }
    ~Security() override { spdlog::default_logger()->sinks().pop_back(); }

    // What the client sees of a refused handshake. In TLS 1.3 the client may be done before the server refuses: then
    // the alert comes with the first read.
    asio::awaitable<std::string> alert(std::string id, context with) {
        unit u(io_, std::move(id), std::move(with));
        auto error = co_await u.connect(at_);
        if (!error) {
            const link::transport::frame_handler nobody = [](const protocol::frame&) {};
            co_await u.tls().receive(nobody, error);
        }
        co_return error.message();
    }

    std::ostringstream log_;
    std::shared_ptr<spdlog::sinks::sink> sink_;
};

TEST_F(Security, Rim04AFlippedByteIsAnAlertAndAnAuditLine) {
    start();
    run([this]() -> asio::awaitable<void> {
        for (std::size_t at = 0; at < 32; ++at) {
            auto key = key_of("alice");
            bytes wrong(key.view().begin(), key.view().end());
            wrong[at] = static_cast<std::uint8_t>(wrong[at] ^ 1U);
            const auto seen = co_await alert("alice", protocol::make_client_context("alice", protocol::secret(wrong)));
            EXPECT_NE(seen.find("alert"), std::string::npos) << seen;
        }
        unit right(io_, "alice");
        EXPECT_FALSE(co_await right.connect(at_));
        EXPECT_TRUE(co_await right.configure());
    }());
    EXPECT_EQ(gateway_->count().handshakes_failed, 32U);
    EXPECT_EQ(events_, std::vector<std::string>{"up alice"});
    const auto log = log_.str();
    EXPECT_NE(log.find("audit: authentication failed: 'alice' from 127.0.0.1:"), std::string::npos) << log;
    EXPECT_NE(log.find("wrong PSK"), std::string::npos) << log;
    EXPECT_EQ(log.find("42424242"), std::string::npos); // the key's filling, in hex; a port may be 42424
    EXPECT_EQ(log.find("BBBB"), std::string::npos);     // and as characters
}

// Nobody learns from outside which id codes exist; the audit line says it to the operator.
TEST_F(Security, Rim04UnknownUnitLooksLikeAWrongKey) {
    start();
    run([this]() -> asio::awaitable<void> {
        const auto wrong = co_await alert("alice", protocol::make_client_context("alice", key_of("other")));
        const auto unknown = co_await alert("nobody", protocol::make_client_context("nobody", key_of("nobody")));
        const auto ugly = co_await alert("x", protocol::make_client_context("x\ny", key_of("x")));
        EXPECT_EQ(wrong, unknown);
        EXPECT_EQ(wrong, ugly);
    }());
    EXPECT_NE(log_.str().find("'nobody' from 127.0.0.1:"), std::string::npos);
    EXPECT_NE(log_.str().find("unknown id code"), std::string::npos);
    EXPECT_EQ(log_.str().find("x\ny"), std::string::npos);
}

TEST_F(Security, Rim04IdCodeMustBeTheAuthenticatedOne) {
    start();
    run([this]() -> asio::awaitable<void> {
        unit alice(io_, "alice");
        EXPECT_FALSE(co_await alice.connect(at_));
        auto request = alice.next(exchange::config);
        request.add<tlv::id_code>("bob");
        EXPECT_EQ((co_await alice.ask(std::move(request)))->code(), status::unknown_unit);
        EXPECT_TRUE(co_await alice.closed_by_gateway());
    }());
    EXPECT_TRUE(events_.empty());
    EXPECT_NE(log_.str().find("'alice' at 127.0.0.1 asked for a session of 'bob'"), std::string::npos);
}

TEST_F(Security, Rim04AWrongGatewayIsRefusedByTheUnit) {
    test_ca ca;
    config_.certificates = ca.issue("gateway", "serverAuth");
    units_.ids = {"alice"};
    start();
    run([this]() -> asio::awaitable<void> { // a gateway that has only a certificate does not convince a PSK client
        unit bob(io_, "bob");
        EXPECT_TRUE(co_await bob.connect(at_));
    }());
}

TEST_F(Security, Rim05OnlyTls13WithAes256Gcm) {
    start();
    run([this]() -> asio::awaitable<void> {
        auto old = protocol::make_client_context("alice", key_of("alice"));
        SSL_CTX_set_min_proto_version(old->get(), TLS1_2_VERSION);
        SSL_CTX_set_max_proto_version(old->get(), TLS1_2_VERSION);
        EXPECT_NE((co_await alert("alice", std::move(old))).find("alert"), std::string::npos);
        auto weak = protocol::make_client_context("alice", key_of("alice"));
        SSL_CTX_set_ciphersuites(weak->get(), "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256");
        EXPECT_NE((co_await alert("alice", std::move(weak))).find("alert"), std::string::npos);
        unit right(io_, "alice");
        EXPECT_FALSE(co_await right.connect(at_));
        EXPECT_STREQ(SSL_get_cipher_name(right.tls().native()), "TLS_AES_256_GCM_SHA384");
        EXPECT_TRUE(co_await right.configure());
        EXPECT_EQ(SSL_SESSION_is_resumable(SSL_get0_session(right.tls().native())), 0);
        EXPECT_FALSE(SSL_SESSION_has_ticket(SSL_get0_session(right.tls().native())));
    }());
}

TEST_F(Security, CertificatesAuthenticateBothWays) {
    test_ca ca, other;
    config_.certificates = ca.issue("gateway", "serverAuth");
    units_.without_psk = {"dave"};
    start();
    run([&, this]() -> asio::awaitable<void> {
        unit dave(io_, "dave", protocol::make_client_context(ca.issue("dave", "clientAuth")));
        const auto error = co_await dave.connect(at_);
        EXPECT_FALSE(error) << error.message();
        EXPECT_TRUE(co_await dave.configure());
        EXPECT_TRUE(gateway_->by_unit("dave")->up);

        unit alice(io_, "alice"); // PSK beside certificates
        EXPECT_FALSE(co_await alice.connect(at_));
        EXPECT_TRUE(co_await alice.configure());

        auto forged = other.issue("dave", "clientAuth"); // another CA's dave
        forged.ca = ca.ca();
        EXPECT_NE((co_await alert("dave", protocol::make_client_context(forged))).find("alert"), std::string::npos);

        const auto before = gateway_->count().unauthenticated; // a good certificate of no unit
        co_await alert("erin", protocol::make_client_context(ca.issue("erin", "clientAuth")));
        EXPECT_EQ(gateway_->count().unauthenticated, before + 1);
        EXPECT_TRUE(gateway_->by_unit("dave")->up);
    }());
    EXPECT_NE(log_.str().find("'erin' from 127.0.0.1:"), std::string::npos);
}

TEST_F(Security, AUnitsCertificateCannotPlayTheGateway) {
    test_ca ca;
    config_.certificates = ca.issue("mallory", "clientAuth");
    units_.without_psk = {"dave"};
    start();
    run([&, this]() -> asio::awaitable<void> {
        unit dave(io_, "dave", protocol::make_client_context(ca.issue("dave", "clientAuth")));
        EXPECT_TRUE(co_await dave.connect(at_));
    }());
}

// Who was enrolled with a key does not come with a certificate, though the CA signed one.
TEST_F(Security, TheKindOfCredentialIsTheUnits) {
    test_ca ca;
    config_.certificates = ca.issue("gateway", "serverAuth");
    start();
    run([&, this]() -> asio::awaitable<void> {
        co_await alert("alice", protocol::make_client_context(ca.issue("alice", "clientAuth")));
        EXPECT_EQ(gateway_->count().unauthenticated, 1U);
        EXPECT_FALSE(gateway_->by_unit("alice"));
        unit alice(io_, "alice");
        EXPECT_FALSE(co_await alice.connect(at_));
        EXPECT_TRUE(co_await alice.configure());
    }());
    EXPECT_NE(log_.str().find("no unit of this id code that may come by this certificate"), std::string::npos);
}

TEST_F(Security, APinnedUnitComesWithThatPublicKeyAlone) {
    test_ca ca;
    config_.certificates = ca.issue("gateway", "serverAuth");
    units_.without_psk = {"dave"};
    const auto old = ca.issue("dave", "clientAuth");
    auto first = protocol::make_client_context(old);
    units_.pins["dave"] = bytes(32, 7);
    start();
    run([&, this]() -> asio::awaitable<void> {
        co_await alert("dave", std::move(first));
        EXPECT_EQ(gateway_->count().unauthenticated, 1U);
        const auto now = protocol::make_client_context(old);
        SSL* ssl = SSL_new(now->get());
        X509* certificate = SSL_get_certificate(ssl);
        bytes der(static_cast<std::size_t>(i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), nullptr)));
        auto* at = der.data();
        i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &at);
        bytes digest(32);
        EVP_Digest(der.data(), der.size(), digest.data(), nullptr, EVP_sha256(), nullptr);
        SSL_free(ssl);
        units_.pins["dave"] = digest;
        unit dave(io_, "dave", protocol::make_client_context(old));
        EXPECT_FALSE(co_await dave.connect(at_));
        EXPECT_TRUE(co_await dave.configure());
    }());
}

TEST_F(Security, ARevokedCertificateIsRefusedAndItsSessionEnds) {
    test_ca ca, other;
    config_.certificates = ca.issue("gateway", "serverAuth");
    config_.certificates.crl = ca.crl("");
    units_.without_psk = {"dave", "erin"};
    const auto files = ca.issue("dave", "clientAuth"), erins = ca.issue("erin", "clientAuth");
    start();
    run([&, this]() -> asio::awaitable<void> {
        unit dave(io_, "dave", protocol::make_client_context(files)),
            erin(io_, "erin", protocol::make_client_context(erins));
        EXPECT_FALSE(co_await dave.connect(at_));
        EXPECT_TRUE(co_await dave.configure());
        EXPECT_FALSE(co_await erin.connect(at_));
        EXPECT_TRUE(co_await erin.configure());

        bool stale = false;
        config_.certificates.crl = other.crl(files.certificate); // another CA's says nothing of ours
        std::filesystem::copy_file(config_.certificates.crl, std::filesystem::path(ca.ca()).replace_filename("crl.pem"),
                                   std::filesystem::copy_options::overwrite_existing);
        EXPECT_FALSE(gateway_->renew_trust(stale)) << "it would lock out every unit";
        EXPECT_TRUE(gateway_->by_unit("dave")->up);

        ca.crl(files.certificate, -3600); // should have been renewed an hour ago
        EXPECT_TRUE(gateway_->renew_trust(stale));
        EXPECT_TRUE(stale);
        EXPECT_TRUE(co_await dave.closed_by_gateway());
        EXPECT_FALSE(gateway_->by_unit("dave"));
        EXPECT_NE((co_await alert("dave", protocol::make_client_context(files))).find("alert"), std::string::npos);
        EXPECT_TRUE(gateway_->by_unit("erin")->up);
        unit again(io_, "erin", protocol::make_client_context(erins));
        EXPECT_FALSE(co_await again.connect(at_)) << "a list that was not renewed locks nobody else out";
    }());
}

TEST_F(Security, AUnitKnowsItsGatewayByName) {
    test_ca ca;
    config_.certificates = ca.issue("gateway", "serverAuth", "DNS:gw.example,IP:127.0.0.1");
    units_.without_psk = {"dave"};
    start();
    run([&, this]() -> asio::awaitable<void> {
        for (const char* name : {"gw.example", "127.0.0.1"}) {
            unit dave(io_, "dave", protocol::make_client_context(ca.issue("dave", "clientAuth"), name));
            EXPECT_FALSE(co_await dave.connect(at_)) << name;
        }
        for (const char* name : {"gateway", "other.example", "127.0.0.2"}) {
            unit dave(io_, "dave", protocol::make_client_context(ca.issue("dave", "clientAuth"), name));
            EXPECT_TRUE(co_await dave.connect(at_)) << name;
        }
    }());
}

// Who says nothing, or only a part of a ClientHello, holds a place that the next one gets.
TEST_F(Security, SilentConnectionsKeepNobodyOut) {
    config_.max_silent = 4;
    config_.max_half_open = 1;
    config_.first_byte = 10s;
    start();
    run([this]() -> asio::awaitable<void> {
        std::vector<asio::ip::tcp::socket> silent;
        for (int i = 0; i < 20; ++i) {
            silent.emplace_back(io_);
            co_await silent.back().async_connect(raw_at(), asio::use_awaitable);
            const bytes part{22, 3, 1, 1, 0, 1, 0};
            co_await asio::async_write(silent.back(), asio::buffer(part.data(), static_cast<std::size_t>(i % 8)),
                                       asio::use_awaitable);
        }
        co_await pause(50ms);
        for (const char* name : {"alice", "bob"}) {
            unit one(io_, name);
            EXPECT_FALSE(co_await one.connect(at_)) << name;
            EXPECT_TRUE(co_await one.configure());
        }
        EXPECT_EQ(gateway_->count().half_open_refused, 0U);
        EXPECT_GE(gateway_->count().silent_displaced, 16U);
    }());
}

// A whole ClientHello as bytes: of somebody who does not go on after it.
bytes hello_of(SSL_CTX* context) {
    SSL* const ssl = SSL_new(context);
    BIO* const out = BIO_new(BIO_s_mem());
    SSL_set_bio(ssl, BIO_new(BIO_s_mem()), out);
    SSL_connect(ssl);
    bytes hello(BIO_pending(out));
    BIO_read(out, hello.data(), static_cast<int>(hello.size()));
    SSL_free(ssl);
    return hello;
}

// Who leaves a handshake at the gateway's answer holds a place until its time is over; the next one waits for it.
TEST_F(Security, AHandshakeThatIsLeftKeepsNobodyOut) {
    test_ca ca;
    config_.certificates = ca.issue("gateway", "serverAuth");
    config_.max_half_open = 1;
    config_.handshake_timeout = 1s;
    start();
    run([&, this]() -> asio::awaitable<void> {
        const auto context = protocol::make_client_context(ca.issue("nobody", "clientAuth"));
        const bytes hello = hello_of(context->get());
        asio::ip::tcp::socket left(io_);
        co_await left.async_connect(raw_at(), asio::use_awaitable);
        co_await asio::async_write(left, asio::buffer(hello), asio::use_awaitable);
        bytes answer(1);
        co_await asio::async_read(left, asio::buffer(answer), asio::use_awaitable); // its place is taken
        unit alice(io_, "alice");
        EXPECT_FALSE(co_await alice.connect(at_));
        EXPECT_TRUE(co_await alice.configure());
        EXPECT_EQ(gateway_->count().half_open_refused, 0U);
        EXPECT_EQ(gateway_->count().handshakes_timed_out, 1U);
    }());
}

// Sent in pieces, it is a ClientHello all the same.
TEST_F(Security, AClientHelloMayComeInPieces) {
    EXPECT_EQ(link::hello_needs(bytes{}), 6U);
    EXPECT_EQ(link::hello_needs(bytes{22, 3, 1}), 6U);
    EXPECT_EQ(link::hello_needs(bytes{22, 3, 1, 1, 0, 1}), 5U + 256U);
    EXPECT_LE(link::hello_needs(bytes{'G'}), 1U) << "no TLS: it is TLS that says so";
    EXPECT_LE(link::hello_needs(bytes{22, 3, 1, 1, 0, 2}), 6U) << "no ClientHello";
}

TEST_F(Security, HalfOpenConnectionsAreLimitedInNumberAndTime) {
    config_.max_silent = 3;
    config_.first_byte = 250ms;
    config_.handshake_timeout = 300ms;
    start();
    run([this]() -> asio::awaitable<void> {
        std::vector<asio::ip::tcp::socket> silent;
        for (int i = 0; i < 5; ++i) {
            silent.emplace_back(io_);
            co_await silent.back().async_connect(raw_at(), asio::use_awaitable);
        }
        const bool displaced = co_await within(10s, [&] { return gateway_->count().silent_displaced >= 2; });
        EXPECT_TRUE(displaced) << "the oldest go";
        const bool closed = co_await within(10s, [&] { return gateway_->count().silent_closed >= 3; });
        EXPECT_TRUE(closed);
        EXPECT_EQ(gateway_->count().silent_displaced, 2U);
        EXPECT_EQ(gateway_->count().silent_closed, 3U);
        unit alice(io_, "alice"); // there is room again
        EXPECT_FALSE(co_await alice.connect(at_));
        EXPECT_TRUE(co_await alice.closed_by_gateway()); // authenticated, but no CONFIG in time
        EXPECT_EQ(gateway_->count().config_timeouts, 1U);
        unit bob(io_, "bob");
        EXPECT_FALSE(co_await bob.connect(at_));
        EXPECT_TRUE(co_await bob.configure());
    }());
}

TEST_F(Security, GarbageInsteadOfTlsIsCounted) {
    start();
    run([this]() -> asio::awaitable<void> {
        asio::ip::tcp::socket socket(io_);
        co_await socket.async_connect(raw_at(), asio::use_awaitable);
        const bytes garbage(4096, 'G');
        co_await asio::async_write(socket, asio::buffer(garbage), asio::use_awaitable);
        const bool failed = co_await within(10s, [&] { return gateway_->count().handshakes_failed > 0; });
        EXPECT_TRUE(failed);
    }());
    EXPECT_EQ(gateway_->count().handshakes_failed, 1U);
    EXPECT_NE(log_.str().find("no id code, from 127.0.0.1:"), std::string::npos);
}

// A flood of bad handshakes must not fill the disk: 20 lines a second, the rest is a number.
TEST_F(Security, AuditLinesAreLimited) {
    start();
    run([this]() -> asio::awaitable<void> {
        for (int i = 0; i < 60; ++i) {
            asio::ip::tcp::socket socket(io_);
            co_await socket.async_connect(raw_at(), asio::use_awaitable);
            const bytes garbage(16, 'G');
            co_await asio::async_write(socket, asio::buffer(garbage), asio::use_awaitable);
        }
        co_await pause(1200ms);
        co_await alert("alice", protocol::make_client_context("alice", key_of("other")));
    }());
    EXPECT_EQ(gateway_->count().handshakes_failed, 61U);
    EXPECT_NE(log_.str().find("more authentication failures"), std::string::npos);
}

} // namespace
} // namespace tandem::session::testing
