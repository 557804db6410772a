// SPDX-License-Identifier: Apache-2.0
// Which level a call gets. For now: the default one, behind the interface that the security database, device contacts
// and call profiles will implement. A store that fails gives the default, never a lost call (design section 9).
#pragma once

#include <string>
#include <string_view>

#include "controlplane/policy/levels.hpp"

namespace tandem::policy {

struct decision {
    level chosen;
    std::string reason; // which rule decided, for `explain` and records
};

class decider {
public:
    virtual ~decider() = default;
    [[nodiscard]] virtual decision decide(std::string_view caller, std::string_view callee) const = 0;
    // A running call's level by its stored name; the default where the name is gone.
    [[nodiscard]] virtual level by_name(std::string_view name) const = 0;
};

class default_decider final : public decider {
public:
    default_decider(level_table table, std::string default_level);
    [[nodiscard]] decision decide(std::string_view caller, std::string_view callee) const override;
    [[nodiscard]] level by_name(std::string_view name) const override;
    [[nodiscard]] const level_table& table() const noexcept { return table_; }

private:
    level_table table_;
    std::string default_;
};

} // namespace tandem::policy
