// SPDX-License-Identifier: Apache-2.0
// Rules and profiles in SQLite for the policy room (rule_store.hpp). Owner thread: io_context.
#include "controlplane/store/local/rule_store.hpp"

#include <asio/steady_timer.hpp>
#include <fmt/format.h>
#include <set>
#include <spdlog/spdlog.h>

#include "controlplane/protocol/address_name.hpp"
#include "controlplane/store/local/parts.hpp"
#include "controlplane/store/record_text.hpp"
#include "controlplane/store/rows.hpp"

namespace tandem::store {

namespace {

constexpr auto look_every = std::chrono::milliseconds(500);
constexpr int edit_patience_ms = 250; // an operator's change waits for another program's lock, calls wait meanwhile

using policy::rule;
using policy::rule_edit;

rule rule_from(const cursor& row, int first) {
    rule r;
    r.address = row.text(first);
    r.level = row.text(first + 1);
    r.keys = policy::key_source_of(row.view(first + 2));
    r.path = policy::path_choice_of(row.view(first + 3));
    r.comment = row.text(first + 4);
    return r;
}

template <class Value>
void bind_name(cursor& to, const std::optional<Value>& value) {
    if (value)
        to.bind(name_of(*value));
    else
        to.bind_null();
}

class rule_rows final : public policy::store {
public:
    rule_rows(asio::io_context& io, database::impl& in)
        : all_(in), db_(in.link), timer_(io), version_(db_, "PRAGMA data_version"), begin_(db_, "BEGIN IMMEDIATE"),
          commit_(db_, "COMMIT"), who_(db_, "UPDATE writer SET who = ?"),
          set_(db_, "INSERT INTO rule(address, level, keygen, path, comment) VALUES(?1, ?2, ?3, ?4, ?5)"
                    " ON CONFLICT(address) DO UPDATE SET level = ?2, keygen = ?3, path = ?4, comment = ?5"),
          unset_(db_, "DELETE FROM rule WHERE address = ?"),
          changes_(db_, "SELECT n, removed, address, level, keygen, path, comment FROM rule_change WHERE n > ?"
                        " ORDER BY n"),
          profile_changes_(db_, "SELECT n, a, b FROM profile_change WHERE n > ? ORDER BY n"),
          profile_(db_, "SELECT body FROM profile WHERE a = ? AND b = ?") {}
    ~rule_rows() override { stop(); }

    void start(listener& to) override;
    void stop() override;
    asio::awaitable<tl::expected<std::size_t, std::string>> apply(std::vector<rule_edit> edits,
                                                                  std::string who) override;
    asio::awaitable<tl::expected<std::vector<policy::rule_change>, std::string>> history(std::size_t limit) override;
    asio::awaitable<tl::expected<std::size_t, std::string>> forget_profiles(std::string a, std::string b) override;

private:
    void load();
    void look();          // whether another program wrote
    void tell_rules();    // what the change log has that was not told
    void tell_profiles(); // likewise
    void wait();
    void trouble(const std::string& sentence);
    std::int64_t data_version();
    std::int64_t last(const char* table);
    void write(const std::vector<rule_edit>& edits, const std::string& who);
    static std::string refused(const sqlite_error& error);

    database::impl& all_;
    connection& db_;
    listener* to_ = nullptr;
    asio::steady_timer timer_;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
    std::int64_t seen_version_ = -1, told_rules_ = 0, told_profiles_ = 0;
    std::string trouble_;
    bool loaded_ = false;
    unsigned opening_ = 0; // of the connection
    statement version_, begin_, commit_, who_, set_, unset_, changes_, profile_changes_, profile_;
};

void rule_rows::start(listener& to) {
    to_ = &to;
    all_.writes.on_profile = [this](const protocol::profile& changed) {
        if (loaded_)
            to_->profile_changed(changed);
    };
    look();
    wait();
}

void rule_rows::stop() {
    *alive_ = false;
    alive_ = std::make_shared<bool>(true);
    timer_.cancel();
    if (to_ != nullptr)
        all_.writes.on_profile = nullptr;
    to_ = nullptr;
    loaded_ = false;
}

void rule_rows::wait() {
    timer_.expires_after(look_every);
    timer_.async_wait([this, alive = alive_](const asio::error_code& error) {
        if (error || !*alive)
            return;
        look();
        wait();
    });
}

std::int64_t rule_rows::data_version() {
    auto row = version_.begin();
    return row.step() ? row.number(0) : 0;
}

std::int64_t rule_rows::last(const char* table) {
    auto row = once(db_, fmt::format("SELECT coalesce(max(n), 0) FROM {}", table));
    return row.step() ? row.number(0) : 0;
}

// All reads of one state of the file.
void rule_rows::load() {
    std::vector<rule> rules;
    std::vector<protocol::profile> profiles;
    db_.run("BEGIN");
    try {
        told_rules_ = last("rule_change");
        told_profiles_ = last("profile_change");
        for (auto row = once(db_, "SELECT address, level, keygen, path, comment FROM rule"); row.step();)
            rules.push_back(rule_from(row, 0));
        for (auto row = once(db_, "SELECT a, b, body FROM profile"); row.step();) {
            auto& one = profiles.emplace_back();
            one.a = row.text(0);
            one.b = row.text(1);
            if (!profile_from_json(row.view(2), one))
                profiles.pop_back();
        }
    } catch (const sqlite_error&) {
        db_.run("ROLLBACK");
        throw;
    }
    db_.run("COMMIT");
    loaded_ = true;
    to_->rules_replaced(std::move(rules));
    to_->profiles_replaced(std::move(profiles));
}

void rule_rows::look() {
    try {
        const auto version = data_version();
        if (std::exchange(opening_, db_.opened()) != db_.opened())
            seen_version_ = -1; // of the connection before
        if (loaded_ && version == seen_version_) {
            trouble({});
            return;
        }
        if (!loaded_) {
            load();
        } else {
            tell_rules();
            tell_profiles();
        }
        seen_version_ = version; // what was written meanwhile is looked for again
        trouble({});
    } catch (const sqlite_error& error) {
        ++all_.failed;
        trouble(fmt::format("rules and profiles cannot be read from the database ({}): what was read before stays in "
                            "force; see that the disk is well",
                            error.what()));
    }
}

void rule_rows::trouble(const std::string& sentence) {
    if (sentence == trouble_)
        return;
    trouble_ = sentence;
    if (!sentence.empty())
        spdlog::error("database: {}", sentence);
    if (to_ != nullptr)
        to_->store_trouble(sentence);
}

void rule_rows::tell_rules() {
    std::vector<rule_edit> edits;
    {
        auto row = changes_.begin();
        row.bind(told_rules_);
        while (row.step()) {
            told_rules_ = row.number(0);
            edits.push_back({rule_from(row, 2), row.number(1) != 0});
        }
    }
    if (!edits.empty() && to_ != nullptr)
        to_->rules_changed(edits);
}

void rule_rows::tell_profiles() {
    std::set<std::pair<std::string, std::string>> pairs;
    {
        auto row = profile_changes_.begin();
        row.bind(told_profiles_);
        while (row.step()) {
            told_profiles_ = row.number(0);
            pairs.emplace(row.text(1), row.text(2));
        }
    }
    for (const auto& [a, b] : pairs) {
        protocol::profile one;
        one.a = a;
        one.b = b;
        {
            auto row = profile_.begin();
            if (row.bind(a).bind(b).step())
                (void)profile_from_json(row.view(0), one);
        }
        if (to_ != nullptr)
            to_->profile_changed(one);
    }
    if (!pairs.empty()) // told: nobody else reads it
        once(db_, "DELETE FROM profile_change WHERE n <= ?").bind(told_profiles_).step();
}

std::string rule_rows::refused(const sqlite_error& error) {
    if (error.busy())
        return "nothing is changed: another program holds the database's lock; end its transaction and try again";
    return fmt::format("nothing is changed: the database refused ({}); is the disk full or the file read-only?",
                       error.what());
}

void rule_rows::write(const std::vector<rule_edit>& edits, const std::string& who) {
    sqlite3_busy_timeout(db_.get(), edit_patience_ms);
    transaction work(db_, begin_, commit_);
    who_.begin().bind(who).step();
    for (const auto& edit : edits) {
        if (edit.removed) {
            unset_.begin().bind(edit.row.address).step();
            continue;
        }
        auto row = set_.begin();
        row.bind(edit.row.address).bind(edit.row.level);
        bind_name(row, edit.row.keys);
        bind_name(row, edit.row.path);
        row.bind(edit.row.comment).step();
    }
    who_.begin().bind_null().step();
    work.commit();
}

asio::awaitable<tl::expected<std::size_t, std::string>> rule_rows::apply(std::vector<rule_edit> edits,
                                                                         std::string who) {
    for (std::size_t i = 0; i < edits.size(); ++i) {
        const auto name = protocol::parse_address_name(edits[i].row.address);
        if (!name || name->text != edits[i].row.address)
            co_return tl::unexpected(
                fmt::format("row {}: {}; nothing is changed", i + 1,
                            name ? edits[i].row.address + " is not written as " + name->text : name.error()));
        if (!edits[i].removed && edits[i].row.level.empty())
            co_return tl::unexpected(
                fmt::format("row {}: {} has no level; nothing is changed", i + 1, edits[i].row.address));
    }
    all_.writes.settle();
    try {
        write(edits, who.empty() ? "somebody by this program" : who);
        if (loaded_)
            tell_rules();
    } catch (const sqlite_error& error) {
        ++all_.failed;
        co_return tl::unexpected(refused(error));
    }
    co_return edits.size();
}

asio::awaitable<tl::expected<std::vector<policy::rule_change>, std::string>> rule_rows::history(std::size_t limit) {
    std::vector<policy::rule_change> found;
    try {
        auto row = once(db_, "SELECT removed, address, level, keygen, path, comment, n, at, who FROM rule_change"
                             " ORDER BY n DESC LIMIT ?");
        row.bind(static_cast<std::int64_t>(limit));
        while (row.step())
            found.push_back({static_cast<std::uint64_t>(row.number(6)),
                             from_ms(row.number(7)),
                             row.text(8),
                             {rule_from(row, 1), row.number(0) != 0}});
    } catch (const sqlite_error& error) {
        ++all_.failed;
        co_return tl::unexpected(fmt::format("the changes cannot be read: {}", error.what()));
    }
    std::ranges::reverse(found);
    co_return found;
}

asio::awaitable<tl::expected<std::size_t, std::string>> rule_rows::forget_profiles(std::string a, std::string b) {
    all_.writes.settle();
    try {
        sqlite3_busy_timeout(db_.get(), edit_patience_ms);
        transaction work(db_, begin_, commit_);
        if (a.empty() && b.empty()) {
            once(db_, "DELETE FROM profile").step();
        } else {
            const auto pair = protocol::pair_of(a, b);
            once(db_, "DELETE FROM profile WHERE a = ? AND b = ?").bind(pair.first).bind(pair.second).step();
        }
        const auto gone = static_cast<std::size_t>(sqlite3_changes(db_.get()));
        work.commit();
        if (!loaded_)
            co_return gone;
        if (a.empty() && b.empty()) {
            told_profiles_ = last("profile_change");
            once(db_, "DELETE FROM profile_change").step();
            to_->profiles_replaced({});
        } else {
            tell_profiles();
        }
        co_return gone;
    } catch (const sqlite_error& error) {
        ++all_.failed;
        co_return tl::unexpected(refused(error));
    }
}

} // namespace

std::unique_ptr<policy::store> make_rule_store(asio::io_context& io, database& in) {
    return std::make_unique<rule_rows>(io, in.parts());
}

} // namespace tandem::store
