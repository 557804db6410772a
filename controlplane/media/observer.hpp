// SPDX-License-Identifier: Apache-2.0
// Who is told of each media in force: for charging, metrics, a cluster. In force: answered, with flows; what only rings
// is told of by nobody. Each `begin` has one `end`, however it ends, and ticks between the two alone.
//
//   manager.observe(mine); // before start(); it outlives the manager's stop()
//
// Over a start of the program: what an earlier process had in force begins again in this one, as `taken_over`, before
// anything is known of its flows; what is in force at an orderly end is `handed_on`. A process that is killed says
// nothing: the next one's `taken_over` says that the media went on. What an observer throws is logged, and costs
// nobody else anything. It asks nothing of the manager from within. Owner thread: io_context.
#pragma once

#include <cstdint>
#include <exception>
#include <spdlog/spdlog.h>
#include <string>
#include <vector>

#include "controlplane/media/types.hpp"

namespace tandem::media {

class observer {
public:
    enum class beginning : std::uint8_t { answered, taken_over };
    enum class ending : std::uint8_t { over, handed_on }; // handed_on: media go on, this process does not

    virtual ~observer() = default;
    virtual void begin(const media_info& media, beginning how) = 0;
    // About every settings::tick while it is in force; `received` of its legs counts from its begin (taken over: from
    // when the data plane's counters began), and never less than before.
    virtual void tick(const media_info& /*media*/) {}
    virtual void end(const media_info& media, ending how, const std::string& cause) = 0;
};

class observers {
public:
    void add(observer& one) { all_.push_back(&one); }
    [[nodiscard]] bool none() const noexcept { return all_.empty(); }
    template <class Tell>
    void each(Tell&& tell) const {
        for (auto* one : all_)
            try {
                tell(*one);
            } catch (const std::exception& fault) {
                spdlog::error("an observer of media failed: {}", fault.what());
            }
    }

private:
    std::vector<observer*> all_;
};

} // namespace tandem::media
