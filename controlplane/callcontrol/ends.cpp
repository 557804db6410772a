// SPDX-License-Identifier: Apache-2.0
// How calls end, whole or by branches: delete, media that end by themselves; query and list tell of them; a call's
// turn. One thread: the control plane's io_context.
#include <algorithm>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>

#include "controlplane/callcontrol/ng_reply.hpp"
#include "controlplane/callcontrol/state.hpp"
#include "controlplane/protocol/spawn.hpp"

namespace tandem::callcontrol {

namespace {

// `fatal`: an error, unless it was turned away for want of room. By that a proxy tells 503 from 488
// (packaging/kamailio).
bencode::value not_found(const request& r, const turned_away& refused) {
    const auto* why = "Call-ID not found or tags didn't match";
    if (r.fatal && !refused.has(r.call_id))
        return error_reply(why);
    bencode::value reply(bencode::dict{});
    reply.add("warning", why);
    reply.add("result", "ok");
    return reply;
}

} // namespace

void live_call::note_refused(const std::string& via_branch) {
    if (via_branch.empty())
        return;
    std::erase(refused, via_branch);
    if (refused.size() >= most_branches)
        refused.erase(refused.begin());
    refused.push_back(via_branch);
}

bool live_call::is_refused(const std::string& via_branch) const {
    const auto is_its = [&](const call& c) { return c.via_branch == via_branch; };
    return std::ranges::find(refused, via_branch) != refused.end() && std::ranges::none_of(branches, is_its);
}

call* live_call::find(std::uint32_t branch) {
    const auto at = std::find_if(branches.begin(), branches.end(), [&](const call& c) { return c.branch == branch; });
    return at == branches.end() ? nullptr : &*at;
}

std::vector<media::media_id> live_call::media() const {
    std::vector<media::media_id> out;
    for (const auto& c : branches)
        for (const auto id : c.media())
            out.push_back(id);
    return out;
}

bool live_call::answered() const {
    return std::any_of(branches.begin(), branches.end(), [](const call& c) { return c.answered; });
}

void drop_ended(std::vector<media_line>& lines, const live_call& of) {
    for (auto& line : lines)
        if (std::find(of.ended.begin(), of.ended.end(), line.id) != of.ended.end())
            line.id = 0;
}

asio::awaitable<turnstile::pass> turnstile::enter() {
    if (busy_) {
        auto timer =
            waiting_.emplace(waiting_.end(), co_await asio::this_coro::executor, asio::steady_timer::time_point::max());
        asio::error_code woken;
        co_await timer->async_wait(asio::redirect_error(asio::use_awaitable, woken));
        waiting_.erase(timer); // busy_ was handed on to us
    }
    busy_ = true;
    co_return pass(*this);
}

void turnstile::leave() {
    for (auto& timer : waiting_)
        if (timer.cancel() > 0)
            return; // it enters now; nobody else may before
    busy_ = false;
}

asio::awaitable<std::optional<held_call>> server::state::hold(const std::string& call_id) {
    for (auto at = calls.find(call_id); at != calls.end(); at = calls.find(call_id)) {
        auto live = at->second;
        auto turn = co_await live->turns.enter();
        if (!live->gone)
            co_return held_call{std::move(live), std::move(turn)};
    } // it ended meanwhile; an offer that waited with us may have begun it again
    co_return std::nullopt;
}

// What was taken for lines that come to nothing: media of their own end, what was taken beside others is given back.
void server::state::take_back(const std::vector<media_line>& wanted, const call& in_force) {
    const auto kept = in_force.media();
    std::vector<media::media_id> over;
    for (const auto& line : wanted) {
        if (line.id == 0)
            continue;
        if (std::find(kept.begin(), kept.end(), line.id) == kept.end())
            over.push_back(line.id);
        else
            relay.withdraw(line.id);
    }
    close_media(over, "offer came to nothing");
}

ended_call server::state::ended(const live_call& live, const call& c, const std::string& cause) {
    const auto latest = [](const auto& tags) { return tags.empty() ? std::string() : tags.back(); };
    return {live.call_id,      c.caller,         c.callee, cause, live.created, protocol::moment::now(),
            latest(c.tags[0]), latest(c.tags[1])};
}

void server::state::forget(const std::shared_ptr<live_call>& live, const std::string& cause,
                           const std::string& media_cause) {
    if (std::exchange(live->gone, true))
        return;
    calls.erase(live->call_id);
    shares.end(live->source);
    cookies.forget_call(live->call_id);
    const auto& c = live->branches.empty() ? call() : chief(live->branches);
    const bool by_itself = live->was_up && cause == never_answered; // who was asked before that one; nobody ends such
    const auto over = by_itself ? *live->was_up : ended(*live, c, cause);
    store.end(over);
    if (settings.ended && !live->branches.empty())
        settings.ended(over);
    ++count.calls_ended;
    close_media(live->media(), media_cause.empty() ? cause : media_cause);
}

void server::state::forget_branch(const std::shared_ptr<live_call>& live, std::uint32_t branch,
                                  const std::string& cause) {
    const auto* c = live->find(branch);
    if (c == nullptr || live->gone)
        return;
    if (live->branches.size() == 1) {
        forget(live, cause);
        return;
    }
    if (c->answered)
        live->was_up = ended(*live, *c, "hung up");
    close_media(c->media(), cause);
    std::erase_if(live->branches, [&](const call& one) { return one.branch == branch; });
    put(*live);
}

// Lines of a first offer that none of those who answered took: nobody answers so late.
void server::state::release_rejected(live_call& live, std::chrono::steady_clock::time_point offered_before) {
    std::vector<media::media_id> over;
    for (auto& c : live.branches)
        for (auto& line : c.lines)
            if (c.answered && c.opening && !c.reoffered && c.offered < offered_before && line.id != 0 && !line.answered)
                over.push_back(std::exchange(line.id, 0));
    if (over.empty())
        return;
    live.ended.insert(live.ended.end(), over.begin(), over.end()); // for whom has the call's turn
    close_media(over, "rejected in the answer");
    put(live);
}

void server::state::put(const live_call& live) {
    store.put(live.call_id, save(live.branches));
}

// The unit's confirmation may take its time: the SIP proxy does not wait for it.
void server::state::close_media(const std::vector<media::media_id>& ids, const std::string& cause) {
    for (const auto id : ids)
        protocol::spawn_contained(
            context, "end of a call's media",
            [](std::shared_ptr<state> self, media::media_id which, std::string why) -> asio::awaitable<void> {
                co_await self->relay.close(which, why);
            }(shared_from_this(), id, cause));
}

asio::awaitable<bencode::value> server::state::remove(request r) {
    using part = ended_place::what;
    const auto held = co_await hold(r.call_id);
    if (!held)
        co_return not_found(r, refused);
    const auto& live = held->live;
    const auto ends = find_ended(live->branches, r);
    if (ends.part == part::none)
        co_return not_found(r, refused);
    auto reply = ok_reply();
    add_statistics(reply, live->branches, relay);
    auto& c = live->branches[ends.at];
    switch (ends.part) {
    case part::whole:
        forget(live, live->answered() ? "hung up" : "ended before it was answered", "deleted");
        break;
    case part::branch:
        forget_branch(live, c.branch, "another branch of the call goes on");
        break;
    case part::tag:
        std::erase_if(c.tags[1], [&](const auto& tag) { return tag == r.to_tag || tag == r.from_tag; });
        put(*live);
        break;
    case part::nothing: // somebody whom the proxy tells apart, and we do not
        c.ringing -= c.ringing > 0 ? 1 : 0;
        put(*live);
        break;
    case part::none:
        break;
    }
    co_return reply;
}

asio::awaitable<bencode::value> server::state::query(request r) {
    const auto held = co_await hold(r.call_id);
    if (!held)
        co_return error_reply("Unknown call-id");
    auto reply = ok_reply();
    add_statistics(reply, held->live->branches, relay);
    co_return reply;
}

bencode::value server::state::list(const request& r) const {
    bencode::list ids;
    for (const auto& [id, live] : calls) {
        if (ids.size() >= r.limit)
            break;
        ids.emplace_back(id);
    }
    auto reply = ok_reply();
    reply.add("calls", std::move(ids));
    return reply;
}

void server::state::media_ended(media::media_id id, const std::string& call_id, const std::string& cause) {
    const auto at = calls.find(call_id);
    if (at == calls.end())
        return;
    const auto live = at->second;
    live->ended.push_back(id);
    std::vector<std::uint32_t> over;
    for (auto& c : live->branches) {
        const auto of = c.media();
        if (std::find(of.begin(), of.end(), id) == of.end())
            continue;
        drop_ended(c.lines, *live);
        if (c.reoffered)
            drop_ended(*c.reoffered, *live);
        if (std::none_of(c.lines.begin(), c.lines.end(), [](const media_line& line) { return line.id != 0; }))
            over.push_back(c.branch);
    }
    for (const auto branch : over)
        forget_branch(live, branch, cause.empty() ? "media ended" : cause);
    if (over.empty() && !live->gone && !live->branches.empty()) // none: its first offer is under way
        put(*live);
}

} // namespace tandem::callcontrol
