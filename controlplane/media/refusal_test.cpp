// SPDX-License-Identifier: Apache-2.0
// A re-offer that fails at any of the points at which it waits for an answer leaves the call as it was: flows, keys,
// ports, row, and what the units believe. Each kind of re-offer is counted through the fakes first; then each point of
// it fails in every way that it can.
#include <set>

#include "controlplane/media/fakes.hpp"
#include "controlplane/protocol/seed_keys.hpp"

namespace tandem::media {
namespace {

using namespace std::chrono_literals;
using how = dataplane_client::fault_plan::how;
using kept = dataplane_client::fake_dataplane::kept;

std::string_view name_of(how fault) {
    switch (fault) {
    case how::refuse:
        return "refused";
    case how::lose:
        return "lost";
    case how::do_and_lose:
        return "done, its answer lost";
    case how::error:
        return "an error inside";
    case how::meanwhile:
        break;
    }
    return "ended meanwhile";
}

struct refusal_test : stand {
    struct kind {
        std::string name;
        media_request before, after;
    };
    struct seen {
        std::map<api::flow_id, kept> flows;
        media_row row;
        std::size_t free = 0;
        std::map<std::pair<std::string, std::uint32_t>, fake_directory::secondary> held;
        std::uint64_t renewed = 0, repaired = 0;
    };

    refusal_test() {
        levels.level.rekey = 60s;
        options.quarantine = 0ms;
        options.unit_timeout = 15ms;
        options.retry = 5ms;
        restart();
        units.faults = dataplane.faults = &faults;
        EXPECT_TRUE(now->until([&] { return now->relay.ready(); }));
        (void)now->relay.free_ports(); // pools are made when they are first asked for
    }
    ~refusal_test() override { units.faults = dataplane.faults = nullptr; }

    // No key of one case is another's.
    leg_request sdes_leg(std::uint8_t fill, api::suite suite = api::suite::aes_cm_128_hmac_sha1_80) const {
        auto leg = core_leg();
        const auto key = [&](std::uint8_t last) {
            const auto& row = api::info(suite);
            std::vector<std::uint8_t> bytes(row.key_length + row.salt_length, last);
            std::memcpy(bytes.data(), &round, sizeof(round));
            return protocol::secret(bytes);
        };
        leg.srtp = sdes{suite, key(fill), key(static_cast<std::uint8_t>(fill + 1))};
        return leg;
    }
    static leg_request v6_leg() {
        auto leg = core_leg();
        leg.ipv6 = true;
        leg.remote_rtp = at("2001:db8::7", 7000);
        leg.remote_rtcp = at("2001:db8::7", 7001);
        return leg;
    }
    static leg_request moved(leg_request leg) {
        leg.remote_rtp = at(leg.kind == leg_kind::unit ? "10.64.0.2" : "198.51.100.78", 4400);
        leg.remote_rtcp = at(leg.kind == leg_kind::unit ? "10.64.0.2" : "198.51.100.78", 4401);
        return leg;
    }
    static leg_request muxed(leg_request leg) {
        leg.rtcp_mux = true;
        return leg;
    }
    // All that a re-offer can ask for, from each sort of call that can ask it.
    std::vector<kind> kinds() const {
        const auto alice = unit_leg("alice"), carol = unit_leg("carol", "10.64.0.3");
        const auto clear = core_leg(), srtp = sdes_leg(7);
        std::vector<kind> out;
        const auto add = [&](std::string name, leg_request a, leg_request b, leg_request to_a, leg_request to_b) {
            out.push_back({std::move(name), call(std::move(a), std::move(b)), call(std::move(to_a), std::move(to_b))});
        };
        add("unit-core: hold", alice, clear, alice, clear);
        out.back().after.forward = {false, true};
        add("unit-core: core moves", alice, clear, alice, moved(clear));
        add("unit-core: phone moves", alice, clear, moved(alice), clear);
        add("unit-core: both move", alice, clear, moved(alice), moved(clear));
        add("unit-core: mux", alice, clear, alice, muxed(clear));
        add("unit-core: no mux", alice, muxed(clear), alice, clear);
        add("unit-core: phone muxes", alice, clear, muxed(alice), clear);
        add("unit-core: to SDES", alice, clear, alice, srtp);
        add("unit-core: SDES to clear", alice, srtp, alice, clear);
        add("unit-core: SDES keys", alice, srtp, moved(alice), sdes_leg(40));
        add("unit-core: SDES muxes", alice, srtp, alice, muxed(srtp));
        add("unit-core: SDES moves", alice, srtp, moved(alice), moved(srtp));
        add("unit-core: SDES suite", alice, srtp, alice, sdes_leg(50, api::suite::aead_aes_256_gcm));
        add("unit-core: IPv6", alice, clear, alice, v6_leg());
        add("unit-core: unit to core", alice, clear, clear, moved(clear));
        add("unit-core: another unit", alice, clear, carol, clear);
        add("unit-core: core to unit", alice, clear, alice, carol);
        add("core-core: to a unit", clear, moved(clear), alice, moved(clear));
        add("core-core: SDES to a unit", srtp, clear, alice, clear);
        add("core-core: SDES on both", srtp, clear, sdes_leg(60), sdes_leg(80));
        add("unit-unit: both move", alice, carol, moved(alice), moved(carol));
        add("unit-unit: one leaves", alice, carol, alice, clear);
        add("unit-unit: another on its side", alice, carol, alice, alice);
        return out;
    }
    // Until nothing is under way any more.
    void settle() {
        EXPECT_TRUE(now->until([&] { return now->relay.ready(); }));
        now->run_for(options.unit_timeout + 15ms);
    }
    seen look(media_id id) {
        const std::lock_guard guard(dataplane.lock);
        const auto row = store.rows.find(id);
        return {dataplane.flows,
                row == store.rows.end() ? media_row() : row->second,
                now->relay.free_ports(),
                units.held,
                now->relay.count().renewed,
                now->relay.count().repaired};
    }
    // Keys of a side, whatever their numbers.
    static std::set<std::vector<std::uint8_t>> keys_of(const std::map<std::uint32_t, std::vector<std::uint8_t>>& side) {
        std::set<std::vector<std::uint8_t>> out;
        for (const auto& [epoch, key] : side)
            out.insert(key);
        return out;
    }
    void expect_same_keys(const seen& was, const seen& is, api::flow_id flow) {
        const auto &a = was.flows.at(flow), &b = is.flows.at(flow);
        if (was.repaired == is.repaired) {
            EXPECT_EQ(a.sending, b.sending);
            EXPECT_EQ(a.in, b.in);
            EXPECT_EQ(a.out, b.out);
            EXPECT_EQ(a.slot, b.slot) << "removed and added again";
        } else { // an epoch number never comes back
            EXPECT_EQ(keys_of(a.in), keys_of(b.in));
            EXPECT_EQ(keys_of(a.out), keys_of(b.out));
        }
        if (a.config.out.suite != api::suite::clear) {
            ASSERT_TRUE(b.out.contains(b.sending));
            EXPECT_EQ(a.out.at(a.sending), b.out.at(b.sending));
        }
    }
    void expect_same(const seen& was, const seen& is) {
        ASSERT_EQ(is.flows.size(), was.flows.size());
        EXPECT_EQ(is.free, was.free) << "ports that it took are not given back";
        for (const auto& [flow, before] : was.flows) {
            ASSERT_TRUE(is.flows.contains(flow)) << (flow & 0xffff);
            auto a = before.config, b = is.flows.at(flow).config;
            a.source.anew = b.source.anew = 0; // a wish, not a state
            EXPECT_EQ(std::memcmp(&a, &b, sizeof(a)), 0) << describe(a) << "; now " << describe(b);
            if (was.renewed == is.renewed)
                expect_same_keys(was, is, flow);
        }
        for (std::size_t i = 0; i < 2; ++i) {
            const auto &a = was.row.legs[i], &b = is.row.legs[i];
            EXPECT_EQ(static_cast<const leg_facts&>(a), static_cast<const leg_facts&>(b));
            EXPECT_EQ(std::tie(a.outer, a.port), std::tie(b.outer, b.port));
        }
        EXPECT_EQ(static_cast<const line_facts&>(was.row), static_cast<const line_facts&>(is.row));
        EXPECT_EQ(was.row.installed, is.row.installed);
        EXPECT_EQ(was.held.size(), is.held.size()) << "a unit has a secondary too many";
    }
    static std::string describe(const api::flow_config& c) {
        return fmt::format("{} -> {} remote {} rtcp {} flags {} suites {}/{}", c.id & 0xffff, c.route.rtp_out & 0xffff,
                           c.route.rtp_remote.port, c.route.rtcp_remote.port, c.flags, static_cast<int>(c.in.suite),
                           static_cast<int>(c.out.suite));
    }
    // What each unit believes is what the data plane does.
    void expect_agreement(const seen& s) {
        std::size_t secondaries = 0;
        for (std::size_t i = 0; i < 2; ++i) {
            const auto& leg = s.row.legs[i];
            if (leg.kind != leg_kind::unit || !s.row.installed)
                continue;
            ++secondaries;
            const auto told = number_of(s.row.id) | (leg.second ? 0x8000'0000 : 0);
            const auto held = s.held.find({leg.unit, told});
            ASSERT_NE(held, s.held.end()) << leg.unit << " has no secondary";
            EXPECT_EQ(held->second.phone, protocol::to_wire(leg.remote_rtp->address, leg.remote_rtp->port)) << leg.unit;
            EXPECT_EQ(held->second.gateway, protocol::to_wire(leg.outer, leg.port)) << leg.unit;
            const auto& down = s.flows.at(api::make_flow_id(s.row.legs[1 - i].address_index, s.row.legs[1 - i].port));
            EXPECT_EQ(held->second.epoch, down.sending) << leg.unit << " is on another epoch";
            const auto& up = s.flows.at(api::make_flow_id(leg.address_index, leg.port));
            EXPECT_TRUE(up.in.contains(held->second.epoch)) << leg.unit << " sends under an epoch that is not there";
        }
        EXPECT_EQ(s.held.size(), secondaries) << "a secondary that belongs to no media";
    }
    std::size_t secondaries(media_id id) const {
        const auto row = store.rows.find(id);
        return row == store.rows.end() || !row->second.installed
                   ? 0
                   : static_cast<std::size_t>(std::ranges::count(row->second.legs, leg_kind::unit, &leg_facts::kind));
    }
    void end(media_id id) {
        now->wait(now->relay.close(id, "test"));
        settle();
        EXPECT_TRUE(now->until([&] { return units.held.empty(); }, 2s)) << units.held.begin()->first.first;
        EXPECT_TRUE(dataplane.copy().empty());
        EXPECT_TRUE(store.rows.empty());
        EXPECT_EQ(now->relay.free_ports(), all_free);
    }
    // The points of a re-offer at which nothing fails.
    std::vector<std::string> points_of(std::size_t which) {
        const auto k = next(which);
        const auto id = set_up(k.before);
        faults.begin(std::nullopt);
        const auto done = now->update(id, k.after);
        EXPECT_TRUE(done) << done.error().text;
        settle();
        const auto points = faults.all();
        expect_agreement(look(id));
        end(id);
        return points;
    }
    // An error thrown inside is the caller's to catch, as anything thrown in a request of call control is.
    bool update_fails(media_id id, const media_request& request) {
        std::optional<bool> failed;
        asio::co_spawn(
            io,
            [](manager* with, std::vector<media_change> what) -> asio::awaitable<bool> {
                co_return (co_await with->update(std::move(what))).has_value();
            }(&now->relay, std::vector{media_change{id, request}}),
            [&failed](const std::exception_ptr& thrown, bool done) { failed = thrown || !done; });
        EXPECT_TRUE(now->until([&] { return failed.has_value(); }));
        return failed.value_or(true);
    }
    kind next(std::size_t which) {
        ++round;
        return kinds().at(which);
    }
    void fail_at(std::size_t which, std::size_t point, how fault) {
        const auto k = next(which);
        faults.begin(std::nullopt);
        const auto id = set_up(k.before);
        ASSERT_NE(id, 0u) << last_error;
        settle();
        const auto before = look(id);
        faults.begin(std::pair{point, fault});
        const bool failed = update_fails(id, k.after);
        settle();
        faults.begin(std::nullopt);
        settle();
        (void)now->until([&] { return units.held.size() == secondaries(id); }, 2s); // MEDIA_CLOSE is said again
        const auto after = look(id);
        EXPECT_TRUE(now->ended.empty()) << now->ended.front();
        now->ended.clear();
        if (!now->relay.info(id))
            return end(id);
        refused += failed;
        if (failed)
            expect_same(before, after);
        expect_agreement(after);
        end(id);
    }
    void end_at(std::size_t which, std::size_t point) {
        const auto k = next(which);
        faults.begin(std::nullopt);
        const auto id = set_up(k.before);
        ASSERT_NE(id, 0u) << last_error;
        settle();
        std::atomic<bool> over = false;
        faults.meanwhile = [&] {
            asio::post(io, [&] { // the data plane's thread comes by here, too
                asio::co_spawn(
                    io,
                    [](manager* with, media_id which, std::atomic<bool>* done) -> asio::awaitable<void> {
                        co_await with->close(which, "meanwhile");
                        *done = true;
                    }(&now->relay, id, &over),
                    asio::detached);
            });
            if (std::this_thread::get_id() != here)
                std::this_thread::sleep_for(2ms); // it comes before the answer
        };
        faults.begin(std::pair{point, how::meanwhile});
        (void)update_fails(id, k.after);
        EXPECT_TRUE(now->until([&] { return over.load(); }));
        faults.begin(std::nullopt);
        end(id);
    }

    dataplane_client::fault_plan faults;
    std::size_t all_free = 0, refused = 0;
    std::uint32_t round = 0;
    std::thread::id here = std::this_thread::get_id();
};

TEST_F(refusal_test, AtEveryPointOfEveryKindEverythingStaysAsItWas) {
    std::size_t cases = 0;
    all_free = now->relay.free_ports();
    for (std::size_t k = 0; k < kinds().size(); ++k) {
        const auto name = kinds()[k].name;
        const auto points = points_of(k);
        ASSERT_FALSE(points.empty()) << name;
        for (std::size_t n = 0; n < points.size(); ++n)
            for (const auto fault : {how::refuse, how::lose, how::do_and_lose, how::error}) {
                if (points[n].starts_with("data plane") && fault == how::error)
                    continue;
                SCOPED_TRACE(
                    fmt::format("{}: {} of {}: {}: {}", name, n + 1, points.size(), points[n], name_of(fault)));
                fail_at(k, n, fault);
                ++cases;
            }
        for (std::size_t n = 0; n < points.size(); ++n) {
            SCOPED_TRACE(fmt::format("{}: {} of {}: {}: ended", name, n + 1, points.size(), points[n]));
            end_at(k, n);
            ++cases;
        }
    }
    std::printf("%zu kinds, %zu points failed, %zu of them refused the re-offer\n", kinds().size(), cases, refused);
}

} // namespace
} // namespace tandem::media
