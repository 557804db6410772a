// SPDX-License-Identifier: Apache-2.0
// Packets up and down as bytes of the contract; who takes which kind.
#include "controlplane/dataplane_client/packets.hpp"

#include <cstring>
#include <gtest/gtest.h>

namespace tandem::dataplane_client {
namespace {

using bytes = std::vector<std::uint8_t>;

bytes item(api::packet_kind kind, const bytes& payload) {
    api::packet_in about{};
    about.kind = kind;
    about.id = 7;
    about.length = static_cast<std::uint16_t>(payload.size());
    bytes out(sizeof about + api::padded_packet(payload.size()));
    std::memcpy(out.data(), &about, sizeof about);
    std::memcpy(out.data() + sizeof about, payload.data(), payload.size());
    return out;
}

TEST(Packets, WholeOnesAreReadAndPartsAreNot) {
    bytes body = item(api::packet_kind::dtls, {1, 2, 3});
    const bytes second = item(api::packet_kind::stun, bytes(16, 9));
    body.insert(body.end(), second.begin(), second.end());
    for (std::size_t cut = 0; cut <= body.size(); ++cut) {
        const bytes part(body.begin(), body.begin() + static_cast<std::ptrdiff_t>(cut)); // its own block, to its end
        std::vector<bytes> got;
        for_packets(part, 2, [&](const punted_packet& p) { got.emplace_back(p.bytes.begin(), p.bytes.end()); });
        EXPECT_EQ(got.size(), cut == body.size() ? 2u : cut >= body.size() - second.size() ? 1u : 0u) << cut;
        if (!got.empty()) {
            EXPECT_EQ(got[0], (bytes{1, 2, 3}));
        }
    }
}

TEST(Packets, OutGoesPaddedOrNotAtAll) {
    const api::net_address to{{}, 5, {}};
    EXPECT_TRUE(packet_item(7, to, {}).empty());
    EXPECT_TRUE(packet_item(7, to, bytes(api::max_packet_bytes + 1)).empty());
    const auto made = packet_item(7, to, bytes{1, 2, 3});
    ASSERT_EQ(made.size(), sizeof(api::packet_out) + 8);
    EXPECT_EQ(made[sizeof(api::packet_out) + 2], 3);
    EXPECT_EQ(made.back(), 0);
}

TEST(Packets, EachKindHasItsHandler) {
    struct counting final : packet_handler {
        unsigned n = 0;
        void packet(const punted_packet&) override { ++n; }
    } dtls, stun;
    packet_handlers under;
    under.set(api::packet_kind::dtls, &dtls);
    under.set(api::packet_kind::stun, &stun);
    const auto give = [&](unsigned kind) {
        punted_packet p{};
        p.about.kind = static_cast<api::packet_kind>(kind);
        under.give(p);
    };
    for (unsigned kind = 0; kind < 256; ++kind)
        give(kind);
    EXPECT_EQ(dtls.n, 1u);
    EXPECT_EQ(stun.n, 1u);
    EXPECT_EQ(under.unhandled(), 254u);
    under.set(api::packet_kind::dtls, nullptr);
    give(static_cast<unsigned>(api::packet_kind::dtls));
    EXPECT_EQ(dtls.n, 1u);
    EXPECT_EQ(under.unhandled(), 255u);
}

} // namespace
} // namespace tandem::dataplane_client
