// SPDX-License-Identifier: Apache-2.0
// What the contract's socket does with observers (dataplane/api/sight.hpp): it checks who asks and the form of what is
// asked, and hands it on. Owner: the control thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <tl/expected.hpp>

#include "dataplane/api/contract.hpp"
#include "dataplane/api/sight.hpp"

namespace tandem::app {

class observe_handler {
public:
    struct peer {
        int fd;
        std::uint32_t uid;
        std::uint32_t pid;
    };
    struct refusal {
        api::status status;
        std::string text;
    };
    struct answer {
        api::observe_reply reply;
        std::vector<api::port_entry> ports;
    };
    virtual ~observe_handler() = default;
    virtual tl::expected<answer, refusal> trace(const peer& who, const api::trace_request& what) = 0;
    virtual tl::expected<answer, refusal> capture(const peer& who, const api::capture_request& what) = 0;
    virtual void closed(int fd) = 0; // any connection
    [[nodiscard]] virtual bool serves(int fd) const = 0;
};

} // namespace tandem::app
