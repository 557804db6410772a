// fuzz: dep_rtp
// SPDX-License-Identifier: Apache-2.0
// RTP/RTCP views: any bytes, no read outside, bounds that hold.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "dataplane/rtp/packet.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace tandem;
    const rtp::parsed view = rtp::parse(data, size);
    if (view.problem != api::drop::none)
        return 0;
    if (view.header > size || view.header < (view.rtcp ? rtp::rtcp_fixed_header : rtp::rtp_fixed_header))
        std::abort();
    if (view.rtcp) {
        if (rtp::compound_valid(data, size) && size % 4 != 0)
            std::abort();
        const rtp::reports said = rtp::read_reports(data, size);
        if (said.blocks * rtp::report_block > size || said.cumulative < -(1 << 23) || said.cumulative >= 1 << 23)
            std::abort();
    } else if (rtp::padding_valid(data, size, view.header) && (data[0] & 0x20) != 0 &&
               data[size - 1] > size - view.header) {
        std::abort();
    }
    return 0;
}
