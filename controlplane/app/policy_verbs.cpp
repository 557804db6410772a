// SPDX-License-Identifier: Apache-2.0
// Verbs about the security database and call profiles. Questions are answered out of memory; changes go to the store.
// Owner thread: io_context.
#include <algorithm>
#include <asio/post.hpp>
#include <asio/this_coro.hpp>
#include <asio/use_awaitable.hpp>
#include <fmt/format.h>
#include <iterator>
#include <spdlog/spdlog.h>

#include "controlplane/app/verb_tools.hpp"
#include "controlplane/policy/csv.hpp"
#include "controlplane/protocol/address_name.hpp"

namespace tandem::control {

using nlohmann::json;

namespace {

constexpr std::uint64_t usual_rules = 100, most_rules = 100'000, usual_changes = 100, most_changes = 100'000;
constexpr std::ptrdiff_t most_at_once = 5'000; // rules in a transaction of this thread

// "sip:alice@example.com" and "alice@example.com" have both; else the id alone and what is said apart.
policy::party party_of(std::string text, const std::string& domain) {
    if (text.starts_with("sip:"))
        text.erase(0, 4);
    const auto at = text.find('@');
    if (at == std::string::npos)
        return {text, domain, {}};
    return {text.substr(0, at), text.substr(at + 1), {}};
}

json change_json(const policy::rule_change& change) {
    auto out = to_json(change.edit.row);
    if (change.edit.removed)
        out = {{"address", change.edit.row.address}};
    out.update({{"number", change.number},
                {"when", exact_time_text(change.when)},
                {"who", change.who},
                {"removed", change.edit.removed}});
    return out;
}

json summary_json(const protocol::summary& of) {
    const auto seconds = [](std::chrono::milliseconds ms) { return std::chrono::duration<double>(ms).count(); };
    return {{"calls", of.calls},
            {"failures", of.failures},
            {"mean_s", seconds(of.mean)},
            {"median_s", seconds(of.median)},
            {"last_s", seconds(of.last)}};
}

} // namespace

tl::expected<policy::rule, std::string> verbs::read_rule(const json& from) const {
    const auto& levels = rooms_.policy.settings().levels;
    return policy::make_rule(text_arg(from, "address"), text_arg(from, "level"), text_arg(from, "keygen"),
                             text_arg(from, "path"), text_arg(from, "comment"),
                             [&](std::string_view name) { return levels.find(name) != nullptr; });
}

verb_result verbs::policy_list(const json& args) const {
    const auto limit = number_arg(args, "limit").value_or(usual_rules);
    json rules = json::array();
    const auto& known = rooms_.policy.rules();
    for (const auto& rule : known.list(text_arg(args, "prefix"), text_arg(args, "after"), std::min(limit, most_rules)))
        rules.push_back(to_json(rule));
    return json{{"rules", rules}, {"total", known.size()}};
}

// A page of CSV: without its header, from `after` on; `next` is the last address in it, null where that was all.
verb_result verbs::policy_export(const json& args) const {
    const auto limit = std::min(number_arg(args, "limit").value_or(most_rules), most_rules);
    const auto rules = rooms_.policy.rules().list("", text_arg(args, "after"), limit);
    std::string csv;
    for (const auto& rule : rules)
        policy::append_csv(csv, rule);
    return json{{"header", policy::csv_header},
                {"rows", rules.size()},
                {"csv", std::move(csv)},
                {"next", rules.size() < limit || rules.empty() ? json() : json(rules.back().address)}};
}

verb_result verbs::policy_show(const json& args) const {
    const auto name = protocol::parse_address_name(text_arg(args, "address"));
    if (!name)
        return failed(name.error());
    const auto rule = rooms_.policy.rules().exact(name->text);
    if (!rule)
        return failed(
            fmt::format("the security database has no row {}: see `tandemctl policy list` and, for what stands "
                        "for it, `tandemctl policy explain`",
                        name->text));
    return to_json(*rule);
}

asio::awaitable<verb_result> verbs::policy_set(json args, std::string who) {
    auto rule = read_rule(args);
    if (!rule)
        co_return failed(rule.error());
    const auto shown = to_json(*rule);
    std::vector<policy::rule_edit> edits{{std::move(*rule), false}};
    const auto done = co_await rooms_.rules.apply(std::move(edits), std::move(who));
    if (!done)
        co_return failed(done.error());
    co_return shown;
}

asio::awaitable<verb_result> verbs::policy_unset(json args, std::string who) {
    const auto name = protocol::parse_address_name(text_arg(args, "address"));
    if (!name)
        co_return failed(name.error());
    if (!rooms_.policy.rules().exact(name->text))
        co_return failed(fmt::format("the security database has no row {}: see `tandemctl policy list`", name->text));
    std::vector<policy::rule_edit> edits(1);
    edits[0].row.address = name->text;
    edits[0].removed = true;
    const auto done = co_await rooms_.rules.apply(std::move(edits), std::move(who));
    if (!done)
        co_return failed(done.error());
    co_return json{{"address", name->text}, {"removed", true}};
}

asio::awaitable<verb_result> verbs::policy_import(json args, std::string who) {
    std::vector<policy::rule_edit> edits;
    if (const auto csv = args.find("csv"); csv != args.end() && csv->is_string()) {
        const auto& levels = rooms_.policy.settings().levels;
        const auto file = text_arg(args, "file");
        auto rules = policy::parse_csv(csv->get_ref<const std::string&>(), file.empty() ? "csv" : file,
                                       [&](std::string_view name) { return levels.find(name) != nullptr; });
        if (!rules)
            co_return failed(rules.error() + "; nothing of it was imported");
        for (auto& rule : *rules)
            edits.push_back({std::move(rule), false});
    } else if (const auto rows = args.find("rules"); rows != args.end() && rows->is_array()) {
        for (std::size_t i = 0; i < rows->size(); ++i) {
            auto rule = (*rows)[i].is_object()
                            ? read_rule((*rows)[i])
                            : tl::unexpected<std::string>("a rule is an object with address and level");
            if (!rule)
                co_return failed(fmt::format("rule {}: {}; nothing was imported", i + 1, rule.error()));
            edits.push_back({std::move(*rule), false});
        }
    } else {
        co_return usage("policy import needs rules: {\"rules\": [{\"address\": \"+4670\", \"level\": \"high\"}]}, or "
                        "{\"csv\": \"address,level,...\", \"file\": \"its name\"}");
    }
    co_return co_await apply_in_slices(std::move(edits), std::move(who));
}

// What was checked whole is written in slices where this thread does the writing, so that calls go on meanwhile.
asio::awaitable<verb_result> verbs::apply_in_slices(std::vector<policy::rule_edit> edits, std::string who) {
    const auto all = static_cast<std::ptrdiff_t>(edits.size());
    const auto slice = rooms_.settings.store.shared ? all : most_at_once;
    for (std::ptrdiff_t at = 0; at < all;) {
        const auto next = std::min(at + slice, all);
        std::vector<policy::rule_edit> some(std::make_move_iterator(edits.begin() + at),
                                            std::make_move_iterator(edits.begin() + next));
        const auto done = co_await rooms_.rules.apply(std::move(some), who);
        if (!done)
            co_return failed(at == 0 ? done.error()
                                     : fmt::format("{}; the first {} of {} rules are in", done.error(), at, all));
        at = next;
        const auto here = co_await asio::this_coro::executor;
        co_await asio::post(here, asio::use_awaitable);
    }
    co_return json{{"imported", all}, {"total", rooms_.policy.rules().size()}};
}

asio::awaitable<verb_result> verbs::policy_explain(json args) {
    policy::question call;
    call.caller = party_of(text_arg(args, "caller"), text_arg(args, "caller_domain"));
    call.callee = party_of(text_arg(args, "callee"), text_arg(args, "callee_domain"));
    call.wish = text_arg(args, "wish");
    call.dialled = text_arg(args, "dialled");
    if (call.caller.id.empty() || call.callee.id.empty())
        co_return usage("policy explain needs both parties: {\"caller\": \"alice\", \"callee\": \"+46701234567\"}");
    for (auto* who : {&call.caller, &call.callee})
        who->unit = rooms_.store.owner_of_name(who->id);
    call.devices = co_await rooms_.relay.advice(call.caller, call.callee);
    const auto& of = rooms_.policy;
    const auto decided = of.explain(call);
    json out{{"level", decided.chosen.name}, {"decided_by", decided.decided_by}, {"why", why_json(decided.steps)}};
    if (decided.denied)
        out["denied"] = *decided.denied;
    else
        out["values"] = to_json(decided.chosen, of.settings().default_level);
    co_return out;
}

asio::awaitable<verb_result> verbs::policy_log(json args) {
    const auto limit = std::min<std::uint64_t>(number_arg(args, "limit").value_or(usual_changes), most_changes);
    const auto changes = co_await rooms_.rules.history(limit);
    if (!changes)
        co_return failed(changes.error());
    json out = json::array();
    for (const auto& change : *changes)
        out.push_back(change_json(change));
    co_return json{{"changes", out}};
}

verb_result verbs::policy_profile(const json& args) const {
    const auto a = protocol::parse_address_name(text_arg(args, "a"));
    const auto b = protocol::parse_address_name(text_arg(args, "b"));
    if (!a || !b)
        return failed(!a ? a.error() : b.error());
    const auto& of = rooms_.policy;
    const auto* known = of.profile_of(a->text, b->text);
    if (known == nullptr || known->total == 0)
        return failed(fmt::format("nothing is known of calls between {} and {}", a->text, b->text));
    json calls = json::array();
    for (const auto& call : known->calls)
        calls.push_back({{"ended", exact_time_text(call.ended)},
                         {"duration_s", std::chrono::duration<double>(call.duration).count()},
                         {"failed", call.failed}});
    auto out = summary_json(of.summary_of(*known));
    out.update({{"a", known->a}, {"b", known->b}, {"total", known->total}, {"last_calls", calls}});
    return out;
}

asio::awaitable<verb_result> verbs::policy_forget(json args, std::string who) {
    const bool all = args.value("all", false);
    std::string a, b;
    if (!all) {
        const auto one = protocol::parse_address_name(text_arg(args, "a"));
        const auto other = protocol::parse_address_name(text_arg(args, "b"));
        if (!one || !other)
            co_return failed((!one ? one.error() : other.error()) +
                             "; policy forget needs a pair, {\"a\": ..., \"b\": ...}, or {\"all\": true}");
        std::tie(a, b) = protocol::pair_of(one->text, other->text);
    }
    const auto done = co_await rooms_.rules.forget_profiles(a, b);
    if (!done)
        co_return failed(done.error());
    spdlog::info("{} call profiles forgotten, asked by {}", *done, who);
    co_return json{{"forgotten", *done}};
}

} // namespace tandem::control
