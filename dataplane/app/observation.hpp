// SPDX-License-Identifier: Apache-2.0
// Trace and capture for observers on the contract's socket: gives the workers their taps, sends what they wrote, takes
// the taps away when enough was seen, the time is over or the observer is gone. Every capture is in the audit log; one
// with plaintext is refused where that cannot be written. Owner: the control thread; it never waits for an observer.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dataplane/app/audit_log.hpp"
#include "dataplane/app/observe_handler.hpp"
#include "dataplane/io/port.hpp"
#include "dataplane/pipeline/taps.hpp"
#include "dataplane/pipeline/worker.hpp"

namespace tandem::app {

class observation final : public observe_handler {
public:
    observation(pipeline::shared_state& shared, const std::vector<io::port>& ports, std::string audit_path)
        : shared_(shared), ports_(ports), audit_(std::move(audit_path)) {}
    observation(const observation&) = delete;
    observation& operator=(const observation&) = delete;
    ~observation() override { end(); }

    tl::expected<answer, refusal> trace(const peer& who, const api::trace_request& what) override;
    tl::expected<answer, refusal> capture(const peer& who, const api::capture_request& what) override;
    void closed(int fd) override;
    [[nodiscard]] bool serves(int fd) const override;

    [[nodiscard]] bool active() const noexcept { return trace_ || capture_; }
    void pump(std::uint64_t now_ns); // often while active
    void end();                      // the data plane ends; the workers still run

private:
    // One observer's taps, one per worker, and what is on its way to it.
    template <class Tap>
    struct stream {
        stream() {} // clang: else an optional of it cannot be made while this class is not whole
        peer who{};
        std::vector<std::unique_ptr<Tap>> taps;
        std::uint64_t limit = 0;    // records; 0 = none
        std::uint64_t until_ns = 0; // CLOCK_MONOTONIC; 0 = no end
        std::uint64_t records = 0;
        std::vector<std::byte> message; // gathered, not sent yet
        std::uint16_t count = 0;
        bool tapped = false;
        bool plaintext = false;
        std::optional<api::observe_end_reason> ending;

        [[nodiscard]] bool enough() const noexcept { return limit != 0 && records >= limit; }
        [[nodiscard]] std::uint64_t lost() const noexcept;
        bool gather(std::int64_t realtime_offset_ns);
    };

    template <class Tap>
    void tap(stream<Tap>& s, bool on);
    template <class Tap>
    bool pump(stream<Tap>& s, std::uint64_t now_ns); // false: it is over
    void over(stream<pipeline::capture_tap>& s, std::string_view cause);
    tl::expected<void, refusal> known_places(const api::observed_places& places) const;
    tl::expected<pipeline::capture_choice, refusal> choice(const api::capture_request& what) const;
    tl::expected<void, refusal> audit_start(const peer& who, const api::capture_request& what);
    [[nodiscard]] answer describe() const;

    pipeline::shared_state& shared_;
    const std::vector<io::port>& ports_;
    audit_log audit_;
    std::optional<stream<pipeline::trace_tap>> trace_;
    std::optional<stream<pipeline::capture_tap>> capture_;
};

} // namespace tandem::app
