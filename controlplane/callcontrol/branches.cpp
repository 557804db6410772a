// SPDX-License-Identifier: Apache-2.0
// Which branch of a forked call a request is about (branches.hpp). Pure.
#include "controlplane/callcontrol/branches.hpp"

#include <algorithm>

namespace tandem::callcontrol {

namespace {

using spot = std::optional<std::size_t>;

// The newest branch of which `fits` is true.
template <class F>
spot newest(const std::vector<call>& all, F fits) {
    for (std::size_t i = all.size(); i-- > 0;)
        if (fits(all[i]))
            return i;
    return {};
}

bool has(const call& c, const std::string& tag) {
    return !tag.empty() && c.side_of(tag).has_value();
}

// The dialogue between these two.
bool between(const call& c, const request& r) {
    const auto from = c.side_of(r.from_tag), to = c.side_of(r.to_tag);
    return from && to && *from != *to;
}

bool owns(const call& c, const media::endpoint& where) {
    for (const auto* some : {&c.lines, c.reoffered ? &*c.reoffered : &c.lines})
        for (const auto& line : *some)
            for (const auto& local : line.local)
                if (line.id != 0 && local.rtp == where)
                    return true;
    return false;
}

// Whether it is a port of ours, on whichever branch.
bool is_own(const std::vector<call>& all, const media::endpoint& where) {
    return std::any_of(all.begin(), all.end(), [&](const call& c) { return owns(c, where); });
}

// Where the media of this message's sender are.
std::optional<media::endpoint> place_in(const request& r) {
    if (r.said)
        for (const auto& line : r.said->m_lines)
            if (!line.rejected())
                return media::endpoint{line.address, line.port};
    return {};
}

// The dialogue between these two, said by who has this tag. Where it passes us more than once (a spiral), in the pass
// whose party was where this one is; who moved is none of our own ports.
template <class F>
spot in_pass(const std::vector<call>& all, const request& r, const std::string& sender, F fits) {
    const auto fit = [&](const call& c) { return between(c, r) && fits(c); };
    const auto at = newest(all, fit);
    if (std::count_if(all.begin(), all.end(), fit) < 2)
        return at;
    const auto here = place_in(r);
    if (!here)
        return at;
    const auto was_there = [&](const call& c, auto right) {
        const auto s = c.side_of(sender).value_or(0);
        return fit(c) && std::any_of(c.lines.begin(), c.lines.end(), [&](const media_line& line) {
                   const auto& leg = line.legs[s];
                   return leg.rtp && right(leg.rtp->port, leg.source.signalled.value_or(leg.rtp->address));
               });
    };
    if (const auto same = newest(all, [&](const call& c) {
            return was_there(c, [&](auto port, const auto& address) {
                return media::endpoint{address, port} == *here;
            });
        }))
        return same;
    if (!is_own(all, *here))
        if (const auto outside = newest(all, [&](const call& c) {
                return was_there(c, [&](auto port, const auto& address) { return !is_own(all, {address, port}); });
            }))
            return outside;
    return at;
}

bool same_branch(const call& c, const request& r) {
    return !r.via_branch.empty() && c.via_branch == r.via_branch;
}

bool waits(const call& c) {
    return !c.answered || c.reoffered;
}

tl::unexpected<reason> stranger() {
    return tl::unexpected(reason("Call exists with other tags: from-tag is unknown"));
}

outcome<offered_place> in_dialogue(const std::vector<call>& all, const request& r) {
    if (const auto at = in_pass(all, r, r.from_tag, [](const call&) { return true; }))
        return offered_place{at, *all[*at].side_of(r.from_tag)};
    // Its first word to us in this dialogue: a callee whose offer comes before an answer, or came in a 200.
    if (const auto known = newest(all, [&](const call& c) { return has(c, r.to_tag); })) {
        const auto s = other(*all[*known].side_of(r.to_tag));
        if (s == 0 && all[*known].callee_offered && !all[*known].tags[0].empty())
            return offered_place{{}, 0}; // another callee offers in its 200
        const auto same = newest(all, [&](const call& c) { return has(c, r.to_tag) && same_branch(c, r); });
        const auto open = newest(all, [&](const call& c) { return has(c, r.to_tag) && !c.answered; });
        return offered_place{same ? same : open ? open : known, s};
    }
    // A callee of whom we never heard: its answer had no SDP.
    const auto knows = [&](const call& c) { return has(c, r.from_tag); };
    if (const auto at = newest(all, [&](const call& c) { return knows(c) && same_branch(c, r); }))
        return offered_place{at, *all[*at].side_of(r.from_tag)};
    if (const auto at = newest(all, [&](const call& c) { return knows(c) && &c == &chief(all); }))
        return offered_place{at, *all[*at].side_of(r.from_tag)};
    if (const auto at = newest(all, knows))
        return offered_place{at, *all[*at].side_of(r.from_tag)};
    return stranger();
}

// Of the caller, who is known: another destination, or the same once more.
offered_place of_caller(const std::vector<call>& all, const request& r) {
    auto at = newest(all, [&](const call& c) { return c.via_branch == r.via_branch; });
    if (!at && r.via_branch.empty())
        at = newest(all, [&](const call& c) { return &c == &chief(all); });
    if (const auto here = at ? place_in(r) : std::nullopt; here && is_own(all, *here))
        return {std::nullopt, 0, true}; // a spiral: what we offered comes by again
    const bool elsewhere = at && all[*at].answered && !r.callee.empty() && r.callee != all[*at].callee;
    if (elsewhere)
        at.reset(); // the next one has a level, and maybe a unit, of its own
    return {at, 0, true};
}

} // namespace

const call& chief(const std::vector<call>& all) {
    const auto later = [](const call& a, const call& b) { return a.settled < b.settled; };
    const auto& last = *std::max_element(all.begin(), all.end(), later);
    return last.settled != 0 ? last : all.back();
}

bool is_ours(const std::vector<call>& all, const sdp::session& said) {
    const auto own = [&](const sdp::media& m) { return is_own(all, {m.address, m.port}); };
    const auto active = [](const sdp::media& m) { return !m.rejected(); };
    return std::any_of(said.m_lines.begin(), said.m_lines.end(), active) &&
           std::all_of(said.m_lines.begin(), said.m_lines.end(),
                       [&](const sdp::media& m) { return !active(m) || own(m); });
}

bool same_party(const call& c, const request& r) {
    if (c.source && r.received_from)
        return *c.source == *r.received_from;
    return same_branch(c, r);
}

outcome<offered_place> find_offered(const std::vector<call>& all, const request& r) {
    if (all.empty())
        return offered_place{{}, 0, r.to_tag.empty()};
    if (!r.to_tag.empty())
        return in_dialogue(all, r);
    if (const auto known = newest(all, [&](const call& c) { return has(c, r.from_tag); })) {
        if (all[*known].side_of(r.from_tag) == 1U)
            return offered_place{known, 1};
        return of_caller(all, r);
    }
    if (std::any_of(all.begin(), all.end(), [](const call& c) { return c.answered; }))
        return stranger();
    auto again = newest(all, [&](const call& c) { return same_branch(c, r) && same_party(c, r); });
    if (!again)
        again = newest(all, [&](const call& c) { return same_party(c, r); });
    if (!again)
        return tl::unexpected(reason("Call exists with other tags: from-tag is unknown, and neither via-branch nor "
                                     "received-from says that it is the same party"));
    return offered_place{again, 0, true, true};
}

namespace {

// What one pass of a spiral answered comes by at the one before it.
spot earlier_pass(const std::vector<call>& all, const request& r) {
    const auto here = all.size() > 1 ? place_in(r) : std::nullopt;
    if (!here || !is_own(all, *here))
        return {};
    const auto is_before = [&](const call& c) { return has(c, r.from_tag) && waits(c) && !owns(c, *here); };
    return newest(all, is_before);
}

} // namespace

outcome<std::size_t> find_answered(const std::vector<call>& all, const request& r) {
    const auto knows = [&](const call& c) { return has(c, r.from_tag) || has(c, r.to_tag); };
    const auto mine = [&](const call& c) { return same_branch(c, r) && knows(c); };
    const auto any = [](const call&) { return true; };
    for (const auto& at : {newest(all, [&](const call& c) { return mine(c) && has(c, r.to_tag); }),
                           newest(all, [&](const call& c) { return mine(c) && waits(c); }), newest(all, mine),
                           in_pass(all, r, r.to_tag, waits), earlier_pass(all, r), in_pass(all, r, r.to_tag, any),
                           newest(all, [&](const call& c) { return has(c, r.from_tag) && waits(c); }),
                           newest(all, [&](const call& c) { return has(c, r.from_tag); }), newest(all, knows)})
        if (at)
            return *at;
    return stranger();
}

ended_place find_ended(const std::vector<call>& all, const request& r) {
    using what = ended_place::what;
    const auto known = [&](const std::string& tag) {
        return std::any_of(all.begin(), all.end(), [&](const call& c) { return has(c, tag); });
    };
    if (!r.from_tag.empty() && !known(r.from_tag) && !known(r.to_tag))
        return {};
    const auto part = [&](std::size_t at) { return ended_place{all.size() == 1 ? what::whole : what::branch, at}; };
    const auto answered_beside = [&](std::size_t at) {
        for (std::size_t i = 0; i < all.size(); ++i)
            if (i != at && all[i].answered)
                return true;
        return false;
    };
    // By the tags of those who answered.
    if (const auto at = newest(all, [&](const call& c) {
            return r.from_tag.empty() ? c.side_of(r.to_tag) == 1U : !r.to_tag.empty() && between(c, r);
        })) {
        const auto& forks = all[*at].tags[1];
        const auto& callee = all[*at].side_of(r.to_tag) == 1U ? r.to_tag : r.from_tag;
        const bool others_ring = all[*at].reoffered && all[*at].opening;
        if (all[*at].side_of(callee) == 1U && (others_ring || (forks.size() > 1 && forks.back() != callee)))
            return {what::tag, *at};
        // A BYE: its dialogue was the call. The callee's, or one with a via-branch of its own, after which nobody was
        // asked any more: who was asked before is gone (another destination, credentials).
        const auto of_an_offer = [&](const call& c) { return same_branch(c, r); };
        const bool by_callee = all[*at].side_of(r.from_tag) == 1U && !same_branch(all[*at], r);
        const bool by_caller = all[*at].answered && *at + 1 == all.size() && !r.via_branch.empty() &&
                               std::none_of(all.begin(), all.end(), of_an_offer);
        const bool hangs_up = by_callee || by_caller;
        return hangs_up && !answered_beside(*at) ? ended_place{what::whole, *at} : part(*at);
    }
    if (const auto at = newest(all, [&](const call& c) { return same_branch(c, r); }))
        return all[*at].answered && !r.to_tag.empty() && !known(r.to_tag) ? ended_place{what::nothing, *at} : part(*at);
    if (!r.to_tag.empty()) { // it never answered with SDP: one of those that still ring
        const auto rings = std::count_if(all.begin(), all.end(), [](const call& c) { return !c.answered; });
        const auto at = newest(all, [](const call& c) { return !c.answered; });
        if (rings == 1 && all[*at].ringing <= 1)
            return part(*at);
        return {rings == 0 && !known(r.to_tag) && all.size() == 1 ? what::none : what::nothing, at.value_or(0)};
    }
    if (!r.from_tag.empty())
        if (const auto at = newest(all, [&](const call& c) { return c.side_of(r.from_tag) == 1U; }))
            return answered_beside(*at) ? part(*at) : ended_place{what::whole, *at};
    if (!r.from_tag.empty() || r.via_branch.empty())
        return {what::whole, 0};
    return {}; // a branch that we do not know
}

} // namespace tandem::callcontrol
