// SPDX-License-Identifier: Apache-2.0
// All secondaries of this unit: MEDIA_OPEN, SEED, MEDIA_CLOSE from the gateway; which packet of the TUN is media
// (RIM-06); one outer UDP socket per media, not connected, so that it follows the kernel's routes when the unit's
// address changes.
//
// While a media is open, what goes to its inner addresses never goes anywhere else: what cannot be protected is
// dropped. Owner: the agent's io_context, one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <asio/io_context.hpp>
#include <nlohmann/json_fwd.hpp>

#include "controlplane/protocol/message.hpp"
#include "tools/agent/packet.hpp"
#include "tools/agent/secondary.hpp"

namespace tandem::agent {

enum class captured : std::uint8_t { media, not_media };

class media_table {
public:
    static constexpr std::size_t max_media = 64;
    // What a phone still sends to the inner addresses of a media that is over is dropped for so long: it is not data.
    static constexpr std::chrono::seconds remembered_after_close{30};
    // A media whose gateway is gone (primary down) and silent for so long is wiped.
    static constexpr std::chrono::seconds orphan_after{60};

    // `to_phone` hands one inner IP packet to the TUN; false where it refused.
    using packet_sink = std::function<bool(std::span<const std::uint8_t>)>;
    media_table(asio::io_context& io, packet_sink to_phone);
    ~media_table();
    media_table(const media_table&) = delete;
    media_table& operator=(const media_table&) = delete;

    // The answer to a request of the gateway; unknown exchanges are the caller's.
    [[nodiscard]] protocol::message media_open(const protocol::message& request);
    [[nodiscard]] protocol::message media_close(const protocol::message& request);
    [[nodiscard]] protocol::message seed(const protocol::message& request);
    // After seed()'s answer was queued: send under the new epoch, forget the old ones after the overlap.
    void seed_answered(std::uint32_t media);

    // Takes the packet where it is media: then it was sent, or dropped and counted.
    [[nodiscard]] captured capture(std::span<const std::uint8_t> packet);

    void close_all(const std::string& why);
    void primary_is(bool up); // starts and stops the clock of orphan_after
    [[nodiscard]] bool empty() const noexcept { return media_.empty(); }
    [[nodiscard]] std::size_t size() const noexcept { return media_.size(); }

    [[nodiscard]] nlohmann::json describe() const;

    // For tests: the media itself; null where there is none.
    [[nodiscard]] secondary* find(std::uint32_t media) noexcept;

private:
    struct entry;
    using entry_ptr = std::shared_ptr<entry>;

    [[nodiscard]] protocol::message add(const protocol::message& request, secondary_config config,
                                        const epoch_seeds& seeds);
    [[nodiscard]] bool endpoints_taken(const secondary_config& config) const;
    void remove(std::uint32_t media, const std::string& why);
    void index(const entry_ptr& item);
    void unindex(const entry& item);
    [[nodiscard]] bool lately_closed(const endpoint& inner) const;
    void receive(const entry_ptr& item);
    void drain(entry& item);
    void send(entry& item, packet_class what, std::span<const std::uint8_t> datagram, std::uint8_t traffic_class);
    void arm(const entry_ptr& item);
    void tick(const entry_ptr& item);
    [[nodiscard]] bool belongs_to_dropped_fragment(const packet_view& view) const noexcept;

    asio::io_context& io_;
    packet_sink to_phone_;
    std::map<std::uint32_t, entry_ptr> media_;
    std::map<endpoint, entry_ptr> by_inner_;             // inner_media and inner_rtcp
    std::map<endpoint, clock::time_point> closed_inner_; // of media that are over, until when
    clock::time_point primary_lost_{};
    bool primary_up_ = false;
    std::vector<std::uint8_t> scratch_;
    struct {
        std::uint32_t id = 0;
        ip_bytes source{}, destination{};
        bool set = false;
    } dropped_fragment_;
    std::uint64_t opened_ = 0, closed_ = 0, after_close_ = 0;
};

} // namespace tandem::agent
