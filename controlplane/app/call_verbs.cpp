// SPDX-License-Identifier: Apache-2.0
// Verbs about calls and their media. Owner thread: io_context.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "controlplane/app/verb_tools.hpp"

namespace tandem::control {

using nlohmann::json;

verb_result verbs::media_list(const json& args) const {
    const auto call = text_arg(args, "call_id");
    json media = json::array();
    for (const auto& one : rooms_.relay.all())
        if (call.empty() || one.call_id == call)
            media.push_back(to_json(one));
    return json{{"media", media}};
}

verb_result verbs::media_show(const json& args) const {
    const auto id = number_arg(args, "id");
    if (!id)
        return usage("name the media by its id, a number: see `tandemctl media list`");
    const auto media = rooms_.relay.info(*id);
    if (!media)
        return failed(fmt::format("there is no media {}: see `tandemctl media list`", *id));
    return to_json(*media);
}

asio::awaitable<verb_result> verbs::media_rekey(json args) {
    const auto id = number_arg(args, "id");
    if (!id)
        co_return usage("name the media by its id, a number: see `tandemctl media list`");
    const auto done = co_await rooms_.relay.rekey(*id);
    if (!done)
        co_return failed(done.error().text);
    json epochs = json::array();
    for (const auto& epoch : *done)
        epochs.push_back(epoch ? json(*epoch) : json());
    co_return json{{"id", *id}, {"epochs", epochs}};
}

json verbs::call_json(const callcontrol::call_summary& call) const {
    std::optional<media::media_info> first; // the level is the call's, so every media's
    bool active = false;
    for (const auto id : call.media)
        if (auto media = rooms_.relay.info(id)) {
            active |= media->active;
            if (!first)
                first = std::move(media);
        }
    json one{
        {"call_id", call.call_id},
        {"caller", call.caller},
        {"callee", call.callee},
        {"seconds", std::chrono::duration<double>(protocol::between(call.created, protocol::moment::now())).count()},
        {"active", active},
        {"media", call.media}};
    const auto told = first ? to_json(*first) : json::object();
    for (const auto* key : {"level", "decided_by", "why", "seed_bytes", "interval_s", "key_source", "path"})
        one[key] = told.contains(key) ? told[key] : json();
    return one;
}

verb_result verbs::call_list() const {
    json calls = json::array();
    for (const auto& call : rooms_.calls.calls())
        calls.push_back(call_json(call));
    return json{{"calls", calls}};
}

verb_result verbs::call_show(const json& args) const {
    const auto id = text_arg(args, "call_id");
    if (id.empty())
        return usage("name the call by its Call-ID: see `tandemctl call list`");
    const auto calls = rooms_.calls.calls();
    const auto call = std::ranges::find(calls, id, &callcontrol::call_summary::call_id);
    if (call == calls.end())
        return failed(fmt::format("there is no call {}: see `tandemctl call list`", id));
    auto shown = call_json(*call);
    shown["media"] = json::array();
    for (const auto media : call->media)
        if (const auto info = rooms_.relay.info(media))
            shown["media"].push_back(to_json(*info));
    return shown;
}

// As `delete` of the proxy: the phones are not told, they hear nothing any more.
verb_result verbs::call_drop(const json& args, const std::string& who) {
    const auto id = text_arg(args, "call_id");
    if (id.empty())
        return usage("name the call by its Call-ID: see `tandemctl call list`");
    if (!rooms_.calls.end_call(id, "ended by the operator"))
        return failed(fmt::format("there is no call {}: see `tandemctl call list`", id));
    spdlog::info("call {} was ended by {}", id, who);
    return json{{"call_id", id}};
}

} // namespace tandem::control
