// SPDX-License-Identifier: Apache-2.0
// An observer's connection to the data plane's own socket (dataplane/api/sight.hpp): trace and capture work without a
// control plane. Closing it ends what it watches. Blocking, one thread; a signal ends a wait.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/descriptor.hpp"
#include "dataplane/api/sight.hpp"
#include "tools/tandemctl/ops_client.hpp"

namespace tandem::ctl {

class observer_link {
public:
    struct message {
        api::message_type type{};
        std::uint16_t count = 0;
        std::span<const std::byte> body; // until the next receive
    };

    // Connects and asks; the answer's ports are kept.
    [[nodiscard]] static result<observer_link> start(const std::string& run_dir, const api::trace_request& what);
    [[nodiscard]] static result<observer_link> start(const std::string& run_dir, const api::capture_request& what);
    observer_link(observer_link&& other) noexcept = default;
    observer_link& operator=(observer_link&&) = delete;
    ~observer_link();

    [[nodiscard]] const std::vector<api::port_entry>& ports() const noexcept { return ports_; }
    [[nodiscard]] std::string port_name(std::size_t index) const;
    // Nothing where the time is over or a signal came; an error where the data plane is gone.
    [[nodiscard]] result<std::optional<message>> receive(int timeout_ms);

private:
    explicit observer_link(descriptor fd, std::string path)
        : fd_(std::move(fd)), path_(std::move(path)), buffer_(api::contract_max_message) {}
    [[nodiscard]] static result<observer_link> open(const std::string& run_dir);
    [[nodiscard]] result<void> ask(api::message_type type, std::span<const std::byte> item);

    descriptor fd_;
    std::string path_;
    std::vector<std::byte> buffer_;
    std::vector<api::port_entry> ports_;
};

// SIGINT and SIGTERM end what runs instead of the program.
void end_by_signal();
[[nodiscard]] bool signalled() noexcept;

} // namespace tandem::ctl
