// SPDX-License-Identifier: Apache-2.0
// A session over transports. See driver.hpp.
#include "controlplane/session_layer/driver.hpp"

#include <fmt/format.h>

#include "controlplane/link/with.hpp"
#include "controlplane/protocol/spawn.hpp"

namespace tandem::session_layer {
namespace {

constexpr std::size_t largest_frame = link::tls_tcp::record - protocol::frame_prefix;

} // namespace

std::vector<std::uint8_t> binding_of(const link::transport& by) {
    std::vector<std::uint8_t> out(32);
    if (!by.exported("EXPORTER-tandem-session-link", {}, out))
        out.clear();
    return out;
}

protocol::secret new_secret_of(const link::transport& by, std::uint64_t tsid) {
    std::array<std::uint8_t, 8> context{};
    protocol::store_be(context, tsid);
    protocol::secret out;
    if (!by.exported("EXPORTER-tandem-session-secret", context, out.resize(32)))
        out.clear();
    return out;
}

link::rider::calls riding(std::shared_ptr<driver> d, link_id id) {
    return {.take = [d, id](std::span<const std::uint8_t> frame) { d->received(id, frame); },
            .next = [d, id](std::vector<std::uint8_t>& frame) { return d->pull(id, frame); },
            .gone = [d, id] { d->drop(id); }};
}

bool moves::note(const handover& h) {
    if (h.kind == handover_kind::first || h.how == handover_end::failed)
        return false;
    ++count;
    octets_again += h.sent_again;
    const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(h.ended - h.began);
    last = fmt::format("{}, {}, {} ms", text_of(h.kind), text_of(h.why), took.count());
    return true;
}

// ---- links
// ------------------------------------------------------------------------------------------------------------

link_id driver::dial(std::shared_ptr<link::transport> by, std::uint32_t group, std::span<const std::uint8_t> binding) {
    const auto id = session_.dial(by->kind(), group, binding, clock::now());
    return carry(id, std::move(by));
}

link_id driver::accept(std::shared_ptr<link::transport> by, std::span<const std::uint8_t> binding) {
    const auto id = session_.accept(by->kind(), binding, clock::now());
    return carry(id, std::move(by));
}

link_id driver::carry(link_id id, std::shared_ptr<link::transport> by) {
    const auto one = std::make_shared<carried>(id, std::move(by));
    links_.emplace(id, ways{[one] { one->wake.cancel(); },
                            [one] {
                                one->by->close();
                                one->wake.cancel();
                            }});
    const auto self = shared_from_this();
    protocol::spawn(executor_, "reader of a session's link", [self, one] { return self->read(one); });
    protocol::spawn(executor_, "writer of a session's link", [self, one] { return self->write(one); });
    return id;
}

link_id driver::dial(guest as, std::uint32_t group, std::span<const std::uint8_t> binding) {
    const auto id = session_.dial(as.kind, group, binding, clock::now());
    links_.emplace(id, ways{std::move(as.more), [] {}});
    act();
    return id;
}

link_id driver::accept(guest as, std::span<const std::uint8_t> binding) {
    const auto id = session_.accept(as.kind, binding, clock::now());
    links_.emplace(id, ways{std::move(as.more), [] {}});
    act();
    return id;
}

void driver::received(link_id id, std::span<const std::uint8_t> frame) {
    if (!links_.contains(id))
        return;
    session_.receive(id, frame, clock::now());
    act(); // the events live as long as the frame
}

bool driver::pull(link_id id, std::vector<std::uint8_t>& frame) {
    if (!links_.contains(id) || session_.pull(id, frame, largest_frame, clock::now()) == 0)
        return false;
    act();
    return true;
}

void driver::move(link_id to, reason why) {
    use([&](session& s) { s.move(to, why, clock::now()); });
}

void driver::drop(link_id id) {
    const auto gone = links_.extract(id);
    if (gone.empty())
        return;
    gone.mapped().close();
    use([&](session& s) { s.lost(id, clock::now()); });
}

void driver::stop() {
    stopped_ = true;
    timer_.cancel();
    while (!links_.empty())
        drop(links_.begin()->first);
}

// ---- both ways
// --------------------------------------------------------------------------------------------------------

asio::awaitable<void> driver::read(std::shared_ptr<carried> one) {
    const auto self = shared_from_this();
    const link::transport::frame_handler take = [&](const protocol::frame& f) { received(one->id, f.bytes); };
    std::error_code error;
    while (!error && links_.contains(one->id))
        co_await one->by->receive(take, error);
    drop(one->id);
}

// One frame at a time: what the link cannot take stays where newer things overtake it.
asio::awaitable<void> driver::write(std::shared_ptr<carried> one) {
    const auto self = shared_from_this();
    std::vector<std::uint8_t> frame;
    std::error_code error;
    while (!error && links_.contains(one->id)) {
        frame.clear();
        if (pull(one->id, frame)) {
            if (one->by->add(frame))
                co_await one->by->flush(error);
            continue;
        }
        arm();
        one->wake.expires_at(clock::time_point::max());
        std::error_code woken;
        co_await one->wake.async_wait(link::with(woken));
    }
    drop(one->id);
}

// ---- what the session says
// --------------------------------------------------------------------------------------------

void driver::act() {
    if (std::exchange(acting_, true))
        return;                           // whoever acts takes what comes meanwhile
    const auto self = shared_from_this(); // a handler may give up the last other holder
    for (auto happened = session_.take(); !happened.empty(); happened = session_.take())
        for (const auto& e : happened) {
            if (const auto* c = std::get_if<close_link>(&e))
                drop(c->link);
            if (!stopped_)
                on_event_(e);
        }
    acting_ = false;
    for (const auto& [id, by] : links_)
        if (session_.has_more(id))
            by.more();
    arm();
}

void driver::arm() {
    const auto at = session_.due();
    if (stopped_ || !at || armed_ == at)
        return;
    armed_ = at;
    timer_.expires_at(*at);
    timer_.async_wait([weak = weak_from_this()](const std::error_code& error) {
        const auto self = weak.lock();
        if (error || !self || self->stopped_)
            return;
        self->armed_.reset();
        self->session_.poll(clock::now());
        self->act();
    });
}

} // namespace tandem::session_layer
