// SPDX-License-Identifier: Apache-2.0
// The embedded store (SQLite, WAL): units with sealed keys, sessions, calls and media in progress, call records, rules
// and profiles. Hands out the stores that other rooms ask for, so that they know no database. Never a key in clear:
// PSKs are sealed by identity::sealer, journals hold no key at all. A write that fails is counted, said, kept in memory
// and tried again: never a lost call. Owner thread: io_context.
#pragma once

#include <asio/io_context.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <tl/expected.hpp>

#include "controlplane/callcontrol/ng_server.hpp"
#include "controlplane/identity/psk_store.hpp"
#include "controlplane/identity/seal.hpp"
#include "controlplane/media/journal.hpp"
#include "controlplane/session/store.hpp"
#include "controlplane/store/call_record.hpp"
#include "controlplane/store/spool.hpp"

namespace tandem::store {

inline constexpr int schema_version = 3;

struct unit {
    std::string id;
    std::string comment;
    std::int64_t created = 0; // seconds since 1970
    bool has_psk = false;
};

struct database_options {
    std::string instance = "tandem";  // the gateway's name, in each record
    bool shared_records = false;      // records go on from here: they wait in spool(), profiles are kept there
    unsigned keep_days = 0;           // older records are deleted; 0 = never
    std::size_t log_bytes = 4U << 20; // of the log in front of SQLite, taken from the disk at once
};

struct database_counters {
    std::uint64_t failures = 0; // statements that SQLite refused
    std::uint64_t retried = 0;  // writes that were done later
    std::uint64_t lost = 0;     // writes given up: too many waited
    std::uint64_t records = 0;  // written by this process
    std::uint64_t expired = 0;  // deleted by age
    std::size_t waiting = 0;    // writes in memory that SQLite refused so far
    std::uint64_t jumps = 0;    // of the clock
};

class database {
public:
    // Makes the file (0600) and the schema where missing, brings an older schema up, finishes what a killed process
    // left half-way. The error is a sentence.
    [[nodiscard]] static tl::expected<std::unique_ptr<database>, std::string>
    open(const std::string& path, identity::sealer keys, database_options options = {});
    ~database();
    database(const database&) = delete;
    database& operator=(const database&) = delete;

    // Timers: refused writes are tried again, old records deleted. Until then, and without, refused writes are tried
    // again with the next one.
    void start(asio::io_context& io);
    void stop();

    // Units. An empty PSK: certificate only, of any public key, or of one (SHA-256 of its SubjectPublicKeyInfo), which
    // a unit that was removed before must name. The error is a sentence.
    tl::expected<void, std::string> add_unit(const std::string& id, std::span<const std::uint8_t> psk,
                                             const std::string& comment, std::span<const std::uint8_t> spki = {});
    bool remove_unit(const std::string& id);
    [[nodiscard]] std::vector<unit> units();
    [[nodiscard]] std::optional<unit> find_unit(const std::string& id);
    [[nodiscard]] std::size_t unit_count();
    // Names under which a unit may speak beside its id code (a PBX has many). The error is a sentence.
    tl::expected<void, std::string> add_unit_name(const std::string& id, const std::string& name);
    bool remove_unit_name(const std::string& id, const std::string& name);
    [[nodiscard]] std::vector<std::string> unit_names(const std::string& id);
    [[nodiscard]] std::vector<std::pair<std::string, std::string>> all_unit_names(); // (unit, name), by unit
    [[nodiscard]] std::string owner_of_name(std::string_view name); // a unit's id code; empty: no unit's

    [[nodiscard]] identity::psk_store& identities() noexcept;
    [[nodiscard]] session::session_store& sessions() noexcept;
    [[nodiscard]] callcontrol::call_store& calls() noexcept;
    [[nodiscard]] media::journal& media() noexcept;
    [[nodiscard]] archive& records() noexcept;
    [[nodiscard]] record_spool& spool() noexcept; // empty unless shared_records

    [[nodiscard]] std::uint64_t failures() const noexcept; // statements that the database refused
    [[nodiscard]] database_counters count() const noexcept;
    // For an alarm: empty, or a sentence that says what to do.
    [[nodiscard]] std::string trouble() const;
    // Looks at the clock. Empty, or for an alarm: why no record is deleted by its age.
    [[nodiscard]] std::string clock_doubt();
    void accept_clock(); // somebody says that it is right
    // Beside so many calls that are up one more could be lost: a sentence that says why. It is not to begin.
    [[nodiscard]] std::optional<std::string> no_room(std::size_t calls) const;

    struct impl; // of this room only
    [[nodiscard]] impl& parts() noexcept { return *impl_; }

private:
    explicit database(std::shared_ptr<impl> made);
    std::shared_ptr<impl> impl_;
};

} // namespace tandem::store
