// SPDX-License-Identifier: Apache-2.0
// The ng commands: offer and answer carry SDP between call.cpp (what it means) and the media relay (what happens);
// delete ends, query and list tell. One thread: the control plane's io_context; each holds its call's turn.
#include <algorithm>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "controlplane/callcontrol/ng_reply.hpp"
#include "controlplane/callcontrol/state.hpp"
#include "controlplane/protocol/spawn.hpp"

namespace tandem::callcontrol {

namespace {

using media::leg_kind;

constexpr auto say_refusals_every = std::chrono::seconds(10);

// Logical interface names that mean "behind an agent".
bool names_unit(std::string_view interface) {
    return interface == "unit" || interface == "inner" || interface == "access";
}

tl::unexpected<reason> refuse(reason why) {
    return tl::unexpected(std::move(why));
}

bencode::value sdp_reply(std::string body) {
    auto reply = ok_reply();
    reply.add("sdp", std::move(body));
    return reply;
}

bencode::value not_found() {
    bencode::value reply(bencode::dict{});
    reply.add("warning", "Call-ID not found or tags didn't match");
    reply.add("result", "ok");
    return reply;
}

void apply_direction(call& c, const request& r, side sender) {
    if (r.direction) {
        c.interfaces[sender] = (*r.direction)[0];
        c.interfaces[other(sender)] = (*r.direction)[1];
    }
}

// What was said of the call beside its parties; a retry may leave it out.
void take_words(call& c, const request& r) {
    for (const auto& [said, kept] : {std::pair{&r.caller_domain, &c.caller_domain},
                                     {&r.callee_domain, &c.callee_domain},
                                     {&r.wish, &c.wish},
                                     {&r.dialled, &c.dialled}})
        if (!said->empty())
            *kept = *said;
}

void drop_ended(std::vector<media_line>& lines, const live_call& of) {
    for (auto& line : lines)
        if (std::find(of.ended.begin(), of.ended.end(), line.id) != of.ended.end())
            line.id = 0;
}

} // namespace

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

outcome<side> server::state::sender_of_offer(call& c, const request& r) const {
    if (c.tags[0].empty() && c.tags[1].empty())
        return 0U;
    if (const auto known = c.side_of(r.from_tag))
        return *known;
    if (!r.to_tag.empty())
        if (const auto known = c.side_of(r.to_tag))
            return other(*known);
    if (!c.answered) { // the caller tries again under a new tag
        c.tags[0].clear();
        return 0U;
    }
    return refuse("Call exists with other tags: from-tag is unknown");
}

outcome<place> server::state::place_of_sender(const call& c, const media_line& line, const sdp::media& from, side s,
                                              const request& r) const {
    auto session = sessions.by_inner(from.address);
    if (!session && from.held_by_address()) {
        if (line.id != 0)
            return line.legs[s].where;
        if (r.received_from)
            session = sessions.by_inner(*r.received_from);
    }
    if (session) {
        const bool ipv6 = from.held_by_address() && r.received_from ? r.received_from->is_v6() : from.address.is_v6();
        return place{leg_kind::unit, session->unit, {}, ipv6};
    }
    if (names_unit(c.interfaces[s]))
        return refuse(
            fmt::format("direction says \"{}\", but {} is no session's inner address: is the agent up, and does "
                        "the phone put its inner address into the SDP?",
                        c.interfaces[s], from.address.to_string()));
    if (settings.is_inner && settings.is_inner(from.address))
        return refuse(fmt::format("{} is an inner address of a unit without a session: its primary must be up first",
                                  from.address.to_string()));
    return place{
        leg_kind::core, {}, c.interfaces[s].empty() ? settings.core_interface : c.interfaces[s], from.address.is_v6()};
}

outcome<place> server::state::place_of_other(const call& c, const media_line& line, const sdp::media& from, side sender,
                                             const request& r) const {
    const side s = other(sender);
    if (line.answered && line.id != 0)
        return line.legs[s].where;
    for (const auto& sibling : c.lines) // a line added to a running call goes where the others go
        if (sibling.answered && sibling.id != 0)
            return sibling.legs[s].where;
    const auto& id = c.id_of(s);
    const auto& name = c.interfaces[s];
    const bool want_v6 = r.ipv6.value_or(from.address.is_v6());
    if (name.empty() || names_unit(name)) {
        const auto unit = settings.unit_of ? settings.unit_of(id) : id;
        const auto session = unit.empty() ? std::nullopt : sessions.by_unit(unit);
        if (session && session->up && !session->inner.empty()) {
            const bool have = std::any_of(session->inner.begin(), session->inner.end(),
                                          [&](const auto& address) { return address.is_v6() == want_v6; });
            return place{leg_kind::unit, session->unit, {}, have ? want_v6 : session->inner.front().is_v6()};
        }
        if (!name.empty())
            return refuse(fmt::format("direction says \"{}\", but unit \"{}\" has no session that is up", name, id));
    }
    return place{leg_kind::core, {}, name.empty() ? settings.core_interface : name, want_v6};
}

// Ports for a line whose legs are new or move.
asio::awaitable<outcome<void>> server::state::take_ports(const call& c, media_line& line) {
    auto opened = co_await relay.open(relay_request(c, line, false));
    if (!opened)
        co_return refuse({std::move(opened.error().text), opened.error().of});
    if (std::exchange(line.id, opened->id) != opened->id)
        line.answered = false;
    line.local = opened->legs;
    co_return outcome<void>();
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

asio::awaitable<outcome<std::string>> server::state::run_offer(call& c, const request& r, side from) {
    auto offered = sdp::parse(r.sdp);
    if (!offered)
        co_return refuse(std::move(offered.error()));
    c.offerer = from;
    c.accept_mux = r.mux.demux || r.mux.accept;
    c.refuse_mux = r.mux.reject;
    std::vector<sdp::media_rewrite> out;
    for (std::size_t i = 0; i < offered->m_lines.size(); ++i) {
        const auto& here = offered->m_lines[i];
        if (c.lines.size() <= i) {
            c.lines.emplace_back();
            c.lines.back().index = static_cast<std::uint32_t>(i);
        }
        auto& line = c.lines[i];
        if (here.rejected() || !here.profile.rtp) {
            out.emplace_back().reject = true;
            continue;
        }
        auto near = place_of_sender(c, line, here, from, r);
        if (!near)
            co_return refuse(std::move(near.error()));
        auto far = place_of_other(c, line, here, from, r);
        if (!far)
            co_return refuse(std::move(far.error()));
        for (const auto& [s, where] : {std::pair{from, &*near}, std::pair{other(from), &*far}})
            if (auto settled = settle_name(c, s, *where); !settled)
                co_return refuse(std::move(settled.error()));
        const auto plan = take_offer(c, line, here, from, *near, *far, r);
        if (!plan)
            co_return refuse(plan.error());
        if (plan->reopen) {
            auto taken = co_await take_ports(c, line);
            if (!taken)
                co_return refuse(std::move(taken.error()));
        }
        out.push_back(rewrite_for_offer(line, other(from)));
    }
    co_return sdp::rewrite(*offered, out, rewrite_options_of(r));
}

std::optional<refusal> server::state::count_gate() const {
    if (settings.max_calls == 0 || calls.size() < settings.max_calls)
        return std::nullopt;
    return refusal{refusal::want::sessions,
                   fmt::format("{} calls are up, [ng] max_calls allows no more", settings.max_calls)};
}

std::optional<refusal> server::state::health_gate() const {
    auto why = settings.trouble ? settings.trouble() : std::string();
    return why.empty() ? std::nullopt : std::optional(refusal{refusal::want::sessions, std::move(why)});
}

std::optional<refusal> server::state::refuse_new_call() {
    return gates.ask();
}

bencode::value server::state::turn_away(const request& r, const refusal& no) {
    ++count.calls_refused;
    const auto now = std::chrono::steady_clock::now();
    if (now - refusal_said > say_refusals_every) { // it may come and go with each call that ends
        spdlog::warn("ng: new calls are refused: {}", no.cause);
        refusal_said = now;
    }
    return refusal_reply(no, r.knows_load_limit);
}

asio::awaitable<bencode::value> server::state::offer(request r) {
    std::shared_ptr<live_call> live;
    std::optional<turnstile::pass> turn;
    do {
        turn.reset(); // before its call goes
        if (const auto at = calls.find(r.call_id); at != calls.end()) {
            live = at->second;
        } else {
            if (const auto no = refuse_new_call()) {
                sdp::wipe(r.sdp);
                co_return turn_away(r, *no);
            }
            live = std::make_shared<live_call>();
            live->what.call_id = r.call_id;
            live->what.created = protocol::moment::now();
            calls.emplace(r.call_id, live);
            ++count.calls_created;
        }
        turn.emplace(co_await live->turns.enter());
    } while (live->gone);

    count.metadata_ignored += r.metadata_ignored;
    live->ended.clear();
    live->what.last_signal = std::chrono::system_clock::now();
    live->offered = std::chrono::steady_clock::now();
    if (auto before = std::exchange(live->what.reoffered, std::nullopt)) // never answered: this one takes its place
        take_back(*before, live->what);
    auto c = live->what; // all of it or nothing
    const bool is_new = c.tags[0].empty() && c.tags[1].empty();
    const auto from = sender_of_offer(c, r);
    if (!from)
        co_return error_reply(from.error().text);
    c.learn_tag(*from, r.from_tag);
    c.learn_tag(other(*from), r.to_tag);
    if (!c.answered && *from == 0) {
        if (!r.caller.empty())
            c.caller = r.caller;
        if (!r.callee.empty())
            c.callee = r.callee;
        take_words(c, r);
        c.callee_offered = r.callee_offers;
    }
    apply_direction(c, r, *from);
    auto body = co_await run_offer(c, r, *from);
    sdp::wipe(r.sdp);
    if (live->gone) {
        close_media(c.media(), "call has ended"); // what was opened after the end
        co_return error_reply("Call has ended");
    }
    drop_ended(c.lines, *live);
    if (!body) {
        spdlog::info("ng: offer of call \"{}\" refused: {}", c.call_id, body.error().text);
        take_back(c.lines, live->what);
        if (is_new)
            forget(live, "offer refused: " + body.error().text);
        if (is_new && body.error().of != media::shortage::none) // a call that runs would not be let go to another node
            co_return turn_away(
                r, {body.error().of == media::shortage::ports ? refusal::want::ports : refusal::want::sessions,
                    std::move(body.error().text)});
        co_return error_reply(std::move(body.error().text));
    }
    if (c.answered) {
        c.reoffered = std::move(c.lines);
        c.lines = std::move(live->what.lines);
    }
    live->what = std::move(c);
    store.put(live->what.call_id, save(live->what));
    co_return sdp_reply(std::move(*body));
}

outcome<void> server::state::check_answerer(const media_line& line, const sdp::media& from, side s) const {
    if (from.held_by_address())
        return {};
    const auto& where = line.legs[s].where;
    const auto session = sessions.by_inner(from.address);
    if (where.kind == leg_kind::unit && (!session || session->unit != where.unit))
        return refuse(fmt::format("Answer's address {} is not an inner address of unit \"{}\"",
                                  from.address.to_string(), where.unit));
    if (where.kind == leg_kind::core && session)
        return refuse(
            fmt::format("Answer's address {} is the inner address of unit \"{}\", but the offer was not for it: "
                        "name it as callee in metadata",
                        from.address.to_string(), session->unit));
    return {};
}

asio::awaitable<outcome<std::string>> server::state::run_answer(const live_call& live, call& c, const request& r,
                                                                side from) {
    auto answered = sdp::parse(r.sdp);
    if (!answered)
        co_return refuse(std::move(answered.error()));
    const auto& m_lines = answered->m_lines;
    std::vector<sdp::media_rewrite> out(m_lines.size());
    for (auto& one : out)
        one.reject = true;
    std::vector<bool> taken(c.lines.size(), false);
    for (std::size_t i = 0; i < c.lines.size(); ++i) {
        auto& line = c.lines[i];
        if (i < m_lines.size() && !m_lines[i].rejected() && line.id != 0) {
            if (auto fine = check_answerer(line, m_lines[i], from); !fine)
                co_return refuse(std::move(fine.error()));
            const auto result = take_answer(c, line, m_lines[i], from, r);
            if (!result)
                co_return refuse(result.error());
            taken[i] = *result;
        }
    }
    if (auto applied = co_await apply(live, c, taken); !applied)
        co_return refuse(std::move(applied.error()));
    for (std::size_t i = 0; i < out.size() && i < taken.size(); ++i)
        if (taken[i])
            out[i] = rewrite_for_answer(c.lines[i], other(from));
    co_return sdp::rewrite(*answered, out, rewrite_options_of(r));
}

// All lines that were taken, or none; only then the others end.
asio::awaitable<outcome<void>> server::state::apply(const live_call& live, call& c, std::vector<bool>& taken) {
    std::vector<media::media_change> changes;
    for (std::size_t i = 0; i < c.lines.size(); ++i)
        if (taken[i])
            changes.push_back({c.lines[i].id, relay_request(c, c.lines[i], true)});
    auto updated = co_await relay.update(std::move(changes));
    if (!updated)
        co_return refuse(std::move(updated.error().text));
    if (live.gone)
        co_return refuse("Call has ended");
    drop_ended(c.lines, live);
    std::vector<media::media_id> over;
    for (std::size_t i = 0, n = 0; i < c.lines.size(); ++i) {
        auto& line = c.lines[i];
        if (taken[i])
            line.local = (*updated)[n++].legs;
        else if (line.id != 0)
            over.push_back(std::exchange(line.id, 0));
        line.answered = taken[i] = taken[i] && line.id != 0; // one that ended meanwhile is as one that was rejected
    }
    close_media(over, "rejected in the answer");
    co_return outcome<void>();
}

asio::awaitable<std::optional<held_call>> server::state::hold(const std::string& call_id) {
    const auto at = calls.find(call_id);
    if (at == calls.end())
        co_return std::nullopt;
    auto live = at->second;
    auto turn = co_await live->turns.enter();
    if (live->gone)
        co_return std::nullopt;
    co_return held_call{std::move(live), std::move(turn)};
}

asio::awaitable<bencode::value> server::state::answer(request r) {
    const auto held = co_await hold(r.call_id);
    if (!held)
        co_return error_reply("Unknown call-id");
    const auto& live = held->live;
    live->ended.clear();
    live->what.last_signal = std::chrono::system_clock::now();
    auto c = live->what; // all of it or nothing
    if (c.reoffered)
        c.lines = *std::exchange(c.reoffered, std::nullopt);
    if (!c.side_of(r.from_tag) && !c.side_of(r.to_tag))
        co_return error_reply("Call exists with other tags: from-tag is unknown");
    const side from = other(c.offerer);
    if (c.side_of(r.to_tag).value_or(from) == from)
        c.learn_tag(from, r.to_tag);
    auto body = co_await run_answer(*live, c, r, from);
    sdp::wipe(r.sdp);
    if (live->gone)
        co_return error_reply("Call has ended");
    if (!body) {
        spdlog::info("ng: answer of call \"{}\" refused: {}", c.call_id, body.error().text);
        co_return error_reply(std::move(body.error().text));
    }
    c.answered = true;
    live->what = std::move(c);
    store.put(live->what.call_id, save(live->what));
    co_return sdp_reply(std::move(*body));
}

void server::state::forget(const std::shared_ptr<live_call>& live, const std::string& cause,
                           const std::string& media_cause) {
    if (std::exchange(live->gone, true))
        return;
    calls.erase(live->what.call_id);
    cookies.forget_call(live->what.call_id);
    const auto& c = live->what;
    store.end({c.call_id, c.caller, c.callee, cause, c.created, protocol::moment::now()});
    ++count.calls_ended;
    close_media(live->what.media(), media_cause.empty() ? cause : media_cause);
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
    const auto held = co_await hold(r.call_id);
    if (!held)
        co_return not_found();
    const auto& live = held->live;
    auto& c = live->what;
    if (!r.from_tag.empty() && !c.side_of(r.from_tag) && !c.side_of(r.to_tag))
        co_return not_found();
    auto reply = ok_reply();
    add_statistics(reply, c, relay);
    auto& forks = c.tags[1];
    if (!r.to_tag.empty() && forks.size() > 1 && forks.back() != r.to_tag && c.side_of(r.to_tag) == 1U)
        std::erase(forks, r.to_tag); // a branch that lost: the media belong to another one
    else
        forget(live, c.answered ? "hung up" : "ended before it was answered", "deleted");
    co_return reply;
}

asio::awaitable<bencode::value> server::state::query(request r) {
    const auto held = co_await hold(r.call_id);
    if (!held)
        co_return error_reply("Unknown call-id");
    const auto& live = held->live;
    auto reply = ok_reply();
    add_statistics(reply, live->what, relay);
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
    drop_ended(live->what.lines, *live);
    if (live->what.reoffered)
        drop_ended(*live->what.reoffered, *live);
    const auto lives = [](const media_line& line) { return line.id != 0; };
    if (std::any_of(live->what.lines.begin(), live->what.lines.end(), lives))
        store.put(call_id, save(live->what));
    else
        forget(live, cause.empty() ? "media ended" : cause);
}

} // namespace tandem::callcontrol
