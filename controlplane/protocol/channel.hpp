// SPDX-License-Identifier: Apache-2.0
// The control channel of one session, either end: what may be asked, answered and believed (ORA-05, -07, -08, -12, -15,
// -16). A pure state machine: bytes, time and own requests go in; what is to be done comes out, in order, for who
// carries it. No I/O, no clock, no thread.
//
//   channel c(role::unit);
//   const auto link = c.attach(carrier::stream, now);
//   act(c.configure(link, ticket, std::move(config), 5s, now));       // its answer names the session and makes the
//   link the newest act(c.receive(link, frame, now)); act(c.request(7, std::move(m), 5s, now)); act(c.poll(now)) at
//   due()
//
// Links: requests go out on the newest that is configured. The one before it is heard for a while (renewal), then
// closed. A request ends in exactly one of response, timeout, failed. Streams: a request fails with the link that it
// went out on. Sequences rise strictly on each link. Datagrams: a request is sent again, also on the next link, until
// it is answered or its time is over. The same bytes again get the same response again and are not served twice;
// another request that is not above the last is refused. Its sender then knows that it was not served, because nobody
// has numbers under way that are further apart than what the other end keeps: it goes out again under a new number.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <variant>
#include <vector>

#include "controlplane/protocol/message.hpp"

namespace tandem::protocol {

using instant = std::chrono::steady_clock::time_point; // always the caller's
using link_id = std::uint32_t;
using ticket = std::uint64_t; // the caller's name of a request
inline constexpr ticket nobody = 0;

enum class role : std::uint8_t { unit, gateway };
enum class carrier : std::uint8_t { stream, datagrams };
enum class outcome : std::uint8_t { response, timeout, failed };
enum class ending : std::uint8_t { wrong_tsid, silent, replaced };

struct channel_limits {
    std::size_t outstanding = 32;
    std::size_t waiting = 1024;
    std::size_t kept = 64;                     // responses, over datagrams
    std::chrono::milliseconds heard_for{1000}; // an old link, after the newest took its place
    std::chrono::milliseconds retry{500};      // over datagrams; doubles
    int silent_intervals = 3;
};

struct to_send {
    link_id link;
    wiped_bytes bytes;
    bool request;
};
struct to_serve { // to be answered by answer(), once
    link_id link;
    message request;
};
struct to_finish { // what became of a request; a refusal is a response
    ticket of;
    exchange what;
    outcome how;
    std::optional<message> response;
};
struct to_close { // the channel has forgotten this link already
    link_id link;
    ending why;
};
struct refused { // a message of the peer's, answered so where it was a request with a header
    status code;
};
struct unmatched {}; // a response to nothing that is outstanding, or of another media than it
using action = std::variant<to_send, to_serve, to_finish, to_close, refused, unmatched>;
using actions = std::vector<action>;

// What outlives a link: own numbers, requests under way, what was heard and answered. A value: who takes a session over
// goes on with a copy.
struct conversation {
    struct asked {
        ticket of;
        exchange what;
        std::uint64_t tsid;
        instant deadline;
        link_id link; // that it went out on last
        std::optional<std::uint32_t> media{};
        // Datagrams only: a seed does not wait for the response in memory.
        wiped_bytes bytes{};
        instant retry_at{};
        std::chrono::milliseconds retry{};
    };
    struct waiting {
        ticket of;
        exchange what;
        instant deadline;
        wiped_bytes bytes; // TSID and sequence are filled in when it goes out
        std::optional<std::uint32_t> media{};
    };
    struct kept {
        std::uint32_t sequence;
        std::array<std::uint8_t, 32> digest; // SHA-256 of the request
        wiped_bytes response;                // empty = is being served
    };
    std::uint32_t next_sequence = 1;
    std::map<std::uint32_t, asked> outstanding;
    std::vector<waiting> queue;                 // first come, first sent
    std::optional<std::uint32_t> last_received; // datagrams; on a stream each link has its own
    std::vector<kept> answered;                 // datagrams; oldest first
};

class channel {
public:
    // Goes on with a conversation; what is outstanding of one over datagrams is sent again on the first link that is
    // configured.
    explicit channel(role end, channel_limits limits = {}, conversation talk = {})
        : end_(end), limits_(limits), talk_(std::move(talk)) {
        for (auto& [sequence, a] : talk_.outstanding)
            a.link = 0; // it went out on nothing that is known here
    }

    // A link on which nothing is allowed yet but CONFIG.
    [[nodiscard]] link_id attach(carrier, instant now);
    // Gateway, before it answers a CONFIG that resumes this session: the only link of `newcomer` is one of this
    // channel's.
    [[nodiscard]] link_id take_over(channel&& newcomer);
    // Unit: the first request on a link.
    [[nodiscard]] actions configure(link_id, ticket, message config, std::chrono::milliseconds timeout, instant now);
    [[nodiscard]] actions receive(link_id, std::span<const std::uint8_t> bytes, instant now);
    // Bytes that are no control message: a sign of life all the same.
    void heard(link_id, instant now) noexcept;
    // A CONFIG's answer that is ok binds the link to the TSID that it carries.
    [[nodiscard]] actions answer(link_id, const message& response, instant now);
    [[nodiscard]] actions request(ticket, message, std::chrono::milliseconds timeout, instant now);
    // A request whose response nobody waits for, sent at once: the last word before a link is closed.
    [[nodiscard]] actions tell(message);
    [[nodiscard]] actions lost(link_id, instant now);
    // Every request fails; all links are forgotten.
    [[nodiscard]] actions end();
    // The unit sends KEEPALIVE now and each interval; a newest link that is silent for three is closed. 0 = neither.
    void keepalive(std::chrono::milliseconds interval, instant now) noexcept;
    // What time brings. Nothing happens before due().
    [[nodiscard]] actions poll(instant now);
    [[nodiscard]] std::optional<instant> due() const;

    [[nodiscard]] bool up() const noexcept { return newest_.has_value(); }
    [[nodiscard]] bool bound(link_id) const noexcept;
    // Whether a request would go out at once.
    [[nodiscard]] bool ready() const noexcept { return up() && room(); }
    [[nodiscard]] const conversation& talk() const noexcept { return talk_; }
    // Equal for channels that behave alike from `now` on.
    [[nodiscard]] std::uint64_t fingerprint(instant now) const;

private:
    struct link {
        link_id id;
        carrier kind;
        bool bound = false;
        std::optional<std::uint32_t> last_received{}; // streams
        instant last_heard;
        std::optional<instant> heard_until{}; // replaced
    };
    [[nodiscard]] link* find(link_id) noexcept;
    [[nodiscard]] bool room() const noexcept;
    [[nodiscard]] bool served_before(const link&, const header&, std::span<const std::uint8_t> bytes, actions&);
    [[nodiscard]] bool accept_tsid(link&, const header&, instant now, actions&);
    [[nodiscard]] bool accept_sequence(link&, const header&, std::span<const std::uint8_t> bytes);
    void refuse(const link&, const header&, status, actions&);
    void take_request(link&, const header&, std::span<const std::uint8_t> bytes, message&&, actions&);
    void take_response(const link&, message&&, instant now, actions&);
    void send_response(const link&, std::uint32_t sequence, wiped_bytes bytes, actions&);
    void bind(link_id, std::uint64_t tsid, instant now, actions&);
    void put_on(const link&, conversation::waiting&&, std::uint64_t tsid, instant now, actions&);
    void flush(instant now, actions&);
    void send_again(instant now, actions&);
    void forget(link_id, instant now, actions&);
    void close(link_id, ending, instant now, actions&);
    void fail_all(actions&);
    void time_out(instant now, actions&);

    role end_;
    channel_limits limits_;
    conversation talk_;
    std::vector<link> links_;
    std::optional<link_id> newest_; // bound, not replaced
    link_id next_link_ = 1;
    std::optional<std::uint64_t> tsid_;
    std::chrono::milliseconds keepalive_{0};
    instant keepalive_at_{};
};

} // namespace tandem::protocol
