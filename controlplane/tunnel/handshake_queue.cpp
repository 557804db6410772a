// SPDX-License-Identifier: Apache-2.0
// See handshake_queue.hpp.
#include "controlplane/tunnel/handshake_queue.hpp"

#include <algorithm>
#include <asio/post.hpp>

#include "controlplane/link/with.hpp"

namespace tandem::tunnel {

asio::awaitable<bool> handshake_queue::ticket::turn(std::chrono::milliseconds patience) {
    if (state_ == is::waiting) {
        std::error_code woken;
        gate_.expires_after(patience);
        co_await gate_.async_wait(link::with(woken));
    }
    if (state_ == is::waiting)
        of_.give_up(*this);
    co_return state_ == is::under_way;
}

void handshake_queue::enter(ticket& one) {
    one.at_ = waiting_.insert(waiting_.end(), &one);
    one.source_.begun(source_scores::clock::now());
    if (waiting_.size() > most_waiting) // max_element: the first of several, which is the oldest
        give_up(**std::ranges::max_element(waiting_, {}, by_score()));
    schedule();
}

void handshake_queue::leave(ticket& one) {
    if (one.state_ == ticket::is::out)
        return;
    (one.state_ == ticket::is::waiting ? waiting_ : under_way_).erase(one.at_);
    one.state_ = ticket::is::out;
    schedule();
}

void handshake_queue::give_up(ticket& one) {
    const bool was_waiting = one.state_ == ticket::is::waiting;
    (was_waiting ? waiting_ : under_way_).erase(one.at_);
    one.state_ = ticket::is::out;
    if (was_waiting)
        one.gate_.cancel();
    else if (one.displaced_)
        one.displaced_();
}

void handshake_queue::schedule() {
    if (std::exchange(scheduled_, true))
        return;
    asio::post(io_, [this, alive = std::weak_ptr(alive_)] {
        if (!alive.expired())
            go_on();
    });
}

void handshake_queue::go_on() {
    scheduled_ = false;
    const auto score = by_score();
    for (unsigned begun = 0; !waiting_.empty(); ++begun) {
        if (begun == most_in_a_turn)
            return schedule();
        ticket& next = **std::min_element(waiting_.rbegin(), waiting_.rend(), [&](const ticket* a, const ticket* b) {
            return score(a) < score(b);
        }); // from behind: the newest of several
        if (under_way_.size() >= places_) {
            const auto worst = std::ranges::max_element(under_way_, {}, score);
            if (worst == under_way_.end() || score(*worst) <= score(&next))
                return; // one that ends wakes us
            give_up(**worst);
        }
        under_way_.splice(under_way_.end(), waiting_, next.at_);
        next.state_ = ticket::is::under_way;
        next.gate_.cancel();
    }
}

} // namespace tandem::tunnel
