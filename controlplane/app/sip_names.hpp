// SPDX-License-Identifier: Apache-2.0
// Tells the SIP gateway which names are whose: for each unit that has a session a row "inner address, name" for its id
// code and each name of its own, and one for each of these alone, by which it is called, into one table
// (controlplane/sip) that Kamailio looks into at each request from the inner side. Written when something changed: at
// once, or `rest` after the last time where many units come in a row. A table that cannot be written is said, tried
// again, and stands as an alarm. Owner thread: io_context.
#pragma once

#include <asio/io_context.hpp>
#include <asio/steady_timer.hpp>
#include <chrono>
#include <string>

#include "controlplane/session/directory.hpp"
#include "controlplane/sip/tables.hpp"
#include "controlplane/store/local/database.hpp"

namespace tandem::control {

class sip_names {
public:
    // An empty directory: there is no SIP gateway to be told.
    sip_names(asio::io_context& io, const std::string& directory, store::database& store,
              const session::directory& sessions);

    void changed() { write(); }                    // an operator gave names, or took some: in force at the next request
    void up(const session::session_info& session); // soon() unless it is in the table as it is
    void soon();                                   // a unit came or went
    void stop() { timer_.cancel(); }
    [[nodiscard]] const std::string& trouble() const noexcept { return trouble_; }

private:
    static constexpr std::chrono::milliseconds rest{100}, try_again{1000};
    void write();
    [[nodiscard]] sip::table rows();
    void wait(std::chrono::milliseconds so_long);

    std::string directory_;
    store::database& store_;
    const session::directory& sessions_;
    asio::steady_timer timer_;
    bool waiting_ = false;
    std::chrono::steady_clock::time_point last_{};
    std::vector<sip::row> written_;
    bool was_written_ = false;
    std::string trouble_;
};

} // namespace tandem::control
