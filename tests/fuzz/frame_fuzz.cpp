// SPDX-License-Identifier: Apache-2.0
// fuzz: dep_pipeline
// Frames from anywhere: the parser never reads beyond the frame, what it accepts lies within it, and headers written in
// front of an accepted payload are read back as they were written.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "dataplane/flow/record.hpp"
#include "dataplane/pipeline/frame.hpp"

using namespace tandem;

static void require(bool holds) {
    if (!holds)
        std::abort();
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size > 2048)
        return 0;
    const std::vector<std::uint8_t> copy(data, data + size); // its end is the end of an allocation
    pipeline::udp_frame seen{};
    if (pipeline::parse_frame({copy.data(), copy.size()}, seen) != api::drop::none)
        return 0;
    require(std::size_t{seen.payload_offset} + seen.payload_length <= copy.size());
    require(flow::is_ipv4(seen.source.ip) == flow::is_ipv4(seen.destination.ip));

    std::vector<std::uint8_t> out(pipeline::max_header_bytes + seen.payload_length);
    std::uint8_t* payload = out.data() + pipeline::max_header_bytes;
    if (seen.payload_length != 0)
        std::memcpy(payload, copy.data() + seen.payload_offset, seen.payload_length);
    pipeline::link_out link{};
    link.vlan = seen.link.vlan;
    const bool ipv4 = flow::is_ipv4(seen.destination.ip);
    pipeline::write_headers(payload, seen.payload_length, link, pipeline::make_endpoints(seen.source, seen.destination),
                            46);
    const std::size_t headers = pipeline::header_bytes(ipv4, link.vlan != pipeline::no_vlan);
    pipeline::udp_frame again{};
    require(pipeline::parse_frame({payload - headers, headers + seen.payload_length}, again) == api::drop::none);
    require(flow::same_address(again.source, seen.source) && flow::same_address(again.destination, seen.destination));
    require(again.payload_length == seen.payload_length && again.link.vlan == seen.link.vlan);
    return 0;
}
