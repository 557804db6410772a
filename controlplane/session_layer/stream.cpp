// SPDX-License-Identifier: Apache-2.0
// One stream of a session. See stream.hpp.
#include "controlplane/session_layer/stream.hpp"

#include <algorithm>
#include <utility>

namespace tandem::session_layer {

stream::stream(stream_kind kind, bool ours, const limits& l, std::string label)
    : kind_(kind), open_due_(ours), open_known_(!ours), window_(l.window), limit_(l.first_window),
      told_(l.first_window), label_(std::move(label)) {
    window_due_ = window_ > told_;
}

// ---- the application's side

std::size_t stream::write(std::span<const std::uint8_t> octets, std::size_t room) {
    if (closing_ || resetting_ || !carries_octets(kind_))
        return 0;
    const auto take = std::min(octets.size(), room);
    wants_room = take < octets.size();
    if (take > 0)
        queue_.append(octets.first(take));
    return take;
}

void stream::reset(std::uint16_t code) noexcept {
    resetting_ = reset_due_ = true;
    code_ = code;
    queue_.clear();
    stalled.reset();
}

bool stream::consumed(std::uint64_t count) noexcept {
    taken_ = std::min(taken_ + count, received_);
    if (final_ || taken_ + window_ < told_ + window_ / 2)
        return false;
    return window_due_ = true;
}

// ---- out

std::size_t stream::sendable(std::size_t flight) const noexcept {
    const auto bound = std::min({end(), limit_, acked_ + flight});
    return bound > next_ ? static_cast<std::size_t>(bound - next_) : 0;
}

bool stream::has_more(std::size_t flight) const noexcept {
    return open_due_ || reset_due_ ||
           (!resetting_ && (ack_due_ || window_due_ || probe_ || close_due() || sendable(flight) > 0));
}

bool stream::put_open(frame_writer& out, stream_id id) {
    if (open_due_ && !out.put(message(verb::open)
                                  .set(field::stream, id)
                                  .set(field::kind, static_cast<std::uint64_t>(kind_))
                                  .set_tail({reinterpret_cast<const std::uint8_t*>(label_.data()), label_.size()})))
        return false;
    open_due_ = false;
    return true;
}

bool stream::put_answers(frame_writer& out, stream_id id) {
    if (ack_due_ && !out.put(message(verb::ack)
                                 .set(field::stream, id)
                                 .set(field::offset, received_)
                                 .set(field::flags, end_told_ ? ack_closed : 0U)))
        return false;
    ack_due_ = false;
    const auto limit = taken_ + window_;
    if (window_due_ && !out.put(message(verb::window).set(field::stream, id).set(field::offset, limit)))
        return false;
    if (window_due_)
        told_ = std::max(told_, limit);
    window_due_ = false;
    return true;
}

bool stream::put_status(frame_writer& out, stream_id id) {
    if (resetting_ || !open_known_)
        return true; // nothing of it matters any more, or has come
    status_due();
    return put_answers(out, id);
}

bool stream::put_data(frame_writer& out, stream_id id, std::size_t turn, std::size_t flight) {
    while (turn > 0) {
        const auto size = std::min({sendable(flight), turn, out.room(verb::data)});
        if (size == 0)
            break;
        const auto octets = queue_.view().subspan(static_cast<std::size_t>(next_ - acked_), size);
        if (!out.put(message(verb::data).set(field::stream, id).set(field::offset, next_).set_tail(octets)))
            return false;
        next_ += size;
        highest_ = std::max(highest_, next_);
        turn -= size;
        probe_ = false;
    }
    if (sendable(flight) > 0)
        return turn == 0; // its turn is over, or the frame is full
    if (probe_ && !out.put(message(verb::data).set(field::stream, id).set(field::offset, next_)))
        return false;
    probe_ = false;
    if (close_due()) {
        if (!out.put(message(verb::close).set(field::stream, id).set(field::offset, next_)))
            return false;
        close_sent_ = true;
    }
    return true;
}

bool stream::put(frame_writer& out, stream_id id, std::size_t turn, std::size_t flight) {
    if (!put_open(out, id))
        return false;
    if (resetting_) {
        if (reset_due_ && !out.put(message(verb::reset).set(field::stream, id).set(field::code, code_)))
            return false;
        reset_due_ = false;
        return true;
    }
    return put_answers(out, id) && put_data(out, id, turn, flight);
}

std::uint64_t stream::rewind() noexcept {
    const auto again = resetting_ ? 0 : next_ - acked_;
    next_ = acked_;
    close_sent_ = close_sent_ && close_known_;
    open_due_ = !open_known_;
    reset_due_ = resetting_;
    return again;
}

bool stream::unanswered() const noexcept {
    return !open_known_ || resetting_ || next_ > acked_ || (close_sent_ && !close_known_);
}

bool stream::blocked() const noexcept {
    return !resetting_ && end() > next_ && next_ >= limit_;
}

// ---- in

// Whatever the other end says of it, it knows of OPEN.
void stream::heard_of() noexcept {
    open_known_ = true;
    open_due_ = false;
    std::string().swap(label_);
}

stream::taken stream::on_data(std::uint64_t offset, std::span<const std::uint8_t> octets) noexcept {
    if (!carries_octets(kind_))
        return {{}, error::bad_kind};
    heard_of();
    ack_due_ = true;
    if (octets.empty()) // asks
        window_due_ = true;
    const auto last = offset + octets.size();
    if (last < offset || last > std::max(told_, received_))
        return {{}, error::window_exceeded};
    if (final_ && last > *final_)
        return {{}, error::beyond_close};
    if (offset > received_)
        return {{}, error::gap};
    const auto fresh = last > received_ ? octets.subspan(static_cast<std::size_t>(received_ - offset)) : octets.last(0);
    received_ += fresh.size();
    const bool repeats = fresh.size() < octets.size();
    return {fresh, repeats ? std::optional(error::repeated) : std::nullopt};
}

std::optional<error> stream::on_close(std::uint64_t final) noexcept {
    heard_of();
    ack_due_ = true;
    if (final < received_ || (final_ && *final_ != final))
        return error::beyond_close;
    if (final > received_)
        return error::gap; // over datagrams it comes again
    final_ = final;
    return std::nullopt;
}

bool stream::take_end() noexcept {
    if (end_told_ || !final_ || received_ != *final_)
        return false;
    return end_told_ = true;
}

std::optional<error> stream::on_ack(std::uint64_t offset, bool close, std::size_t& freed) noexcept {
    heard_of();
    if (resetting_)
        return std::nullopt;
    if (offset > highest_ || (close && !(closing_ && offset == end())))
        return error::ack_beyond;
    if (offset < acked_)
        return error::ack_back;
    freed = static_cast<std::size_t>(offset - acked_);
    queue_.drop(freed);
    acked_ = offset;
    next_ = std::max(next_, acked_);
    close_known_ = close_known_ || close;
    close_sent_ = close_sent_ || close;
    return std::nullopt;
}

std::optional<error> stream::on_window(std::uint64_t offset) noexcept {
    heard_of();
    if (offset < limit_)
        return error::window_back;
    limit_ = offset;
    return std::nullopt;
}

bool stream::newer(std::uint32_t sequence) noexcept {
    if (sequence_seen_ != 0 && static_cast<std::int32_t>(sequence - sequence_seen_) <= 0)
        return false;
    sequence_seen_ = sequence;
    return true;
}

bool stream::finished() const noexcept {
    return !resetting_ && close_known_ && end_told_ && !ack_due_;
}

void stream::fingerprint(std::uint64_t& h) const noexcept {
    const auto mix = [&](std::uint64_t v) { h = (h ^ v) * 0x9E3779B97F4A7C15U, h ^= h >> 31; };
    std::uint64_t bits = 0;
    for (const bool b : {open_due_, open_known_, closing_, close_sent_, close_known_, resetting_, reset_due_, probe_,
                         ack_due_, window_due_, end_told_, queued, wants_room, stalled.has_value()})
        bits = bits << 1 | static_cast<std::uint64_t>(b);
    for (const auto v : {bits, std::uint64_t{code_}, std::uint64_t{sequence_sent_}, std::uint64_t{sequence_seen_},
                         acked_, next_, highest_, limit_, end(), received_, taken_, told_, final_.value_or(~0ULL)})
        mix(v);
}

} // namespace tandem::session_layer
