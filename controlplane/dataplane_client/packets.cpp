// SPDX-License-Identifier: Apache-2.0
// See packets.hpp.
#include "controlplane/dataplane_client/packets.hpp"

#include <cstring>

#include "controlplane/dataplane_client/message.hpp"

namespace tandem::dataplane_client {

void for_packets(std::span<const std::uint8_t> body, std::size_t count,
                 const std::function<void(const punted_packet&)>& each) {
    for (; count != 0 && body.size() >= sizeof(api::packet_in); --count) {
        const auto about = item_at<api::packet_in>(body, 0);
        body = body.subspan(sizeof about);
        if (about.length > api::max_packet_bytes || api::padded_packet(about.length) > body.size())
            return;
        each({about, body.first(about.length)});
        body = body.subspan(api::padded_packet(about.length));
    }
}

std::vector<std::uint8_t> packet_item(api::flow_id from, const api::net_address& to,
                                      std::span<const std::uint8_t> bytes) {
    std::vector<std::uint8_t> item;
    if (bytes.empty() || bytes.size() > api::max_packet_bytes)
        return item;
    const api::packet_out about{from, static_cast<std::uint16_t>(bytes.size()), 0, to};
    item.resize(sizeof about + api::padded_packet(bytes.size()));
    std::memcpy(item.data(), &about, sizeof about);
    std::memcpy(item.data() + sizeof about, bytes.data(), bytes.size());
    return item;
}

void packet_handlers::give(const punted_packet& packet) {
    if (auto* const by = by_kind_[place(packet.about.kind)];
        by != nullptr && packet.about.kind != api::packet_kind::none)
        by->packet(packet);
    else
        ++unhandled_;
}

} // namespace tandem::dataplane_client
