// SPDX-License-Identifier: Apache-2.0
// Rows of units and sessions (units.hpp). Owner thread: io_context.
#include "controlplane/store/local/units.hpp"

#include <algorithm>
#include <cctype>
#include <chrono>
#include <cstring>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "controlplane/protocol/tls.hpp"
#include "controlplane/store/local/rows_left.hpp"

namespace tandem::store {

namespace {

bool valid_id(const std::string& id) {
    return !id.empty() && id.size() <= 64 && std::ranges::all_of(id, [](char c) {
        return std::isalnum(static_cast<unsigned char>(c)) != 0 || std::strchr("._-+@:", c) != nullptr;
    });
}

std::string psk_context(std::string_view id) {
    return fmt::format("psk:{}", id);
}

unit unit_from(const cursor& row) {
    return {row.text(0), row.text(1), row.number(2), row.number(3) != 0};
}

} // namespace

void said(std::uint64_t& failures, const char* what, const sqlite_error& error) {
    ++failures;
    spdlog::error("database: {} failed: {}; is the disk full or the file read-only?", what, error.what());
}

template <class Work>
auto unit_rows::guarded(const char* what, Work&& work) -> decltype(work()) {
    try {
        return work();
    } catch (const sqlite_error& error) {
        said(failures_, what, error);
        return decltype(work())();
    }
}

std::optional<protocol::secret> unit_rows::psk(std::string_view id_code) {
    return guarded("reading a unit", [&]() -> std::optional<protocol::secret> {
        auto row = psk_.begin();
        if (!row.bind(id_code).step() || row.bytes(0).empty())
            return std::nullopt;
        auto key = keys_.unseal(row.bytes(0), psk_context(id_code));
        if (!key)
            spdlog::error("the key of unit {} does not open: is master_key_file the one that sealed it?", id_code);
        return key;
    });
}

bool unit_rows::known(std::string_view id_code) {
    return guarded("reading a unit", [&] { return known_.begin().bind(id_code).step(); });
}

bool unit_rows::by_certificate(std::string_view id_code, std::span<const std::uint8_t> key) {
    return guarded("reading a unit", [&] { return by_certificate_.begin().bind(id_code).bind(key).step(); });
}

// A certificate of a removed unit is still the CA's: under the same id it would be let in again.
tl::expected<void, std::string> unit_rows::check_credential(const std::string& id, std::span<const std::uint8_t> psk,
                                                            std::span<const std::uint8_t> spki) {
    if (!psk.empty() && (psk.size() < 16 || psk.size() > 64))
        return tl::unexpected(fmt::format("a pre-shared key has 16 to 64 bytes, not {}", psk.size()));
    if (!psk.empty() && !spki.empty())
        return tl::unexpected(std::string("a unit has a pre-shared key or a certificate, not both"));
    if (!spki.empty() && spki.size() != std::tuple_size_v<protocol::public_key_digest>)
        return tl::unexpected(std::string("spki is the SHA-256 of the certificate's public key: 64 hex digits"));
    if (!psk.empty() || !spki.empty())
        return {};
    const bool gone = guarded("reading a removed unit",
                              [&] { return once(db_, "SELECT 1 FROM unit_gone WHERE id = ?").bind(id).step(); });
    if (gone)
        return tl::unexpected(fmt::format("unit {} was removed before, and its old certificate would be let in again: "
                                          "name the public key of its new one (spki)",
                                          id));
    return {};
}

tl::expected<void, std::string> unit_rows::add(const std::string& id, std::span<const std::uint8_t> psk,
                                               const std::string& comment, std::span<const std::uint8_t> spki) {
    if (!valid_id(id))
        return tl::unexpected(std::string("a unit's id has 1 to 64 letters, digits or . _ - + @ :"));
    if (comment.size() > 200)
        return tl::unexpected(std::string("a comment has at most 200 bytes"));
    if (find(id))
        return tl::unexpected(fmt::format("unit {} is there already: remove it first, or choose another id", id));
    if (auto fine = check_credential(id, psk, spki); !fine)
        return fine;
    const auto named = guarded("reading a name", [&]() -> std::string {
        auto row = once(db_, "SELECT unit FROM unit_name WHERE name = ?");
        return row.bind(id).step() ? row.text(0) : std::string();
    });
    if (!named.empty())
        return tl::unexpected(
            fmt::format("{} is a name of unit {}: remove it there first, or choose another id", id, named));
    std::vector<std::uint8_t> sealed;
    if (!psk.empty()) {
        sealed = keys_.seal(psk, psk_context(id));
        if (sealed.empty())
            return tl::unexpected(std::string("the key could not be sealed (OpenSSL failed)"));
    }
    const auto now =
        std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
    const bool done = guarded("adding a unit", [&] {
        once(db_, "INSERT INTO unit(id, psk, comment, created, spki) VALUES(?, ?, ?, ?, ?)")
            .bind(id)
            .bind(std::span<const std::uint8_t>(sealed))
            .bind(comment)
            .bind(std::int64_t{now})
            .bind(spki)
            .step();
        return true;
    });
    if (!done)
        return tl::unexpected(std::string("the unit could not be written: see the log"));
    return {};
}

tl::expected<void, std::string> unit_rows::add_name(const std::string& id, const std::string& name) {
    if (!valid_id(name))
        return tl::unexpected(std::string("a name has 1 to 64 letters, digits or . _ - + @ :"));
    if (!find(id))
        return tl::unexpected(fmt::format("there is no unit {}: see `tandemctl unit list`", id));
    if (name == id)
        return tl::unexpected(fmt::format("{} is the unit's id code, which is its own already", name));
    if (find(name))
        return tl::unexpected(fmt::format("{} is another unit's id code: choose another name", name));
    const auto owner = guarded("reading a name", [&]() -> std::string {
        auto row = once(db_, "SELECT unit FROM unit_name WHERE name = ?");
        return row.bind(name).step() ? row.text(0) : std::string();
    });
    if (owner == id)
        return {};
    if (!owner.empty())
        return tl::unexpected(fmt::format("{} is a name of unit {}: remove it there first", name, owner));
    const bool done = guarded("adding a name", [&] {
        once(db_, "INSERT INTO unit_name(name, unit) VALUES(?, ?)").bind(name).bind(id).step();
        return true;
    });
    if (!done)
        return tl::unexpected(std::string("the name could not be written: see the log"));
    return {};
}

bool unit_rows::remove_name(const std::string& id, const std::string& name) {
    return guarded("removing a name", [&] {
        once(db_, "DELETE FROM unit_name WHERE name = ? AND unit = ?").bind(name).bind(id).step();
        return sqlite3_changes(db_.get()) == 1;
    });
}

std::vector<std::string> unit_rows::names(const std::string& id) {
    return guarded("reading names", [&] {
        std::vector<std::string> found;
        auto row = once(db_, "SELECT name FROM unit_name WHERE unit = ? ORDER BY name");
        for (row.bind(id); row.step();)
            found.push_back(row.text(0));
        return found;
    });
}

std::vector<std::pair<std::string, std::string>> unit_rows::all_names() {
    return guarded("reading names", [&] {
        std::vector<std::pair<std::string, std::string>> found;
        for (auto row = once(db_, "SELECT unit, name FROM unit_name ORDER BY unit, name"); row.step();)
            found.emplace_back(row.text(0), row.text(1));
        return found;
    });
}

std::string unit_rows::owner(std::string_view name) {
    return guarded("reading a name", [&] {
        auto row = owner_.begin();
        return row.bind(name).step() ? row.text(0) : std::string();
    });
}

bool unit_rows::remove(const std::string& id) {
    return guarded("removing a unit", [&] {
        once(db_, "INSERT OR IGNORE INTO unit_gone(id) SELECT id FROM unit WHERE id = ? AND psk IS NULL")
            .bind(id)
            .step();
        once(db_, "DELETE FROM unit WHERE id = ?").bind(id).step();
        const bool removed = sqlite3_changes(db_.get()) == 1;
        once(db_, "DELETE FROM session WHERE unit = ?").bind(id).step();
        once(db_, "DELETE FROM unit_name WHERE unit = ?").bind(id).step();
        return removed;
    });
}

std::vector<unit> unit_rows::all() {
    return guarded("reading units", [&] {
        std::vector<unit> rows;
        for (auto row = once(db_, "SELECT id, comment, created, psk IS NOT NULL FROM unit ORDER BY id"); row.step();)
            rows.push_back(unit_from(row));
        return rows;
    });
}

std::optional<unit> unit_rows::find(const std::string& id) {
    return guarded("reading a unit", [&]() -> std::optional<unit> {
        auto row = once(db_, "SELECT id, comment, created, psk IS NOT NULL FROM unit WHERE id = ?");
        if (!row.bind(id).step())
            return std::nullopt;
        return unit_from(row);
    });
}

std::size_t unit_rows::count() {
    return guarded("counting units", [&] {
        auto row = once(db_, "SELECT count(*) FROM unit");
        return row.step() ? static_cast<std::size_t>(row.number(0)) : std::size_t{0};
    });
}

std::vector<session::stored_session> session_rows::load() {
    std::vector<session::stored_session> rows;
    try {
        rows_left(db_, to_.pending()).each_session([&](const rows_left::session& row) {
            session::stored_session one{row.unit, static_cast<session::tsid>(row.tsid), {}};
            for (std::size_t at = 0; at < row.inner.size();) {
                const auto end = std::min(row.inner.find(' ', at), row.inner.size());
                asio::error_code bad;
                const auto address = asio::ip::make_address(row.inner.substr(at, end - at), bad);
                if (!bad)
                    one.inner.push_back(address);
                at = end + 1;
            }
            rows.push_back(std::move(one));
        });
    } catch (const sqlite_error& error) {
        said(failures_, "reading sessions", error);
    }
    return rows;
}

// The unit is told afterwards.
void session_rows::save(const session::stored_session& row) {
    std::string inner;
    for (const auto& address : row.inner)
        inner += (inner.empty() ? "" : " ") + address.to_string();
    to_.add({.kind = what::session_put,
             .last = true,
             .key = static_cast<std::int64_t>(row.id),
             .name = row.unit,
             .body = inner});
    to_.flush();
}

void session_rows::forget(const std::string& unit) {
    to_.add({.kind = what::session_gone, .last = true, .name = unit});
    to_.flush();
}

} // namespace tandem::store
