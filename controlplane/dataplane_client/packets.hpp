// SPDX-License-Identifier: Apache-2.0
// Packets that the data plane's workers handed up (PACKET_IN), and those that go out from a flow's port (PACKET_OUT),
// as bytes of the contract; and who takes which kind of them. Owner thread: io_context.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "dataplane/api/contract.hpp"

namespace tandem::dataplane_client {

// Whole only while the call lasts in which it is given.
struct punted_packet {
    api::packet_in about;
    std::span<const std::uint8_t> bytes; // UDP payload
};

// The items of a PACKET_IN, up to the first that is not whole.
void for_packets(std::span<const std::uint8_t> body, std::size_t count,
                 const std::function<void(const punted_packet&)>& each);

// An item of PACKET_OUT; empty where the bytes are none or too many.
[[nodiscard]] std::vector<std::uint8_t> packet_item(api::flow_id from, const api::net_address& to,
                                                    std::span<const std::uint8_t> bytes);

// Who does something with packets of one kind (DTLS handshakes, a clear tunnel's control messages).
class packet_handler {
public:
    virtual ~packet_handler() = default;
    // Not to wait: what takes long is spawned, with a copy of the bytes.
    virtual void packet(const punted_packet& packet) = 0;
};

// For client::on_packet. Handlers outlive it, or are taken away (nullptr) before they go.
class packet_handlers {
public:
    void set(api::packet_kind kind, packet_handler* by) noexcept { by_kind_[place(kind)] = by; }
    void give(const punted_packet& packet);
    [[nodiscard]] std::uint64_t unhandled() const noexcept { return unhandled_; } // nobody takes their kind

private:
    static constexpr std::size_t kinds = static_cast<std::size_t>(api::packet_kind::control) + 1;
    [[nodiscard]] static std::size_t place(api::packet_kind kind) noexcept {
        const auto n = static_cast<std::size_t>(kind);
        return n < kinds ? n : 0; // nobody's
    }
    std::array<packet_handler*, kinds> by_kind_{};
    std::uint64_t unhandled_ = 0;
};

} // namespace tandem::dataplane_client
