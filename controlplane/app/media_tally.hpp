// SPDX-License-Identifier: Apache-2.0
// What this gateway carries in sum, of all media that were in force since the program began, for `counters`; and the
// line in the log where one begins and ends. Owner thread: io_context.
#pragma once

#include <cstdint>
#include <optional>
#include <unordered_map>

#include "controlplane/media/observer.hpp"

namespace tandem::control {

class media_tally final : public media::observer {
public:
    struct sums {
        std::uint64_t packets = 0, bytes = 0, lost = 0; // received from both legs, at the last tick
        double seconds = 0;
    };

    void begin(const media::media_info& media, beginning how) override;
    void tick(const media::media_info& media) override;
    void end(const media::media_info& media, ending how, const std::string& cause) override;

    [[nodiscard]] std::uint64_t begun() const noexcept { return begun_; } // taken over ones not
    [[nodiscard]] std::size_t up() const noexcept { return up_.size(); }
    [[nodiscard]] const sums& carried() const noexcept { return carried_; }

private:
    static sums of(const media::media_info& media);

    std::uint64_t begun_ = 0;
    std::unordered_map<media::media_id, std::optional<sums>>
        up_; // as told last; taken over ones from the first tick on
    sums carried_;
};

} // namespace tandem::control
