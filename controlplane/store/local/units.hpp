// SPDX-License-Identifier: Apache-2.0
// Units with sealed keys, and sessions. Private to this room. Owner thread: io_context.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "controlplane/store/local/database.hpp"
#include "controlplane/store/local/sqlite.hpp"
#include "controlplane/store/local/writer.hpp"

namespace tandem::store {

// What SQLite refuses is counted and said; the caller goes on without.
void said(std::uint64_t& failures, const char* what, const sqlite_error& error);

class unit_rows final : public identity::psk_store {
public:
    unit_rows(connection& db, std::uint64_t& failures, identity::sealer& keys)
        : db_(db), failures_(failures), keys_(keys), psk_(db, "SELECT psk FROM unit WHERE id = ?"),
          known_(db, "SELECT 1 FROM unit WHERE id = ?"),
          by_certificate_(db, "SELECT 1 FROM unit WHERE id = ? AND psk IS NULL AND (spki IS NULL OR spki = ?)"),
          owner_(db, "SELECT id FROM unit WHERE id = ?1 UNION ALL SELECT unit FROM unit_name WHERE name = ?1") {}
    std::optional<protocol::secret> psk(std::string_view id_code) override;
    bool known(std::string_view id_code) override;
    bool by_certificate(std::string_view id_code, std::span<const std::uint8_t> key) override;

    tl::expected<void, std::string> add(const std::string& id, std::span<const std::uint8_t> psk,
                                        const std::string& comment, std::span<const std::uint8_t> spki);
    bool remove(const std::string& id); // its names too
    // Names beside the id code. A name has one owner, and is nobody else's id code.
    tl::expected<void, std::string> add_name(const std::string& id, const std::string& name);
    bool remove_name(const std::string& id, const std::string& name);
    [[nodiscard]] std::vector<std::string> names(const std::string& id); // in order
    [[nodiscard]] std::vector<std::pair<std::string, std::string>> all_names();
    [[nodiscard]] std::string owner(std::string_view name); // the unit with this id code or name; empty: nobody's
    [[nodiscard]] std::vector<unit> all();
    [[nodiscard]] std::optional<unit> find(const std::string& id);
    [[nodiscard]] std::size_t count();

private:
    [[nodiscard]] tl::expected<void, std::string>
    check_credential(const std::string& id, std::span<const std::uint8_t> psk, std::span<const std::uint8_t> spki);
    template <class Work>
    auto guarded(const char* what, Work&& work) -> decltype(work());
    connection& db_;
    std::uint64_t& failures_;
    identity::sealer& keys_;
    statement psk_, known_, by_certificate_, owner_;
};

class session_rows final : public session::session_store {
public:
    session_rows(connection& db, std::uint64_t& failures, writer& to) : db_(db), failures_(failures), to_(to) {}
    std::vector<session::stored_session> load() override;
    void save(const session::stored_session& row) override;
    void forget(const std::string& unit) override;

private:
    connection& db_;
    std::uint64_t& failures_;
    writer& to_;
};

} // namespace tandem::store
