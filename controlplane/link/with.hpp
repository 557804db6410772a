// SPDX-License-Identifier: Apache-2.0
// co_await x(with(error)): an error goes there instead of being thrown.
#pragma once

#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <system_error>

namespace tandem::link {

inline auto with(std::error_code& error) {
    return asio::redirect_error(asio::use_awaitable, error);
}

} // namespace tandem::link
