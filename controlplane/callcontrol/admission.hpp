// SPDX-License-Identifier: Apache-2.0
// Whether one more call may begin: the one place where a new call is refused for want of room, before anything of it is
// made. Rooms of the gateway add what they look at (`gate`); running calls are never asked about. What the proxy is
// told makes it try another node and still give this one its running calls. Owner thread: io_context.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace tandem::callcontrol {

struct refusal {
    enum class want : std::uint8_t {
        sessions, // "Parallel session limit reached", as rtpengine says it
        ports,    // "Ran out of ports"
        load,     // "load limit", with the cause
    };
    want what{};
    std::string cause; // a sentence for the log: what is short, what to do
};

class admission {
public:
    using gate = std::function<std::optional<refusal>()>;
    void add(gate one) { gates_.push_back(std::move(one)); } // asked in this order, once for each new call

    // Nothing where a new call may begin.
    [[nodiscard]] std::optional<refusal> ask() {
        for (const auto& look : gates_)
            if (auto no = look())
                return no;
        return std::nullopt;
    }

private:
    std::vector<gate> gates_;
};

} // namespace tandem::callcontrol
