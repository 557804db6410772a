// SPDX-License-Identifier: Apache-2.0
// Every way that two ends of a control channel can go, step by step, with the linked channel itself at both ends: two
// requests each way and a renewal, while what is between them loses, doubles and reorders (datagrams) or breaks
// (streams) at every step. In each state: nothing is served twice, a response is of a request that was served once, a
// refusal of one that was not, no request ends twice. Where nothing can happen any more: every request has ended. No
// way goes round in a circle. ORA-15, ORA-16.
#include <gtest/gtest.h>

#include "controlplane/protocol/channel.hpp"
#include "controlplane/protocol/explore_fixture.hpp"

namespace tandem::protocol {
namespace {

using namespace std::chrono_literals;
using exploring::require;
using bytes = std::vector<std::uint8_t>;

constexpr std::uint64_t session = 0x1234;
constexpr ticket config_ticket = 5; // 1, 2 = the unit's requests, 3, 4 = the gateway's

struct plan {
    const char* name;
    carrier kind;
    int wires = 2; // connections that the unit makes, one after the other, whenever it likes
    int losses = 0, duplicates = 0, breaks = 0;
    bool patient = false; // time passes only where nothing else can happen
    bool all_answered = false;
    bool late_answers = false; // serving takes a while
    bool one_each = false;     // one request each way: what is left out in return is patience
    bool few = false;          // states: explored in sanitized builds, too
    bool at_once = false;      // all requests are made in one step, before the renewal
    channel_limits limits{};
    std::chrono::milliseconds timeout = 1200ms;
};

void PrintTo(const plan& p, std::ostream* out) {
    *out << p.name;
}

// One connection.
struct wire {
    bool made = false, unit_up = false, gateway_up = false;
    link_id unit = 0, gateway = 0;
    std::optional<channel> newcomer{}; // the gateway's end before its CONFIG
    std::vector<bytes> up{}, down{};
};

struct step {
    enum kind {
        issue,
        connect,
        deliver_up,
        deliver_down,
        lose_up,
        lose_down,
        twice_up,
        twice_down,
        cut,
        unit_sees,
        gateway_sees,
        serve,
        tick
    } what;
    std::size_t at = 0, which = 0;
};
constexpr std::array step_names{"issue",
                                "connect",
                                "deliver up",
                                "deliver down",
                                "lose up",
                                "lose down",
                                "deliver up, a copy to come",
                                "deliver down, a copy to come",
                                "break",
                                "unit sees it closed",
                                "gateway sees it closed",
                                "serve",
                                "time passes"};

struct world {
    explicit world(const plan& p)
        : plan_(&p), unit(role::unit, p.limits), gateway(role::gateway, p.limits), losses(p.losses),
          duplicates(p.duplicates), breaks(p.breaks), wires(p.wires) {}

    const plan* plan_;
    channel unit, gateway;
    instant now{};
    int losses, duplicates, breaks;
    std::vector<wire> wires;
    std::array<std::uint8_t, 6> issued{}, served{}, ended{}, answered{}; // by ticket
    struct open {
        bool by_unit;
        link_id link;
        bytes request;
    };
    std::vector<open> serving;

    // ---- what the two programs do with what their channels say

    wire* by_unit(link_id id) {
        for (auto& w : wires)
            if (w.made && w.unit == id)
                return &w;
        return nullptr;
    }
    wire* by_gateway(link_id id) {
        for (auto& w : wires)
            if (w.made && !w.newcomer && w.gateway == id)
                return &w;
        return nullptr;
    }
    static void hang_up(wire& w, bool by_unit) {
        (by_unit ? w.unit_up : w.gateway_up) = false;
        w.up.clear();
        w.down.clear();
    }
    void finish(const to_finish& f) {
        require(issued[f.of] == 1, "a request ended that nobody made");
        require(ended[f.of]++ == 0, "a request ended twice");
        if (f.how != outcome::response || f.of == config_ticket)
            return;
        if (f.response->code() == status::ok) {
            answered[f.of] = 1;
            require(served[f.of] == 1, "a response to a request that was not served once");
        } else {
            require(served[f.of] == 0, "a refusal of a request that was served");
        }
    }
    void serve(bool by_unit, link_id link, const message& request) {
        const auto which = by_unit ? *request.get<tlv::media_id>()
                                   : static_cast<std::uint32_t>(request.get<tlv::service_name>()->front() - '0');
        require(served[which]++ == 0, "served twice");
        if (plan_->late_answers) {
            const auto wire_bytes = request.encode();
            serving.push_back({by_unit, link, {wire_bytes.begin(), wire_bytes.end()}});
        } else {
            reply(by_unit, link, request);
        }
    }
    void reply(bool by_unit, link_id link, const message& request) {
        auto& end = by_unit ? unit : gateway;
        act(by_unit, end.answer(link, request.response(status::ok), now));
    }
    // What the gateway's sessions do with a CONFIG: the newcomer becomes the session's newest.
    void configure(wire& w, const message& request) {
        auto fresh = std::move(*w.newcomer);
        w.newcomer.reset();
        w.gateway = gateway.take_over(std::move(fresh));
        auto response = request.response(status::ok);
        response.set_tsid(session).add<tlv::inner_address>({}).add<tlv::inner_prefix>(16).add<tlv::inner_gateway>({});
        response.add<tlv::keepalive_ms>(1).add<tlv::lifetime_s>(1);
        act(false, gateway.answer(w.gateway, response, now));
    }
    void act(bool unit_end, actions todo, wire* newcomer = nullptr) {
        for (auto& a : todo) {
            if (auto* s = std::get_if<to_send>(&a)) {
                if (wire* w = newcomer != nullptr ? newcomer
                              : unit_end          ? by_unit(s->link)
                                                  : by_gateway(s->link);
                    w != nullptr && w->unit_up && w->gateway_up)
                    (unit_end ? w->up : w->down).emplace_back(s->bytes.begin(), s->bytes.end());
            } else if (auto* f = std::get_if<to_finish>(&a)) {
                finish(*f);
                if (f->of == config_ticket && f->how != outcome::response)
                    give_up();
            } else if (auto* r = std::get_if<to_serve>(&a)) {
                if (r->request.is(exchange::config))
                    configure(*newcomer, r->request);
                else
                    serve(unit_end, r->link, r->request);
            } else if (auto* c = std::get_if<to_close>(&a)) {
                require(c->why != ending::wrong_tsid, "the right TSID was taken for a wrong one");
                if (wire* w = unit_end ? by_unit(c->link) : by_gateway(c->link))
                    hang_up(*w, unit_end);
            }
        }
    }
    void give_up() { // the unit's CONFIG came to nothing: it closes what it tried
        for (auto& w : wires)
            if (w.unit_up && !unit.bound(w.unit)) {
                hang_up(w, true);
                act(true, unit.lost(w.unit, now));
            }
    }

    // ---- what can happen

    [[nodiscard]] std::optional<instant> due() const {
        const auto a = unit.due(), b = gateway.due();
        return a && b ? std::min(*a, *b) : a ? a : b;
    }
    void deliveries(const std::vector<bytes>& pipe, std::size_t wire, bool up, std::vector<step>& out) const {
        if (pipe.empty())
            return;
        const bool stream = plan_->kind == carrier::stream;
        for (std::size_t i = 0; i < (stream ? 1 : pipe.size()); ++i) {
            out.push_back({up ? step::deliver_up : step::deliver_down, wire, i});
            if (losses > 0)
                out.push_back({up ? step::lose_up : step::lose_down, wire, i});
            if (duplicates > 0)
                out.push_back({up ? step::twice_up : step::twice_down, wire, i});
        }
    }
    [[nodiscard]] std::vector<step> steps() const {
        std::vector<step> out;
        for (const std::size_t first : {1, 3})
            if (issued[plan_->one_each ? first : first + 1] == 0 &&
                (first == 1 ? unit.up() : gateway.up() && !plan_->at_once))
                out.push_back({step::issue, issued[first] == 0 ? first : first + 1});
        const bool trying = issued[config_ticket] != ended[config_ticket];
        for (std::size_t i = 0; i < wires.size(); ++i) {
            const auto& w = wires[i];
            if (!w.made) {
                if (!trying && (!plan_->at_once || issued[3] == 1) && (i == 0 || wires[i - 1].made))
                    out.push_back({step::connect, i});
                continue;
            }
            deliveries(w.up, i, true, out);
            deliveries(w.down, i, false, out);
            if (w.unit_up && w.gateway_up && breaks > 0)
                out.push_back({step::cut, i});
            if (w.unit_up && !w.gateway_up)
                out.push_back({step::unit_sees, i});
            if (!w.unit_up && w.gateway_up)
                out.push_back({step::gateway_sees, i});
        }
        for (std::size_t i = 0; i < serving.size(); ++i)
            out.push_back({step::serve, 0, i});
        if (due() && (!plan_->patient || out.empty()))
            out.push_back({step::tick});
        return out;
    }
    static bytes taken(std::vector<bytes>& pipe, std::size_t which) {
        auto out = std::move(pipe[which]);
        pipe.erase(pipe.begin() + static_cast<std::ptrdiff_t>(which));
        return out;
    }
    void issue(std::size_t which) {
        issued[which] = 1;
        if (which < 3)
            act(true,
                unit.request(which, message::request(exchange::service).add<tlv::service_name>(std::to_string(which)),
                             plan_->timeout, now));
        else
            act(false,
                gateway.request(
                    which,
                    message::request(exchange::media_close).add<tlv::media_id>(static_cast<std::uint32_t>(which)),
                    plan_->timeout, now));
    }
    void connect(wire& w) {
        w.made = w.unit_up = w.gateway_up = true;
        w.unit = unit.attach(plan_->kind, now);
        w.newcomer.emplace(role::gateway, plan_->limits);
        w.gateway = w.newcomer->attach(plan_->kind, now);
        issued[config_ticket] = 1;
        ended[config_ticket] = 0;
        auto request = message::request(exchange::config).add<tlv::id_code>("alice").add<tlv::resume_tsid>(session);
        act(true, unit.configure(w.unit, config_ticket, std::move(request), plan_->timeout, now));
    }
    void deliver_up(wire& w, const bytes& what) {
        if (w.newcomer)
            act(false, w.newcomer->receive(w.gateway, what, now), &w);
        else
            act(false, gateway.receive(w.gateway, what, now));
    }
    void gateway_sees(wire& w) {
        w.gateway_up = false;
        if (w.newcomer)
            w.newcomer.reset(), w.made = true, w.gateway = 0;
        else
            act(false, gateway.lost(w.gateway, now));
    }
    void apply(const step& s) {
        auto& w = wires[s.at < wires.size() ? s.at : 0];
        switch (s.what) {
        case step::issue:
            for (auto which = s.at; which <= (plan_->at_once ? 4 : s.at); which += plan_->one_each ? 2 : 1)
                issue(which);
            return;
        case step::connect:
            return connect(w);
        case step::deliver_up:
            return deliver_up(w, taken(w.up, s.which));
        case step::deliver_down:
            return act(true, unit.receive(w.unit, taken(w.down, s.which), now));
        case step::lose_up:
        case step::lose_down:
            --losses;
            taken(s.what == step::lose_up ? w.up : w.down, s.which);
            return;
        case step::twice_up:
            --duplicates;
            return deliver_up(w, bytes(w.up[s.which]));
        case step::twice_down:
            --duplicates;
            return act(true, unit.receive(w.unit, bytes(w.down[s.which]), now));
        case step::cut:
            --breaks;
            w.up.clear();
            w.down.clear();
            break_off(w);
            return;
        case step::unit_sees:
            w.unit_up = false;
            return act(true, unit.lost(w.unit, now));
        case step::gateway_sees:
            return gateway_sees(w);
        case step::serve: {
            const auto o = serving[s.which];
            serving.erase(serving.begin() + static_cast<std::ptrdiff_t>(s.which));
            return reply(o.by_unit, o.link, *decode(o.request));
        }
        case step::tick:
            now = *due();
            act(true, unit.poll(now));
            return act(false, gateway.poll(now));
        }
    }
    // Which end sees it first is another step's matter: here the unit's kernel knows at once, or the gateway's does.
    void break_off(wire& w) { w.gateway_up = false, gateway_sees(w); }

    void at_the_end() const {
        for (ticket t = 1; t <= config_ticket; ++t)
            require(ended[t] == issued[t], "a request never ended");
        require(unit.talk().outstanding.empty() && unit.talk().queue.empty() && gateway.talk().outstanding.empty() &&
                    gateway.talk().queue.empty(),
                "something is under way still, and nothing can happen");
        for (ticket t = 1; t < config_ticket && plan_->all_answered; ++t)
            require(answered[t] == 1, "a request without its response though it could have had it");
    }

    [[nodiscard]] std::uint64_t fingerprint() const {
        std::uint64_t h = unit.fingerprint(now) * 31 + gateway.fingerprint(now);
        const auto mix = [&](std::uint64_t v) { h = (h ^ v) * 0x9E3779B97F4A7C15U, h ^= h >> 31; };
        const auto text = [](const bytes& b) {
            return std::hash<std::string_view>{}({reinterpret_cast<const char*>(b.data()), b.size()});
        };
        const auto pipe = [&](const std::vector<bytes>& p) {
            std::uint64_t sum = p.size();
            for (const auto& b : p)
                sum = plan_->kind == carrier::stream ? sum * 1099511628211U + text(b) : sum + text(b) * 2654435761U;
            mix(sum);
        };
        for (const auto& w : wires) {
            mix(static_cast<std::uint64_t>(w.made) | std::uint64_t{w.unit_up} << 1 | std::uint64_t{w.gateway_up} << 2 |
                std::uint64_t{w.newcomer.has_value()} << 3 | std::uint64_t{w.unit} << 8 |
                std::uint64_t{w.gateway} << 16);
            if (w.newcomer)
                mix(w.newcomer->fingerprint(now));
            pipe(w.up);
            pipe(w.down);
        }
        std::uint64_t open = 0;
        for (const auto& o : serving)
            open += text(o.request) * (o.by_unit ? 3U : 5U) + o.link;
        mix(open);
        for (ticket t = 1; t <= config_ticket; ++t)
            mix(issued[t] | ended[t] << 1 | served[t] << 2 | answered[t] << 4);
        mix(static_cast<std::uint64_t>(losses * 64 + duplicates * 16 + breaks * 4));
        return h;
    }
};

class Explore : public ::testing::TestWithParam<plan> {};

TEST_P(Explore, NeverStuckNothingTwiceEveryRequestEndsOnce) {
    const auto begin = [] {
        world w(GetParam());
        w.connect(w.wires[0]);
        return w;
    };
    const auto told = [](const step& s) {
        return std::string(step_names[s.what]) + " " + std::to_string(s.at) + "/" + std::to_string(s.which);
    };
    const auto r = exploring::explore(GetParam().name, begin, told);
    EXPECT_EQ(r.wrong, "");
    EXPECT_GT(r.states, 1000U);
}

const plan plans[] = {
    {.name = "stream", .kind = carrier::stream, .breaks = 1},
    {.name = "stream_untouched", .kind = carrier::stream, .patient = true, .all_answered = true, .late_answers = true},
    {.name = "stream_one_at_a_time",
     .kind = carrier::stream,
     .breaks = 1,
     .patient = true,
     .few = true,
     .limits = {.outstanding = 1}},
    {.name = "datagrams_lost",
     .kind = carrier::datagrams,
     .losses = 1,
     .patient = true,
     .all_answered = true,
     .at_once = true,
     .timeout = 1800ms},
    {.name = "datagrams_doubled",
     .kind = carrier::datagrams,
     .duplicates = 1,
     .patient = true,
     .all_answered = true,
     .at_once = true},
    {.name = "datagrams_impatient",
     .kind = carrier::datagrams,
     .losses = 1,
     .one_each = true,
     .at_once = true,
     .timeout = 700ms},
    {.name = "datagrams_late",
     .kind = carrier::datagrams,
     .wires = 1,
     .losses = 1,
     .duplicates = 1,
     .patient = true,
     .all_answered = true,
     .late_answers = true,
     .at_once = true,
     .timeout = 1800ms},
    {.name = "datagrams_small",
     .kind = carrier::datagrams,
     .losses = 1,
     .duplicates = 1,
     .patient = true,
     .all_answered = true,
     .few = true,
     .at_once = true,
     .limits = {.kept = 1},
     .timeout = 1800ms},
};
INSTANTIATE_TEST_SUITE_P(Channel, Explore, ::testing::ValuesIn(exploring::affordable(plans)),
                         [](const auto& p) { return std::string(p.param.name); });

} // namespace
} // namespace tandem::protocol
