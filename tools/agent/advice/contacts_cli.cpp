// SPDX-License-Identifier: Apache-2.0
// The command line of contacts and profiles; rows RIM-24, RIM-27.
#include "tools/agent/advice/contacts_cli.hpp"

#include <cstdio>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>

#include "tools/agent/advice/contacts.hpp"
#include "tools/agent/advice/history.hpp"
#include "tools/agent/config.hpp"
#include "tools/agent/device/privileges.hpp"
#include "tools/agent/exit_status.hpp"

namespace tandem::agent {

namespace {

constexpr std::chrono::seconds lock_patience{3};
constexpr const char* address_help =
    "+46701234567 or a prefix of numbers, sip:alice@example.com, an id code, @example.com";

std::string seconds_of(std::chrono::milliseconds length) {
    return fmt::format("{}", std::chrono::duration_cast<std::chrono::seconds>(length).count());
}

const char* or_dash(const std::string& text) {
    return text.empty() ? "-" : text.c_str();
}

} // namespace

struct contacts_cli::state {
    std::string config_file, state_dir, address, name, category, level, peer;
    bool json = false, all = false;
    CLI::App *contacts = nullptr, *list = nullptr, *set = nullptr, *unset = nullptr, *set_category = nullptr;
    CLI::App *profiles = nullptr, *history_list = nullptr, *forget = nullptr;
    CLI::Option *with_name = nullptr, *with_category = nullptr, *with_level = nullptr;
    agent_config config; // of config_file, or its defaults

    void add_place(CLI::App& to) {
        to.add_option("-c,--config", config_file, "the agent's configuration, whose state_dir is meant");
        to.add_option("--state-dir", state_dir, "that directory itself");
    }
    void add_contacts(CLI::App& app);
    void add_profiles(CLI::App& app);
    [[nodiscard]] tl::expected<void, std::string> find_place();
    int list_contacts() const;
    int change_contacts() const;
    int list_profiles() const;
    int forget_profiles() const;
};

void contacts_cli::state::add_contacts(CLI::App& app) {
    contacts = app.add_subcommand("contacts", "the device's own contacts and their levels");
    contacts->require_subcommand(1);
    list = contacts->add_subcommand("list", "show contacts and categories");
    list->add_flag("--json", json, "as JSON");
    set = contacts->add_subcommand("set", "add a contact, or change what is given of it");
    set->add_option("ADDRESS", address, address_help)->required();
    with_level = set->add_option("--level", level, "level of calls with it, such as high; \"\" takes it away");
    with_name = set->add_option("--name", name, "for people");
    with_category = set->add_option("--category", category, "its category, whose level counts where it has none");
    unset = contacts->add_subcommand("unset", "take a contact away");
    unset->add_option("ADDRESS", address, address_help)->required();
    set_category = contacts->add_subcommand("category", "give a category its level");
    set_category->add_option("NAME", category, "such as family")->required();
    set_category->add_option("LEVEL", level, "such as elevated; \"\" takes the category away")->required();
    for (auto* one : {list, set, unset, set_category})
        add_place(*one);
}

void contacts_cli::state::add_profiles(CLI::App& app) {
    profiles = app.add_subcommand("profiles", "the device's own history of calls");
    profiles->require_subcommand(1);
    history_list =
        profiles->add_subcommand("list", "show the history of each peer, and the level that follows from it");
    history_list->add_flag("--json", json, "as JSON");
    forget = profiles->add_subcommand("forget", "forget the history of one peer, or of all");
    forget->add_option("PEER", peer, "as `profiles list` shows it");
    forget->add_flag("--all", all, "every peer");
    for (auto* one : {history_list, forget})
        add_place(*one);
}

// Root makes the directory as the agent would; a user works in what is there.
tl::expected<void, std::string> contacts_cli::state::find_place() {
    if (config_file.empty() == state_dir.empty())
        return tl::unexpected(std::string("give --config FILE of the agent, or --state-dir DIR"));
    if (!config_file.empty()) {
        auto read = load_config(config_file);
        if (!read)
            return tl::unexpected(read.error());
        config = std::move(*read);
        state_dir = config.state_dir;
        if (state_dir.empty())
            return tl::unexpected(fmt::format("{}: no state_dir; write state_dir = \"/var/lib/tandem-agent\", where "
                                              "contacts and history are kept",
                                              config_file));
        return prepare_state_dir(state_dir, config.user);
    }
    struct stat info {};
    if (::stat(state_dir.c_str(), &info) != 0 || !S_ISDIR(info.st_mode))
        return tl::unexpected(fmt::format("state_dir {}: no such directory", state_dir));
    return {};
}

int contacts_cli::state::list_contacts() const {
    const auto book = load_contacts(state_dir);
    if (!book)
        return complain(book.error(), exit_failed);
    if (json) {
        auto contacts_json = nlohmann::json::array();
        for (const auto& [text, one] : book->contacts())
            contacts_json.push_back({{"address", text},
                                     {"name", one.name},
                                     {"category", one.category},
                                     {"level", one.level},
                                     {"in_force", book->level_of(one)}});
        fmt::print("{}\n", nlohmann::json{{"contacts", contacts_json}, {"categories", book->categories()}}.dump(2));
        return exit_ok;
    }
    fmt::print("{:<32} {:<24} {:<16} {}\n", "ADDRESS", "NAME", "CATEGORY", "LEVEL");
    for (const auto& [text, one] : book->contacts())
        fmt::print("{:<32} {:<24} {:<16} {}\n", text, or_dash(one.name), or_dash(one.category),
                   or_dash(book->level_of(one)));
    for (const auto& [label, its_level] : book->categories())
        fmt::print("category {}: {}\n", label, its_level);
    return exit_ok;
}

int contacts_cli::state::change_contacts() const {
    if (set->parsed() && with_name->count() + with_category->count() + with_level->count() == 0)
        return complain("nothing to set; give --level, --name or --category", exit_usage);
    const auto lock = state_lock::take(state_dir, lock_patience);
    if (!lock)
        return complain(lock.error(), exit_failed);
    auto book = load_contacts(state_dir);
    if (!book)
        return complain(book.error() + "; mend it first, nothing was changed", exit_failed);
    std::string done;
    if (set->parsed()) {
        const auto given = [](const CLI::Option* option, const std::string& value) {
            return option->count() == 0 ? std::nullopt : std::optional(value);
        };
        const auto one = book->set(address, {.name = given(with_name, name),
                                             .category = given(with_category, category),
                                             .level = given(with_level, level)});
        if (!one)
            return complain(one.error(), exit_usage);
        done = fmt::format("{}: level {}", one->address.text, or_dash(book->level_of(*one)));
    } else if (unset->parsed()) {
        if (const auto gone = book->unset(address); !gone)
            return complain(gone.error(), exit_usage);
        done = fmt::format("{}: no contact any more", address);
    } else {
        if (const auto changed = book->set_category(category, level); !changed)
            return complain(changed.error(), exit_usage);
        done = fmt::format("category {}: {}", category, level.empty() ? "taken away" : "level " + level);
    }
    if (const auto saved = save_contacts(state_dir, *book); !saved)
        return complain(saved.error(), exit_failed);
    fmt::print("{}\n", done);
    return exit_ok;
}

int contacts_cli::state::list_profiles() const {
    history known(config.id, state_dir, config.profiles);
    known.refresh();
    if (!known.error().empty())
        return exit_failed; // it is in the log already
    const auto now = std::chrono::system_clock::now();
    auto rows = nlohmann::json::array();
    if (!json)
        fmt::print("{:<32} {:>6} {:>6} {:>8} {:>8} {:>8} {}\n", "PEER", "CALLS", "FAILED", "MEAN s", "MEDIAN s",
                   "LAST s", "LEVEL");
    for (const auto& [who, one] : known.all()) {
        const auto sum = protocol::summarize(one, now, config.profiles.age);
        const auto advice = known.advise({who}, now);
        const std::string its_level = advice ? advice->level : "";
        if (json)
            rows.push_back({{"peer", who},
                            {"calls", sum.calls},
                            {"failures", sum.failures},
                            {"mean_ms", sum.mean.count()},
                            {"median_ms", sum.median.count()},
                            {"last_ms", sum.last.count()},
                            {"total", one.total},
                            {"level", its_level}});
        else
            fmt::print("{:<32} {:>6} {:>6} {:>8} {:>8} {:>8} {}\n", who, sum.calls, sum.failures, seconds_of(sum.mean),
                       seconds_of(sum.median), seconds_of(sum.last), or_dash(its_level));
    }
    if (json)
        fmt::print("{}\n", nlohmann::json{{"profiles", rows}}.dump(2));
    return exit_ok;
}

int contacts_cli::state::forget_profiles() const {
    if (peer.empty() != all)
        return complain("give the peer to forget, or --all", exit_usage);
    std::string who;
    if (!all) {
        const auto parsed = protocol::parse_address_name(peer);
        if (!parsed)
            return complain(parsed.error(), exit_usage);
        who = parsed->text;
    }
    history known(config.id, state_dir, config.profiles);
    const auto gone = known.forget(who);
    if (!gone)
        return complain(gone.error(), exit_failed);
    if (*gone == 0 && !all)
        return complain(fmt::format("there is no history with {}; `profiles list` shows them", who), exit_usage);
    fmt::print("{} forgotten\n", all ? fmt::format("{} peers", *gone) : who);
    return exit_ok;
}

contacts_cli::contacts_cli(CLI::App& app) : state_(std::make_unique<state>()) {
    state_->add_contacts(app);
    state_->add_profiles(app);
}

contacts_cli::~contacts_cli() = default;

std::optional<int> contacts_cli::run(const std::string& config) {
    state& given = *state_;
    if (!given.contacts->parsed() && !given.profiles->parsed())
        return std::nullopt;
    if (given.config_file.empty() && given.state_dir.empty())
        given.config_file = config;
    if (const auto place = given.find_place(); !place)
        return complain(place.error(), exit_usage);
    if (given.profiles->parsed())
        return given.forget->parsed() ? given.forget_profiles() : given.list_profiles();
    return given.list->parsed() ? given.list_contacts() : given.change_contacts();
}

} // namespace tandem::agent
