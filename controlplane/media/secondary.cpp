// SPDX-License-Identifier: Apache-2.0
// Secondaries: seeds from the kernel's generator, keys per direction, MEDIA_OPEN, and the re-key (RIM-11 to RIM-14):
//   install n+1 on both sides -> SEED -> the unit's response -> send under n+1 -> after the overlap n is retired.
// A SEED that fails leaves n in force; n+1 stays ready with the same seed (the unit may have it) and is offered again.
// Owner thread: io_context.
#include <algorithm>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/random.h>

#include "controlplane/media/state.hpp"
#include "controlplane/protocol/address_asio.hpp"
#include "controlplane/protocol/message.hpp"
#include "controlplane/protocol/seed_keys.hpp"

namespace tandem::media {

namespace {

using protocol::tlv;

bool fill(protocol::secret& seed, std::size_t length) {
    const auto bytes = seed.resize(length);
    return ::getrandom(bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size());
}

bool make_seeds(epoch_seeds& seeds, const policy::level& level) {
    if (!fill(seeds.seed[0], level.seed_length()))
        return false;
    return !level.seed_is_key || fill(seeds.seed[1], level.seed_length());
}

// `key || salt` into the contract's item, once per flow.
void append_keys(std::vector<api::epoch_key>& keys, const std::vector<api::flow_id>& flows, api::side side,
                 std::uint32_t epoch, api::suite suite, const protocol::secret& key_and_salt) {
    const auto& row = api::info(suite);
    if (key_and_salt.size() < std::size_t{row.key_length} + row.salt_length)
        return; // the data plane's answer would be srtp_no_key; SDES lengths are checked where they are parsed
    for (const auto flow : flows) {
        api::epoch_key item{};
        item.id = flow;
        item.side = side;
        item.epoch = epoch;
        item.key_length = row.key_length;
        item.salt_length = row.salt_length;
        const auto bytes = key_and_salt.view();
        std::copy_n(bytes.begin(), row.key_length, item.key);
        std::copy_n(bytes.begin() + row.key_length, row.salt_length, item.salt);
        keys.push_back(item);
        protocol::wipe(&item, sizeof(item));
    }
}

void add_seeds(protocol::message& request, const epoch_seeds& seeds) {
    for (const auto& seed : seeds.seed)
        if (!seed.empty())
            request.add<tlv::seed>(seed.view());
}

endpoint next_port(const endpoint& where) {
    return {where.address, static_cast<std::uint16_t>(where.port + 1)};
}

} // namespace

bool manager::new_seeds(leg& l, const policy::level& level) {
    l.current.clear();
    return make_seeds(l.current, level);
}

// Keys of one epoch for a unit leg: what it sends us and what we send it, each direction its own.
bool manager::add_unit_keys(std::vector<api::epoch_key>& keys, const state& m, std::size_t i,
                            std::uint32_t epoch) const {
    const auto& l = m.legs[i];
    const auto& seeds = l.next.known() && l.next.epoch == epoch ? l.next : l.current;
    const auto shapes = m.shapes();
    for (const auto way : {protocol::direction::to_gateway, protocol::direction::to_unit}) {
        const bool in = way == protocol::direction::to_gateway;
        const auto derived = m.level.seed_is_key
                                 ? protocol::seed_as_keys(seeds.seed[in ? 0 : 1], l.suite)
                                 : protocol::derive_keys(seeds.seed[0], {l.tsid, m.id, way, epoch, l.suite});
        if (!derived)
            return false;
        append_keys(keys, in ? flows_from(shapes, i) : flows_towards(shapes, i), in ? api::side::in : api::side::out,
                    epoch, l.suite, *derived);
    }
    return true;
}

void manager::add_sdes_keys(std::vector<api::epoch_key>& keys, const state& m, std::size_t i) const {
    const auto& l = m.legs[i];
    const auto shapes = m.shapes();
    append_keys(keys, flows_from(shapes, i), api::side::in, l.epoch, l.suite, l.srtp->receive);
    append_keys(keys, flows_towards(shapes, i), api::side::out, l.epoch, l.suite, l.srtp->send);
}

// All keys of a fresh installation, and what is sent under from the start.
asio::awaitable<result<void>> manager::install_keys(media_ptr m, std::uint32_t era) {
    key_batch keys;
    std::vector<api::epoch_ref> begin;
    for (std::size_t i = 0; i < 2; ++i) {
        auto& l = m->legs[i];
        if (l.suite == api::suite::clear)
            continue;
        if (l.is_unit()) {
            if (!add_unit_keys(keys.items, *m, i, l.epoch))
                co_return tl::unexpected(error{"keys could not be derived from the seed"});
            l.keyed = true;
        } else if (l.srtp) {
            add_sdes_keys(keys.items, *m, i);
        } else {
            co_return tl::unexpected(
                error{"SDES keys of this call are not known any more: the call must be set up again"});
        }
        for (const auto flow : flows_towards(m->shapes(), i))
            begin.push_back({flow, l.epoch, api::side::out, {}});
    }
    if (keys.items.empty())
        co_return result<void>{};
    auto done = verdict(co_await dataplane_.epoch_install(keys.items), "keys could not be installed");
    if (done && era == m->era)
        done = verdict(co_await dataplane_.epoch_switch(begin), "keys could not be taken into use");
    co_return done;
}

asio::awaitable<result<void>> manager::send_media_open(media_ptr m, std::size_t i, std::uint32_t era) {
    auto& l = m->legs[i];
    if (!l.remote_rtp)
        co_return tl::unexpected(error{fmt::format("the phone's address behind unit {} is not known", l.unit)});
    auto request = protocol::message::request(protocol::exchange::media_open);
    request.add<tlv::media_id>(m->id);
    request.add<tlv::epoch>(l.epoch);
    request.add<tlv::suite>(static_cast<std::uint16_t>(l.suite));
    request.add<tlv::level>(m->level.name);
    request.add<tlv::overlap_ms>(static_cast<std::uint32_t>(m->level.overlap.count()));
    request.add<tlv::key_use>(m->level.seed_is_key ? std::uint8_t{1} : std::uint8_t{0});
    add_seeds(request, l.current);
    request.add<tlv::gateway_media>(protocol::to_wire(l.outer, l.port));
    request.add<tlv::inner_media>(protocol::to_wire(l.local.rtp.address, l.local.rtp.port));
    request.add<tlv::phone_media>(protocol::to_wire(l.remote_rtp->address, l.remote_rtp->port));
    if (!l.mux) {
        const auto phone_rtcp = l.remote_rtcp.value_or(next_port(*l.remote_rtp));
        request.add<tlv::inner_rtcp>(protocol::to_wire(l.local.rtcp.address, l.local.rtcp.port));
        request.add<tlv::phone_rtcp>(protocol::to_wire(phone_rtcp.address, phone_rtcp.port));
    }
    ++counters_.media_opens;
    auto answer = co_await sessions_.request(l.tsid, std::move(request), options_.unit_timeout);
    if (era != m->era)
        co_return tl::unexpected(error{"media was changed or ended meanwhile"});
    if (!answer) {
        ++counters_.media_open_failures;
        const auto why = answer.error() == session::request_error::timeout   ? "did not answer in time"
                         : answer.error() == session::request_error::refused ? "refused it (see the log)"
                                                                             : "has no primary tunnel up";
        co_return tl::unexpected(
            error{fmt::format("secondary tunnel of unit {} could not be made: the unit {}", l.unit, why)});
    }
    const auto session = sessions_.by_tsid(l.tsid);
    const auto where = answer->get<tlv::unit_media>();
    if (session && where && where->port != 0 && !l.latched) { // a first hint: latching decides
        auto address = session->outer;
        if (address.is_v6() && address.to_v6().is_v4_mapped())
            address = asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6());
        if (address.is_v6() == l.outer.is_v6())
            l.hint = endpoint{address, where->port};
        const auto plan = m->make_plan(options_);
        const auto updates = plan_updates(m->plan, plan);
        m->plan = plan;
        if (!updates.empty())
            co_return verdict(co_await dataplane_.update_flows(updates), "the unit's address could not be set");
    }
    co_return result<void>{};
}

asio::awaitable<void> manager::send_media_close(session::tsid unit, media_id id) {
    auto request = protocol::message::request(protocol::exchange::media_close);
    request.add<tlv::media_id>(id);
    (void)co_await sessions_.request(unit, std::move(request), options_.unit_timeout);
}

// --- re-key ----------------------------------------------------------------------------------------------------------

asio::awaitable<manager::seed_outcome> manager::send_seed(media_ptr m, std::size_t i, std::uint32_t epoch) {
    auto& l = m->legs[i];
    auto request = protocol::message::request(protocol::exchange::seed);
    request.add<tlv::media_id>(m->id);
    request.add<tlv::epoch>(epoch);
    add_seeds(request, l.next);
    ++counters_.seeds_sent;
    const auto answer = co_await sessions_.request(l.tsid, std::move(request), options_.unit_timeout);
    if (!answer) {
        switch (answer.error()) {
        case session::request_error::timeout:
            co_return seed_outcome::no_answer;
        case session::request_error::refused:
            co_return seed_outcome::refused;
        default:
            co_return seed_outcome::no_session;
        }
    }
    co_return answer->get<tlv::epoch>() == epoch ? seed_outcome::ok : seed_outcome::refused;
}

void manager::adopt_next_seed(leg& l) {
    l.current = std::move(l.next);
    l.next.clear();
    l.next_installed = false;
    l.epoch = l.current.epoch;
}

// The next epoch's keys on both sides of the leg, ready before the unit hears of them.
asio::awaitable<result<void>> manager::prepare_next(media_ptr m, std::size_t i, std::uint32_t era) {
    auto& l = m->legs[i];
    if (!l.next.known()) {
        if (!make_seeds(l.next, m->level))
            co_return tl::unexpected(error{"the kernel's random generator failed"});
        l.next.epoch = l.epoch + 1;
        l.highest = std::max(l.highest, l.next.epoch);
        l.next_installed = false;
    }
    while (l.retiring.size() > 1) { // the ring holds three: old, current, next
        const auto oldest = l.retiring.front();
        co_await retire(m, i, oldest);
        if (era != m->era)
            co_return tl::unexpected(error{"media was changed or ended meanwhile"});
    }
    if (l.next_installed)
        co_return result<void>{};
    key_batch keys;
    if (!add_unit_keys(keys.items, *m, i, l.next.epoch))
        co_return tl::unexpected(error{"keys could not be derived from the seed"});
    auto done = verdict(co_await dataplane_.epoch_install(keys.items), "new keys could not be installed");
    if (done && era == m->era)
        l.next_installed = true;
    co_return done;
}

// The unit has answered: sent under the new epoch from now on, the old one ends with the overlap.
asio::awaitable<result<void>> manager::take_into_use(media_ptr m, std::size_t i, std::uint32_t era) {
    auto& l = m->legs[i];
    std::vector<api::epoch_ref> begin;
    for (const auto flow : flows_towards(m->shapes(), i))
        begin.push_back({flow, l.next.epoch, api::side::out, {}});
    auto done = verdict(co_await dataplane_.epoch_switch(begin), "new keys could not be taken into use");
    if (!done || era != m->era)
        co_return done;
    l.retiring.push_back(l.epoch);
    asio::co_spawn(io_, retire_later(m, i, l.epoch, era), asio::detached);
    adopt_next_seed(l);
    ++m->rekeys;
    ++counters_.rekeys;
    save(*m);
    spdlog::debug("media {}: unit {} is on epoch {}", m->id, l.unit, l.epoch);
    co_return done;
}

asio::awaitable<result<std::uint32_t>> manager::rekey_leg(media_ptr m, std::size_t i) {
    auto& l = m->legs[i];
    auto guard = co_await l.lock.acquire();
    const auto era = m->era;
    const auto gone = [&] { return era != m->era || m->closing || !m->installed; };
    const auto over = [&] {
        return tl::unexpected(error{fmt::format("media {} was changed or ended meanwhile", m->id)});
    };
    const auto failed = [&](std::string why) {
        ++m->rekey_failures;
        ++counters_.rekey_failures;
        spdlog::warn("media {}: re-key towards unit {} failed: {}; epoch {} stays in force", m->id, l.unit, why,
                     l.epoch);
        return tl::unexpected(error{std::move(why)});
    };
    if (gone())
        co_return over();
    const auto session = sessions_.by_tsid(l.tsid);
    if (!session || !session->up)
        co_return failed("its primary tunnel is down");

    bool anew = m->lost || l.stale;
    std::string why = m->lost ? "its flows are gone" : "a re-key of an earlier run was half made";
    if (!anew) {
        if (auto ready = co_await prepare_next(m, i, era); gone())
            co_return over();
        else if (!ready)
            co_return failed(ready.error().text);
        const auto outcome = co_await send_seed(m, i, l.next.epoch);
        if (gone())
            co_return over();
        if (outcome == seed_outcome::no_answer || outcome == seed_outcome::no_session)
            co_return failed(outcome == seed_outcome::no_answer ? "the unit did not answer in time"
                                                                : "its primary tunnel is down");
        if (outcome == seed_outcome::ok) {
            if (auto used = co_await take_into_use(m, i, era); gone())
                co_return over();
            else if (!used)
                co_return failed(used.error().text);
            co_return l.epoch;
        }
        anew = true; // the unit does not know this media, or counts epochs otherwise
        why = "the unit refused the seed";
        (void)failed(why);
    }
    guard.release();
    co_await reinstall(m, why);
    if (m->installed && !m->closing && !m->lost)
        co_return l.epoch;
    co_return failed("its secondary could not be made anew");
}

asio::awaitable<void> manager::retire_later(media_ptr m, std::size_t i, std::uint32_t epoch, std::uint32_t era) {
    asio::steady_timer wait(io_, m->level.overlap);
    asio::error_code ignored;
    co_await wait.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    if (era == m->era && !m->closing)
        co_await retire(m, i, epoch);
}

// Key wiped on both sides of the leg; from here on the data plane refuses the epoch.
asio::awaitable<void> manager::retire(media_ptr m, std::size_t i, std::uint32_t epoch) {
    auto& l = m->legs[i];
    if (std::erase(l.retiring, epoch) == 0)
        co_return; // done already
    std::vector<api::epoch_ref> over;
    for (const auto flow : flows_from(m->shapes(), i))
        over.push_back({flow, epoch, api::side::in, {}});
    for (const auto flow : flows_towards(m->shapes(), i))
        over.push_back({flow, epoch, api::side::out, {}});
    const auto answer = co_await dataplane_.epoch_retire(over);
    if (!answer && !answer.error().connected)
        l.retiring.push_back(epoch); // again at the next take-over
}

void manager::start_loops(const media_ptr& m) {
    for (std::size_t i = 0; i < 2; ++i) {
        if (!m->legs[i].is_unit() || m->legs[i].looping)
            continue;
        m->legs[i].looping = true;
        asio::co_spawn(io_, rekey_loop(m, i), asio::detached);
    }
}

// The level's interval, counted from the start and not from the last answer, so that the mean does not drift (RIM-14).
asio::awaitable<void> manager::rekey_loop(media_ptr m, std::size_t i) {
    using clock = std::chrono::steady_clock;
    auto& l = m->legs[i];
    auto due = clock::now() + m->level.rekey;
    auto next = due;
    bool was_up = true;
    while (!m->closing && !stopped_) {
        if (!l.kicked) {
            l.tick.expires_at(next);
            asio::error_code ignored;
            co_await l.tick.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
        }
        if (m->closing || stopped_ || !l.is_unit())
            break;
        if (!l.kicked && clock::now() < next)
            continue; // woken for nothing
        l.kicked = false;
        while (due <= clock::now())
            due += m->level.rekey;
        next = due;
        const auto session = sessions_.by_tsid(l.tsid);
        const bool up = session && session->up;
        if (!m->installed || (!up && !was_up))
            continue; // counted once per outage; session_up() wakes us
        was_up = up;
        const auto done = co_await rekey_leg(m, i);
        if (!done && up)
            next = std::min(due, clock::now() + options_.retry);
    }
    l.looping = false;
}

asio::awaitable<result<std::array<std::optional<std::uint32_t>, 2>>> manager::rekey(media_id id) {
    const auto m = find(id);
    if (!m)
        co_return tl::unexpected(error{fmt::format("there is no media {}: see `tandemctl media list`", id)});
    if (!m->has_unit())
        co_return tl::unexpected(error{fmt::format("media {} has no secondary tunnel: neither leg is a unit's", id)});
    if (!m->installed)
        co_return tl::unexpected(error{fmt::format("media {} is not answered yet: there is no key to change", id)});
    std::array<std::optional<std::uint32_t>, 2> epochs;
    for (std::size_t i = 0; i < 2; ++i)
        if (m->legs[i].is_unit()) {
            const auto done = co_await rekey_leg(m, i);
            if (!done)
                co_return tl::unexpected(done.error());
            epochs[i] = *done;
        }
    co_return epochs;
}

} // namespace tandem::media
