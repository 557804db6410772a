// SPDX-License-Identifier: Apache-2.0
// A leg's epochs and seeds (keying.hpp). Owner thread: io_context.
#include "controlplane/media/keying.hpp"

#include <algorithm>

namespace tandem::media {

std::uint32_t keying::number_after() const noexcept {
    return keyed ? std::max({epoch, in_epoch, highest}) + 1 : 0;
}

std::uint32_t keying::begin_next() {
    highest = number_after();
    keyed = true;
    return highest;
}

void keying::begin(epoch_seeds seeds) {
    epoch = in_epoch = seeds.epoch;
    current = std::move(seeds);
    next.clear();
    next_installed = false;
    retiring.clear();
    stale = false;
    unanswered = 0;
}

void keying::begin(const leg_terms& is, const key_step& keys) {
    forget();
    next_installed = false;
    retiring.clear();
    in_epoch = keys.in_epoch;
    epoch = keys.epoch;
    highest = std::max({highest, epoch, in_epoch});
    keyed = keyed || ((keys.fresh_in || keys.fresh_out) && is.suite != api::suite::clear);
}

void keying::adopt_next() {
    current = std::move(next);
    next.clear();
    next_installed = false;
    epoch = in_epoch = current.epoch;
}

void keying::forget() {
    current.clear();
    next.clear();
}

key_step keying::plan(const leg_terms& was, const leg_terms& want) const {
    key_step out{false, false, in_epoch, epoch};
    if (!want.srtp) // a unit's go on or begin with their seeds; clear has none
        return out;
    const bool goes_on = was.srtp && was.suite == want.suite && was.srtp->mki_length == want.srtp->mki_length;
    out.fresh_in =
        !goes_on || was.srtp->receive != want.srtp->receive || was.srtp->receive_mki != want.srtp->receive_mki;
    out.fresh_out = !goes_on || was.srtp->send != want.srtp->send || was.srtp->send_mki != want.srtp->send_mki;
    if (out.fresh_in)
        out.in_epoch = number_after();
    if (out.fresh_out)
        out.epoch = number_after();
    return out;
}

void keying::found_in(const leg_terms& is, std::uint32_t newest) {
    highest = std::max(highest, newest);
    if (!is.is_unit())
        in_epoch = newest;
}

void keying::found_out(const leg_terms& is, std::uint32_t newest, std::uint32_t sending) {
    highest = std::max(highest, newest);
    if (is.suite != api::suite::clear && !next.known()) // else a re-key under way: its seed is ours
        epoch = sending;
    if (is.is_unit())
        in_epoch = epoch;
}

} // namespace tandem::media
