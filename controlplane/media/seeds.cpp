// SPDX-License-Identifier: Apache-2.0
// Who makes an epoch's seeds (RIM-28, RIM-29): the gateway's generator, the unit (SEED_MAKE), or both, XORed. With the
// unit as the source the generator is not called at all. A unit that does not make them, or wrongly, never costs the
// call: the gateway makes them, says so in MEDIA_OPEN or SEED (key_source 0), counts it and raises an alarm.
// Owner thread: io_context.
#include <algorithm>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/random.h>

#include "controlplane/media/state.hpp"
#include "controlplane/protocol/message.hpp"
#include "controlplane/protocol/seed_keys.hpp"

namespace tandem::media {

namespace {

using policy::key_source;
using protocol::tlv;

constexpr std::uint32_t patience = 2; // unanswered SEED_MAKEs of one re-key before the gateway steps in

bool kernel_random(std::span<std::uint8_t> bytes) {
    return ::getrandom(bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size());
}

std::size_t seeds_of(const policy::level& level) noexcept {
    return level.seed_is_key ? 2 : 1; // one per direction where the seed is the key itself
}

} // namespace

bool manager::fill(state& m, protocol::secret& seed) {
    const auto bytes = seed.resize(m.level.seed_length());
    ++m.seeds_made;
    ++counters_.seeds_made;
    return generator_ ? generator_(bytes) : kernel_random(bytes);
}

bool manager::own_seeds(state& m, epoch_seeds& to) {
    to.source = key_source::gateway;
    for (std::size_t n = 0; n < seeds_of(m.level); ++n)
        if (!fill(m, to.seed[n]))
            return false;
    return true;
}

// The unit's seeds, alone or with a half of ours.
bool manager::combine(state& m, epoch_seeds& to, const protocol::message& answer) {
    to.source = m.level.keys;
    for (std::size_t n = 0; n < seeds_of(m.level); ++n) {
        to.seed[n] = *answer.get_secret<tlv::seed>(n);
        ++m.seeds_from_units;
        ++counters_.seeds_from_units;
        if (to.source != key_source::both)
            continue;
        if (!fill(m, to.half[n]))
            return false;
        const auto theirs = to.seed[n].copy(); // wiped here
        const auto sum = to.seed[n].resize(theirs.size());
        std::ranges::transform(theirs.view(), to.half[n].view(), sum.begin(), std::bit_xor<std::uint8_t>());
    }
    return true;
}

// What is wrong with a unit's seeds; empty where nothing is.
std::string manager::fault_of(const state& m, leg& l, std::uint32_t told, std::uint32_t epoch,
                              const protocol::message& answer) {
    const auto count = answer.count<tlv::seed>();
    if (answer.get<tlv::media_id>() != told || answer.get<tlv::epoch>() != epoch)
        return "is another media's or epoch's";
    if (count != seeds_of(m.level))
        return fmt::format("came {} times, not {}", count, seeds_of(m.level));
    for (std::size_t n = 0; n < count; ++n)
        if (const auto length = answer.get<tlv::seed>(n)->size(); length != m.level.seed_length())
            return fmt::format("has {} bytes, not {}", length, m.level.seed_length());
    const auto now = protocol::digest(*answer.get<tlv::seed>());
    const bool again = l.heard && l.heard->first != epoch && l.heard->second == now;
    l.heard = {epoch, now};
    return again ? "is the last one again" : "";
}

void manager::replace_seeds(const media_ptr& m, leg& l, const std::string& unit, std::uint32_t epoch,
                            const std::string& why) {
    l.replaced = true;
    spdlog::warn("alarm: media {} of call {}: epoch {}'s seed that unit {} should make {}: the gateway makes it", m->id,
                 m->call_id, epoch, unit, why);
}

// An error where the epoch cannot be had now: the unit is away, or may still answer when asked again (a re-key).
asio::awaitable<result<epoch_seeds>> manager::make_seeds(media_ptr m, std::size_t i, leg_terms to, std::uint32_t epoch,
                                                         seed_use use) {
    auto& l = m->legs[i];
    epoch_seeds made;
    made.epoch = epoch;
    if (m->level.keys != key_source::gateway) {
        auto request = protocol::message::request(protocol::exchange::seed_make);
        request.add<tlv::media_id>(to.told(m->id));
        request.add<tlv::epoch>(epoch);
        request.add<tlv::seed_bytes>(static_cast<std::uint16_t>(m->level.seed_length()));
        request.add<tlv::seed_count>(static_cast<std::uint8_t>(seeds_of(m->level)));
        request.add<tlv::key_source>(protocol::wire(m->level.keys));
        const auto answer = co_await sessions_.request(to.tsid, std::move(request), options_.unit_timeout);
        if (gone(*m))
            co_return over(m->id);
        std::string why;
        if (answer) {
            l.unanswered = 0;
            why = fault_of(*m, l, to.told(m->id), epoch, *answer);
            if (why.empty()) {
                l.replaced = false;
                if (!combine(*m, made, *answer))
                    co_return fail("the kernel's random generator failed: no seed can be made");
                co_return made;
            }
            ++counters_.unit_seeds_refused;
        } else if (answer.error() == session::request_error::timeout) {
            if (++l.unanswered < patience && use == seed_use::rekey)
                co_return tl::unexpected(error{"the unit did not answer in time when it was asked for a seed"});
            why = "did not come in time";
            ++counters_.unit_seeds_missing;
        } else if (answer.error() == session::request_error::refused) {
            why = "was refused (see the log; an agent before SEED_MAKE does not know how)";
            ++counters_.unit_seeds_missing;
        } else {
            co_return tl::unexpected(error{fmt::format("unit {} has no primary tunnel up", to.unit)});
        }
        replace_seeds(m, l, to.unit, epoch, why);
    }
    if (!own_seeds(*m, made))
        co_return fail("the kernel's random generator failed: no seed can be made");
    co_return made;
}

asio::awaitable<result<void>> manager::first_seeds(media_ptr m, const media_terms& of,
                                                   std::array<epoch_seeds, 2>& seeds, std::array<bool, 2> which) {
    using made = spawned<result<epoch_seeds>>;
    std::array<std::shared_ptr<made>, 2> under_way;
    for (std::size_t i = 0; i < 2; ++i) {
        if (!which[i])
            continue;
        if (m->level.keys != key_source::gateway)
            under_way[i] = made::start(io_, make_seeds(m, i, of.legs[i], seeds[i].epoch, seed_use::fresh));
        else if (!own_seeds(*m, seeds[i]))
            co_return fail("the kernel's random generator failed: no seed can be made");
    }
    result<void> done;
    for (std::size_t i = 0; i < 2; ++i) {
        if (!under_way[i])
            continue;
        co_await under_way[i]->wait();
        if (gone(*m))
            co_return over(m->id);
        if (under_way[i]->failed())
            done = fail("a seed could not be had: an error inside, see the log");
        else if (auto& one = under_way[i]->value(); one)
            seeds[i] = std::move(*one);
        else
            done = tl::unexpected(one.error());
    }
    co_return done;
}

std::vector<std::string> manager::units_without_seeds() const {
    if (counters_.unit_seeds_refused + counters_.unit_seeds_missing == 0)
        return {}; // asked twice a second: not through all calls for nothing
    std::set<std::string> out;
    for (const auto& [id, m] : media_)
        for (std::size_t i = 0; i < 2; ++i)
            if (m->now.legs[i].is_unit() && m->legs[i].replaced && m->installed)
                out.insert(m->now.legs[i].unit);
    return {out.begin(), out.end()};
}

} // namespace tandem::media
