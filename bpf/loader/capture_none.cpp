// SPDX-License-Identifier: Apache-2.0
// In the place of capture.cpp where the agent is built without libbpf.
#include "bpf/loader/capture.hpp"

namespace tandem::bpf {

struct capture::parts {};

capture::capture(std::unique_ptr<parts> p) noexcept : parts_(std::move(p)) {}
capture::capture(capture&& other) noexcept = default;
capture& capture::operator=(capture&& other) noexcept = default;
capture::~capture() = default;

tl::expected<capture, std::string> capture::start(const plan&) {
    return tl::unexpected(std::string(
        "this agent was built without libbpf and cannot capture programs: build it with, or leave [capture] out"));
}

std::optional<capture_place> capture::take(const capture_place&) noexcept {
    return std::nullopt;
}

capture_counters capture::counters() const {
    return {};
}

std::optional<capture_place> capture::behind_door(std::uint32_t) const noexcept {
    return std::nullopt;
}

std::uint32_t capture::door_users(std::uint32_t) const noexcept {
    return 0;
}

void capture::close_door(std::uint32_t) noexcept {}
void capture::free_door(std::uint32_t) noexcept {}

} // namespace tandem::bpf
