// SPDX-License-Identifier: Apache-2.0
// What ends a link. asio::error::eof: the peer said that nothing follows (close_notify). operation_aborted: close().
// Else the system's errors and these. Their messages are for logs: a reason, never a key.
#pragma once

#include <system_error>

namespace tandem::link {

enum class failure {
    truncated = 1, // the connection ended without close_notify
    no_memory,     // OpenSSL has no room for a connection
};
[[nodiscard]] std::error_code make_error_code(failure) noexcept;

// OpenSSL's error `code` (ERR_get_error).
[[nodiscard]] std::error_code tls_error(unsigned long code) noexcept;
// It is TLS that failed, and not the network.
[[nodiscard]] bool is_tls(const std::error_code&) noexcept;
// The peer said why it refuses (RFC 8446 6.2).
[[nodiscard]] bool is_alert(const std::error_code&) noexcept;

} // namespace tandem::link

template <>
struct std::is_error_code_enum<tandem::link::failure> : std::true_type {};
