// SPDX-License-Identifier: Apache-2.0
// OpenSSL contexts of the primary. See tls.hpp. RFC 8446 4.2.11 (external PSK), 6.2 (alerts).
#include "controlplane/protocol/tls.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>

#include "controlplane/protocol/message.hpp"

namespace tandem::protocol {
namespace {

constexpr const char* suite = "TLS_AES_256_GCM_SHA384";
constexpr std::array<unsigned char, 2> suite_number{0x13, 0x02};

struct server_state {
    psk_lookup lookup;
    secret stranger; // key under which unknown identities fail, as those with a wrong key do
};
struct client_state {
    std::string id_code;
    secret psk;
};
struct connection_state {
    offered_identity offered;
};

template <class T>
void free_extra(void*, void* value, CRYPTO_EX_DATA*, int, long, void*) {
    delete static_cast<T*>(value);
}

template <class T>
int context_slot() {
    static const int slot = SSL_CTX_get_ex_new_index(0, nullptr, nullptr, nullptr, &free_extra<T>);
    return slot;
}
int connection_slot() {
    static const int slot = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, &free_extra<connection_state>);
    return slot;
}
template <class T>
T* state_of(const SSL* ssl) {
    return static_cast<T*>(SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), context_slot<T>()));
}
connection_state* state_of_connection(const SSL* ssl) {
    return static_cast<connection_state*>(SSL_get_ex_data(ssl, connection_slot()));
}
connection_state* make_state_of_connection(SSL* ssl) {
    auto* state = state_of_connection(ssl);
    if (state != nullptr)
        return state;
    auto fresh = std::make_unique<connection_state>();
    if (SSL_set_ex_data(ssl, connection_slot(), fresh.get()) != 1)
        return nullptr;
    return fresh.release();
}

std::string openssl_reason() {
    const auto code = ERR_peek_last_error();
    const char* text = code != 0 ? ERR_reason_error_string(code) : nullptr;
    std::string reason = text != nullptr ? text : "no reason given";
    ERR_clear_error();
    return reason;
}

// A session object that stands for an external PSK (RFC 8446 4.2.11; SHA-384 by its suite).
SSL_SESSION* session_of(SSL* ssl, const secret& psk) {
    SSL_SESSION* session = SSL_SESSION_new();
    const SSL_CIPHER* cipher = SSL_CIPHER_find(ssl, suite_number.data());
    if (session == nullptr || cipher == nullptr ||
        SSL_SESSION_set1_master_key(session, psk.view().data(), psk.size()) != 1 ||
        SSL_SESSION_set_cipher(session, cipher) != 1 ||
        SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) != 1) {
        SSL_SESSION_free(session);
        return nullptr;
    }
    return session;
}

int find_psk(SSL* ssl, const unsigned char* identity, std::size_t length, SSL_SESSION** session) {
    *session = nullptr;
    auto* server = state_of<server_state>(ssl);
    auto* connection = make_state_of_connection(ssl);
    if (server == nullptr || connection == nullptr)
        return 0;
    std::optional<secret> psk;
    const std::span offered(identity, length);
    if (length > 0 && length <= max_identity && valid_text(offered)) {
        connection->offered.id_code.assign(offered.begin(), offered.end());
        psk = server->lookup(connection->offered.id_code);
        if (psk && (psk->size() < min_psk || psk->size() > max_psk))
            psk.reset();
    } else {
        connection->offered.id_code = "(not printable)";
    }
    connection->offered.known = psk.has_value();
    *session = session_of(ssl, psk ? *psk : server->stranger);
    return *session != nullptr ? 1 : 0;
}

int use_psk(SSL* ssl, const EVP_MD* digest, const unsigned char** identity, std::size_t* length,
            SSL_SESSION** session) {
    *session = nullptr;
    *identity = nullptr;
    *length = 0;
    const auto* client = state_of<client_state>(ssl);
    if (client == nullptr)
        return 0;
    if (digest != nullptr && EVP_MD_get_type(digest) != NID_sha384)
        return 1; // the server chose a hash of which we have no PSK; the handshake then fails for want of a certificate
    *session = session_of(ssl, client->psk);
    if (*session == nullptr)
        return 0;
    *identity = reinterpret_cast<const unsigned char*>(client->id_code.data());
    *length = client->id_code.size();
    return 1;
}

// The gateway's certificate must say that it is a server's: every unit has one of the same CA.
int verify_gateway(int ok, X509_STORE_CTX* store) {
    if (ok != 1 || X509_STORE_CTX_get_error_depth(store) != 0)
        return ok;
    X509* leaf = X509_STORE_CTX_get_current_cert(store);
    if ((X509_get_extension_flags(leaf) & EXFLAG_XKUSAGE) != 0 &&
        (X509_get_extended_key_usage(leaf) & XKU_SSL_SERVER) != 0)
        return 1;
    X509_STORE_CTX_set_error(store, X509_V_ERR_INVALID_PURPOSE);
    return 0;
}

// A list that was not renewed in time revokes what it names, and locks nobody else out.
int verify_unit(int ok, X509_STORE_CTX* store) {
    if (ok == 1 || X509_STORE_CTX_get_error(store) != X509_V_ERR_CRL_HAS_EXPIRED)
        return ok;
    X509_STORE_CTX_set_error(store, X509_V_OK);
    return 1;
}

struct store_free {
    void operator()(X509_STORE* store) const noexcept { X509_STORE_free(store); }
};
using trust = std::unique_ptr<X509_STORE, store_free>;

struct crl_free {
    void operator()(X509_CRL* crl) const noexcept { X509_CRL_free(crl); }
};

// Whether one of the store's CAs signed it. Another's would refuse every unit.
bool signed_by(X509_STORE* store, X509_CRL* crl) {
    const STACK_OF(X509_OBJECT)* all = X509_STORE_get0_objects(store);
    for (int i = 0; i < sk_X509_OBJECT_num(all); ++i) {
        X509* ca = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(all, i));
        if (ca != nullptr && X509_NAME_cmp(X509_get_subject_name(ca), X509_CRL_get_issuer(crl)) == 0 &&
            X509_CRL_verify(crl, X509_get0_pubkey(ca)) == 1)
            return true;
    }
    return false;
}

tl::expected<void, std::string> add_crls(X509_STORE* store, const std::string& file, bool& stale) {
    const std::unique_ptr<BIO, int (*)(BIO*)> in(BIO_new_file(file.c_str(), "r"), &BIO_free);
    const auto failed = [&](const char* what) { return tl::unexpected("crl '" + file + "': " + what); };
    if (!in)
        return failed("it cannot be read");
    std::size_t count = 0;
    for (;; ++count) {
        const std::unique_ptr<X509_CRL, crl_free> crl(PEM_read_bio_X509_CRL(in.get(), nullptr, nullptr, nullptr));
        if (!crl)
            break;
        if (!signed_by(store, crl.get()))
            return failed("a list in it is not signed by a CA of `ca`: every unit would be refused");
        const ASN1_TIME* next = X509_CRL_get0_nextUpdate(crl.get());
        stale |= next != nullptr && X509_cmp_current_time(next) < 0;
        if (X509_STORE_add_crl(store, crl.get()) != 1)
            return failed("OpenSSL does not take it");
    }
    const bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    ERR_clear_error();
    if (count == 0 || !at_end)
        return failed("it holds something else than PEM lists of revoked certificates");
    X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK);
    return {};
}

tl::expected<ssl_context, std::string> make_context(const SSL_METHOD* method) {
    ERR_clear_error();
    ssl_context context(SSL_CTX_new(method));
    if (!context || SSL_CTX_set_min_proto_version(context.get(), TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_max_proto_version(context.get(), TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(context.get(), suite) != 1 || SSL_CTX_set_num_tickets(context.get(), 0) != 1)
        return tl::unexpected("OpenSSL cannot do TLS 1.3 with " + std::string(suite) + ": " + openssl_reason() +
                              "; check the OpenSSL configuration of this host");
    SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_OFF);
    // Deciphered seeds are wiped from OpenSSL's buffers as soon as they are read.
    SSL_CTX_set_options(context.get(), SSL_OP_NO_TICKET | SSL_OP_CLEANSE_PLAINTEXT | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(context.get(), SSL_MODE_RELEASE_BUFFERS);
    return context;
}

tl::expected<void, std::string> load(SSL_CTX* context, const certificate_files& files) {
    const auto failed = [](const char* what, const std::string& file) {
        return tl::unexpected(std::string("cannot use ") + what + " '" + file + "': " + openssl_reason() +
                              "; give a PEM file that this program may read");
    };
    if (files.certificate.empty() || files.key.empty() || files.ca.empty())
        return tl::unexpected(std::string("certificate, key and ca belong together: give all three or none"));
    if (SSL_CTX_use_certificate_chain_file(context, files.certificate.c_str()) != 1)
        return failed("certificate", files.certificate);
    if (SSL_CTX_use_PrivateKey_file(context, files.key.c_str(), SSL_FILETYPE_PEM) != 1)
        return failed("key", files.key);
    if (SSL_CTX_load_verify_file(context, files.ca.c_str()) != 1)
        return failed("ca", files.ca);
    return {};
}

std::optional<std::string> common_name(X509* certificate) {
    X509_NAME* subject = X509_get_subject_name(certificate);
    const int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    // More than one CN is an attempt to be two units.
    if (at < 0 || X509_NAME_get_index_by_NID(subject, NID_commonName, at) >= 0)
        return std::nullopt;
    unsigned char* utf8 = nullptr;
    const int length = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
    if (length < 0)
        return std::nullopt;
    const std::span bytes(utf8, static_cast<std::size_t>(length));
    std::optional<std::string> name;
    if (!bytes.empty() && bytes.size() <= max_identity && valid_text(bytes))
        name.emplace(bytes.begin(), bytes.end());
    OPENSSL_free(utf8);
    return name;
}

public_key_digest digest_of_key(X509* certificate) {
    public_key_digest digest{};
    unsigned char* der = nullptr;
    const int length = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &der);
    if (length > 0)
        SHA256(der, static_cast<std::size_t>(length), digest.data());
    OPENSSL_free(der);
    return digest;
}

} // namespace

tl::expected<void, std::string> renew_trust(SSL_CTX* context, const certificate_files& files, bool* stale) {
    ERR_clear_error();
    trust store(X509_STORE_new());
    if (!store || X509_STORE_load_file(store.get(), files.ca.c_str()) != 1)
        return tl::unexpected("cannot use ca '" + files.ca + "': " + openssl_reason() +
                              "; give a PEM file that this program may read");
    bool old = false;
    if (!files.crl.empty())
        if (auto added = add_crls(store.get(), files.crl, old); !added)
            return added;
    if (stale != nullptr)
        *stale = old;
    SSL_CTX_set_cert_store(context, store.release()); // which owns it now
    return {};
}

bool revoked(SSL_CTX* context, X509* certificate) {
    const STACK_OF(X509_OBJECT)* all = X509_STORE_get0_objects(SSL_CTX_get_cert_store(context));
    for (int i = 0; i < sk_X509_OBJECT_num(all); ++i) {
        X509_CRL* crl = X509_OBJECT_get0_X509_CRL(sk_X509_OBJECT_value(all, i));
        X509_REVOKED* entry = nullptr;
        if (crl != nullptr && X509_NAME_cmp(X509_CRL_get_issuer(crl), X509_get_issuer_name(certificate)) == 0 &&
            X509_CRL_get0_by_cert(crl, &entry, certificate) == 1)
            return true;
    }
    return false;
}

tl::expected<ssl_context, std::string> make_server_context(psk_lookup lookup, const certificate_files& files) {
    auto context = make_context(TLS_server_method());
    if (!context)
        return context;
    auto state = std::make_unique<server_state>();
    state->lookup = std::move(lookup);
    if (RAND_bytes(state->stranger.resize(32).data(), 32) != 1 ||
        SSL_CTX_set_ex_data(context->get(), context_slot<server_state>(), state.get()) != 1)
        return tl::unexpected("OpenSSL gives no random bytes: " + openssl_reason());
    state.release(); // NOLINT: the context owns it now
    SSL_CTX_set_psk_find_session_callback(context->get(), &find_psk);
    // PSK sessions are bound to a session id context as soon as peers are verified; any constant will do.
    static constexpr unsigned char name[] = "tandem";
    SSL_CTX_set_session_id_context(context->get(), name, sizeof(name) - 1);
    if (!files.empty()) {
        if (auto loaded = load(context->get(), files); !loaded)
            return tl::unexpected(loaded.error());
        if (auto trusted = renew_trust(context->get(), files); !trusted)
            return tl::unexpected(trusted.error());
        SSL_CTX_set_verify(context->get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, &verify_unit);
    }
    return context;
}

tl::expected<ssl_context, std::string> make_client_context(std::string id_code, secret psk) {
    if (id_code.empty() || id_code.size() > max_identity)
        return tl::unexpected(std::string("the id code must have 1 to 64 bytes"));
    if (psk.size() < min_psk || psk.size() > max_psk)
        return tl::unexpected(std::string("the PSK must have 16 to 64 bytes (32 to 128 hex digits)"));
    auto context = make_context(TLS_client_method());
    if (!context)
        return context;
    auto state = std::make_unique<client_state>(client_state{std::move(id_code), std::move(psk)});
    if (SSL_CTX_set_ex_data(context->get(), context_slot<client_state>(), state.get()) != 1)
        return tl::unexpected("OpenSSL has no room for the PSK: " + openssl_reason());
    state.release(); // NOLINT: the context owns it now
    SSL_CTX_set_psk_use_session_callback(context->get(), &use_psk);
    SSL_CTX_set_verify(context->get(), SSL_VERIFY_PEER, nullptr); // no CA at all: only the PSK convinces
    return context;
}

tl::expected<ssl_context, std::string> make_client_context(const certificate_files& files,
                                                           const std::string& gateway_name) {
    auto context = make_context(TLS_client_method());
    if (!context)
        return context;
    if (auto loaded = load(context->get(), files); !loaded)
        return tl::unexpected(loaded.error());
    if (!gateway_name.empty()) {
        X509_VERIFY_PARAM* check = SSL_CTX_get0_param(context->get());
        X509_VERIFY_PARAM_set_hostflags(check,
                                        X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
        if (X509_VERIFY_PARAM_set1_ip_asc(check, gateway_name.c_str()) != 1 &&
            X509_VERIFY_PARAM_set1_host(check, gateway_name.c_str(), gateway_name.size()) != 1)
            return tl::unexpected("gateway_name '" + gateway_name + "' is neither a host name nor an address");
        ERR_clear_error();
    }
    SSL_CTX_set_verify(context->get(), SSL_VERIFY_PEER, &verify_gateway);
    return context;
}

std::optional<peer_identity> authenticated_peer(SSL* ssl) {
    if (SSL_session_reused(ssl) == 1) { // a PSK was accepted: there are no tickets, so it is an external one
        const auto* state = state_of_connection(ssl);
        if (state == nullptr || !state->offered.known)
            return std::nullopt;
        return peer_identity{state->offered.id_code, credential::psk};
    }
    X509* certificate = SSL_get0_peer_certificate(ssl);
    if (certificate == nullptr || SSL_get_verify_result(ssl) != X509_V_OK)
        return std::nullopt;
    auto name = common_name(certificate);
    if (!name)
        return std::nullopt;
    X509_up_ref(certificate);
    return peer_identity{std::move(*name), credential::certificate, std::shared_ptr<X509>(certificate, &X509_free),
                         digest_of_key(certificate)};
}

std::optional<offered_identity> offered_peer(const SSL* ssl) {
    const auto* state = state_of_connection(ssl);
    if (state == nullptr || state->offered.id_code.empty())
        return std::nullopt;
    return state->offered;
}

std::optional<secret> parse_psk(std::string_view hex) {
    const auto value = [](char c) {
        return c >= '0' && c <= '9'   ? c - '0'
               : c >= 'a' && c <= 'f' ? c - 'a' + 10
               : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                      : -1;
    };
    constexpr std::string_view space = " \t\r\n";
    const auto first = hex.find_first_not_of(space);
    if (first == std::string_view::npos)
        return std::nullopt;
    hex = hex.substr(first, hex.find_last_not_of(space) - first + 1);
    if (hex.size() % 2 != 0 || hex.size() < 2 * min_psk || hex.size() > 2 * max_psk)
        return std::nullopt;
    secret psk;
    const auto bytes = psk.resize(hex.size() / 2);
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        const int high = value(hex[2 * i]), low = value(hex[2 * i + 1]);
        if (high < 0 || low < 0)
            return std::nullopt;
        bytes[i] = static_cast<std::uint8_t>(high << 4 | low);
    }
    return psk;
}

} // namespace tandem::protocol
