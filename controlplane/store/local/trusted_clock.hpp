// SPDX-License-Identifier: Apache-2.0
// Whether the wall's clock may be asked how old a record is. It is trusted while it goes on as the clock that nobody
// sets says: from where it was trusted last, over restarts of the program exactly, over one of the machine by a day at
// most and never back. Anything else (a start ten years ahead, in 1970, a jump meanwhile) is doubt: nothing is deleted
// by age until the clock is back where it should be, somebody accepts it, or it went on steadily for so long that
// everything kept is older by running time alone. Private to this room. Pure.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "controlplane/protocol/moment.hpp"

namespace tandem::store {

class trusted_clock {
public:
    // Running time after which a doubted clock is believed.
    void believe_after(std::chrono::milliseconds steady) { believe_after_ = steady; }

    // What an earlier process kept (text()); false where it is none.
    bool load(std::string_view text);
    // Nothing was kept: the newest record is what the clock is held against.
    void start_from(std::chrono::system_clock::time_point newest_record);
    [[nodiscard]] std::string text() const;

    // Looks at it, now and then; says a jump in the log.
    void look(const protocol::moment& now);
    void accept(const protocol::moment& now); // somebody says that it is right
    [[nodiscard]] bool trusted() const noexcept { return !doubted_.was(); }
    // Empty, or a sentence that says what to do.
    [[nodiscard]] std::string doubt() const;

    std::uint64_t jumps = 0;

private:
    [[nodiscard]] protocol::moment expected() const; // what it should show about now

    std::chrono::milliseconds believe_after_{};
    protocol::moment last_;    // look, of this process
    protocol::moment trusted_; // the last time it was
    protocol::moment doubted_; // the last look, while it is not; since when it goes on steadily:
    std::chrono::milliseconds steady_{};
};

} // namespace tandem::store
