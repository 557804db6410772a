// SPDX-License-Identifier: Apache-2.0
// What a database is made of. Private to this room. Owner thread: io_context.
#pragma once

#include <asio/steady_timer.hpp>
#include <chrono>
#include <memory>

#include "controlplane/store/local/archive.hpp"
#include "controlplane/store/local/database.hpp"
#include "controlplane/store/local/ledger.hpp"
#include "controlplane/store/local/trusted_clock.hpp"
#include "controlplane/store/local/units.hpp"
#include "controlplane/store/local/writer.hpp"

namespace tandem::store {

struct database::impl : std::enable_shared_from_this<database::impl> {
    impl(identity::sealer k, database_options o);
    [[nodiscard]] tl::expected<void, std::string> open(const std::string& file);
    [[nodiscard]] std::string trouble() const;
    void keep_clock();
    void start(asio::io_context& io);
    void stop();

    connection link; // first: what is prepared on it goes before it
    database_options options;
    std::uint64_t failed = 0, expired = 0;
    std::string path;
    bool checkpoint_fault = false; // the last one's
    identity::sealer keys;
    unit_rows units;
    writer writes;
    session_rows sessions;
    ledger live;
    record_rows records;
    trusted_clock clock; // for keep_days
    bool flush_posted = false, apply_set = false;

private:
    [[nodiscard]] tl::expected<void, std::string> open_link();
    [[nodiscard]] std::string open_to_write();
    [[nodiscard]] bool open_to_read();
    [[nodiscard]] bool reopen();
    void load_clock();
    void set_up();
    static int moved_on(void* self, sqlite3* db, const char* name, int pages);
    using step = void (impl::*)();
    using timer = std::weak_ptr<asio::steady_timer>; // the io_context's: it may end before this does
    void after(std::chrono::milliseconds pause, step next, timer& slot);
    void apply();  // some of what is in the log goes into the tables
    void retry();  // what SQLite refused, now and then
    void expire(); // old records, a few at a time
    void apply_soon(std::chrono::milliseconds pause);

    asio::io_context* io_ = nullptr; // while it runs
    timer apply_timer_, retry_timer_, expire_timer_;
};

} // namespace tandem::store
