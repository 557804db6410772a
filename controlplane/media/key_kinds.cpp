// SPDX-License-Identifier: Apache-2.0
// The kinds of keys (key_kind.hpp): none, signalling's, from seeds (RIM-12). Owner thread: io_context.
#include <algorithm>
#include <utility>

#include "controlplane/media/key_kind.hpp"
#include "controlplane/protocol/seed_keys.hpp"

namespace tandem::media {

namespace {

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

class clear_kind final : public key_kind {
public:
    [[nodiscard]] bool protects() const noexcept override { return false; }
    [[nodiscard]] result<void> add(std::vector<api::epoch_key>&, const key_wish&) const override { return {}; }
    void found_out(keying& leg, std::uint32_t newest, std::uint32_t) const override {
        leg.highest = std::max(leg.highest, newest);
    }
};

class signalled_kind final : public key_kind {
public:
    [[nodiscard]] key_step plan(const keying& now, const leg_terms& was, const leg_terms& want) const override {
        auto out = key_kind::plan(now, was, want);
        if (!want.srtp) // an earlier run had them
            return out;
        const bool goes_on = was.srtp && was.suite == want.suite && was.srtp->mki_length == want.srtp->mki_length;
        out.fresh_in =
            !goes_on || was.srtp->receive != want.srtp->receive || was.srtp->receive_mki != want.srtp->receive_mki;
        out.fresh_out = !goes_on || was.srtp->send != want.srtp->send || was.srtp->send_mki != want.srtp->send_mki;
        if (out.fresh_in)
            out.in_epoch = now.number_after();
        if (out.fresh_out)
            out.epoch = now.number_after();
        return out;
    }
    [[nodiscard]] result<void> add(std::vector<api::epoch_key>& to, const key_wish& wish) const override {
        const auto& l = wish.terms.legs[wish.leg];
        const auto shapes = wish.terms.shapes();
        const auto& which = wish.which;
        if ((which.fresh_in || which.fresh_out) && !l.srtp)
            return tl::unexpected(
                error{"SDES keys of this call are not known any more: the call must be set up again"});
        if (which.fresh_in)
            append_keys(to, flows_from(shapes, wish.leg), api::side::in, which.in_epoch, l.srtp->receive_mki, l.suite,
                        l.srtp->receive);
        if (which.fresh_out)
            append_keys(to, flows_towards(shapes, wish.leg), api::side::out, which.epoch, l.srtp->send_mki, l.suite,
                        l.srtp->send);
        return {};
    }
};

class seeded_kind final : public key_kind {
public:
    [[nodiscard]] bool has_seeds() const noexcept override { return true; }
    // Either side's keys per direction, from one seed, or from one each where the level says that they are the keys.
    [[nodiscard]] result<void> add(std::vector<api::epoch_key>& to, const key_wish& wish) const override {
        using protocol::direction;
        if (!wish.seeds.known())
            return {};
        const auto& l = wish.terms.legs[wish.leg];
        const auto shapes = wish.terms.shapes();
        const auto epoch = wish.seeds.epoch;
        for (const auto way : {direction::to_gateway, direction::to_unit}) {
            const bool in = way == direction::to_gateway;
            const auto derived =
                wish.media.level.seed_is_key
                    ? protocol::seed_as_keys(wish.seeds.seed[in ? 0 : 1], l.suite)
                    : protocol::derive_keys(wish.seeds.seed[0], {l.tsid, l.told(wish.media.id), way, epoch, l.suite});
            if (!derived)
                return tl::unexpected(error{"keys could not be derived from the seed"});
            append_keys(to, in ? flows_from(shapes, wish.leg) : flows_towards(shapes, wish.leg),
                        in ? api::side::in : api::side::out, epoch, epoch, l.suite, *derived);
        }
        return {};
    }
    void begin(keying& leg, const leg_terms&, const key_step&, epoch_seeds seeds) const override {
        if (seeds.known()) // else they go on
            leg.begin(std::move(seeds));
    }
    void found_in(keying& leg, std::uint32_t newest) const override { leg.highest = std::max(leg.highest, newest); }
    void found_out(keying& leg, std::uint32_t newest, std::uint32_t sending) const override {
        key_kind::found_out(leg, newest, sending);
        leg.in_epoch = leg.epoch;
    }
};

} // namespace

const key_kind& key_kind::of(const leg_terms& leg) noexcept {
    static const clear_kind clear;
    static const signalled_kind signalled;
    static const seeded_kind seeded;
    if (leg.is_unit())
        return seeded;
    return leg.suite == api::suite::clear ? static_cast<const key_kind&>(clear) : signalled;
}

key_step key_kind::plan(const keying& now, const leg_terms&, const leg_terms&) const {
    return {false, false, now.in_epoch, now.epoch};
}

void key_kind::begin(keying& leg, const leg_terms& is, const key_step& step, epoch_seeds) const {
    leg.begin(is, step);
}

void key_kind::found_in(keying& leg, std::uint32_t newest) const {
    leg.highest = std::max(leg.highest, newest);
    leg.in_epoch = newest;
}

void key_kind::found_out(keying& leg, std::uint32_t newest, std::uint32_t sending) const {
    leg.highest = std::max(leg.highest, newest);
    if (!leg.next.known()) // else a re-key under way: its seed is ours
        leg.epoch = sending;
}

} // namespace tandem::media
