// SPDX-License-Identifier: Apache-2.0
// Which level a call's media has (policy/decide.hpp): at the offer what the gateway alone knows, shown until the
// answer; each unit of the call is asked meanwhile for its advice (CONTACT, RIM-23); at the answer the decision for
// good. It stays with the media, whatever is reloaded later (RIM-15), and is the same for all media of a call. Owner
// thread: io_context.
#include <algorithm>

#include "controlplane/media/state.hpp"
#include "controlplane/protocol/address_name.hpp"
#include "controlplane/protocol/message.hpp"

namespace tandem::media {

namespace {

using protocol::tlv;

std::string text_of(std::optional<std::string_view> value) {
    return std::string(value.value_or(""));
}

// As TLV peer names a party: canonical, what is no name left out.
std::vector<std::string> names_of(const policy::party& who) {
    std::vector<std::string> out;
    const auto add = [&](const std::string& text) {
        if (auto known = protocol::parse_address_name(text);
            known && known->text.size() <= protocol::info(tlv::peer).max)
            out.push_back(std::move(known->text));
    };
    if (!who.id.empty())
        add(who.id);
    if (!who.id.empty() && !who.domain.empty())
        add("sip:" + who.id + "@" + who.domain);
    return out;
}

protocol::message contact_request(const std::vector<std::string>& peers) {
    auto request = protocol::message::request(protocol::exchange::contact);
    for (const auto& peer : peers)
        request.add<tlv::peer>(peer);
    return request;
}

// Touches nothing of the manager, which may be gone when the answer comes.
asio::awaitable<std::optional<policy::advice>> ask(session::directory* sessions, session::tsid id, std::string unit,
                                                   protocol::message request, std::chrono::milliseconds timeout) {
    const auto answer = co_await sessions->request(id, std::move(request), timeout);
    if (!answer) // old, busy, gone: it has no advice
        co_return std::nullopt;
    policy::advice out;
    out.unit = std::move(unit);
    out.contact_level = text_of(answer->get<tlv::level>());
    out.profile_level = text_of(answer->get<tlv::profile_level>());
    out.text = text_of(answer->get<tlv::reason>());
    if (const auto keys = answer->get<tlv::key_source>())
        out.keys = protocol::named<policy::key_source>(*keys);
    co_return out;
}

} // namespace

std::vector<std::string> manager::state::peers_of(const media_terms& of, std::size_t i) const {
    // Leg 0 made the first offer, which is the callee where it came in the answer to an INVITE without one.
    const bool is_callee = of.legs[i].unit == (callee_unit.empty() ? callee : callee_unit) ||
                           (i == 1 && of.legs[i].unit != (caller_unit.empty() ? caller : caller_unit));
    return is_callee ? names_of({caller, caller_domain, {}}) : names_of({callee, callee_domain, {}});
}

policy::question manager::question_of(const state& m, const media_request& request) const {
    return {{m.caller, m.caller_domain, request.caller_unit},
            {m.callee, m.callee_domain, request.callee_unit},
            request.wish,
            request.dialled,
            {}};
}

void manager::take_decision(state& m, policy::decision decided) {
    m.level = std::move(decided.chosen);
    m.decided_by = std::move(decided.decided_by);
    m.why = std::move(decided.steps);
}

// Each unit of the call once, and again where the other party has changed; returns at once.
void manager::ask_contacts(const media_ptr& m, const media_terms& of) {
    for (std::size_t i = 0; i < 2; ++i) {
        auto& l = m->legs[i];
        const auto& to = of.legs[i];
        auto peers = to.is_unit() ? m->peers_of(of, i) : std::vector<std::string>();
        const auto same = [&](const leg& other) {
            return other.contact && other.contact->unit == to.unit && other.contact->peers == peers;
        };
        if (peers.empty())
            l.contact.reset();
        if (peers.empty() || same(l))
            continue;
        l.contact.reset();
        if (const auto siblings = calls_.find(m->call_id); siblings != calls_.end())
            for (const auto& other : siblings->second)
                for (const auto& o : other->legs)
                    if (same(o))
                        l.contact = o.contact;
        if (l.contact)
            continue;
        auto request = contact_request(peers);
        ++counters_.contacts_asked;
        l.contact = std::make_shared<contact_asked>();
        l.contact->unit = to.unit;
        l.contact->peers = std::move(peers);
        l.contact->answer = spawned<std::optional<policy::advice>>::start(
            io_, ask(&sessions_, to.tsid, to.unit, std::move(request), options_.unit_timeout));
    }
}

asio::awaitable<std::vector<policy::advice>> manager::advice(policy::party caller, policy::party callee) {
    std::vector<policy::advice> out;
    for (const bool is_callee : {false, true}) {
        const auto& who = is_callee ? callee : caller;
        const auto session = sessions_.by_unit(who.unit.empty() ? who.id : who.unit);
        const auto peers = names_of(is_callee ? caller : callee);
        if (!session || !session->up || peers.empty())
            continue;
        auto said = co_await ask(&sessions_, session->id, session->unit, contact_request(peers), options_.unit_timeout);
        if (said)
            out.push_back(std::move(*said));
    }
    co_return out;
}

asio::awaitable<bool> manager::decide_call(media_ptr m, const media_terms& of, policy::question call) {
    if (const auto siblings = calls_.find(m->call_id); siblings != calls_.end())
        for (const auto& other : siblings->second)
            // Video that joins audio: one level per call, but the branches of a fork have each their own callee.
            if (other->decided && !other->turn.over() && other->branch == m->branch) {
                take_decision(*m, {other->level, other->decided_by, other->why});
                m->decided = true;
                co_return true;
            }
    ask_contacts(m, of);
    for (auto& l : m->legs) {
        if (!l.contact)
            continue;
        const auto answer = l.contact->answer;
        co_await answer->wait(); // not longer than unit_timeout from the offer
        if (gone(*m))
            co_return false;
        if (answer->failed() || !answer->value())
            continue;
        ++counters_.contacts_answered;
        call.devices.push_back(*answer->value());
    }
    take_decision(*m, levels_.decide(call));
    m->decided = true;
    co_return true;
}

} // namespace tandem::media
