// SPDX-License-Identifier: Apache-2.0
// How a leg comes by its keys: nobody makes any (clear), signalling brings them (SDES, RFC 4568), or they are derived
// from seeds of the gateway or of the leg's unit. A kind to come (DTLS, end to end) is a class more in key_kinds.cpp
// and a line of key_kind::of; nobody else asks which kind it is. Kinds have no state: that is the leg's `keying`,
// because epoch numbers outlive a change of kind. Private to this room. Owner thread: io_context.
#pragma once

#include <vector>

#include "controlplane/media/keying.hpp"
#include "dataplane/api/contract.hpp"

namespace tandem::media {

// Of a leg whose flows get keys: those of `seeds` where a secondary begins, those of signalling that `which` says.
struct key_wish {
    const facts& media;
    const media_terms& terms;
    std::size_t leg;
    const epoch_seeds& seeds;
    key_step which{};
};

class key_kind {
public:
    virtual ~key_kind() = default;
    [[nodiscard]] static const key_kind& of(const leg_terms& leg) noexcept;

    // Packets of the leg are protected.
    [[nodiscard]] virtual bool protects() const noexcept { return true; }
    // Its epochs come from seeds: made when it begins, told to its unit, followed by others at each interval. It can
    // begin anew at any time; else whoever lost its keys or its packet counts has lost the leg.
    [[nodiscard]] virtual bool has_seeds() const noexcept { return false; }
    // Of the keys that signalling gave, which are new after a change.
    [[nodiscard]] virtual key_step plan(const keying& now, const leg_terms& was, const leg_terms& want) const;
    // What the data plane is told, once per flow and side; an error where the keys are not to be had.
    [[nodiscard]] virtual result<void> add(std::vector<api::epoch_key>& to, const key_wish& wish) const = 0;
    // These are in force now; `seeds` known where they begin.
    virtual void begin(keying& leg, const leg_terms& is, const key_step& step, epoch_seeds seeds) const;
    // What a data plane has installed that knows better: of the side that receives, of the one that sends.
    virtual void found_in(keying& leg, std::uint32_t newest) const;
    virtual void found_out(keying& leg, std::uint32_t newest, std::uint32_t sending) const;
};

} // namespace tandem::media
