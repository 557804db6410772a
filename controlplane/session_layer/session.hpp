// SPDX-License-Identifier: Apache-2.0
// A session at one of its two ends: streams and datagrams over links that come and go (COL-08, 15 to 19, 28, 35, 36). A
// pure state machine, the same for both ends: frames, time, the application's wishes and what becomes of links go in;
// pull() gives what a link is to send, take() what happened. No I/O, no clock, no thread, no sockets. A value.
//
//   session s(role::creator, tsid, secret, {}, now);
//   const auto l = s.dial(carrier::stream, network, binding, now);  s.move(l, reason::start, now);
//   while (transport has room && s.pull(l, buffer, 16384, now) > 0) send(buffer);      // and when it is writable again
//   s.receive(l, frame, now);  for (auto& e : s.take()) act(e);                        // before the frame goes
//   s.lost(l, now);  s.poll(now) at s.due()
//
// Streams go over the current link. Datagrams go over a link of datagrams of the same network, or else over the current
// one. A link that was replaced stays joined, for the way back, until its owner says lost().
#pragma once

#include <deque>
#include <map>
#include <string_view>

#include "controlplane/session_layer/datagrams.hpp"
#include "controlplane/session_layer/handover.hpp"
#include "controlplane/session_layer/proof.hpp"
#include "controlplane/session_layer/stream.hpp"
#include "controlplane/session_layer/types.hpp"

namespace tandem::session_layer {

// The session that a link's first frame asks for, for whoever has many; nothing: its first message is no JOIN.
[[nodiscard]] std::optional<std::uint64_t> session_asked_for(std::span<const std::uint8_t> frame) noexcept;

class session {
public:
    session(role end, std::uint64_t tsid, const protocol::secret& secret, const limits& l, instant now);

    // ---- links

    // A link that this end made over its network `group`: begins with JOIN. Bindings are the same at both ends.
    [[nodiscard]] link_id dial(carrier, std::uint32_t group, std::span<const std::uint8_t> binding, instant now);
    // One that the other end made: nothing on it counts before JOIN.
    [[nodiscard]] link_id accept(carrier, std::span<const std::uint8_t> binding, instant now);
    void lost(link_id, instant now);
    // Handover to that link: soft where the current one is there, when the new one has joined; else hard, at once
    // (COL-18). While another procedure is under way, after it.
    void move(link_id, reason, instant now);
    [[nodiscard]] std::optional<link_id> current() const noexcept { return current_; }
    [[nodiscard]] bool joined(link_id) const noexcept;
    [[nodiscard]] bool handing_over() const noexcept { return own_ || followed_; }

    // ---- what a link carries

    void receive(link_id, std::span<const std::uint8_t> frame, instant now);
    // Appends one frame of at most `max` octets (512 or more), or nothing: nothing is to be sent now. Octets appended.
    std::size_t pull(link_id, std::vector<std::uint8_t>& out, std::size_t max, instant now);
    // Whether pull() may give something.
    [[nodiscard]] bool has_more(link_id) const noexcept;

    // ---- time, and what happened

    void poll(instant now); // nothing happens before due()
    [[nodiscard]] std::optional<instant> due() const noexcept;
    [[nodiscard]] events take() noexcept { return std::exchange(events_, {}); }

    // ---- streams

    // Nothing where the limit is reached, or the label has more than 255 octets.
    [[nodiscard]] std::optional<stream_id> open(stream_kind, std::string_view label);
    // How many it took; where that is not all, `writable` follows.
    std::size_t write(stream_id, std::span<const std::uint8_t> octets);
    void consumed(stream_id, std::uint64_t octets);
    void close(stream_id);                     // this direction
    void reset(stream_id, std::uint16_t code); // both, at once; no event follows
    void send_datagram(stream_id, std::span<const std::uint8_t> octets, instant now);

    // Streams that have something to say: no more than there are.
    [[nodiscard]] std::size_t waiting() const noexcept { return ready_.size(); }

    [[nodiscard]] std::uint64_t tsid() const noexcept { return tsid_; }
    [[nodiscard]] role end() const noexcept { return end_; }
    [[nodiscard]] std::size_t streams() const noexcept { return streams_.size(); }
    [[nodiscard]] std::size_t links() const noexcept { return links_.size(); }
    [[nodiscard]] std::size_t buffered() const noexcept { return buffered_; } // octets that are kept for the other end
    [[nodiscard]] const error_counts& errors() const noexcept { return errors_; }
    [[nodiscard]] std::uint64_t errors(error e) const noexcept { return errors_[static_cast<std::size_t>(e)]; }
    [[nodiscard]] std::uint64_t lost_datagrams() const noexcept { // of this end's: pushed out, too old, too large
        return errors(error::datagram_pushed) + errors(error::datagram_late);
    }
    // Equal for sessions that behave alike from `now` on.
    [[nodiscard]] std::uint64_t fingerprint(instant now) const;

private:
    struct link {
        link_id id;
        carrier kind;
        bool dialled;
        bool joined = false, join_due = false, joined_due = false;
        std::uint32_t group = 0; // the dialler's
        proof dialler{}, accepter{};
        std::vector<std::uint8_t> binding{}; // of an accepted one, until JOIN
        std::optional<instant> retry_at{};   // JOIN, over datagrams
        std::chrono::milliseconds retry{};
    };

    // session.cpp: links, frames, time
    [[nodiscard]] link* find(link_id) noexcept;
    [[nodiscard]] const link* find(link_id) const noexcept;
    [[nodiscard]] bool lossy(link_id) const noexcept;
    [[nodiscard]] static bool one_network(const link& a, const link& b) noexcept;
    void count(error e) noexcept { ++errors_[static_cast<std::size_t>(e)]; }
    void shut(link_id, link_end, instant now);
    void take(link_id, const message&, instant now);
    void take_procedure(const link&, const message&, instant now);
    void set_proofs(link&, std::span<const std::uint8_t> binding) const;
    void has_joined(link&);
    void take_join(link&, const message&, instant now);
    void take_joined(link&, const message&, instant now);
    [[nodiscard]] bool put_join(link&, frame_writer&, instant now);
    void poll_joins(instant now);
    void expire(instant now);

    // streams.cpp
    using place = std::map<stream_id, stream>::iterator;
    [[nodiscard]] bool ours(stream_id id) const noexcept { return (id % 2 == 1) == (end_ == role::creator); }
    [[nodiscard]] bool was_there(stream_id) const noexcept;
    [[nodiscard]] place heard_of(stream_id, bool answer);
    [[nodiscard]] std::size_t room(const stream&) const noexcept;
    [[nodiscard]] std::size_t flight() const noexcept;
    void take_open(const message&);
    void take_data(const message&);
    void take_ack(const message&);
    void take_window(const message&);
    void take_close(const message&);
    void take_reset(const message&);
    void take_datagram(const message&);
    void take_gone(place);
    void violated(place, error);
    void touch(place);
    void settle(place);
    void forget(place);
    void say_gone(stream_id);
    void keeps(std::size_t before, std::size_t now) noexcept; // one stream, octets
    void offer_room(place);
    void make_room();
    void put_streams(frame_writer&, instant now);
    void put_datagrams(const link&, frame_writer&, instant now);
    [[nodiscard]] bool ready(const datagram_queue::waiting&) const noexcept;
    void note_stall(stream_id, stream&, instant now);
    void mark_stalls(instant now);
    [[nodiscard]] std::uint64_t rewind_all();
    void ask_again(instant now);
    [[nodiscard]] bool anything_unanswered() const noexcept;

    // handover.cpp
    [[nodiscard]] bool may_send(link_id) const noexcept;
    [[nodiscard]] std::optional<link_id> datagram_link() const noexcept;
    [[nodiscard]] std::optional<link_id> best_link() const noexcept;
    void follow_wish(instant now);
    procedure& begin_own(link_id to, reason, instant now);
    void begin_soft(link_id to, reason, instant now);
    void begin_hard(link_id to, reason, instant now);
    void fall_into_hard(instant now);
    void say_begin(bool hard, instant now);
    void recover(instant now);
    void end_own(handover_end, instant now);
    void stop_own(instant now);
    void tell(role initiator, const procedure&, handover_end, instant now);
    [[nodiscard]] bool heeds(const message&, instant now);
    void take_announce(const link&, const message&, instant now);
    void take_confirm(const message&, instant now);
    void take_begin(const link&, const message&, instant now);
    void take_done(const message&, instant now);
    [[nodiscard]] bool put_saying(std::optional<saying>&, const link&, frame_writer&);
    [[nodiscard]] bool put_list(saying&, frame_writer&);
    [[nodiscard]] bool put_procedures(const link&, frame_writer&, instant now);
    void poll_procedures(instant now);

    role end_;
    std::uint64_t tsid_;
    protocol::kept_secret secret_;
    limits limits_;
    std::vector<link> links_;
    link_id next_link_ = 1;
    std::optional<link_id> current_;
    std::optional<instant> alone_since_; // no link
    std::optional<wish> wish_;

    std::optional<procedure> own_, followed_;
    std::uint32_t own_number_ = 0;  // of the last that was begun here
    std::uint32_t heeded_ = 0;      // of the other end's, the highest
    std::uint32_t completed_ = 0;   // of the other end's, the last that came to its end here
    std::uint32_t over_ = 0;        // of the other end's, the highest that is over there
    std::optional<saying> says_;    // of the own one
    std::optional<saying> answers_; // of the other end's

    std::map<stream_id, stream> streams_;
    std::deque<stream_id> ready_; // have something to say
    std::deque<stream_id> gone_;  // to be told that they are over
    stream_id next_own_, next_theirs_;
    std::size_t theirs_ = 0;                 // of streams_
    std::size_t buffered_ = 0, keeping_ = 0; // octets, and streams that have some of them
    bool full_ = false;                      // somebody waits for room of the session's
    datagram_queue datagrams_;
    std::optional<instant> retry_at_; // streams over datagrams
    std::chrono::milliseconds retry_{};

    error_counts errors_{};
    events events_;
};

} // namespace tandem::session_layer
