// SPDX-License-Identifier: Apache-2.0
// All secondaries of this unit: MEDIA_OPEN, SEED_MAKE, SEED, MEDIA_CLOSE from the gateway; which packet of the TUN is
// media (RIM-06); one outer UDP socket per media, not connected. Where policy names a radio the socket is bound to an
// interface of that kind (RIM-33); else it follows the kernel's routes when the unit's address changes.
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
#include <asio/ip/udp.hpp>
#include <nlohmann/json_fwd.hpp>

#include "controlplane/protocol/message.hpp"
#include "tools/agent/device/packet.hpp"
#include "tools/agent/device/paths.hpp"
#include "tools/agent/media/key_history.hpp"
#include "tools/agent/media/secondary.hpp"
#include "tools/agent/media/seed_store.hpp"

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
    // A call's last media is over: the peer's canonical name, how long the call was, whether it ended by a fault.
    using call_sink = std::function<void(const std::string& peer, std::chrono::milliseconds length, bool failed)>;
    // The interfaces of now, and their radios (paths.hpp); tests give their own.
    using link_survey = std::function<links(const ip_bytes& gateway)>;
    media_table(asio::io_context& io, packet_sink to_phone);
    ~media_table();
    media_table(const media_table&) = delete;
    media_table& operator=(const media_table&) = delete;

    // The answer to a request of the gateway; unknown exchanges are the caller's.
    [[nodiscard]] protocol::message media_open(const protocol::message& request);
    [[nodiscard]] protocol::message media_close(const protocol::message& request);
    [[nodiscard]] protocol::message seed_make(const protocol::message& request);
    [[nodiscard]] protocol::message seed(const protocol::message& request);
    // After seed()'s answer was queued: send under the new epoch, forget the old ones after the overlap.
    void seed_answered(std::uint32_t media);

    // Takes the packet where it is media: then it was sent, or dropped and counted.
    [[nodiscard]] captured capture(std::span<const std::uint8_t> packet);

    void on_call_ended(call_sink sink) { call_ended_ = std::move(sink); }
    void use_paths(path_names names, link_survey survey);
    void check_paths();                                        // each second, and when links change
    void expire(clock::time_point now) { seeds_.expire(now); } // each second

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
    using socket_ptr = std::shared_ptr<asio::ip::udp::socket>;

    enum class ending { call, fault, goes_on }; // the last: another media of the same call takes over
    struct open_request;

    [[nodiscard]] protocol::message add(open_request& open, const protocol::secret& key);
    [[nodiscard]] protocol::message move(const entry_ptr& item, open_request& open);
    void retire(entry& item, clock::time_point now);
    void note_call(const entry& over, ending how);
    [[nodiscard]] chosen_path choose_path(path_choice wanted, const ip_bytes& gateway, const std::string& in_use) const;
    [[nodiscard]] bool open_socket(entry& item, const chosen_path& path);
    void move_path(const entry_ptr& item, const chosen_path& path);
    void check_path(const entry_ptr& item, const links& now);
    void greet(entry& item);
    [[nodiscard]] protocol::endpoint outer_address(const entry& item) const;
    [[nodiscard]] bool endpoints_taken(const secondary_config& config) const;
    void remove(std::uint32_t media, const std::string& why, ending how);
    void index(const entry_ptr& item);
    void unindex(const entry& item);
    [[nodiscard]] bool lately_closed(const endpoint& inner) const;
    void receive(const entry_ptr& item, const socket_ptr& socket);
    void drain(entry& item, int socket);
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
    std::uint64_t opened_ = 0, closed_ = 0, after_close_ = 0, path_fallbacks_ = 0, path_moves_ = 0;
    seed_store seeds_;
    key_history keys_;
    call_sink call_ended_;
    path_names path_names_;
    link_survey survey_; // none: no socket is bound to an interface
};

} // namespace tandem::agent
