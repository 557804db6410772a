// SPDX-License-Identifier: Apache-2.0
// What call control asks of media: ports, legs, flows. Implemented by media/ (calls to the data plane, seeds to units);
// call control (ng, SDP) knows nothing of either. One thread: the control plane's io_context.
//
// Life of a media: open (offer: ports are taken on both legs) -> update (answer, re-offer: remotes and keys known,
// flows installed, MEDIA_OPEN acknowledged by the units) -> ... -> close (delete). Idempotent per call and index.
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

    // Takes ports on both legs (the second leg's kind decided by the caller: unit where the callee is one). Nothing is
    // sent.
    virtual asio::awaitable<result<media_locals>> open(const media_request&) = 0;
    // Installs or changes flows and secondaries to what is now known. Returns once the data plane and the units
    // confirmed.
    virtual asio::awaitable<result<media_locals>> update(media_id, const media_request&) = 0;
    // Ends secondaries, removes flows, wipes keys, writes the record. Unknown ids are ignored.
    virtual asio::awaitable<void> close(media_id, const std::string& cause) = 0;

    [[nodiscard]] virtual std::optional<media_info> info(media_id) const = 0;
    [[nodiscard]] virtual std::vector<media_info> all() const = 0;

    // The media ended by itself (timeout, session released): call control forgets the call.
    std::function<void(media_id, const std::string& call_id, const std::string& cause)> on_ended;
};

} // namespace tandem::media
