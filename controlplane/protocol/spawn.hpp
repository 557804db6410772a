// SPDX-License-Identifier: Apache-2.0
// A coroutine of its own whose exception does not vanish, as with asio::detached: it is logged under the coroutine's
// name, and then either ends the program or is put in order by who started it. Used by the control plane and the agent.
#pragma once

#include <exception>
#include <string>
#include <utility>

#include <asio/co_spawn.hpp>
#include <spdlog/spdlog.h>

namespace tandem::protocol {

[[nodiscard]] inline std::string text_of(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const std::exception& known) {
        return known.what();
    } catch (...) {
        return "an exception of an unknown type";
    }
}

// What the program cannot be without (readers, acceptors, the take-over): the exception leaves io_context::run(), since
// a program that lost its reader must not stay up and be silent.
template <class On, class Work>
void spawn(On&& on, const char* what, Work work) {
    asio::co_spawn(on, std::move(work), [what](const std::exception_ptr& error) {
        if (!error)
            return;
        spdlog::critical("{} ended by an error inside: {}", what, text_of(error));
        std::rethrow_exception(error);
    });
}

// What concerns one connection or one media: the rest goes on, and `after` puts in order what it served.
template <class On, class Work, class After>
void spawn_contained(On&& on, const char* what, Work work, After after) {
    asio::co_spawn(on, std::move(work), [what, after = std::move(after)](const std::exception_ptr& error) mutable {
        if (!error)
            return;
        spdlog::error("{} ended by an error inside: {}", what, text_of(error));
        after();
    });
}

template <class On, class Work>
void spawn_contained(On&& on, const char* what, Work work) {
    spawn_contained(on, what, std::move(work), [] {});
}

} // namespace tandem::protocol
