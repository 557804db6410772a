// SPDX-License-Identifier: Apache-2.0
// Secondaries: keys per direction from the seeds (RIM-12), MEDIA_OPEN, MEDIA_CLOSE. Owner thread: io_context.
#include <algorithm>
#include <fmt/format.h>
#include <utility>

#include "controlplane/media/state.hpp"
#include "controlplane/protocol/address_asio.hpp"
#include "controlplane/protocol/message.hpp"
#include "controlplane/protocol/seed_keys.hpp"
#include "controlplane/protocol/spawn.hpp"

namespace tandem::media {

namespace {

using protocol::tlv;

// `key || salt` into the contract's item, once per flow.
void append_keys(std::vector<api::epoch_key>& keys, const std::vector<api::flow_id>& flows, api::side side,
                 std::uint32_t epoch, std::uint32_t mki, api::suite suite, const protocol::secret& key_and_salt) {
    const auto& row = api::info(suite);
    if (key_and_salt.size() < std::size_t{row.key_length} + row.salt_length)
        return; // the data plane's answer would be srtp_no_key; SDES lengths are checked where they are parsed
    for (const auto flow : flows) {
        api::epoch_key item{};
        item.id = flow;
        item.side = side;
        item.epoch = epoch;
        item.mki = mki;
        item.key_length = row.key_length;
        item.salt_length = row.salt_length;
        const auto bytes = key_and_salt.view();
        std::copy_n(bytes.begin(), row.key_length, item.key);
        std::copy_n(bytes.begin() + row.key_length, row.salt_length, item.salt);
        keys.push_back(item);
        protocol::wipe(&item, sizeof(item));
    }
}

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

// Keys of one epoch for a unit leg: what it sends us and what we send it, each direction its own.
bool manager::add_unit_keys(std::vector<api::epoch_key>& keys, const state& m, const media_terms& of, std::size_t i,
                            const epoch_seeds& seeds) const {
    const auto& to = of.legs[i];
    const auto shapes = of.shapes();
    for (const auto way : {protocol::direction::to_gateway, protocol::direction::to_unit}) {
        const bool in = way == protocol::direction::to_gateway;
        const auto derived =
            m.level.seed_is_key
                ? protocol::seed_as_keys(seeds.seed[in ? 0 : 1], to.suite)
                : protocol::derive_keys(seeds.seed[0], {to.tsid, to.told(m.id), way, seeds.epoch, to.suite});
        if (!derived)
            return false;
        append_keys(keys, in ? flows_from(shapes, i) : flows_towards(shapes, i), in ? api::side::in : api::side::out,
                    seeds.epoch, seeds.epoch, to.suite, *derived);
    }
    return true;
}

void manager::add_sdes_keys(std::vector<api::epoch_key>& keys, const media_terms& of, std::size_t i,
                            const key_step& which) const {
    const auto& l = of.legs[i];
    const auto shapes = of.shapes();
    if (which.fresh_in)
        append_keys(keys, flows_from(shapes, i), api::side::in, which.in_epoch, l.srtp->receive_mki, l.suite,
                    l.srtp->receive);
    if (which.fresh_out)
        append_keys(keys, flows_towards(shapes, i), api::side::out, which.epoch, l.srtp->send_mki, l.suite,
                    l.srtp->send);
}

asio::awaitable<result<void>> manager::install_keys(media_ptr m, const media_terms& of,
                                                    const std::array<epoch_seeds, 2>& seeds) {
    key_batch keys;
    std::vector<api::epoch_ref> begin;
    for (std::size_t i = 0; i < 2; ++i) {
        auto& l = m->legs[i];
        const auto& terms = of.legs[i];
        if (terms.suite == api::suite::clear)
            continue;
        if (terms.is_unit()) {
            if (!add_unit_keys(keys.items, *m, of, i, seeds[i]))
                co_return fail("keys could not be derived from the seed");
        } else if (terms.srtp) {
            add_sdes_keys(keys.items, of, i, {true, true, l.in_epoch, l.epoch});
        } else {
            co_return fail("SDES keys of this call are not known any more: the call must be set up again");
        }
        l.keyed = true;
        for (const auto flow : flows_towards(of.shapes(), i))
            begin.push_back({flow, terms.is_unit() ? seeds[i].epoch : l.epoch, api::side::out, {}});
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

void manager::close_secondary(const leg_terms& of, media_id id) {
    owed_[{of.tsid, of.told(id)}] = false;
    close_owed(of.tsid);
}

// What was not answered is said again: when the unit's session comes up, and each sweep.
void manager::close_owed(session::tsid unit) {
    std::vector<std::uint32_t> numbers; // an answer may come at once
    for (auto owed = owed_.lower_bound({unit, 0}); owed != owed_.end() && owed->first.first == unit; ++owed)
        if (!std::exchange(owed->second, true))
            numbers.push_back(owed->first.second);
    for (const auto id : numbers)
        protocol::spawn_contained(io_, "end of a secondary", send_media_close(unit, id), [this, unit, id] {
            if (const auto again = owed_.find({unit, id}); again != owed_.end())
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
