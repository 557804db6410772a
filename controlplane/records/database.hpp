// SPDX-License-Identifier: Apache-2.0
// The embedded store (SQLite, WAL): units with sealed keys, sessions, calls and media in progress, records of ended
// media. Hands out the stores that other rooms ask for, so that they know no database. Never a key in clear: PSKs are
// sealed by identity::sealer, journals hold no key at all. A write that fails is logged and counted, never a lost call.
// Owner thread: io_context.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <tl/expected.hpp>

#include "controlplane/callcontrol/ng_server.hpp"
#include "controlplane/identity/psk_store.hpp"
#include "controlplane/identity/seal.hpp"
#include "controlplane/media/journal.hpp"
#include "controlplane/session/store.hpp"

namespace tandem::records {

inline constexpr int schema_version = 1;

struct unit {
    std::string id;
    std::string comment;
    std::int64_t created = 0; // seconds since 1970
    bool has_psk = false;
};

class database {
public:
    // Makes the file (0600) and the schema where missing. The error is a sentence.
    [[nodiscard]] static tl::expected<std::unique_ptr<database>, std::string> open(const std::string& path,
                                                                                   identity::sealer keys);
    ~database();
    database(const database&) = delete;
    database& operator=(const database&) = delete;

    // Units. An empty PSK: certificate only. The error is a sentence.
    tl::expected<void, std::string> add_unit(const std::string& id, std::span<const std::uint8_t> psk,
                                             const std::string& comment);
    bool remove_unit(const std::string& id);
    [[nodiscard]] std::vector<unit> units();
    [[nodiscard]] std::optional<unit> find_unit(const std::string& id);
    [[nodiscard]] std::size_t unit_count();

    [[nodiscard]] identity::psk_store& identities() noexcept;
    [[nodiscard]] session::session_store& sessions() noexcept;
    [[nodiscard]] callcontrol::call_store& calls() noexcept;
    [[nodiscard]] media::journal& media() noexcept;

    // Ended media, newest first.
    [[nodiscard]] std::vector<media::media_record> ended(std::size_t limit);
    [[nodiscard]] std::uint64_t failures() const noexcept; // statements that the database refused

private:
    struct impl;
    explicit database(std::unique_ptr<impl> made);
    std::unique_ptr<impl> impl_;
};

} // namespace tandem::records
