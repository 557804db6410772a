// SPDX-License-Identifier: Apache-2.0
// The store that many gateways share: PostgreSQL by libpq. The same `policy::store` and `archive` as the local one.
//
// Two threads of its own hold a connection each: the watcher loads rules and profiles, listens (LISTEN/NOTIFY) and
// tells whether the server lives; the worker changes rules, ships records out of the local spool and reads records. No
// libpq call is made on the io_context and none blocks for long: a server that is stopped, killed, unreachable or slow
// costs an alarm, never a call, and never the end of the program. What a thread finds out comes back by asio::post.
// Owner thread of the public face: the io_context.
#pragma once

#include <asio/io_context.hpp>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include <tl/expected.hpp>

#include "controlplane/policy/store.hpp"
#include "controlplane/store/call_record.hpp"
#include "controlplane/store/spool.hpp"

namespace tandem::store {

struct postgres_options {
    std::string conninfo; // "service=tandem", "host=/run/postgresql dbname=tandem user=tandem"; never a password
    std::string instance; // this gateway's name, for people who look at the server
    std::chrono::milliseconds heartbeat{500}; // how often the server is asked for a sign of life
    std::chrono::milliseconds patience{1500}; // how long it may take to give one
    std::size_t batch = 200;                  // records a transaction
};

struct postgres_status {
    bool connected = false; // rules are loaded and changes are heard
    std::string trouble;    // empty: well
    std::uint64_t connects = 0, shipped = 0, doubles_refused = 0, ship_failures = 0;
};

// The error is a sentence: what conninfo must not hold (a password), or what it cannot say.
[[nodiscard]] tl::expected<void, std::string> check_conninfo(const std::string& conninfo);

class postgres : public policy::store, public archive {
public:
    [[nodiscard]] virtual postgres_status status() const = 0;
};

// Connects when start() is called, not before, and goes on trying: a server that is away is no error here.
[[nodiscard]] tl::expected<std::unique_ptr<postgres>, std::string>
open_postgres(asio::io_context& io, postgres_options options, record_spool& spool, archive& local);

} // namespace tandem::store
