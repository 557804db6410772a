// SPDX-License-Identifier: Apache-2.0
// Incremental stream framing. See framing.hpp.
#include "controlplane/protocol/framing.hpp"

#include <algorithm>
#include <utility>

namespace tandem::protocol {

std::span<std::uint8_t> framer::prepare() {
    wipe_last();
    if (begin_ == end_) {
        begin_ = end_ = 0;
    } else if (begin_ > 0) {
        std::copy(buffer_.begin() + static_cast<std::ptrdiff_t>(begin_),
                  buffer_.begin() + static_cast<std::ptrdiff_t>(end_), buffer_.begin());
        // What moved down leaves its old bytes above: a part of a control frame may be among them.
        const std::size_t kept = end_ - begin_;
        wipe(buffer_.data() + kept, end_ - kept);
        begin_ = 0;
        end_ = kept;
    }
    // Only bytes that came make it grow, not a length that promises them; the largest frame bounds it.
    if (buffer_.size() < end_ + frame_prefix)
        buffer_.resize(std::max(2 * buffer_.size(), end_ + frame_prefix));
    return std::span(buffer_).subspan(end_);
}

std::optional<frame> framer::next() noexcept {
    wipe_last();
    const std::span<const std::uint8_t> have = std::span(buffer_).subspan(begin_, end_ - begin_);
    if (have.size() < frame_prefix)
        return std::nullopt;
    const auto length = static_cast<std::size_t>(load_be(have.first(frame_prefix)));
    if (have.size() - frame_prefix < length)
        return std::nullopt;
    const auto bytes = have.subspan(frame_prefix, length);
    const auto kind = kind_of(bytes);
    if (kind == frame_kind::control) {
        last_begin_ = begin_ + frame_prefix;
        last_size_ = length;
    }
    begin_ += frame_prefix + length;
    return frame{kind, bytes};
}

wiped_bytes framer::give_back() noexcept {
    wipe_last();
    begin_ = end_ = 0;
    return std::exchange(buffer_, {});
}

void framer::wipe_last() noexcept {
    wipe(buffer_.data() + last_begin_, last_size_);
    last_size_ = 0;
}

} // namespace tandem::protocol
