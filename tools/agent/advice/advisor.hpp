// SPDX-License-Identifier: Apache-2.0
// What this unit says of a call before it is set up (CONTACT): its person's contacts, its own history, who it wishes to
// make the keys. From memory, at once; the gateway decides. Owner: the agent's thread.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "controlplane/protocol/message.hpp"
#include "tools/agent/advice/contacts.hpp"
#include "tools/agent/advice/history.hpp"
#include "tools/agent/config.hpp"

namespace tandem::agent {

class advisor {
public:
    explicit advisor(const agent_config& config);

    [[nodiscard]] protocol::message contact(const protocol::message& request);
    void call_ended(const std::string& peer, std::chrono::milliseconds length, bool failed);
    void refresh(); // each second, and before an answer: files that changed
    [[nodiscard]] nlohmann::json describe() const;

private:
    std::optional<key_source> keys_;
    contact_file contacts_;
    history history_;
    std::uint64_t asked_ = 0;
};

// The canonical names in the peer TLVs of a message; what is no name is left out.
[[nodiscard]] std::vector<protocol::address_name> peers_of(const protocol::message& request);

} // namespace tandem::agent
