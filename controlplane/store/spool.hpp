// SPDX-License-Identifier: Apache-2.0
// Records of ended calls that are written here, durably, and are not yet in the store that many gateways share. The
// local store (SQLite) implements it; postgres.hpp empties it. A record leaves it by mark_shipped only: a crash between
// the two makes it be shipped again, and the shared store takes an id once. Owner thread: the io_context.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "controlplane/store/call_record.hpp"

namespace tandem::store {

class record_spool {
public:
    virtual ~record_spool() = default;
    // The oldest ones, at most `limit`.
    [[nodiscard]] virtual std::vector<call_record> unshipped(std::size_t limit) = 0;
    virtual void mark_shipped(std::span<const std::string> ids) = 0;
    [[nodiscard]] virtual std::size_t waiting() const = 0; // cheap: asked several times a second
};

} // namespace tandem::store
