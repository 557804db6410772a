// SPDX-License-Identifier: Apache-2.0
// What of sessions outlives the control plane: TSID, unit, inner addresses. No key. Implemented by store/ over
// SQLite. Called on the io_context; one row per unit.
#pragma once

#include <string>
#include <vector>

#include "controlplane/session/directory.hpp"

namespace tandem::session {

struct stored_session {
    std::string unit;
    tsid id = 0; // 0 = no session lives; the row only keeps the unit's inner addresses stable
    std::vector<asio::ip::address> inner;
};

class session_store {
public:
    virtual ~session_store() = default;
    [[nodiscard]] virtual std::vector<stored_session> load() = 0;
    virtual void save(const stored_session&) = 0; // inserts or replaces the unit's row
    virtual void forget(const std::string& unit) = 0;
};

} // namespace tandem::session
