// SPDX-License-Identifier: Apache-2.0
// How strong the signal of a radio is, where the kernel tells it (COL-13): nl80211 over generic netlink, polled or when
// the kernel has news. A radio that it does not know (a modem, a wire) has none. Owner: the agent's thread; a request
// waits for its answer, which the kernel gives at once, 200 ms at most.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/descriptor.hpp"

namespace tandem::agent {

class signal_source {
public:
    signal_source() = default;
    signal_source(const signal_source&) = delete;
    signal_source& operator=(const signal_source&) = delete;
    virtual ~signal_source() = default;
    // dBm of the station or access point that the interface is with.
    [[nodiscard]] virtual std::optional<int> read(unsigned interface) = 0;
    // Readable where there is news: news() takes it, and read() says it. -1: none ever.
    [[nodiscard]] virtual int fd() const noexcept { return -1; }
    virtual void news() {}
};

class nl80211_source final : public signal_source {
public:
    // Two netlink sockets, one for requests and one for news; tests give ends of socket pairs.
    nl80211_source(descriptor requests, descriptor news);
    // Of the kernel; null where it has no generic netlink.
    [[nodiscard]] static std::unique_ptr<nl80211_source> open();

    [[nodiscard]] std::optional<int> read(unsigned interface) override;
    [[nodiscard]] int fd() const noexcept override { return news_.get(); }
    void news() override;

private:
    [[nodiscard]] bool find_family();
    void join(std::uint32_t group) noexcept;
    template <class Each>
    [[nodiscard]] bool ask(void* message, Each each); // false: refused, or no whole answer

    descriptor requests_, news_;
    std::uint16_t family_ = 0; // 0: not known; the driver may come later
    std::uint32_t sequence_ = 0;
};

} // namespace tandem::agent
