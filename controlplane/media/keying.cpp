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

} // namespace tandem::media
