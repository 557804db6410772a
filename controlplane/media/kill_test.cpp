// SPDX-License-Identifier: Apache-2.0
// Calls of all kinds, begun, changed, re-keyed and ended at random, while either process is killed at random points:
// the control plane between two steps of any of them (it starts anew from the journal), the data plane with its flows
// kept or lost. At the end nothing is left over: no flow, port, row, and no secondary at a unit.
#include <random>

#include "controlplane/media/fakes.hpp"

namespace tandem::media {
namespace {

using namespace std::chrono_literals;
using how = dataplane_client::fault_plan::how;

struct kill_test : stand {
    struct one {
        std::string call_id;
        media_id id = 0;
        media_request last;
        bool busy = false, over = false, answered = false;
    };

    kill_test() {
        levels.level.rekey = 60s;
        levels.level.overlap = 5ms;
        options.quarantine = 0ms;
        options.unit_timeout = 15ms;
        options.retry = 5ms;
        options.ready_wait = 300ms;
        options.sweep = 5ms;
        options.tick = 5ms;
        options.copy = 1h; // nobody speaks here: what SDES keys were used for is never known
        restart();
        units.faults = dataplane.faults = &faults;
        faults.meanwhile = [this] { units.dead = store.dead = true; };
        EXPECT_TRUE(now->until([&] { return now->relay.ready(); }));
    }
    ~kill_test() override { units.faults = dataplane.faults = nullptr; }

    static std::size_t number(const char* name, std::size_t otherwise) {
        const char* said = std::getenv(name);
        return said != nullptr ? std::strtoul(said, nullptr, 10) : otherwise;
    }
    std::uint32_t random(std::uint32_t below) { return static_cast<std::uint32_t>(random_() % below); }
    leg_request any_leg() {
        leg_request leg;
        if (random(2) == 0) {
            leg = random(2) == 0 ? unit_leg("alice") : unit_leg("carol", "10.64.0.3");
        } else {
            leg = core_leg();
            if (random(2) == 0)
                leg.srtp = fresh_keys();
        }
        leg.rtcp_mux = random(2) == 0;
        return leg;
    }
    sdes fresh_keys() {
        const auto key = [&] {
            std::vector<std::uint8_t> bytes(30);
            for (auto& one : bytes)
                one = static_cast<std::uint8_t>(random_());
            return protocol::secret(bytes);
        };
        return {api::suite::aes_cm_128_hmac_sha1_80, key(), key()};
    }
    media_request changed(const media_request& from) {
        auto to = from;
        auto& leg = to.legs[random(2)];
        switch (random(6)) {
        case 0:
            to.forward = {random(2) == 0, random(2) == 0};
            break;
        case 1:
            leg.remote_rtp->port = static_cast<std::uint16_t>(4000 + 2 * random(500));
            leg.remote_rtcp->port = static_cast<std::uint16_t>(leg.remote_rtp->port + 1);
            break;
        case 2:
            leg.rtcp_mux = !leg.rtcp_mux;
            break;
        case 3:
            if (leg.kind == leg_kind::core)
                leg.srtp = leg.srtp && random(2) == 0 ? std::nullopt : std::optional(fresh_keys());
            break;
        default:
            leg = any_leg();
        }
        return to;
    }
    asio::awaitable<void> step(one& c) {
        auto& relay = now->relay;
        if (c.id == 0) {
            c.last = call(any_leg(), any_leg(), c.call_id);
            const auto opened = co_await relay.open(c.last);
            if (opened && !store.dead)
                c.id = opened->id;
            c.over = c.id == 0;
        } else if (c.answered && random(3) == 0) {
            c.over = true; // call control forgets it first
            co_await relay.close(c.id, "hung up");
        } else if (c.answered && random(3) == 0) {
            (void)co_await relay.rekey(c.id);
        } else {
            auto to = c.answered ? changed(c.last) : c.last;
            if (random(3) == 0)
                (void)co_await relay.open(to);
            std::vector<media_change> changes;
            changes.push_back({c.id, to});
            const bool done = (co_await relay.update(std::move(changes))).has_value();
            if (store.dead) // nobody heard of it
                co_return;
            if (done) {
                c.last = to;
                c.answered = true;
            } else if (!c.answered) { // nobody offers the same keys again
                c.over = true;
                co_await relay.close(c.id, "not answered");
            }
        }
    }
    void start(one& c) {
        c.busy = true;
        asio::co_spawn(io, step(c), [&c](const std::exception_ptr& thrown) {
            EXPECT_FALSE(thrown);
            c.busy = false;
        });
    }
    // As kill -9 between two steps: what its coroutines do from now on reaches nobody.
    void kill_control_plane() {
        units.dead = store.dead = true;
        faults.begin(std::nullopt);
        now->client.stop();
        now->relay.stop();
        EXPECT_TRUE(now->until([&] { return std::ranges::none_of(calls, [](const auto& c) { return c->busy; }); }));
        const auto& heard = now->observed;
        EXPECT_TRUE(heard.up.empty());
        begins += heard.begun;
        ticks += heard.ticks;
        now.reset();
        units.dead = store.dead = false;
        now = std::make_unique<life>(io, dataplane, units, levels, store, options);
        EXPECT_TRUE(now->until([&] { return now->relay.ready(); }));
        known_to_call_control();
        for (const auto& [name, session] : units.units) // units come back
            now->relay.session_up(session);
        ++killed;
    }
    void known_to_call_control() {
        std::vector<media_id> known;
        for (const auto& c : calls)
            if (!c->over && c->answered && now->relay.info(c->id))
                known.push_back(c->id);
            else
                c->over = true;
        now->wait(now->relay.close_all_but(known, "not known any more"));
        lost += std::exchange(now->ended, {}).size();
    }
    void kill_data_plane(bool with_memory) {
        dataplane.stop();
        if (with_memory) {
            speak();
            dataplane.forget_flows();
        }
        dataplane.start();
        ++killed;
    }
    // More than was copied: SDES keys cannot go on.
    void speak() {
        for (const auto& [id, flow] : dataplane.copy()) {
            for (const auto side : {api::side::in, api::side::out})
                if (!(side == api::side::in ? flow.in : flow.out).empty())
                    dataplane.speak(id, side, 0x5eed, 1000);
            dataplane.stats(id).rx_packets += 1000;
        }
    }
    void drop_ended() {
        for (const auto& text : std::exchange(now->ended, {})) {
            ++lost;
            for (const auto& c : calls)
                if (text.starts_with(fmt::format("{} ", c->id)))
                    c->over = true;
        }
        std::erase_if(calls, [](const auto& c) { return c->over && !c->busy; });
    }
    void round() {
        while (calls.size() < 6 && begun < most) {
            calls.push_back(std::make_unique<one>());
            calls.back()->call_id = fmt::format("r{}", ++begun);
        }
        if (random(12) == 0)
            faults.begin(std::pair{std::size_t{random(8)}, random(2) == 0 ? how::meanwhile : how::do_and_lose});
        for (const auto& c : calls)
            if (!c->busy && !c->over && random(2) == 0)
                start(*c);
        const auto enough = random(4);
        (void)now->until([&, turns = 0U]() mutable { return units.dead || ++turns > enough; });
        if (units.dead || random(60) == 0)
            kill_control_plane();
        else if (random(200) == 0)
            kill_data_plane(random(4) == 0);
        drop_ended();
    }
    void end_all() {
        faults.begin(std::nullopt);
        EXPECT_TRUE(now->until([&] { return std::ranges::none_of(calls, [](const auto& c) { return c->busy; }); }));
        for (const auto& c : calls)
            if (c->id != 0)
                now->wait(now->relay.close(c->id, "the end"));
        calls.clear();
        kill_control_plane();
        EXPECT_TRUE(
            now->until([&] { return dataplane.copy().empty() && store.rows.empty() && units.held.empty(); }, 2s));
    }

    dataplane_client::fault_plan faults;
    std::mt19937_64 random_{number("TANDEM_SEED", 1)};
    std::vector<std::unique_ptr<one>> calls;
    std::size_t begun = 0, most = 0, killed = 0, lost = 0, begins = 0, ticks = 0;
};

TEST_F(kill_test, NothingIsLeftOver) {
    most = number("TANDEM_COUNT", 500);
    while ((begun < most || !calls.empty()) && dataplane.repeats().empty())
        round();
    end_all();
    EXPECT_TRUE(dataplane.copy().empty());
    EXPECT_TRUE(store.rows.empty());
    EXPECT_TRUE(units.held.empty()) << units.held.size();
    std::size_t ports = 0;
    for (const auto& room : now->relay.port_rooms())
        ports += room.total - room.free;
    EXPECT_EQ(ports, 0u);
    EXPECT_EQ(now->relay.flow_rooms().reserved, 0u);
    EXPECT_GT(begins, begun / 4);
    EXPECT_GT(ticks, 0u);
    std::printf("%zu calls, %zu kills, %zu calls ended by a kill; %zu begins, each with its end, %zu ticks\n", begun,
                killed, lost, begins, ticks);
}

} // namespace
} // namespace tandem::media
