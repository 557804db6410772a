// SPDX-License-Identifier: Apache-2.0
// Errors of a link. See error.hpp.
#include "controlplane/link/error.hpp"

#include <string>

#include <openssl/err.h>
#include <openssl/ssl.h>

namespace tandem::link {
namespace {

class tls_errors final : public std::error_category {
    [[nodiscard]] const char* name() const noexcept override { return "tls"; }
    [[nodiscard]] std::string message(int value) const override {
        const auto code = static_cast<unsigned>(value);
        const char* reason = ::ERR_reason_error_string(code);
        const char* library = ::ERR_lib_error_string(code);
        if (reason == nullptr)
            return "TLS error without a reason";
        return library == nullptr ? std::string(reason) : std::string(reason) + " (" + library + ")";
    }
};

class link_errors final : public std::error_category {
    [[nodiscard]] const char* name() const noexcept override { return "link"; }
    [[nodiscard]] std::string message(int value) const override {
        return static_cast<failure>(value) == failure::truncated ? "stream truncated"
                                                                 : "no memory for a TLS connection";
    }
};

const tls_errors of_tls;
const link_errors of_links;

} // namespace

std::error_code make_error_code(failure what) noexcept {
    return {static_cast<int>(what), of_links};
}

std::error_code tls_error(unsigned long code) noexcept {
    return {static_cast<int>(code), of_tls};
}

bool is_tls(const std::error_code& error) noexcept {
    return error.category() == of_tls;
}

bool is_alert(const std::error_code& error) noexcept {
    return is_tls(error) && ERR_GET_REASON(static_cast<unsigned>(error.value())) >= SSL_AD_REASON_OFFSET;
}

} // namespace tandem::link
