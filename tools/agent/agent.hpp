// SPDX-License-Identifier: Apache-2.0
// The parts together: TUN <-> {media, primary}. One io_context, one thread.
#pragma once

#include <asio/io_context.hpp>
#include <asio/posix/stream_descriptor.hpp>
#include <asio/signal_set.hpp>
#include <asio/steady_timer.hpp>

#include "tools/agent/advice/advisor.hpp"
#include "tools/agent/capture/program_capture.hpp"
#include "tools/agent/config.hpp"
#include "tools/agent/device/tun.hpp"
#include "tools/agent/link/primary.hpp"
#include "tools/agent/media/table.hpp"
#include "tools/agent/names/name_stub.hpp"
#include "tools/agent/roam/roaming.hpp"
#include "tools/agent/status.hpp"
#include "tools/agent/streams/forwards.hpp"

namespace tandem::agent {

class agent {
public:
    agent(asio::io_context& io, const agent_config& config, protocol::ssl_context tls, tun_device tun,
          std::unique_ptr<status_server> status);

    // With all privileges, before start(): ports, also below 1024 ([[forward]], [names]), and programs' connections
    // ([capture]). Errors of both are sentences.
    [[nodiscard]] tl::expected<void, std::string> open();
    [[nodiscard]] tl::expected<void, std::string> start();
    // Why the program must end with an error; empty where it need not.
    [[nodiscard]] const std::string& fatal() const noexcept { return primary_.fatal(); }
    [[nodiscard]] std::string describe() const;

private:
    struct counters {
        std::uint64_t from_phone = 0, to_phone = 0, tun_refused = 0, malformed = 0;
    };
    asio::awaitable<void> pump();  // TUN -> media or primary
    asio::awaitable<void> watch(); // each second: files of the person's, links, what was not used in time
    void await_signal();
    void await_radio();
    [[nodiscard]] roaming::hooks roaming_hooks();
    void look_at_paths(bool links_changed);
    [[nodiscard]] bool write_tun(std::span<const std::uint8_t> packet);
    [[nodiscard]] tl::expected<void, std::string> configure(const session_settings& settings);

    asio::io_context& io_;
    const agent_config& config_;
    tun_device tun_;
    asio::posix::stream_descriptor tun_stream_;
    asio::signal_set signals_;
    asio::steady_timer pause_, second_;
    advisor advisor_;
    media_table media_;
    roaming roaming_;
    link_watch links_;
    asio::posix::stream_descriptor signal_news_;
    forwards forwards_;
    std::unique_ptr<program_capture> capture_;
    std::shared_ptr<name_stub> names_; // none: no [names]
    primary primary_;
    std::unique_ptr<status_server> status_;
    counters count_;
    bool privileged_ = true; // addresses may still be set
    bool stopping_ = false;
};

} // namespace tandem::agent
