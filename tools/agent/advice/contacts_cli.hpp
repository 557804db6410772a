// SPDX-License-Identifier: Apache-2.0
// `tandem-agent contacts ...` and `tandem-agent profiles ...`: the person's side of the files in state_dir. They work
// on the files alone, so it does not matter whether the agent runs; a running one sees the change for the next call.
#pragma once

#include <memory>
#include <optional>

namespace CLI {
class App;
}

namespace tandem::agent {

class contacts_cli {
public:
    explicit contacts_cli(CLI::App& app);
    ~contacts_cli();
    contacts_cli(const contacts_cli&) = delete;
    contacts_cli& operator=(const contacts_cli&) = delete;

    // The exit status, where one of these commands was given. config: as it was given in front of the command, or
    // empty.
    [[nodiscard]] std::optional<int> run(const std::string& config);

private:
    struct state;
    std::unique_ptr<state> state_;
};

} // namespace tandem::agent
