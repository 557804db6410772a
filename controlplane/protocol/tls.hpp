// SPDX-License-Identifier: Apache-2.0
// The primary's TLS, one place for gateway and agent: TLS 1.3 only, TLS_AES_256_GCM_SHA384 only, external PSK with
// (EC)DHE (RFC 8446 4.2.11, identity = id code) or mutual certificates (CN = id code). No tickets, no session cache, no
// early data: a removed unit cannot resume. OpenSSL contexts; no socket here. Use from one thread.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <openssl/ssl.h>
#include <tl/expected.hpp>

#include "controlplane/protocol/secret.hpp"

namespace tandem::protocol {

struct ssl_ctx_free {
    void operator()(SSL_CTX* context) const noexcept { SSL_CTX_free(context); }
};
using ssl_context = std::unique_ptr<SSL_CTX, ssl_ctx_free>;

// PEM files; all empty = none.
struct certificate_files {
    std::string certificate; // own chain
    std::string key;
    std::string ca;    // who signs the peer's
    std::string crl{}; // whose certificates are revoked; several of a PEM file, all signed by `ca`. Empty = nobody's
    [[nodiscard]] bool empty() const { return certificate.empty() && key.empty() && ca.empty(); }
};

inline constexpr std::size_t min_psk = 16, max_psk = 64, max_identity = 64;

// Errors are sentences: what is wrong, what to do.
using psk_lookup = std::function<std::optional<secret>(std::string_view id_code)>;
// Units authenticate by PSK; also by certificate where files are given. An unknown identity fails exactly as a wrong
// key does, so that nobody learns which id codes exist.
[[nodiscard]] tl::expected<ssl_context, std::string> make_server_context(psk_lookup, const certificate_files&);
// PSK client: a gateway that does not know the PSK is refused, whatever certificate it shows.
[[nodiscard]] tl::expected<ssl_context, std::string> make_client_context(std::string id_code, secret psk);
// Certificate client: the gateway's must be signed by the CA and be for servers (extendedKeyUsage serverAuth), so that
// a unit's certificate cannot play the gateway.
// `gateway_name`: a name or address that its subjectAltName must have; empty = any gateway of that CA.
[[nodiscard]] tl::expected<ssl_context, std::string> make_client_context(const certificate_files&,
                                                                         const std::string& gateway_name = {});

// Server: reads ca and crl again, for handshakes from now on; an error leaves all as it was. A CRL that is past its
// next update still revokes what it names: `stale` then says so.
[[nodiscard]] tl::expected<void, std::string> renew_trust(SSL_CTX*, const certificate_files&, bool* stale = nullptr);
[[nodiscard]] bool revoked(SSL_CTX*, X509* certificate);

enum class credential { psk, certificate };
using public_key_digest = std::array<std::uint8_t, 32>; // SHA-256 of the SubjectPublicKeyInfo, as pins are (RFC 7469)
struct peer_identity {
    std::string id_code;
    credential by;
    std::shared_ptr<X509> certificate{};
    public_key_digest key{}; // the certificate's
};
// Server, after the handshake: who the unit has proved to be. Nothing = refuse the connection.
[[nodiscard]] std::optional<peer_identity> authenticated_peer(SSL*);
// Server, also after a failed handshake: the PSK identity that was offered, printable, and whether it is known. For
// audit.
struct offered_identity {
    std::string id_code;
    bool known;
};
[[nodiscard]] std::optional<offered_identity> offered_peer(const SSL*);

// PSK text of a file or of `unit add`: hex, 16 to 64 bytes, white space around it ignored. Nothing where it is not
// that.
[[nodiscard]] std::optional<secret> parse_psk(std::string_view hex);

} // namespace tandem::protocol
