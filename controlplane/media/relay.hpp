// SPDX-License-Identifier: Apache-2.0
// What call control asks of media: ports, legs, flows. Implemented by media/ (calls to the data plane, seeds to units);
// call control (ng, SDP) knows nothing of either. One thread: the control plane's io_context.
//
// Life of a media: open (offer: ports are taken on both legs) -> update (answer: remotes and keys known, flows
// installed, MEDIA_OPEN acknowledged by the units) -> [open (re-offer that moves a leg) -> update | withdraw] -> close
// (delete). A refusal leaves all as it was: what is asked for is planned and taken beside what is in force, then takes
// its place.
#pragma once

#include <asio/awaitable.hpp>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "controlplane/media/types.hpp"

namespace tandem::media {

class relay {
public:
    virtual ~relay() = default;

    // Asked at each offer before anything of it is taken, be it of a call that runs: why there may be no such call.
    // Counted, and a new call's refusal is recorded.
    [[nodiscard]] virtual std::optional<error> denies(const media_request&) = 0;
    // False: it would find nothing to deny, whatever the offer.
    [[nodiscard]] virtual bool may_deny() const { return true; }
    // Takes ports on both legs (the second leg's kind decided by the caller: unit where the callee is one). Nothing is
    // sent. Of a call and index that are known: takes what the legs need now beside what they have; what is in force
    // stays so until an update.
    virtual asio::awaitable<result<media_locals>> open(const media_request&) = 0;
    // What open() took beside a known media is given back: its offer was refused, or another one came.
    virtual void withdraw(media_id) = 0;
    // Installs or changes flows and secondaries to what is now known, of all these media or of none. Returns once the
    // data plane and the units confirmed; one answer a change, in order.
    virtual asio::awaitable<result<std::vector<media_locals>>> update(std::vector<media_change>) = 0;
    // Signalling of these media came by: where clear media come from is learned anew.
    virtual asio::awaitable<void> learn_anew(std::vector<media_id>) = 0;
    // Ends secondaries, removes flows, wipes keys, writes the record. Unknown ids are ignored.
    virtual asio::awaitable<void> close(media_id, const std::string& cause) = 0;

    // Our address of that name, of this family where there is one; nothing where there is none, or nobody knows yet.
    [[nodiscard]] virtual std::optional<asio::ip::address> address_named(const std::string& name, bool ipv6) const = 0;

    [[nodiscard]] virtual std::optional<media_info> info(media_id) const = 0;
    [[nodiscard]] virtual std::vector<media_info> all() const = 0;

    // The media ended by itself (timeout, session released): call control forgets the call.
    std::function<void(media_id, const std::string& call_id, const std::string& cause)> on_ended;
};

} // namespace tandem::media
