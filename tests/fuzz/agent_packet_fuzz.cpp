// SPDX-License-Identifier: Apache-2.0
// fuzz: dep_agent_packet
// The TUN packet parser of the agent: nothing is read beyond the packet, and what it calls a whole UDP datagram can be
// built again to the same addresses and payload.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "tools/agent/device/packet.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace tandem::agent;
    const std::vector<std::uint8_t> packet(data, data + size); // its own allocation: ASan sees each byte beyond
    const packet_view view = parse_packet(packet);
    if (!view.payload.empty() && (view.payload.data() < packet.data() ||
                                  view.payload.data() + view.payload.size() > packet.data() + packet.size()))
        std::abort();
    if (view.kind != packet_kind::udp)
        return 0;
    if (is_ipv4(view.source.ip) != is_ipv4(view.destination.ip))
        return 0; // an IPv6 header may hold one IPv4-mapped address: such a packet is not built
    std::vector<std::uint8_t> out(view.payload.size() + 48);
    out.resize(build_udp(view.source, view.destination, view.payload, out));
    if (out.empty())
        return 0; // beyond 65,535 bytes
    const packet_view again = parse_packet(out);
    if (again.kind != packet_kind::udp || again.source != view.source || again.destination != view.destination ||
        again.payload.size() != view.payload.size())
        std::abort();
    return 0;
}
