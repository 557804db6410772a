// SPDX-License-Identifier: Apache-2.0
// The SIP gateway's table of names (sip_names.hpp).
#include "controlplane/app/sip_names.hpp"

#include <algorithm>
#include <map>
#include <spdlog/spdlog.h>

namespace tandem::control {

sip_names::sip_names(asio::io_context& io, const std::string& directory, store::database& store,
                     const session::directory& sessions)
    : directory_(directory), store_(store), sessions_(sessions), timer_(io) {}

void sip_names::soon() {
    if (waiting_)
        return;
    const auto since = std::chrono::steady_clock::now() - last_;
    if (since >= rest)
        write();
    else
        wait(std::chrono::ceil<std::chrono::milliseconds>(rest - since));
}

void sip_names::up(const session::session_info& session) {
    const auto there = [&](const asio::ip::address& address) {
        return std::ranges::binary_search(written_, sip::row{address.to_string() + " " + session.unit, session.unit});
    };
    if (!was_written_ || !std::ranges::all_of(session.inner, there))
        soon();
}

void sip_names::wait(std::chrono::milliseconds so_long) {
    waiting_ = true;
    timer_.expires_after(so_long);
    timer_.async_wait([this](const asio::error_code& error) {
        waiting_ = false;
        if (!error)
            write();
    });
}

sip::table sip_names::rows() {
    sip::table all{sip::names_columns, {}};
    std::map<std::string, std::vector<std::string>> known; // in one question, however many sessions
    for (auto& [unit, name] : store_.all_unit_names())
        known[std::move(unit)].push_back(std::move(name));
    for (const auto& session : sessions_.all()) {
        auto names = known[session.unit];
        names.push_back(session.unit);
        for (const auto& name : names) // who is called by it; nobody of the core side has it
            all.rows.push_back({name, session.unit});
        for (const auto& address : session.inner)
            for (const auto& name : names)
                all.rows.push_back({address.to_string() + " " + name, session.unit});
    }
    std::ranges::sort(all.rows);
    return all;
}

void sip_names::write() {
    if (directory_.empty())
        return;
    last_ = std::chrono::steady_clock::now();
    auto fresh = rows();
    if (was_written_ && fresh.rows == written_)
        return;
    const auto path = directory_ + "/" + std::string(sip::names_table);
    if (auto done = sip::write_table(path, fresh); !done) {
        if (trouble_ != done.error())
            spdlog::error("the SIP gateway is not told the units' names: {}; it refuses those that are new: run "
                          "`tandemctl sip prepare`, see [sip] directory",
                          done.error());
        trouble_ = done.error();
        return wait(try_again);
    }
    trouble_.clear();
    written_ = std::move(fresh.rows);
    was_written_ = true;
}

} // namespace tandem::control
