// SPDX-License-Identifier: Apache-2.0
// Keys of flows that were just added; a secondary's MEDIA_OPEN and MEDIA_CLOSE. Owner thread: io_context.
#include <algorithm>
#include <fmt/format.h>
#include <utility>

#include "controlplane/media/key_kind.hpp"
#include "controlplane/media/state.hpp"
#include "controlplane/protocol/address_asio.hpp"
#include "controlplane/protocol/message.hpp"
#include "controlplane/protocol/spawn.hpp"

namespace tandem::media {

namespace {

using protocol::tlv;

endpoint next_port(const endpoint& where) {
    return {where.address, static_cast<std::uint16_t>(where.port + 1)};
}

} // namespace

// What the unit needs to know of an epoch's seeds: all, our half, or that they are its own.
void add_seeds(protocol::message& request, const epoch_seeds& seeds) {
    request.add<tlv::key_source>(protocol::wire(seeds.source));
    if (seeds.source == policy::key_source::unit)
        return;
    for (const auto& seed : seeds.source == policy::key_source::both ? seeds.half : seeds.seed)
        if (!seed.empty())
            request.add<tlv::seed>(seed.view());
}

asio::awaitable<result<void>> manager::install_keys(media_ptr m, const media_terms& of,
                                                    const std::array<epoch_seeds, 2>& seeds) {
    key_batch keys;
    std::vector<api::epoch_ref> begin;
    for (std::size_t i = 0; i < 2; ++i) {
        auto& l = m->legs[i];
        const auto& kind = key_kind::of(of.legs[i]);
        if (!kind.protects())
            continue;
        if (auto added = kind.add(keys.items, {*m, of, i, seeds[i], {true, true, l.in_epoch, l.epoch}}); !added)
            co_return added;
        l.keyed = true;
        for (const auto flow : flows_towards(of.shapes(), i))
            begin.push_back({flow, kind.has_seeds() ? seeds[i].epoch : l.epoch, api::side::out, {}});
    }
    if (keys.items.empty())
        co_return result<void>{};
    auto done = verdict(co_await dataplane_.epoch_install(keys.items), "keys could not be installed");
    if (done && !gone(*m))
        done = verdict(co_await dataplane_.epoch_switch(begin), "keys could not be taken into use");
    co_return done;
}

asio::awaitable<result<void>> manager::send_media_open(media_ptr m, media_terms& of, std::size_t i,
                                                       const epoch_seeds& seeds, bool* lost) {
    auto& to = of.legs[i];
    if (!to.remote_rtp)
        co_return fail(fmt::format("the phone's address behind unit {} is not known", to.unit));
    auto request = protocol::message::request(protocol::exchange::media_open);
    request.add<tlv::media_id>(to.told(m->id));
    request.add<tlv::epoch>(seeds.epoch);
    request.add<tlv::suite>(static_cast<std::uint16_t>(to.suite));
    request.add<tlv::level>(m->level.name);
    request.add<tlv::overlap_ms>(static_cast<std::uint32_t>(m->level.overlap.count()));
    request.add<tlv::key_use>(
        protocol::wire(m->level.seed_is_key ? protocol::key_use::seed_is_key : protocol::key_use::derive));
    request.add<tlv::path>(protocol::wire(m->level.path));
    if (lost != nullptr)
        request.add<tlv::goes_on>(std::uint8_t{1});
    for (const auto& peer : m->peers_of(of, i))
        request.add<tlv::peer>(peer);
    add_seeds(request, seeds);
    request.add<tlv::gateway_media>(protocol::to_wire(to.port->address, to.port->port));
    request.add<tlv::inner_media>(protocol::to_wire(to.local.rtp.address, to.local.rtp.port));
    request.add<tlv::phone_media>(protocol::to_wire(to.remote_rtp->address, to.remote_rtp->port));
    if (!to.mux) {
        const auto phone_rtcp = to.remote_rtcp.value_or(next_port(*to.remote_rtp));
        request.add<tlv::inner_rtcp>(protocol::to_wire(to.local.rtcp.address, to.local.rtcp.port));
        request.add<tlv::phone_rtcp>(protocol::to_wire(phone_rtcp.address, phone_rtcp.port));
    }
    ++counters_.media_opens;
    auto answer = co_await sessions_.request(to.tsid, std::move(request), options_.unit_timeout);
    if (gone(*m))
        co_return over(m->id);
    if (!answer) {
        ++counters_.media_open_failures;
        if (lost != nullptr)
            *lost = answer.error() == session::request_error::refused;
        const auto why = answer.error() == session::request_error::timeout   ? "did not answer in time"
                         : answer.error() == session::request_error::refused ? "refused it (see the log)"
                                                                             : "has no primary tunnel up";
        co_return fail(fmt::format("secondary tunnel of unit {} could not be made: the unit {}", to.unit, why));
    }
    m->legs[i].untold = false;
    const auto session = sessions_.by_tsid(to.tsid);
    const auto where = answer->get<tlv::unit_media>();
    if (session && where && where->port != 0 && !m->legs[i].latched) { // a first hint: latching decides
        auto address = session->outer;
        if (address.is_v6() && address.to_v6().is_v4_mapped())
            address = asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6());
        if (address.is_v6() == to.port->address.is_v6())
            to.hint = endpoint{address, where->port};
    }
    co_return result<void>{};
}

// A session that is over has no secondaries; one that is not up hears of it when it comes up.
void manager::close_secondary(const leg_terms& of, media_id id) {
    const auto session = sessions_.by_tsid(of.tsid);
    if (!session)
        return;
    const auto number = of.told(id);
    owed_[{of.tsid, number}] = session->up;
    if (session->up)
        spawn_media_close(of.tsid, number);
}

// What was not answered is said again: when the unit's session comes up, and each sweep.
void manager::close_owed(session::tsid unit) {
    std::vector<std::uint32_t> numbers; // an answer may come at once
    for (auto owed = owed_.lower_bound({unit, 0}); owed != owed_.end() && owed->first.first == unit; ++owed)
        if (!std::exchange(owed->second, true))
            numbers.push_back(owed->first.second);
    for (const auto number : numbers)
        spawn_media_close(unit, number);
}

void manager::spawn_media_close(session::tsid unit, std::uint32_t number) {
    protocol::spawn_contained(io_, "end of a secondary", send_media_close(unit, number), [this, unit, number] {
        if (const auto again = owed_.find({unit, number}); again != owed_.end())
            again->second = false;
    });
}

asio::awaitable<void> manager::send_media_close(session::tsid unit, std::uint32_t id) {
    auto request = protocol::message::request(protocol::exchange::media_close);
    request.add<tlv::media_id>(id);
    const auto answer = co_await sessions_.request(unit, std::move(request), options_.unit_timeout);
    const auto owed = owed_.find({unit, id});
    if (owed == owed_.end())
        co_return;
    if (answer || answer.error() == session::request_error::refused) // refused: it has none
        owed_.erase(owed);
    else
        owed->second = false;
}

} // namespace tandem::media
