// SPDX-License-Identifier: Apache-2.0
// CONTACT answered from contacts and history. Rows RIM-23, RIM-24, RIM-27.
#include "tools/agent/advice/advisor.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace tandem::agent {

using protocol::message;
using protocol::status;
using protocol::tlv;

namespace {

// "contact +4670... (Mum, family): high"; a reason TLV holds 200 bytes, a longer one is cut.
std::string words_for(const contact_book::match& found) {
    const contact& who = *found.who;
    std::string more = who.name;
    if (found.by_category)
        more += (more.empty() ? "category " : ", category ") + who.category;
    return fmt::format("contact {}{}: {}", who.address.text, more.empty() ? "" : fmt::format(" ({})", more),
                       found.level);
}

} // namespace

std::vector<protocol::address_name> peers_of(const message& request) {
    std::vector<protocol::address_name> names;
    for (std::size_t i = 0; i < request.count<tlv::peer>(); i++)
        if (auto name = protocol::parse_address_name(*request.get<tlv::peer>(i)))
            names.push_back(std::move(*name));
    return names;
}

advisor::advisor(const agent_config& config)
    : keys_(config.keys), contacts_(config.state_dir), history_(config.id, config.state_dir, config.profiles) {}

void advisor::refresh() {
    contacts_.refresh();
    history_.refresh();
}

message advisor::contact(const message& request) {
    asked_++;
    refresh();
    const auto peers = peers_of(request);
    std::vector<std::string> texts;
    for (const auto& peer : peers)
        texts.push_back(peer.text);
    const auto found = contacts_.book().find(peers);
    const auto known = history_.advise(texts, std::chrono::system_clock::now());
    std::string words;
    if (found)
        words = words_for(*found);
    if (known && !known->level.empty())
        words += fmt::format("{}{}: {}", words.empty() ? "" : "; ", known->text, known->level);
    auto answer = request.response(status::ok);
    if (!words.empty())
        answer.add<tlv::reason>(words);
    if (found)
        answer.add<tlv::level>(found->level);
    if (known && !known->level.empty())
        answer.add<tlv::profile_level>(known->level);
    if (keys_)
        answer.add<tlv::key_source>(protocol::wire(*keys_));
    return answer;
}

void advisor::call_ended(const std::string& peer, std::chrono::milliseconds length, bool failed) {
    history_.add(peer, {std::chrono::system_clock::now(), length, failed});
}

nlohmann::json advisor::describe() const {
    return {{"asked", asked_},
            {"contacts",
             {{"contacts", contacts_.book().contacts().size()},
              {"categories", contacts_.book().categories().size()},
              {"error", contacts_.error()}}},
            {"profiles", {{"peers", history_.all().size()}, {"error", history_.error()}}}};
}

} // namespace tandem::agent
