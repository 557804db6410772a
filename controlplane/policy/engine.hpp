// SPDX-License-Identifier: Apache-2.0
// The decider over configuration, security database and call profiles, all in memory; the store tells it what changes.
// Owner thread: the control plane's io_context.
#pragma once

#include <functional>
#include <memory>

#include "controlplane/policy/config.hpp"
#include "controlplane/policy/counters.hpp"
#include "controlplane/policy/decide.hpp"
#include "controlplane/policy/predictor.hpp"
#include "controlplane/policy/profiles.hpp"
#include "controlplane/policy/rules.hpp"
#include "controlplane/policy/store.hpp"

namespace tandem::policy {

class engine final : public decider, public store::listener {
public:
    using clock = std::function<std::chrono::system_clock::time_point()>;
    explicit engine(config settings, clock now = &std::chrono::system_clock::now);

    // -- decider
    [[nodiscard]] decision decide(const question& call) override;
    [[nodiscard]] decision explain(const question& call) const override;
    [[nodiscard]] std::optional<decision> denies(const question& call) override;
    [[nodiscard]] bool may_deny() const override { return rules_.any_says(std::string(deny)); }
    [[nodiscard]] level by_name(std::string_view name) const override;

    // -- store::listener
    void rules_replaced(std::vector<rule> all) override;
    void rules_changed(std::span<const rule_edit> edits) override;
    void profiles_replaced(std::vector<protocol::profile> all) override;
    void profile_changed(const protocol::profile& one) override;
    void store_trouble(const std::string& sentence) override;

    [[nodiscard]] const config& settings() const noexcept { return settings_; }
    // Calls that begin from now on take the new values.
    void reconfigure(config fresh);

    // For the verbs. Names of parties as people write them.
    [[nodiscard]] const rule_table& rules() const noexcept { return rules_; }
    [[nodiscard]] bool rules_known() const noexcept { return rules_known_; } // the store has told them
    [[nodiscard]] const std::string& trouble() const noexcept { return trouble_; }
    [[nodiscard]] std::size_t profiles() const noexcept { return profiles_.size(); }
    [[nodiscard]] const protocol::profile* profile_of(std::string_view a, std::string_view b) const;
    [[nodiscard]] protocol::summary summary_of(const protocol::profile& of) const;
    [[nodiscard]] const policy::counters& count() const noexcept { return counters_; }

private:
    class inquiry;

    void count(const policy::counters& more);

    config settings_;
    clock now_;
    std::vector<std::unique_ptr<predictor>> predictors_;
    rule_table rules_;
    profile_memory profiles_;
    bool rules_known_ = false, profiles_known_ = false;
    std::string trouble_;
    policy::counters counters_;
};

} // namespace tandem::policy
