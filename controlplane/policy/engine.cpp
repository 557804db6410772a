// SPDX-License-Identifier: Apache-2.0
// The decision (decide.hpp): every rule is asked, the strongest stands, the operator's bounds have the last word.
#include "controlplane/policy/engine.hpp"

#include <fmt/format.h>

#include "controlplane/policy/config_file.hpp"
#include "controlplane/protocol/address_name.hpp"

namespace tandem::policy {

namespace {

// A party under its name, and the unit that speaks under it where that is another.
constexpr const char* sides[4] = {"caller", "callee", "caller's unit", "callee's unit"};

// For sentences: what a name from outside may not do to a log line, it does not do here either. No name that counts has
// letters outside of ASCII.
std::string shown(std::string_view name) {
    std::string text = "\"";
    for (const char c : name.substr(0, 64))
        text += c >= 0x20 && c < 0x7f ? c : '?';
    return text + '"';
}

std::string canonical(std::string_view id) {
    auto name = protocol::parse_address_name(id);
    return name ? std::move(name->text) : std::string(id);
}

int strength(key_source keys) { // both > unit > gateway
    return static_cast<int>(keys);
}

} // namespace

// One decision while it is made.
class engine::inquiry {
public:
    inquiry(const engine& of, const question& call) : of_(of), settings_(of.settings_), call_(call) {}

    decision run();
    [[nodiscard]] const policy::counters& tally() const noexcept { return tally_; }

private:
    static constexpr int none = -1;

    [[nodiscard]] int rank(std::string_view name) const {
        const auto* row = name.empty() ? nullptr : settings_.levels.find(name);
        return row == nullptr ? none : static_cast<int>(row - settings_.levels.rows().data());
    }
    [[nodiscard]] const std::string& name_at(int rank) const {
        return settings_.levels.rows()[static_cast<std::size_t>(rank)].name;
    }
    // A rule's word; of equals the first stands.
    void add(std::string rule, std::string level, std::string text) {
        const int says = rank(level);
        steps_.push_back({std::move(rule), std::move(level), std::move(text), false});
        if (says > best_)
            stands(says);
    }
    void stands(int level) { // the last step's
        best_ = level;
        decider_ = steps_.size() - 1;
    }
    // What is said of a name that is no level; its level stays empty.
    void refuse(std::string rule, std::string_view level, std::string_view more, std::uint64_t& counter) {
        ++counter;
        add(std::move(rule), {},
            fmt::format("{} is no level: skipped{}{}", shown(level), more.empty() ? "" : "; ", more));
    }

    void ask_all_rules();
    void ask_rules(std::size_t side, const party& who);
    void ask_devices();
    void ask_predictors();
    void ask_wish();
    [[nodiscard]] int dialled_level(std::string& prefix) const;
    void clamp();
    [[nodiscard]] decision no();
    [[nodiscard]] key_source choose_keys(const level& row);
    [[nodiscard]] path_choice choose_path(const level& row);

    const engine& of_;
    const config& settings_;
    const question& call_;
    policy::counters tally_;
    std::vector<step> steps_;
    std::optional<rule> rows_[4]; // what the security database says of either side; only rows with a level
    std::string no_;              // why the call is denied, by which step
    std::size_t denier_ = 0;
    int best_ = none;
    std::size_t decider_ = 0;
};

void engine::inquiry::ask_rules(std::size_t side, const party& who) {
    auto name = fmt::format("security database: {}", sides[side]);
    if (!of_.rules_known_) {
        tally_.without_store = 1;
        add(std::move(name), {}, of_.trouble_.empty() ? "not read yet" : "not read yet: " + of_.trouble_);
        return;
    }
    const std::string since = of_.trouble_.empty() ? "" : "; as it was before the store's trouble: " + of_.trouble_;
    std::string fault;
    auto row = of_.rules_.find(who, &fault);
    if (!fault.empty())
        ++tally_.bad_party;
    if (!row) {
        add(std::move(name), {}, (fault.empty() ? shown(who.id) + " is not listed" : fault) + since);
        return;
    }
    if (row->level == deny) {
        if (no_.empty()) {
            denier_ = steps_.size();
            no_ = row->comment.empty() ? row->address + " is denied" : row->comment;
        }
        steps_.push_back({std::move(name), std::move(row->level),
                          row->address + (row->comment.empty() ? "" : ": " + row->comment) + since, false});
        return;
    }
    if (rank(row->level) == none) {
        refuse(std::move(name), row->level, "so says " + row->address + since, tally_.rule_level_unknown);
        return;
    }
    auto text = row->address + (row->comment.empty() ? "" : ": " + row->comment) + since;
    add(std::move(name), row->level, std::move(text));
    rows_[side] = std::move(row);
}

void engine::inquiry::ask_devices() {
    const auto ask = [&](const char* what, std::string advice::*level, std::uint64_t& unknown) {
        for (const auto& device : call_.devices) {
            auto name = fmt::format("{} of {}", what, device.unit);
            if ((device.*level).empty())
                add(std::move(name), {}, device.text.empty() ? "nothing" : device.text);
            else if (rank(device.*level) == none)
                refuse(std::move(name), device.*level, device.text, unknown);
            else
                add(std::move(name), device.*level, device.text);
        }
    };
    ask("contacts", &advice::contact_level, tally_.contact_unknown);
    ask("profile", &advice::profile_level, tally_.profile_unknown);
}

void engine::inquiry::ask_predictors() {
    if (of_.predictors_.empty())
        return;
    const auto* history = of_.profile_of(call_.caller.id, call_.callee.id);
    const auto known = history != nullptr ? of_.summary_of(*history) : protocol::summary{};
    for (const auto& one : of_.predictors_) {
        auto name = fmt::format("call profile: {}", one->name());
        if (history == nullptr) {
            add(std::move(name), {}, of_.profiles_known_ ? "no calls of these two are known" : "not read yet");
            continue;
        }
        auto said = one->predict(known);
        add(std::move(name), std::move(said.level), std::move(said.text));
    }
}

// The longest configured prefix of what was dialled.
int engine::inquiry::dialled_level(std::string& prefix) const {
    int level = none;
    for (const auto& [begins, name] : settings_.prefixes)
        if (begins.size() > prefix.size() && call_.dialled.compare(0, begins.size(), begins) == 0) {
            prefix = begins;
            level = rank(name);
        }
    return level;
}

// May raise, never lower: held against what the rules so far give, or the default.
void engine::inquiry::ask_wish() {
    std::string prefix, text;
    const int dialled = dialled_level(prefix);
    const int asked = rank(call_.wish);
    if (!call_.wish.empty() && asked == none) {
        ++tally_.wish_unknown;
        text = shown(call_.wish) + " is no level: refused";
    }
    if (dialled > asked)
        text += fmt::format("{}dialled {}", text.empty() ? "" : "; ", prefix);
    else if (asked != none)
        text = "asked for with the call";
    const int wish = std::max(asked, dialled);
    const int base = best_ != none ? best_ : rank(settings_.default_level);
    if (wish == none) {
        add("caller's wish", {}, text.empty() ? "none" : text);
        return;
    }
    if (wish < base) {
        ++tally_.wish_below;
        text += fmt::format("; refused: policy gives {}, which a wish does not lower", name_at(base));
    } else if (wish > base) {
        ++tally_.wish_honoured;
    }
    steps_.push_back({"caller's wish", name_at(wish), std::move(text), false});
    if (wish > best_ && wish >= base)
        stands(wish);
}

void engine::inquiry::clamp() {
    const auto bound = [&](const char* name, const std::string& level, bool breaks, std::uint64_t& counter) {
        if (rank(level) == none)
            return;
        steps_.push_back({name, level, breaks ? fmt::format("instead of {}", name_at(best_)) : "kept", false});
        if (breaks) {
            stands(rank(level));
            ++counter;
        }
    };
    const int floor = rank(settings_.floor), ceiling = rank(settings_.ceiling);
    bound("operator's floor", settings_.floor, floor != none && best_ < floor, tally_.raised_to_floor);
    bound("operator's ceiling", settings_.ceiling, ceiling != none && best_ > ceiling, tally_.lowered_to_ceiling);
}

key_source engine::inquiry::choose_keys(const level& row) {
    std::string text;
    std::optional<key_source> rules, wish;
    for (std::size_t side = 0; side < 4; ++side)
        if (rows_[side] && rows_[side]->keys && (!rules || strength(*rows_[side]->keys) > strength(*rules))) {
            rules = rows_[side]->keys;
            text = fmt::format("security database: {}", sides[side]);
        }
    std::string refused;
    for (const auto& device : call_.devices) {
        if (!device.keys)
            continue;
        if (settings_.any_unit_may_make_keys || settings_.units_may_make_keys.contains(device.unit)) {
            if (!rules && (!wish || strength(*device.keys) > strength(*wish))) {
                wish = device.keys;
                text = "wish of " + device.unit;
            }
        } else if (*device.keys != key_source::gateway) {
            ++tally_.keygen_not_permitted;
            refused += fmt::format("; refused: {} wishes {} and may not", device.unit, name_of(*device.keys));
        }
    }
    const auto keys = rules ? *rules : wish ? *wish : row.keys;
    steps_.push_back({"key source",
                      {},
                      fmt::format("{}, by {}{}", name_of(keys), text.empty() ? "level " + row.name : text, refused),
                      false});
    return keys;
}

path_choice engine::inquiry::choose_path(const level& row) {
    std::optional<std::size_t> by;
    for (std::size_t side = 0; side < 4; ++side)
        if (rows_[side] && rows_[side]->path &&
            (!by || (*rows_[*by]->path == path_choice::either && *rows_[side]->path != path_choice::either)))
            by = side;
    const auto path = by ? *rows_[*by]->path : row.path;
    steps_.push_back({"path",
                      {},
                      fmt::format("{}, by {}", name_of(path),
                                  by ? fmt::format("security database: {}", sides[*by]) : "level " + row.name),
                      false});
    return path;
}

void engine::inquiry::ask_all_rules() {
    ask_rules(0, call_.caller);
    ask_rules(1, call_.callee);
    for (const auto& [side, who] : {std::pair{2U, &call_.caller}, std::pair{3U, &call_.callee}})
        if (!who->unit.empty() && who->unit != who->id)
            ask_rules(side, {who->unit, {}, {}});
}

decision engine::inquiry::no() {
    tally_.denied = 1;
    decision made;
    made.chosen = {.name = std::string(deny), .suite = {}, .seed_bytes = 0, .rekey = {}, .overlap = {}};
    steps_[denier_].decided = true;
    made.decided_by = steps_[denier_].rule;
    made.steps = std::move(steps_);
    made.denied = std::move(no_);
    return made;
}

decision engine::inquiry::run() {
    tally_.decisions = 1;
    steps_.reserve(12 + 2 * call_.devices.size());
    ask_all_rules();
    if (!no_.empty())
        return no();
    ask_devices();
    ask_predictors();
    ask_wish();
    const bool nothing = best_ == none;
    steps_.push_back({"default", settings_.default_level, nothing ? "nothing else is known" : "not needed", false});
    if (nothing) {
        tally_.decisions_default = 1;
        stands(std::max(0, rank(settings_.default_level)));
    }
    clamp();
    decision made;
    if (!settings_.levels.rows().empty())
        made.chosen = settings_.levels.rows()[static_cast<std::size_t>(best_)];
    steps_[decider_].decided = true;
    made.decided_by = steps_[decider_].rule;
    made.chosen.keys = choose_keys(made.chosen);
    made.chosen.path = choose_path(made.chosen);
    made.steps = std::move(steps_);
    return made;
}

engine::engine(config settings, clock now)
    : settings_(std::move(settings)), now_(std::move(now)), predictors_(make_predictors(settings_)),
      profiles_(settings_.most_profiles) {}

decision engine::decide(const question& call) {
    inquiry asks(*this, call);
    auto made = asks.run();
    count(asks.tally());
    return made;
}

void engine::count(const policy::counters& more) {
#define X(name, text) counters_.name += more.name;
#include "controlplane/policy/counters.def"
#undef X
}

std::optional<decision> engine::denies(const question& call) {
    if (!may_deny())
        return std::nullopt;
    inquiry asks(*this, call);
    auto made = asks.run();
    if (!made.denied)
        return std::nullopt;
    count(asks.tally());
    return made;
}

decision engine::explain(const question& call) const {
    return inquiry(*this, call).run();
}

level engine::by_name(std::string_view name) const {
    if (const auto* row = settings_.levels.find(name))
        return *row;
    if (const auto* row = settings_.levels.find(settings_.default_level))
        return *row;
    return {};
}

void engine::rules_replaced(std::vector<rule> all) {
    counters_.rule_bad_address += rules_.replace(all);
    rules_known_ = true;
    ++counters_.rules_replaced;
}

void engine::rules_changed(std::span<const rule_edit> edits) {
    for (const auto& edit : edits) {
        if (edit.removed)
            rules_.remove(edit.row.address);
        else if (!rules_.set(edit.row))
            ++counters_.rule_bad_address;
        ++counters_.rules_changed;
    }
}

void engine::profiles_replaced(std::vector<protocol::profile> all) {
    counters_.profiles_forgotten += profiles_.replace(std::move(all));
    profiles_known_ = true;
}

void engine::profile_changed(const protocol::profile& one) {
    counters_.profiles_forgotten += profiles_.put(one);
}

void engine::store_trouble(const std::string& sentence) {
    if (trouble_.empty() && !sentence.empty())
        ++counters_.store_troubles;
    trouble_ = sentence;
}

void engine::reconfigure(config fresh) {
    settings_ = std::move(fresh);
    predictors_ = make_predictors(settings_);
    counters_.profiles_forgotten += profiles_.set_most(settings_.most_profiles);
    ++counters_.reloads;
}

const protocol::profile* engine::profile_of(std::string_view a, std::string_view b) const {
    return profiles_.find(canonical(a), canonical(b));
}

protocol::summary engine::summary_of(const protocol::profile& of) const {
    return protocol::summarize(of, now_(), settings_.age);
}

} // namespace tandem::policy
