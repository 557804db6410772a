// SPDX-License-Identifier: Apache-2.0
// The decider over configuration, security database and call profiles, all in memory.
// Owner thread: the control plane's io_context.
#pragma once

#include "controlplane/policy/config.hpp"
#include "controlplane/policy/decide.hpp"

namespace tandem::policy {

class engine final : public decider {
public:
    explicit engine(config settings) : settings_(std::move(settings)) {}
    [[nodiscard]] decision decide(const question& call) override;
    [[nodiscard]] decision explain(const question& call) const override;
    [[nodiscard]] level by_name(std::string_view name) const override;
    [[nodiscard]] const config& settings() const noexcept { return settings_; }
    // Calls that begin from now on take the new values.
    void reconfigure(config fresh) { settings_ = std::move(fresh); }

private:
    config settings_;
};

} // namespace tandem::policy
