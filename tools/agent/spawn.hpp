// SPDX-License-Identifier: Apache-2.0
// A coroutine of its own whose exception ends io_context::run(), instead of vanishing as with asio::detached: a program
// that lost its reader or its keepalive must not stay up and be silent.
#pragma once

#include <exception>
#include <utility>

#include <asio/co_spawn.hpp>
#include <asio/io_context.hpp>

namespace tandem::agent {

template <class Function>
void spawn(asio::io_context& io, Function function) {
    asio::co_spawn(io, std::move(function), [](const std::exception_ptr& error) {
        if (error)
            std::rethrow_exception(error);
    });
}

} // namespace tandem::agent
