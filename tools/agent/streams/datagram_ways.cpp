// SPDX-License-Identifier: Apache-2.0
// See datagram_ways.hpp.
#include "tools/agent/streams/datagram_ways.hpp"

#include <utility>

#include "controlplane/session_layer/placed_datagram.hpp"

namespace tandem::agent {

namespace layer = session_layer;
namespace {

constexpr auto pause_after_refusal = std::chrono::seconds(5);

} // namespace

class datagram_ways::way final : public datagram_way {
public:
    way(datagram_ways& of, datagram_return back) : of_(of), back_(std::move(back)) {}
    ~way() override { of_.end(*this); }
    way(const way&) = delete;
    way& operator=(const way&) = delete;
    void send(const asio::ip::udp::endpoint& destination, std::span<const std::uint8_t> datagram) override {
        of_.send(*this, destination, datagram);
    }
    void give_back(const layer::placed_datagram& d) const { back_({d.peer.address, d.peer.port}, d.octets); }

    std::optional<layer::stream_id> stream;
    clock::time_point not_before;

private:
    datagram_ways& of_;
    datagram_return back_;
};

std::unique_ptr<datagram_way> datagram_ways::take(datagram_return back) {
    auto fresh = std::make_unique<way>(*this, std::move(back));
    ways_.insert(fresh.get());
    return fresh;
}

void datagram_ways::carried_by(std::shared_ptr<layer::driver> by) {
    if (driver_ && driver_ != by)
        count_.lost += driver_->state().lost_datagrams();
    driver_ = std::move(by);
    by_stream_.clear();
    for (auto* const w : ways_) {
        w->stream.reset();
        w->not_before = {};
    }
}

datagram_ways::counters datagram_ways::count() const {
    auto all = count_;
    if (driver_)
        all.lost += driver_->state().lost_datagrams();
    return all;
}

datagram_ways::way* datagram_ways::find(layer::stream_id id) const {
    const auto at = by_stream_.find(id);
    return at != by_stream_.end() ? at->second : nullptr;
}

void datagram_ways::end(way& w) {
    ways_.erase(&w);
    if (!w.stream)
        return;
    const auto id = *w.stream;
    forget_stream(w);
    driver_->use([id](layer::session& s) { s.reset(id, static_cast<std::uint16_t>(layer::reset_code::cancelled)); });
}

void datagram_ways::forget_stream(way& w) {
    by_stream_.erase(*w.stream);
    w.stream.reset();
}

bool datagram_ways::open(way& w) {
    if (w.stream)
        return true;
    if (driver_ && clock::now() >= w.not_before)
        w.stream = driver_->use([](layer::session& s) { return s.open(layer::stream_kind::datagrams, "udp"); });
    if (w.stream)
        by_stream_[*w.stream] = &w;
    return w.stream.has_value();
}

void datagram_ways::send(way& w, const asio::ip::udp::endpoint& destination, std::span<const std::uint8_t> datagram) {
    if (!open(w)) {
        ++count_.lost;
        return;
    }
    ++count_.sent;
    out_.clear();
    layer::write_placed({destination.address(), destination.port()}, datagram, out_);
    driver_->use([&](layer::session& s) { s.send_datagram(*w.stream, out_, clock::now()); });
}

void datagram_ways::on(const layer::event& e) {
    if (const auto* d = std::get_if<layer::received_datagram>(&e)) {
        const auto placed = layer::read_placed(d->octets);
        if (const auto* const w = find(d->stream); w != nullptr && placed) {
            ++count_.received;
            w->give_back(*placed);
        }
    } else if (const auto* r = std::get_if<layer::was_reset>(&e)) {
        auto* const w = find(r->stream);
        if (w == nullptr)
            return;
        forget_stream(*w);
        if (r->code != static_cast<std::uint16_t>(layer::reset_code::cancelled)) // that is: idle at the gateway
            w->not_before = clock::now() + pause_after_refusal;
    }
}

} // namespace tandem::agent
