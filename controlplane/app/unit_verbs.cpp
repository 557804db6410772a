// SPDX-License-Identifier: Apache-2.0
// Verbs about units and their sessions. `unit add` carries a key in, wiped here. Owner thread: io_context.
#include <charconv>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "controlplane/app/verb_tools.hpp"
#include "controlplane/protocol/secret.hpp"

namespace tandem::control {

using nlohmann::json;

namespace {

// Hex to bytes; nothing where it is no hex of whole bytes or longer than a secret holds.
std::optional<protocol::secret> from_hex(const std::string& text) {
    if (text.size() % 2 != 0 || text.size() / 2 > protocol::secret::capacity)
        return std::nullopt;
    protocol::secret out;
    const auto bytes = out.resize(text.size() / 2);
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        const auto [end, error] = std::from_chars(text.data() + 2 * i, text.data() + 2 * i + 2, bytes[i], 16);
        if (error != std::errc{} || end != text.data() + 2 * i + 2)
            return std::nullopt;
    }
    return out;
}

} // namespace

// --- units -----------------------------------------------------------------------------------------------------------

json verbs::unit_json(const store::unit& unit) const {
    const auto session = rooms_.sessions.by_unit(unit.id);
    return {{"id", unit.id},
            {"comment", unit.comment},
            {"created", time_text(std::chrono::system_clock::from_time_t(unit.created))},
            {"has_psk", unit.has_psk},
            {"names", rooms_.store.unit_names(unit.id)},
            {"session", session ? to_json(*session) : json()}};
}

verb_result verbs::unit_add(json& args) {
    const auto id = text_arg(args, "id");
    if (id.empty())
        return usage("unit add needs the unit's id: {\"id\": \"alice\"}");
    std::optional<protocol::secret> psk = protocol::secret();
    if (const auto found = args.find("psk"); found != args.end() && found->is_string()) {
        auto& text = found->get_ref<std::string&>();
        psk = from_hex(text);
        protocol::wipe(text.data(), text.size());
    }
    if (!psk)
        return usage("psk must be hex digits, 16 to 64 bytes");
    const auto spki = from_hex(text_arg(args, "spki"));
    if (!spki)
        return usage("spki must be hex digits: the SHA-256 of the public key of the unit's certificate");
    if (auto added = rooms_.store.add_unit(id, psk->view(), text_arg(args, "comment"), spki->view()); !added)
        return failed(added.error());
    spdlog::info("unit {} added", id);
    return unit_show(args);
}

verb_result verbs::unit_list() {
    json units = json::array();
    for (const auto& unit : rooms_.store.units())
        units.push_back(unit_json(unit));
    return json{{"units", units}};
}

verb_result verbs::unit_show(const json& args) {
    const auto id = text_arg(args, "id");
    if (id.empty())
        return usage("name the unit: {\"id\": \"alice\"}");
    const auto unit = rooms_.store.find_unit(id);
    if (!unit)
        return failed(fmt::format("there is no unit {}: see `tandemctl unit list`", id));
    return unit_json(*unit);
}

verb_result verbs::unit_remove(const json& args) {
    const auto id = text_arg(args, "id");
    if (id.empty())
        return usage("name the unit: {\"id\": \"alice\"}");
    const bool had_session = rooms_.sessions.by_unit(id).has_value();
    if (!rooms_.store.remove_unit(id))
        return failed(fmt::format("there is no unit {}: see `tandemctl unit list`", id));
    rooms_.sessions.forget(id);
    rooms_.names.changed();
    spdlog::info("unit {} removed", id);
    return json{{"id", id}, {"session_dropped", had_session}};
}

verb_result verbs::unit_name_list(const json& args) {
    const auto unit = unit_show(args);
    if (!unit)
        return unit;
    return json{{"id", (*unit)["id"]}, {"names", (*unit)["names"]}};
}

verb_result verbs::unit_name_add(const json& args) {
    const auto id = text_arg(args, "id"), name = text_arg(args, "name");
    if (id.empty() || name.empty())
        return usage(R"(name the unit and a name: {"id": "pbx", "name": "+46701234567"})");
    if (auto added = rooms_.store.add_unit_name(id, name); !added)
        return failed(added.error());
    rooms_.names.changed();
    spdlog::info("{} is a name of unit {}", name, id);
    return json{{"id", id}, {"name", name}};
}

verb_result verbs::unit_name_remove(const json& args) {
    const auto id = text_arg(args, "id"), name = text_arg(args, "name");
    if (id.empty() || name.empty())
        return usage(R"(name the unit and a name: {"id": "pbx", "name": "+46701234567"})");
    if (!rooms_.store.remove_unit_name(id, name))
        return failed(fmt::format("{} is no name of unit {}: see `tandemctl unit name list {}`", name, id, id));
    rooms_.names.changed();
    spdlog::info("{} is no longer a name of unit {}", name, id);
    return json{{"id", id}, {"name", name}};
}

// --- sessions --------------------------------------------------------------------------------------------------------

tl::expected<session::session_info, verb_error> verbs::find_session(const json& args) const {
    if (const auto unit = text_arg(args, "unit"); !unit.empty()) {
        if (auto session = rooms_.sessions.by_unit(unit))
            return *session;
        return failed(fmt::format("unit {} has no session: see `tandemctl session list`", unit));
    }
    const auto text = text_arg(args, "tsid");
    session::tsid id = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id, 16);
    if (text.empty() || error != std::errc{} || end != text.data() + text.size())
        return usage("name the session by its unit or by its tsid (16 hex digits)");
    if (auto session = rooms_.sessions.by_tsid(id))
        return *session;
    return failed(fmt::format("there is no session {}: see `tandemctl session list`", text));
}

verb_result verbs::session_list() const {
    json sessions = json::array();
    for (const auto& session : rooms_.sessions.all())
        sessions.push_back(to_json(session));
    return json{{"sessions", sessions}};
}

verb_result verbs::session_show(const json& args) const {
    const auto session = find_session(args);
    if (!session)
        return tl::unexpected(session.error());
    return to_json(*session);
}

verb_result verbs::session_drop(const json& args) {
    const auto session = find_session(args);
    if (!session)
        return tl::unexpected(session.error());
    const auto reason = text_arg(args, "reason");
    rooms_.sessions.drop(session->id, reason.empty() ? "dropped by the operator" : reason);
    return json{{"tsid", tsid_text(session->id)}, {"unit", session->unit}};
}

} // namespace tandem::control
