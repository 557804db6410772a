// SPDX-License-Identifier: Apache-2.0
// Which level a call's media has (policy/decide.hpp): at the offer what the gateway alone knows, shown until the
// answer; each unit of the call is asked meanwhile for its advice (CONTACT, RIM-23); at the answer the decision for
// good. It stays with the media, whatever is reloaded later (RIM-15), and is the same for all media of a call. Owner
// thread: io_context.
#include <algorithm>
#include <fmt/format.h>

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

std::string denial(const std::string& why) {
    return "Denied by policy: " + why;
}

std::vector<std::string> manager::state::peers_of(const media_terms& of, std::size_t i) const {
    // Leg 0 made the first offer, which is the callee where it came in the answer to an INVITE without one.
    const bool is_callee = of.legs[i].unit == (callee_unit.empty() ? callee : callee_unit) ||
                           (i == 1 && of.legs[i].unit != (caller_unit.empty() ? caller : caller_unit));
    return is_callee ? names_of({caller, caller_domain, {}}) : names_of({callee, callee_domain, {}});
}

policy::question manager::question_of(const facts& of, const media_request& request) const {
    return {{of.caller, of.caller_domain, request.caller_unit},
            {of.callee, of.callee_domain, request.callee_unit},
            request.wish,
            request.dialled,
            {}};
}

std::optional<error> manager::denies(const media_request& request) {
    auto asked = facts_of(request);
    auto no = levels_.denies(question_of(asked, request));
    if (!no)
        return std::nullopt;
    error why{denial(*no->denied)};
    if (!calls_.contains(request.call_id)) { // else the call has a record of its own
        asked.id = new_id();
        take_decision(asked, std::move(*no));
        media_record record{std::move(asked), why.text, protocol::moment::now(), {}};
        for (std::size_t i = 0; i < 2; ++i) {
            const auto& leg = request.legs[i];
            record.legs[i].kind = leg.kind == leg_kind::unit ? "unit" : "core";
            record.legs[i].unit = leg.unit;
            record.legs[i].suite = api::info(api::suite::clear).name;
        }
        journal_.record(record);
    }
    return why;
}

void manager::take_decision(facts& of, policy::decision decided) {
    of.level = std::move(decided.chosen);
    of.decided_by = std::move(decided.decided_by);
    of.why = std::move(decided.steps);
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

asio::awaitable<result<void>> manager::decide_call(media_ptr m, const media_terms& of, policy::question call) {
    if (const auto siblings = calls_.find(m->call_id); siblings != calls_.end())
        for (const auto& other : siblings->second)
            // Video that joins audio: one level per call, but the branches of a fork have each their own callee.
            if (other->decided && !other->turn.over() && other->branch == m->branch) {
                take_decision(*m, {other->level, other->decided_by, other->why});
                m->decided = true;
                co_return result<void>{};
            }
    ask_contacts(m, of);
    for (auto& l : m->legs) {
        if (!l.contact)
            continue;
        const auto answer = l.contact->answer;
        co_await answer->wait(); // not longer than unit_timeout from the offer
        if (gone(*m))
            co_return fail(fmt::format("media {} was ended meanwhile", m->id));
        if (answer->failed() || !answer->value())
            continue;
        ++counters_.contacts_answered;
        call.devices.push_back(*answer->value());
    }
    auto made = levels_.decide(call);
    if (made.denied) // since its offer, or of a callee who was not known then
        co_return fail(denial(*made.denied));
    take_decision(*m, std::move(made));
    m->decided = true;
    co_return result<void>{};
}

} // namespace tandem::media
