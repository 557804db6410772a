// SPDX-License-Identifier: Apache-2.0
// Policy with a million rules: how long a lookup and a whole decision take, how many decisions a second one thread
// makes, memory per rule, time to load. Beside it the same rules in a std::unordered_map of strings (engine "none"),
// asked by ever shorter prefixes: what the packed table is for. Names come in random order, so that caches are as cold
// as between calls; a part of them is listed nowhere, which takes every probe.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <malloc.h>
#include <random>
#include <string>
#include <unordered_map>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "controlplane/policy/csv.hpp"
#include "controlplane/policy/engine.hpp"
#include "controlplane/protocol/address_name.hpp"

namespace tandem::bench::policy_rules {
namespace {

using namespace tandem::policy;
using clock = std::chrono::steady_clock;

struct options {
    std::string json_path;
    bool quick = false;
    std::size_t rules = 1'000'000;
};

double since(clock::time_point begin) {
    return std::chrono::duration<double>(clock::now() - begin).count();
}

std::string number(std::mt19937& random, std::size_t digits) {
    std::string text = "+";
    text += static_cast<char>('1' + random() % 9);
    while (text.size() <= digits)
        text += static_cast<char>('0' + random() % 10);
    return text;
}

// Four fifths are numbers (ranges of 6 to 9 digits and single ones of 11), the rest SIP addresses, id codes, domains.
std::vector<rule> make_rules(std::size_t count) {
    std::mt19937 random(1); // NOLINT: the same rules each time
    const std::string levels[] = {"basic", "standard", "elevated", "high"};
    std::unordered_map<std::string, std::size_t> there;
    std::vector<rule> rules;
    rules.reserve(count);
    while (rules.size() < count) {
        const auto n = rules.size();
        rule row;
        switch (n % 20) {
        case 16:
        case 17:
            row.address = fmt::format("sip:user{}@operator{}.example", n, n % 50);
            break;
        case 18:
            row.address = fmt::format("unit-{}", n);
            break;
        case 19:
            row.address = fmt::format("@company{}.example", n);
            break;
        default:
            row.address = number(random, n % 4 == 0 ? 6 + random() % 4 : 11);
        }
        row.level = levels[random() % 4];
        if (n % 10 == 0)
            row.comment = fmt::format("ticket {}", n % 1000);
        if (there.emplace(row.address, n).second)
            rules.push_back(std::move(row));
    }
    return rules;
}

// Whom calls are between: half listed or below a listed range, half of no rule.
std::vector<party> make_parties(const std::vector<rule>& rules, std::size_t count) {
    std::mt19937 random(2); // NOLINT: the same calls each time
    std::vector<party> parties;
    for (std::size_t n = 0; n < count; ++n) {
        const auto& address = rules[random() % rules.size()].address;
        if (n % 2 == 0)
            parties.push_back({number(random, 11), "elsewhere.example"});
        else if (address.front() == '@')
            parties.push_back({"somebody", address.substr(1)});
        else if (address.front() == '+')
            parties.push_back(
                {(address + "1234567").substr(0, std::max<std::size_t>(12, address.size())), "operator1.example"});
        else
            parties.push_back({address, ""});
    }
    return parties;
}

class bench {
public:
    explicit bench(options how)
        : how_(std::move(how)), rules_(make_rules(how_.rules)), parties_(make_parties(rules_, 1 << 18)) {}

    void run() {
        load();
        lookups();
        decisions();
        plain();
        csv();
        if (how_.json_path.empty())
            return;
        std::ofstream(how_.json_path) << nlohmann::json{{"rows", rows_}}.dump(1) << "\n";
    }

private:
    [[nodiscard]] std::size_t rounds(std::size_t whole) const { return how_.quick ? whole / 10 : whole; }

    void load() {
        auto copy = rules_;
        const auto begin = clock::now();
        engine_.rules_replaced(std::move(copy));
        row("tandem", "load", since(begin) * 1000, "ms", "all rules told by the store");
        engine_.profiles_replaced({});
        row("tandem", "memory", static_cast<double>(engine_.rules().bytes()) / static_cast<double>(rules_.size()), "B",
            "a rule, names and comments included");
    }

    // Each timed by itself; the clock's own time is in every one.
    template <class Ask>
    void each(const char* engine, const char* what, std::size_t times, Ask&& ask) {
        std::vector<double> took;
        took.reserve(times);
        for (std::size_t n = 0; n < times; ++n) {
            const auto begin = clock::now();
            ask(n);
            took.push_back(since(begin) * 1e6);
        }
        std::sort(took.begin(), took.end());
        for (const double percentile : {50.0, 99.0}) {
            const auto at = static_cast<std::size_t>(static_cast<double>(took.size() - 1) * percentile / 100);
            row(engine, what, took[at], "us", "one, the clock's reading included");
            rows_.back()["percentile"] = percentile;
        }
    }
    const party& someone(std::size_t n) const { return parties_[n % parties_.size()]; }

    void lookups() {
        for (std::size_t n = 0; n < parties_.size(); ++n)
            found_ += engine_.rules().find(parties_[n]) ? 1 : 0;
        row("tandem", "lookup", static_cast<double>(found_) / static_cast<double>(parties_.size()), "share",
            "of names that a rule is for");
        each("tandem", "lookup", rounds(2'000'000),
             [&](std::size_t n) { found_ += engine_.rules().find(someone(n)) ? 1 : 0; });
    }

    question call(std::size_t n) const { return {someone(n), someone(n * 7 + 3), n % 16 == 0 ? "high" : "", "", {}}; }

    void decisions() {
        each("tandem", "decide", rounds(500'000),
             [&](std::size_t n) { found_ += engine_.decide(call(n)).steps.size(); });
        const auto times = rounds(1'000'000);
        std::vector<double> rates;
        for (int round = 0; round < 5; ++round) {
            const auto begin = clock::now();
            for (std::size_t n = 0; n < times / 5; ++n)
                found_ += engine_.decide(call(n)).steps.size();
            rates.push_back(static_cast<double>(times / 5) / since(begin));
        }
        std::sort(rates.begin(), rates.end());
        row("tandem", "decide", rates[2], "per_s", "decisions with their explanation, one thread, median of 5");
    }

    // The same answers out of the standard library.
    void plain() {
        const auto before = mallinfo2().uordblks;
        std::unordered_map<std::string, rule> map;
        const auto begin = clock::now();
        for (const auto& one : rules_)
            map.emplace(one.address, one);
        row("none", "load", since(begin) * 1000, "ms", "std::unordered_map");
        row("none", "memory", static_cast<double>(mallinfo2().uordblks - before) / static_cast<double>(rules_.size()),
            "B", "a rule, std::unordered_map");
        std::size_t found = 0;
        each("none", "lookup", rounds(500'000), [&](std::size_t n) { found += find(map, someone(n)) ? 1 : 0; });
        for (std::size_t n = 0; n < parties_.size(); ++n)
            if (find(map, parties_[n]) != engine_.rules().find(parties_[n]))
                throw std::runtime_error(fmt::format("{} is found differently by the plain table", parties_[n].id));
    }
    static std::optional<rule> find(const std::unordered_map<std::string, rule>& map, const party& who) {
        const auto name = protocol::parse_address_name(who.id);
        std::optional<rule> best;
        const auto ask = [&](const std::string& key) {
            const auto there = map.find(key);
            if (there != map.end())
                best = there->second;
            return there != map.end();
        };
        if (name->kind == protocol::address_kind::sip) {
            if (ask(name->text))
                return best;
        } else if (!who.domain.empty() && ask("sip:" + name->text + "@" + who.domain)) {
            return best;
        }
        if (name->kind == protocol::address_kind::number) {
            for (auto size = name->text.size(); size > 1; --size)
                if (ask(name->text.substr(0, size)))
                    return best;
        } else if (name->kind == protocol::address_kind::id_code && ask(name->text)) {
            return best;
        }
        if (!who.domain.empty())
            static_cast<void>(ask("@" + who.domain));
        return best;
    }

    void csv() {
        const auto text = to_csv(rules_);
        const auto begin = clock::now();
        const auto read = parse_csv(text, "rules.csv", {});
        row("tandem", "import", static_cast<double>(rules_.size()) / since(begin), "per_s",
            "rules read from CSV and checked");
        if (!read || *read != rules_)
            throw std::runtime_error("the CSV came back different");
    }

    void row(const char* engine, const char* what, double value, const char* unit, const std::string& note) {
        rows_.push_back({{"bench", "policy"},
                         {"engine", engine},
                         {"suite", "-"},
                         {"direction", what},
                         {"payload", 0},
                         {"flows", how_.rules},
                         {"value", value},
                         {"unit", unit},
                         {"note", note}});
        fmt::print("{:<8} {:<8} {:>14.3f} {:<6} {}\n", engine, what, value, unit, note);
        std::fflush(stdout);
    }

    options how_;
    std::vector<rule> rules_;
    std::vector<party> parties_;
    engine engine_{config{}};
    nlohmann::json rows_ = nlohmann::json::array();
    std::size_t found_ = 0; // so that nothing is optimised away
};

} // namespace
} // namespace tandem::bench::policy_rules

int main(int argc, char** argv) {
    tandem::bench::policy_rules::options how;
    CLI::App cli{"Lookups and decisions with a million rules in the security database", "policy_bench"};
    cli.add_option("--json", how.json_path, "write the rows here");
    cli.add_flag("--quick", how.quick, "a tenth of the rounds");
    cli.add_option("--rules", how.rules, "how many rules")->capture_default_str();
    CLI11_PARSE(cli, argc, argv);
    try {
        tandem::bench::policy_rules::bench(how).run();
    } catch (const std::exception& wrong) {
        fmt::print(stderr, "policy_bench: {}\n", wrong.what());
        return 1;
    }
    return 0;
}
