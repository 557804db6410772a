// SPDX-License-Identifier: Apache-2.0
// For tests: units that answer (or not) what the gateway asks, a journal in memory, and a stand in which a manager
// lives.
#pragma once

#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <atomic>
#include <functional>
#include <gtest/gtest.h>
#include <map>
#include <optional>
#include <set>
#include <tuple>
#include <vector>

#include "controlplane/dataplane_client/fake_dataplane.hpp"
#include "controlplane/media/manager.hpp"
#include "controlplane/policy/rule.hpp"
#include "controlplane/protocol/address_asio.hpp"
#include "controlplane/protocol/message.hpp"

namespace tandem::media {

struct fake_directory final : session::directory {
    fake_directory(asio::io_context& c, dataplane_client::timeline& t) : io(c), log(t) {
        add(0xa11ce, "alice", "10.64.0.2", "203.0.113.5");
        add(0xca501, "carol", "10.64.0.3", "203.0.113.6");
    }
    void add(session::tsid id, const std::string& unit, const char* inner, const char* outer) {
        session::session_info info;
        info.id = id;
        info.unit = unit;
        info.inner = {asio::ip::make_address(inner)};
        info.inner_gateway = asio::ip::make_address("10.64.0.1");
        info.inner_gateway_v6 = asio::ip::make_address("fd64::1");
        info.outer = asio::ip::make_address(outer);
        info.up = true;
        units[unit] = info;
    }
    std::optional<session::session_info> by_tsid(session::tsid id) const override {
        for (const auto& [name, info] : units)
            if (info.id == id)
                return info;
        return std::nullopt;
    }
    std::optional<session::session_info> by_unit(const std::string& name) const override {
        const auto found = units.find(name);
        return found == units.end() ? std::nullopt : std::optional(found->second);
    }
    std::optional<session::session_info> by_inner(const asio::ip::address&) const override { return std::nullopt; }
    std::vector<session::session_info> all() const override { return {}; }
    bool drop(session::tsid, const std::string&) override { return false; }

    asio::awaitable<tl::expected<protocol::message, session::request_error>>
    request(session::tsid id, protocol::message asked, std::chrono::milliseconds timeout) override {
        using protocol::tlv;
        ++requests;
        const auto info = by_tsid(id);
        const auto epoch = asked.get<tlv::epoch>();
        log.add(fmt::format("{} {}{}", protocol::name_of(asked.what()), info ? info->unit : "?",
                            epoch ? fmt::format(" e{}", *epoch) : std::string()));
        if (asked.is(protocol::exchange::media_open) || asked.is(protocol::exchange::seed))
            for (std::size_t n = 0; n < asked.count<tlv::seed>(); ++n) {
                const auto bytes = *asked.get<tlv::seed>(n);
                seeds.emplace_back(bytes.begin(), bytes.end());
            }
        if (asked.is(protocol::exchange::media_open))
            opens.push_back(asked.copy());
        if (asked.is(protocol::exchange::contact))
            contacts.push_back(asked.copy());
        if (asked.is(protocol::exchange::seed) || asked.is(protocol::exchange::media_open))
            sources.push_back(asked.get<tlv::key_source>().value_or(0));
        using how = dataplane_client::fault_plan::how;
        if (dead) { // who asks was killed
            asio::steady_timer wait(io, timeout);
            co_await wait.async_wait(asio::use_awaitable);
            co_return tl::unexpected(session::request_error::timeout);
        }
        std::optional<how> fault;
        if (faults != nullptr)
            fault = faults->next(fmt::format("{} {}", protocol::name_of(asked.what()), info ? info->unit : "?"));
        if (fault == how::meanwhile)
            faults->meanwhile();
        if (throwing.contains(asked.what()) || fault == how::error)
            throw std::runtime_error("thrown by a test");
        if (!info || !info->up)
            co_return tl::unexpected(session::request_error::not_up);
        if (delay.count() > 0) {
            asio::steady_timer wait(io, delay);
            co_await wait.async_wait(asio::use_awaitable);
        }
        if (fault == how::refuse && asked.is(protocol::exchange::media_close))
            (void)take(info->unit, asked); // it says that it has none
        if (fault == how::refuse)
            co_return tl::unexpected(session::request_error::refused);
        if (fault == how::do_and_lose)
            (void)take(info->unit, asked);
        if (silent || mute.contains(asked.what()) || fault == how::lose || fault == how::do_and_lose) {
            asio::steady_timer wait(io, timeout);
            co_await wait.async_wait(asio::use_awaitable);
            co_return tl::unexpected(session::request_error::timeout);
        }
        if (refusing.contains(asked.what()) || (lost_media && asked.get<tlv::goes_on>()))
            co_return tl::unexpected(session::request_error::refused);
        if (!take(info->unit, asked))
            co_return tl::unexpected(session::request_error::refused);
        auto answer = asked.response(protocol::status::ok);
        if (const auto media = asked.get<tlv::media_id>())
            answer.add<tlv::media_id>(*media);
        if (epoch)
            answer.add<tlv::epoch>(*epoch);
        if (asked.is(protocol::exchange::media_open))
            answer.add<tlv::unit_media>(protocol::to_wire(asio::ip::make_address("10.1.1.1"), 5555));
        if (asked.is(protocol::exchange::contact))
            advise(answer, info->unit);
        if (asked.is(protocol::exchange::seed_make))
            for (const auto& seed : make(info->unit, asked))
                answer.add<tlv::seed>(seed);
        co_return answer;
    }
    // What the unit has of its secondaries after this; false: it cannot (tools/agent/media/control.cpp).
    bool take(const std::string& unit, const protocol::message& asked) {
        using protocol::tlv;
        const auto media = asked.get<tlv::media_id>();
        const std::pair key{unit, media.value_or(0)};
        if (asked.is(protocol::exchange::media_close))
            held.erase(key);
        if (!asked.is(protocol::exchange::media_open) && !asked.is(protocol::exchange::seed))
            return true;
        const auto epoch = *asked.get<tlv::epoch>();
        if (asked.is(protocol::exchange::seed)) {
            if (!held.contains(key))
                return false;
            held[key].epoch = std::max(held[key].epoch, epoch);
            return true;
        }
        if (asked.get<tlv::goes_on>() && !held.contains(key))
            return false;
        auto& to = held[key];
        if (!asked.get<tlv::goes_on>())
            to.epoch = epoch;
        to.phone = *asked.get<tlv::phone_media>();
        to.gateway = *asked.get<tlv::gateway_media>();
        to.suite = *asked.get<tlv::suite>();
        return true;
    }
    void advise(protocol::message& answer, const std::string& unit) {
        using protocol::tlv;
        const auto known = advices.find(unit);
        if (known == advices.end())
            return;
        const auto& said = known->second;
        if (!said.contact_level.empty())
            answer.add<tlv::level>(said.contact_level);
        if (!said.profile_level.empty())
            answer.add<tlv::profile_level>(said.profile_level);
        if (!said.text.empty())
            answer.add<tlv::reason>(said.text);
        if (said.keys)
            answer.add<tlv::key_source>(protocol::wire(*said.keys));
    }
    // The same seeds where it is asked again.
    std::vector<std::vector<std::uint8_t>> make(const std::string& unit, const protocol::message& asked) {
        using protocol::tlv;
        auto& seeds_made = made[{unit, *asked.get<tlv::media_id>(), *asked.get<tlv::epoch>()}];
        while (seeds_made.size() < asked.get<tlv::seed_count>().value_or(1))
            seeds_made.emplace_back(*asked.get<tlv::seed_bytes>() + wrong_length,
                                    repeats ? std::uint8_t{77} : static_cast<std::uint8_t>(100 + next_fill++ % 100));
        return seeds_made;
    }

    struct secondary {
        std::uint32_t epoch = 0;
        std::uint16_t suite = 0;
        protocol::endpoint phone{}, gateway{};
    };

    asio::io_context& io;
    dataplane_client::timeline& log;
    dataplane_client::fault_plan* faults = nullptr;
    std::map<std::pair<std::string, std::uint32_t>, secondary> held; // by unit and media as told
    std::map<std::string, session::session_info> units;
    std::set<protocol::exchange> refusing, throwing;
    bool silent = false, lost_media = false;
    std::atomic<bool> dead = false;
    std::chrono::milliseconds delay{0};
    std::set<protocol::exchange> mute;            // no answer to these
    std::vector<std::vector<std::uint8_t>> seeds; // all that were sent
    std::vector<protocol::message> opens, contacts;
    std::vector<std::uint8_t> sources; // key_source of each MEDIA_OPEN and SEED
    std::map<std::string, policy::advice> advices;
    // Seeds that units made: unit, media, epoch.
    std::map<std::tuple<std::string, media_id, std::uint32_t>, std::vector<std::vector<std::uint8_t>>> made;
    std::size_t wrong_length = 0; // more bytes than asked for
    bool repeats = false;         // always the same seed
    unsigned next_fill = 0;
    unsigned requests = 0;
};

struct fake_journal final : journal {
    void put(const media_row& row) override {
        if (!dead)
            rows[row.id] = row;
    }
    void erase(media_id id) override { rows.erase(id); }
    void each(const taker& give) override {
        for (const auto& [id, row] : rows)
            give(row);
    }
    void record(const media_record& ended) override {
        if (dead)
            return;
        rows.erase(ended.id);
        records.push_back(ended);
    }
    std::atomic<bool> dead = false; // who writes was killed
    void set_generation(std::uint64_t value) override { known = value; }
    std::uint64_t generation() override { return known; }
    std::map<media_id, media_row> rows;
    std::vector<media_record> records;
    std::uint64_t known = 0;
};

struct fake_levels final : policy::decider {
    policy::level level{"test", api::suite::aead_aes_128_gcm, 16, std::chrono::milliseconds(300),
                        std::chrono::milliseconds(60)};
    std::map<std::string, policy::level> others;
    std::string denied; // why
    std::vector<policy::question> asked_whether;
    std::vector<policy::question> asked;
    std::optional<policy::decision> denies(const policy::question& call) override {
        asked_whether.push_back(call);
        return denied.empty() ? std::nullopt : std::optional(explain(call));
    }
    policy::decision decide(const policy::question& call) override {
        asked.push_back(call);
        return explain(call);
    }
    // The wish, else what the last unit's contacts say, else the one level.
    policy::decision explain(const policy::question& call) const override {
        policy::decision out{level, "test", {{"test", level.name, "the test says so", true}}};
        if (!denied.empty()) {
            out.chosen.name = policy::deny;
            out.denied = denied;
            return out;
        }
        const auto take = [&](const std::string& name, const std::string& rule, const std::string& text) {
            if (const auto other = others.find(name); other != others.end())
                out = {other->second, rule, {{rule, name, text, true}}};
        };
        for (const auto& one : call.devices)
            take(one.contact_level, "contacts of " + one.unit, one.text);
        take(call.wish, "caller's wish", "");
        return out;
    }
    policy::level by_name(std::string_view) const override { return level; }
};

// Holds each begin to one end, and ticks to what is between them.
struct fake_observer final : observer {
    struct one {
        beginning how;
        std::uint64_t packets = 0; // told last
    };
    std::map<media_id, one> up;
    std::vector<std::string> log; // "begin c1", "taken over c1", "end c1: hung up", "handed on c1"
    std::size_t begun = 0, ended = 0, ticks = 0;
    bool throwing = false;

    void begin(const media_info& media, beginning how) override {
        EXPECT_TRUE(up.emplace(media.id, one{how}).second) << media.call_id << " begins twice";
        EXPECT_TRUE(media.answered.was());
        EXPECT_TRUE(media.active);
        ++begun;
        log.push_back((how == beginning::answered ? "begin " : "taken over ") + media.call_id);
        hear(media);
        fail();
    }
    void tick(const media_info& media) override {
        ++ticks;
        hear(media);
        fail();
    }
    void end(const media_info& media, ending how, const std::string& cause) override {
        hear(media);
        EXPECT_EQ(up.erase(media.id), 1u) << media.call_id << " ends and never began: " << cause;
        ++ended;
        log.push_back(how == ending::over ? "end " + media.call_id + ": " + cause : "handed on " + media.call_id);
        fail();
    }
    void hear(const media_info& media) {
        ASSERT_TRUE(up.contains(media.id)) << media.call_id;
        const auto packets = media.legs[0].received.packets + media.legs[1].received.packets;
        EXPECT_GE(packets, up[media.id].packets);
        up[media.id].packets = packets;
    }
    void fail() const {
        if (throwing)
            throw std::runtime_error("thrown by a test");
    }
};

// One life of a control plane over a data plane, units and a journal that outlive it.
struct life {
    life(asio::io_context& c, dataplane_client::fake_dataplane& d, fake_directory& u, fake_levels& l, fake_journal& j,
         settings options)
        : io(c), client(io, d.path()), relay(io, std::move(options), client, stats, u, l, j) {
        relay.on_ended = [this](media_id id, const std::string& call, const std::string& cause) {
            ended.push_back(fmt::format("{} {} {}", id, call, cause));
        };
        relay.observe(observed);
        relay.start();
        client.start();
    }
    ~life() {
        relay.stop();
        client.stop();
        EXPECT_TRUE(observed.up.empty()) << observed.up.size();
        EXPECT_EQ(observed.begun, observed.ended);
        io.restart();
        io.run_for(std::chrono::seconds(1)); // until nothing waits any more that would come back to what is gone
    }
    template <class Result>
    Result wait(asio::awaitable<Result> work) {
        std::optional<Result> out;
        asio::co_spawn(
            io,
            [](asio::awaitable<Result> w, std::optional<Result>* to) -> asio::awaitable<void> {
                *to = co_await std::move(w);
            }(std::move(work), &out),
            asio::detached);
        EXPECT_TRUE(until([&] { return out.has_value(); }));
        return std::move(*out);
    }
    void wait(asio::awaitable<void> work) {
        bool done = false;
        asio::co_spawn(
            io,
            [](asio::awaitable<void> w, bool* to) -> asio::awaitable<void> {
                co_await std::move(w);
                *to = true;
            }(std::move(work), &done),
            asio::detached);
        EXPECT_TRUE(until([&] { return done; }));
    }
    result<media_locals> update(media_id id, const media_request& request) {
        std::optional<result<media_locals>> done;
        start_update(id, request, done);
        EXPECT_TRUE(until([&] { return done.has_value(); }));
        return std::move(*done);
    }
    void start_update(media_id id, const media_request& request, std::optional<result<media_locals>>& to) {
        asio::co_spawn(
            io,
            [](manager* with, std::vector<media_change> what,
               std::optional<result<media_locals>>* out) -> asio::awaitable<void> {
                auto done = co_await with->update(std::move(what));
                if (done)
                    *out = done->front();
                else
                    *out = tl::unexpected(done.error());
            }(&relay, std::vector{media_change{id, request}}, &to),
            asio::detached);
    }
    bool until(const std::function<bool()>& done, std::chrono::milliseconds limit = std::chrono::seconds(10)) {
        const auto end = std::chrono::steady_clock::now() + limit;
        while (!done() && std::chrono::steady_clock::now() < end) {
            io.restart();
            io.run_for(std::chrono::milliseconds(2));
        }
        return done();
    }
    void run_for(std::chrono::milliseconds time) {
        (void)until([] { return false; }, time);
    }

    asio::io_context& io;
    dataplane_client::client client;
    dataplane_client::stats_reader stats;
    fake_observer observed;
    manager relay;
    std::vector<std::string> ended;
};

struct stand : testing::Test {
    asio::io_context io{1};
    dataplane_client::timeline log;
    dataplane_client::fake_dataplane dataplane{log};
    fake_directory units{io, log};
    fake_levels levels;
    fake_journal store;
    settings options = [] {
        settings s;
        s.first_port = 20000;
        s.last_port = 20099;
        s.quarantine = std::chrono::milliseconds(100);
        s.unit_timeout = std::chrono::milliseconds(100);
        s.retry = std::chrono::milliseconds(50);
        s.sweep = std::chrono::milliseconds(50);
        s.copy = std::chrono::milliseconds(50);
        s.timeout = std::chrono::seconds(5);
        s.ready_wait = std::chrono::milliseconds(1000);
        return s;
    }();
    std::unique_ptr<life> now = std::make_unique<life>(io, dataplane, units, levels, store, options);

    void TearDown() override { EXPECT_EQ(dataplane.repeats(), std::vector<std::string>()); }
    void restart() {
        now.reset();
        now = std::make_unique<life>(io, dataplane, units, levels, store, options);
    }
    // Until packet counts were copied that were asked for from now on: the next question comes after the copy.
    void copied() {
        const unsigned before = dataplane.streams_asked;
        ASSERT_TRUE(now->until([&] { return dataplane.streams_asked >= before + 2; }));
    }
    static endpoint at(const char* ip, std::uint16_t port) { return {asio::ip::make_address(ip), port}; }
    static leg_request unit_leg(const std::string& name, const char* phone = "10.64.0.2") {
        leg_request leg;
        leg.kind = leg_kind::unit;
        leg.unit = name;
        leg.remote_rtp = at(phone, 4000);
        leg.remote_rtcp = at(phone, 4001);
        return leg;
    }
    static leg_request core_leg() {
        leg_request leg;
        leg.remote_rtp = at("198.51.100.77", 7000);
        leg.remote_rtcp = at("198.51.100.77", 7001);
        return leg;
    }
    static sdes keys(std::uint8_t fill, api::suite suite = api::suite::aes_cm_128_hmac_sha1_80) {
        const auto& row = api::info(suite);
        const std::vector<std::uint8_t> in(row.key_length + row.salt_length, fill);
        const std::vector<std::uint8_t> out(row.key_length + row.salt_length, static_cast<std::uint8_t>(fill + 1));
        return {suite, protocol::secret(in), protocol::secret(out)};
    }
    static media_request call(leg_request a, leg_request b, std::string id = "c1") {
        media_request request;
        request.call_id = std::move(id);
        request.kind = "audio";
        request.caller = "alice";
        request.callee = "bob";
        request.legs = {std::move(a), std::move(b)};
        return request;
    }
    // open and update; the media's id, 0 where it failed.
    media_id set_up(const media_request& request) {
        auto opened = now->wait(now->relay.open(request));
        if (!opened) {
            last_error = opened.error().text;
            return 0;
        }
        auto updated = now->update(opened->id, request);
        if (!updated) {
            last_error = updated.error().text;
            now->wait(now->relay.close(opened->id, "failed"));
            return 0;
        }
        return opened->id;
    }
    [[nodiscard]] api::flow_id flow(media_id id, std::size_t leg, unsigned plus = 0) {
        const auto row = store.rows.at(id).legs[leg];
        return api::make_flow_id(row.address_index, static_cast<std::uint16_t>(row.port + plus));
    }
    std::string last_error;
};

} // namespace tandem::media
