// SPDX-License-Identifier: Apache-2.0
// The ng commands offer and answer: they carry SDP between call.cpp (what it means) and the media relay (what happens).
// One thread: the control plane's io_context; each holds its call's turn.
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

bencode::value sdp_reply(std::string body) {
    auto reply = ok_reply();
    reply.add("sdp", std::move(body));
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

// What an offer says of its sender and of the call.
void take_offerer(call& c, const request& r, const offered_place& in) {
    c.last_signal = std::chrono::system_clock::now();
    c.offered = std::chrono::steady_clock::now();
    c.opening = in.opening;
    c.learn_tag(in.from, r.from_tag);
    c.learn_tag(other(in.from), r.to_tag);
    if (in.opening) {
        c.via_branch = r.via_branch;
        c.source = r.received_from;
        ++c.ringing;
    }
    if (!c.answered && in.from == 0) {
        if (!r.caller.empty())
            c.caller = r.caller;
        if (!r.callee.empty())
            c.callee = r.callee;
        take_words(c, r);
        c.callee_offered = r.callee_offers;
    }
    apply_direction(c, r, in.from);
}

} // namespace

// What the branches of a call have in common is taken over from the newest.
call server::state::begin_branch(const live_call& live) const {
    call c;
    c.call_id = live.call_id;
    c.created = live.created;
    if (live.branches.empty())
        return c;
    const auto& like = live.branches.back();
    c.branch = live.last_branch + 1;
    c.caller = like.caller;
    c.callee = like.callee;
    c.caller_domain = like.caller_domain;
    c.callee_domain = like.callee_domain;
    c.wish = like.wish;
    c.dialled = like.dialled;
    c.interfaces = like.interfaces;
    return c;
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

asio::awaitable<outcome<std::string>> server::state::run_offer(call& c, request& r, side from) {
    auto offered = std::move(r.said);
    if (!offered)
        co_return refuse(std::move(offered.error()));
    if (auto fine = can_carry(*offered); !fine)
        co_return refuse(std::move(fine.error()));
    settle_addresses(*offered, r);
    c.offerer = from;
    c.accept_mux = r.mux.demux || r.mux.accept;
    c.refuse_mux = r.mux.reject;
    std::vector<sdp::media_rewrite> out;
    std::size_t anchored = 0;
    for (std::size_t i = 0; i < offered->m_lines.size(); ++i) {
        const auto& here = offered->m_lines[i];
        if (c.lines.size() <= i) {
            c.lines.emplace_back();
            c.lines.back().index = static_cast<std::uint32_t>(i);
        }
        auto& line = c.lines[i];
        if (here.rejected() || !here.profile.rtp || ++anchored > settings.max_media) {
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
        if (auto no = anchored == 1 && relay.may_deny() ? relay.denies(relay_request(c, line, false)) : std::nullopt)
            co_return refuse({std::move(no->text), no->of});
        if (plan->reopen) {
            auto taken = co_await take_ports(c, line);
            if (!taken)
                co_return refuse(std::move(taken.error()));
        }
        out.push_back(rewrite_for_offer(line, other(from)));
    }
    co_return write(c, other(from), r, *offered, out);
}

// From, or for, a unit that is connected.
bool server::state::concerns_unit(const request& r) const {
    if (r.received_from && sessions.by_inner(*r.received_from))
        return true;
    for (const auto& name : {r.caller, r.callee})
        if (const auto session = name.empty() ? std::nullopt : sessions.by_unit(name); session && session->up)
            return true;
    return false;
}

std::optional<refusal> server::state::count_gate(const request& r) const {
    const auto reserve = static_cast<std::size_t>(settings.unit_reserve * static_cast<double>(settings.max_calls));
    if (settings.max_calls == 0 || calls.size() + reserve < settings.max_calls)
        return std::nullopt;
    if (calls.size() >= settings.max_calls)
        return refusal{refusal::want::sessions,
                       fmt::format("{} calls are up, [ng] max_calls allows no more", settings.max_calls)};
    if (concerns_unit(r) || sessions.all().empty())
        return std::nullopt;
    return refusal{
        refusal::want::sessions,
        fmt::format("{} calls are up; the last {} of [ng] max_calls are for calls with a unit", calls.size(), reserve)};
}

std::optional<refusal> server::state::share_gate(const std::string& source) const {
    if (!shares.is_used_up(source, calls.size()))
        return std::nullopt;
    double use = settings.use ? settings.use() : 0;
    if (settings.max_calls != 0)
        use = std::max(use, static_cast<double>(calls.size()) / static_cast<double>(settings.max_calls));
    if (use < source_shares::busy)
        return std::nullopt;
    return refusal{refusal::want::sessions,
                   fmt::format("{:.0f} % is in use, and {} has its share of the calls: see [ng] source_share_percent",
                               use * 100, source)};
}

std::optional<refusal> server::state::health_gate() const {
    auto why = settings.trouble ? settings.trouble() : std::string();
    return why.empty() ? std::nullopt : std::optional(refusal{refusal::want::sessions, std::move(why)});
}

std::optional<refusal> server::state::refuse_new_call(const request& r, const std::string& source) {
    if (auto no = count_gate(r))
        return no;
    if (auto no = share_gate(source))
        return no;
    return gates.ask();
}

bencode::value server::state::turn_away(const request& r, const refusal& no) {
    ++count.calls_refused;
    refused.add(r.call_id);
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
            auto source = r.received_from ? source_key(*r.received_from) : std::string();
            if (const auto no = refuse_new_call(r, source)) {
                sdp::wipe(r.sdp);
                co_return turn_away(r, *no);
            }
            live = std::make_shared<live_call>();
            live->call_id = r.call_id;
            live->created = protocol::moment::now();
            calls.emplace(r.call_id, live);
            shares.begin(live->source = std::move(source));
            ++count.calls_created;
        }
        turn.emplace(co_await live->turns.enter());
    } while (live->gone);

    count.metadata_ignored += r.metadata_ignored;
    live->ended.clear();
    if (comes_again(*live, r))
        co_return sdp_reply(std::move(r.sdp));
    const auto found = find_offered(live->branches, r);
    if (!found || (!found->at && live->branches.size() >= most_branches)) {
        live->note_refused(r.via_branch);
        sdp::wipe(r.sdp);
        co_return error_reply(found ? fmt::format("Call has {} branches already, no more are taken", most_branches)
                                    : found.error().text);
    }
    try {
        co_return co_await offer_in(live, std::move(r), *found);
    } catch (...) {
        if (live->branches.empty()) // the call never began: nobody may find it
            forget(live, "offer failed");
        throw;
    }
}

// The call passes two proxies that share this gateway (flag loop-protect): what is anchored once is anchored.
bool server::state::comes_again(const live_call& live, const request& r) const {
    if (!r.loop_protect)
        return false;
    return r.said && is_ours(live.branches, *r.said);
}

// In the call's turn.
asio::awaitable<bencode::value> server::state::offer_in(std::shared_ptr<live_call> live, request r, offered_place in) {
    const bool is_new = live->branches.empty();
    call before; // what is in force; of a branch that begins, nothing
    if (in.at) {
        auto& known = live->branches[*in.at];
        if (auto open = std::exchange(known.reoffered, std::nullopt)) // never answered: this one takes its place
            take_back(*open, known);
        before = known;
    }
    if (in.from == 0 && !(in.at && live->branches[*in.at].answered))
        r.callee_offers = is_callees_offer(r);
    auto c = in.at ? before : begin_branch(*live); // all of it or nothing
    if (in.new_tag)
        c.tags[0].clear();
    take_offerer(c, r, in);
    outcome<std::string> body;
    try {
        body = co_await run_offer(c, r, in.from);
    } catch (...) {
        live->note_refused(r.via_branch);
        sdp::wipe(r.sdp);
        take_back(c.lines, before);
        throw;
    }
    sdp::wipe(r.sdp);
    auto* const known = in.at ? live->find(c.branch) : nullptr;
    if (live->gone || (in.at && known == nullptr)) {
        close_media(c.media(), "call has ended"); // what was opened after the end
        co_return error_reply("Call has ended");
    }
    drop_ended(c.lines, *live);
    if (!body) {
        spdlog::info("ng: offer of call \"{}\" refused: {}", c.call_id, body.error().text);
        live->note_refused(r.via_branch);
        take_back(c.lines, known != nullptr ? *known : call());
        if (is_new)
            forget(live, "offer refused: " + body.error().text);
        if (is_new && body.error().of != media::shortage::none) // a call that runs would not be let go to another node
            co_return turn_away(
                r, {body.error().of == media::shortage::ports ? refusal::want::ports : refusal::want::sessions,
                    std::move(body.error().text)});
        co_return error_reply(std::move(body.error().text));
    }
    std::erase(live->refused, r.via_branch);
    if (c.answered) {
        c.reoffered = std::move(c.lines);
        c.lines = std::move(known->lines);
    }
    if (known != nullptr)
        *known = std::move(c);
    else
        live->branches.push_back(std::move(c));
    live->last_branch = std::max(live->last_branch, live->branches.back().branch);
    put(*live);
    if (live->answered())
        co_await relay.learn_anew(live->media());
    if (live->gone)
        co_return error_reply("Call has ended");
    co_return sdp_reply(std::move(*body));
}

outcome<void> server::state::check_answerer(const media_line& line, const sdp::media& from, side s,
                                            const request& r) const {
    const auto& where = line.legs[s].where;
    if (where.kind == leg_kind::unit)
        if (auto fine = check_unit(where.unit, r); !fine)
            return fine;
    if (from.held_by_address())
        return {};
    const auto session = sessions.by_inner(from.address);
    if (where.kind == leg_kind::unit && (!session || session->unit != where.unit))
        return refuse(fmt::format("Answer's address {} is not an inner address of unit \"{}\"",
                                  from.address.to_string(), where.unit));
    if (where.kind == leg_kind::core && session)
        return refuse(
            fmt::format("Answer's address {} is the inner address of unit \"{}\", but the offer was not for it: "
                        "name it as callee in metadata",
                        from.address.to_string(), session->unit));
    if (auto why = where.kind == leg_kind::core ? unreachable(from) : std::string(); !why.empty())
        return refuse(std::move(why));
    return {};
}

asio::awaitable<outcome<std::string>> server::state::run_answer(const live_call& live, call& c, request& r, side from) {
    auto answered = std::move(r.said);
    if (!answered)
        co_return refuse(std::move(answered.error()));
    settle_addresses(*answered, r);
    const auto& m_lines = answered->m_lines;
    std::vector<sdp::media_rewrite> out(m_lines.size());
    for (auto& one : out)
        one.reject = true;
    std::vector<bool> taken(c.lines.size(), false);
    for (std::size_t i = 0; i < c.lines.size(); ++i) {
        auto& line = c.lines[i];
        if (i < m_lines.size() && !m_lines[i].rejected() && line.id != 0) {
            if (auto fine = check_answerer(line, m_lines[i], from, r); !fine)
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
    co_return write(c, other(from), r, *answered, out);
}

// All lines that were taken, or none; only then the others end. One of a first offer that was never taken keeps its
// ports: who answers next, a fork or the callee after its announcement, may take it (release_rejected).
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
        else if (line.id != 0 && (line.answered || !c.opening))
            over.push_back(std::exchange(line.id, 0));
        line.answered = taken[i] = taken[i] && line.id != 0; // one that ended meanwhile is as one that was rejected
    }
    close_media(over, "rejected in the answer");
    co_return outcome<void>();
}

asio::awaitable<bencode::value> server::state::answer(request r) {
    const auto held = co_await hold(r.call_id);
    if (!held)
        co_return error_reply("Unknown call-id");
    const auto& live = held->live;
    live->ended.clear();
    if (comes_again(*live, r))
        co_return sdp_reply(std::move(r.sdp));
    const auto at = live->is_refused(r.via_branch)
                        ? outcome<std::size_t>(refuse("The offer of this via-branch was refused"))
                        : find_answered(live->branches, r);
    if (!at) {
        sdp::wipe(r.sdp);
        co_return error_reply(at.error().text);
    }
    live->branches[*at].last_signal = std::chrono::system_clock::now();
    auto c = live->branches[*at]; // all of it or nothing
    if (c.reoffered)
        c.lines = *std::exchange(c.reoffered, std::nullopt);
    const side from = other(c.offerer);
    if (c.side_of(r.to_tag).value_or(from) == from)
        c.learn_tag(from, r.to_tag);
    auto body = co_await run_answer(*live, c, r, from);
    sdp::wipe(r.sdp);
    auto* const known = live->find(c.branch);
    if (live->gone || known == nullptr)
        co_return error_reply("Call has ended");
    if (!body) {
        spdlog::info("ng: answer of call \"{}\" refused: {}", c.call_id, body.error().text);
        co_return error_reply(std::move(body.error().text));
    }
    c.answered = true;
    c.settled = 0;
    for (const auto& other : live->branches)
        c.settled = std::max(c.settled, other.settled + (other.branch == c.branch ? 0 : 1));
    c.settled = std::max(c.settled, 1U);
    *known = std::move(c);
    put(*live);
    co_return sdp_reply(std::move(*body));
}

} // namespace tandem::callcontrol
