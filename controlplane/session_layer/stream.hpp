// SPDX-License-Identifier: Apache-2.0
// One stream of a session, both directions, at one end. What is to be said about it is state, not a queue: each thing
// is said when a link can take it, and again after rewind(). Everything said holds as often as it is heard. An idle one
// of no octets is this object alone.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "controlplane/session_layer/byte_queue.hpp"
#include "controlplane/session_layer/types.hpp"
#include "controlplane/session_layer/wire.hpp"

namespace tandem::session_layer {

class stream {
public:
    stream(stream_kind kind, bool ours, const limits& l, std::string label = {});

    // ---- the application's side

    // How many of the octets it took: up to `room`.
    std::size_t write(std::span<const std::uint8_t> octets, std::size_t room);
    void close() noexcept { closing_ = true; }
    void reset(std::uint16_t code) noexcept; // what waits is void
    // True where the window has become so much larger that the other end is to know.
    bool consumed(std::uint64_t count) noexcept;

    // ---- out

    // Something is to be said.
    [[nodiscard]] bool has_more(std::size_t flight) const noexcept;
    // Says it, up to `turn` octets of data, no more than `flight` under way. False: the frame is full.
    bool put(frame_writer&, stream_id, std::size_t turn, std::size_t flight);
    // ACK and WINDOW, for what the ends exchange when they switch. False: the frame is full.
    bool put_status(frame_writer&, stream_id);
    // The new link begins where the acknowledged ends. Gives the octets that go out again.
    std::uint64_t rewind() noexcept;
    void probe() noexcept { probe_ = true; } // asks for ACK and WINDOW
    void status_due() noexcept { ack_due_ = window_due_ = true; }
    [[nodiscard]] bool unanswered() const noexcept; // something is said and not acknowledged
    [[nodiscard]] bool blocked() const noexcept;    // the window holds back what waits

    // ---- in

    struct taken {
        std::span<const std::uint8_t> octets{}; // new ones
        std::optional<error> wrong{};
    };
    [[nodiscard]] taken on_data(std::uint64_t offset, std::span<const std::uint8_t> octets) noexcept;
    [[nodiscard]] std::optional<error> on_close(std::uint64_t final) noexcept;
    // Gives in `freed` what needs no keeping any more.
    [[nodiscard]] std::optional<error> on_ack(std::uint64_t offset, bool close, std::size_t& freed) noexcept;
    [[nodiscard]] std::optional<error> on_window(std::uint64_t offset) noexcept;
    // True once, when the other end's CLOSE came and everything before it.
    [[nodiscard]] bool take_end() noexcept;
    [[nodiscard]] bool newer(std::uint32_t sequence) noexcept; // of a datagram
    [[nodiscard]] std::uint32_t next_sequence() noexcept { return ++sequence_sent_; }

    [[nodiscard]] stream_kind kind() const noexcept { return kind_; }
    [[nodiscard]] bool open_said() const noexcept { return !open_due_; }
    [[nodiscard]] bool resetting() const noexcept { return resetting_; }
    [[nodiscard]] bool closing() const noexcept { return closing_; }
    [[nodiscard]] bool finished() const noexcept;
    // Both directions are closed here; whether the other end knows is another matter.
    [[nodiscard]] bool ended_in_order() const noexcept { return closing_ && end_told_; }
    [[nodiscard]] std::size_t buffered() const noexcept { return queue_.size(); }
    [[nodiscard]] std::uint64_t position() const noexcept { return next_; } // of what goes out

    // Of whoever keeps the streams.
    bool queued = false;     // waits for its turn
    bool wants_room = false; // write() took less than it was given
    std::optional<instant> stalled{};

    [[nodiscard]] bool has_unsent() const noexcept { return acked_ + queue_.size() > next_; }
    [[nodiscard]] bool has_unacknowledged() const noexcept { return queue_.size() > 0; }
    void fingerprint(std::uint64_t& h) const noexcept;

private:
    [[nodiscard]] std::uint64_t end() const noexcept { return acked_ + queue_.size(); }
    [[nodiscard]] std::size_t sendable(std::size_t flight) const noexcept;
    void heard_of() noexcept;
    [[nodiscard]] bool close_due() const noexcept { return closing_ && !close_sent_ && next_ == end(); }
    bool put_open(frame_writer&, stream_id);
    bool put_answers(frame_writer&, stream_id);
    bool put_data(frame_writer&, stream_id, std::size_t turn, std::size_t flight);

    stream_kind kind_;
    bool open_due_, open_known_; // OPEN is to be said; the other end has shown that it knows
    bool closing_ = false, close_sent_ = false, close_known_ = false;
    bool resetting_ = false, reset_due_ = false, probe_ = false;
    bool ack_due_ = false, window_due_ = false, end_told_ = false;
    std::uint16_t code_ = 0;
    std::uint32_t sequence_sent_ = 0, sequence_seen_ = 0;
    std::uint64_t window_;                                     // ours
    byte_queue queue_;                                         // from acked_ on
    std::uint64_t acked_ = 0, next_ = 0, highest_ = 0, limit_; // out: offsets
    std::uint64_t received_ = 0, taken_ = 0, told_;            // in: come, consumed, told as window
    std::optional<std::uint64_t> final_{};                     // in: of CLOSE
    std::string label_;                                        // until OPEN is known
};

} // namespace tandem::session_layer
