// SPDX-License-Identifier: Apache-2.0
// The shared store against a real server: what one gateway or psql changes the other hears, records go there once
// whatever dies, a server that is frozen or gone is said and harms nothing.
#include "controlplane/store/shared/postgres.hpp"

#include <asio/co_spawn.hpp>
#include <asio/steady_timer.hpp>
#include <map>
#include <set>
#include <sys/socket.h>
#include <sys/un.h>

#include "controlplane/store/record_text.hpp"
#include "controlplane/store/shared/link.hpp"
#include "controlplane/store/shared/postgres_fixture.hpp"
#include "controlplane/store/shared/schema.hpp"

namespace tandem::store {
namespace {

using namespace std::chrono_literals;
using steady = std::chrono::steady_clock;

struct memory_spool final : record_spool, archive {
    std::vector<call_record> unshipped(std::size_t limit) override {
        std::vector<call_record> some;
        for (const auto& [id, record] : rows)
            if (some.size() < limit)
                some.push_back(record);
        return some;
    }
    void mark_shipped(std::span<const std::string> ids) override {
        for (const auto& id : ids)
            if (!forgetful)
                rows.erase(id);
        ++marks;
    }
    [[nodiscard]] std::size_t waiting() const override { return rows.size(); }
    asio::awaitable<outcome<std::vector<call_record>>> find(record_query what) override {
        co_return unshipped(what.limit);
    }
    asio::awaitable<outcome<std::optional<call_record>>> show(std::string id) override {
        const auto found = rows.find(id);
        co_return found == rows.end() ? std::nullopt : std::optional(found->second);
    }
    std::map<std::string, call_record> rows;
    bool forgetful = false; // as a process that dies before it marks
    int marks = 0;
};

struct ears final : policy::store::listener {
    void rules_replaced(std::vector<policy::rule> all) override {
        rules.clear();
        for (auto& rule : all)
            rules[rule.address] = rule;
        ++replaced;
    }
    void rules_changed(std::span<const policy::rule_edit> edits) override {
        for (const auto& edit : edits) {
            if (edit.removed)
                rules.erase(edit.row.address);
            else
                rules[edit.row.address] = edit.row;
        }
    }
    void profiles_replaced(std::vector<protocol::profile> all) override {
        profiles.clear();
        for (auto& one : all)
            profile_changed(one);
    }
    void profile_changed(const protocol::profile& one) override {
        if (one.total == 0)
            profiles.erase({one.a, one.b});
        else
            profiles[{one.a, one.b}] = one;
    }
    void store_trouble(const std::string& sentence) override {
        trouble = sentence;
        said.push_back(sentence);
    }
    std::map<std::string, policy::rule> rules;
    std::map<std::pair<std::string, std::string>, protocol::profile> profiles;
    std::string trouble;
    std::vector<std::string> said;
    int replaced = 0;
};

struct gateway {
    gateway(asio::io_context& io, const std::string& conninfo, const std::string& name) {
        auto made = open_postgres(io, {.conninfo = conninfo, .instance = name}, spool, spool);
        EXPECT_TRUE(made) << made.error();
        store = std::move(*made);
        store->start(heard);
    }
    memory_spool spool;
    ears heard;
    std::unique_ptr<postgres> store;
};

struct shared_store : testing::Test {
    void SetUp() override {
        auto& here = postgres_server::one();
        if (!here.why_not().empty())
            GTEST_SKIP() << here.why_not();
        static int number = 0;
        name = fmt::format("t{}", ++number);
        EXPECT_EQ(server.psql("CREATE DATABASE " + name), "");
    }
    template <class Condition>
    bool until(Condition condition, std::chrono::milliseconds limit = 20s) {
        for (const auto end = steady::now() + limit; steady::now() < end;) {
            if (condition())
                return true;
            io.restart();
            io.run_for(5ms);
        }
        return condition();
    }
    template <class T>
    T get(asio::awaitable<T> work) {
        std::optional<T> value;
        asio::co_spawn(io, std::move(work), [&](const std::exception_ptr&, T made) { value = std::move(made); });
        EXPECT_TRUE(until([&] { return value.has_value(); }, 60s));
        return std::move(*value);
    }
    std::unique_ptr<gateway> open(const std::string& instance) {
        auto made = std::make_unique<gateway>(io, server.conninfo(name), instance);
        EXPECT_TRUE(until([&] { return made->store->status().connected; })) << made->heard.trouble;
        return made;
    }
    std::string sql(const std::string& text) const { return server.psql(text, name); }

    postgres_server& server = postgres_server::one();
    std::string name;
    asio::io_context io;
};

policy::rule_edit set(const std::string& address, const std::string& level) {
    return {{address, level, {}, {}, "a test's"}, false};
}

policy::rule_edit gone(const std::string& address) {
    return {{address, {}, {}, {}, {}}, true};
}

record_query query(std::size_t limit, const std::string& party = {}, const std::string& call_id = {}) {
    record_query what;
    what.limit = limit;
    what.party = party;
    what.call_id = call_id;
    return what;
}

call_record record(int number, const std::string& caller = "alice", const std::string& callee = "bob") {
    call_record one;
    one.id = fmt::format("{:032x}", number);
    one.instance = "gw";
    one.call_id = fmt::format("call-{}", number);
    one.caller = caller;
    one.callee = callee;
    one.started = std::chrono::system_clock::time_point(1'700'000'000'000ms + number * 1s);
    one.answered = one.started + 1s;
    one.ended = one.answered + 10s;
    one.level = "standard";
    one.decided_by = "default";
    one.cause = "hangup";
    return one;
}

TEST(postgres_conninfo, NoPasswordInIt) {
    EXPECT_TRUE(check_conninfo("host=/run/postgresql dbname=tandem passfile=/etc/tandem/pgpass"));
    EXPECT_TRUE(check_conninfo("service=tandem"));
    for (const auto* bad : {"host=db password=sesame", "postgresql://tandem:sesame@db/tandem", "sslpassword=sesame",
                            "no conninfo of sesame"}) {
        const auto said = check_conninfo(bad);
        ASSERT_FALSE(said) << bad;
        EXPECT_EQ(said.error().find("sesame"), std::string::npos) << said.error();
    }
}

TEST(postgres_conninfo, SeveralHostsAreTriedInTurn) {
    EXPECT_EQ(rotated("a,b,c", 0), "a,b,c");
    EXPECT_EQ(rotated("a,b,c", 1), "b,c,a");
    EXPECT_EQ(rotated("a,b,c", 5), "c,a,b");
    EXPECT_EQ(rotated(",5433", 1), "5433,");
    EXPECT_EQ(rotated("a", 3), "");
}

TEST_F(shared_store, OfSeveralHostsTheOneThatAnswersIsFound) {
    // A socket that takes connections and says nothing, as a host that vanished.
    const int silent = ::socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
    char dir[] = "/tmp/tandem-silent-XXXXXX";
    ASSERT_NE(::mkdtemp(dir), nullptr);
    fmt::format_to(address.sun_path, "{}/.s.PGSQL.5432", dir);
    ASSERT_EQ(::bind(silent, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    ASSERT_EQ(::listen(silent, 10), 0);
    auto conninfo = server.conninfo(name);
    conninfo.insert(conninfo.find("host=") + 5, fmt::format("{},", dir));
    gateway one(io, conninfo, "gw-1");
    EXPECT_TRUE(until([&] { return one.store->status().connected; })) << one.heard.trouble;
    EXPECT_TRUE(get(one.store->apply({set("alice", "high")}, "x")));
    ::close(silent);
    std::filesystem::remove_all(dir);
}

TEST_F(shared_store, Rim19_ARuleSetAtOneGatewayIsHeardAtTheOther) {
    const auto one = open("gw-1"), two = open("gw-2");
    policy::rule full{"+46701234567", "high", policy::key_source::unit, policy::path_choice::wlan,
                      "the boss, \"\\ \t'"};
    const auto done = get(one->store->apply({{full, false}, set("@example.com", "elevated")}, "root by tandemctl"));
    ASSERT_TRUE(done) << done.error();
    EXPECT_EQ(*done, 2u);
    EXPECT_EQ(one->heard.rules.size(), 2u) << "its own listener heard before apply returned";
    EXPECT_EQ(one->heard.rules["+46701234567"], full);
    EXPECT_TRUE(until([&] { return two->heard.rules.size() == 2; }));
    EXPECT_EQ(two->heard.rules, one->heard.rules);
    EXPECT_EQ(two->heard.replaced, 1) << "changes are told, not everything";
    const auto late = open("gw-3");
    EXPECT_EQ(late->heard.rules, one->heard.rules) << "loaded as they were set";
    ASSERT_TRUE(get(two->store->apply({gone("@example.com")}, "gw-2")));
    EXPECT_TRUE(until([&] { return one->heard.rules.size() == 1 && late->heard.rules.size() == 1; }));
    const auto log = get(one->store->history(10));
    ASSERT_TRUE(log) << log.error();
    ASSERT_EQ(log->size(), 3u);
    EXPECT_EQ((*log)[0].who, "root by tandemctl");
    EXPECT_EQ((*log)[2].who, "gw-2");
    EXPECT_TRUE((*log)[2].edit.removed);
    EXPECT_EQ((*log)[2].edit.row.level, "elevated") << "what it was";
    EXPECT_LT((*log)[0].number, (*log)[1].number);
}

TEST_F(shared_store, Rim19_ChangesByPsqlAreHeardAndAudited) {
    const auto one = open("gw-1");
    EXPECT_EQ(sql("INSERT INTO tandem.rule(address, level) SELECT '+46' || n, 'high' FROM generate_series(100, 199) n"),
              "");
    EXPECT_TRUE(until([&] { return one->heard.rules.size() == 100; }));
    EXPECT_EQ(sql("UPDATE tandem.rule SET address = 'bob', level = 'basic' WHERE address = '+46100'"), "");
    EXPECT_TRUE(until([&] { return one->heard.rules.contains("bob") && !one->heard.rules.contains("+46100"); }));
    EXPECT_EQ(sql("BEGIN; DELETE FROM tandem.rule; ROLLBACK; TRUNCATE tandem.rule"), "");
    EXPECT_TRUE(until([&] { return one->heard.rules.empty(); }));
    EXPECT_EQ(sql("SELECT count(*), count(DISTINCT number), max(number) FROM tandem.rule_log"), "202|202|202");
    const auto log = get(one->store->history(1));
    ASSERT_TRUE(log);
    EXPECT_TRUE((*log)[0].who.starts_with("directly")) << (*log)[0].who;
}

TEST_F(shared_store, ManyGatewaysStartOnAnEmptyDatabaseAtOnce) {
    std::vector<std::unique_ptr<gateway>> all;
    for (int i = 0; i < 5; ++i)
        all.push_back(std::make_unique<gateway>(io, server.conninfo(name), fmt::format("gw-{}", i)));
    for (const auto& one : all)
        EXPECT_TRUE(until([&] { return one->store->status().connected; })) << one->heard.trouble;
    EXPECT_EQ(sql("SELECT count(*) FROM tandem.schema_version"), std::to_string(postgres_schema_version));
}

TEST_F(shared_store, ANewerSchemaIsRefusedWithWords) {
    open("gw-1");
    EXPECT_EQ(sql("INSERT INTO tandem.schema_version(version) VALUES (99)"), "");
    gateway late(io, server.conninfo(name), "gw-2");
    EXPECT_TRUE(until([&] { return late.heard.trouble.find("run a newer tandem-controlplane") != std::string::npos; }))
        << late.heard.trouble;
    EXPECT_FALSE(late.store->status().connected);
}

TEST_F(shared_store, ABrokenEditChangesNothing) {
    const auto one = open("gw-1");
    EXPECT_EQ(sql("ALTER TABLE tandem.rule ADD CHECK (level <> 'forbidden')"), "");
    const auto done = get(one->store->apply({set("alice", "high"), set("bob", "forbidden")}, "x"));
    ASSERT_FALSE(done);
    EXPECT_NE(done.error().find("PostgreSQL refuses"), std::string::npos) << done.error();
    EXPECT_EQ(sql("SELECT count(*) FROM tandem.rule"), "0");
    EXPECT_TRUE(get(one->store->apply({set("alice", "basic"), set("alice", "high")}, "x"))) << "the last one stands";
    EXPECT_EQ(one->heard.rules["alice"].level, "high");
    EXPECT_FALSE(get(one->store->apply({set("alice", "basic"), set("+46 70 1", "high")}, "x"))) << "not canonical";
    EXPECT_EQ(one->heard.rules["alice"].level, "high");
}

TEST_F(shared_store, Rim25_RecordsGoThereOnceAndTeachTheProfileOnce) {
    const auto one = open("gw-1"), two = open("gw-2");
    one->spool.forgetful = true; // each batch is shipped again and again
    for (int i = 0; i < 300; ++i)
        one->spool.rows.emplace(record(i).id, record(i));
    for (int i = 1000; i < 1300; ++i)
        two->spool.rows.emplace(record(i).id, record(i, "bob", "alice"));
    EXPECT_TRUE(until([&] { return two->spool.rows.empty() && one->spool.marks > 3; }));
    one->spool.forgetful = false;
    EXPECT_TRUE(until([&] { return one->spool.rows.empty(); }));
    EXPECT_EQ(sql("SELECT count(*) FROM tandem.call_record"), "600");
    EXPECT_EQ(one->store->status().shipped, 300u);
    EXPECT_GT(one->store->status().doubles_refused, 0u);
    for (const auto* here : {one.get(), two.get()}) {
        EXPECT_TRUE(until([&] {
            return here->heard.profiles.contains({"alice", "bob"}) &&
                   here->heard.profiles.at({"alice", "bob"}).total == 600;
        }));
        EXPECT_EQ(here->heard.profiles.at({"alice", "bob"}).calls.size(), protocol::profile::most_calls);
        EXPECT_EQ(here->heard.profiles.at({"alice", "bob"}).calls.back().duration, 10s);
    }
    const auto found = get(two->store->find(query(5, "alice")));
    ASSERT_TRUE(found) << found.error();
    ASSERT_EQ(found->size(), 5u);
    EXPECT_EQ(found->front().id, record(1299).id) << "newest first";
    EXPECT_EQ(get(two->store->find(query(100, "004670 1")))->size(), 0u);
    EXPECT_EQ(get(two->store->find(query(100, {}, "call-7")))->size(), 1u);
    auto between = query(100);
    between.since = record(298).ended;
    between.until = record(1001).ended;
    EXPECT_EQ(get(two->store->find(between))->size(), 4u);
    const auto shown = get(two->store->show(record(7).id));
    ASSERT_TRUE(shown && *shown);
    EXPECT_EQ((*shown)->caller, "alice");
    EXPECT_FALSE(*get(two->store->show("no such one")));
    EXPECT_EQ(*get(two->store->forget_profiles("bob", "alice")), 1u);
    EXPECT_TRUE(until([&] { return one->heard.profiles.empty() && two->heard.profiles.empty(); }));
}

TEST_F(shared_store, TextThatPostgresDoesNotTakeAndARecordThatItRefusesHoldNothingUp) {
    const auto one = open("gw-1");
    auto odd = record(1, std::string("al\0ice", 6), "b\xff\xfeob");
    odd.cause = std::string("\0\\u0000 \xc3", 9);
    one->spool.rows.emplace(odd.id, odd);
    EXPECT_TRUE(until([&] { return one->spool.rows.empty(); })) << one->heard.trouble;
    EXPECT_EQ(sql("ALTER TABLE tandem.call_record ADD CHECK (caller <> 'eve') NOT VALID"), "");
    for (int i = 2; i < 50; ++i)
        one->spool.rows.emplace(record(i).id, record(i, i == 5 ? "eve" : "alice"));
    EXPECT_TRUE(until([&] { return one->spool.rows.size() == 1 && !one->heard.trouble.empty(); }));
    EXPECT_NE(one->heard.trouble.find("1 records"), std::string::npos) << one->heard.trouble;
    EXPECT_EQ(sql("SELECT count(*) FROM tandem.call_record"), "48");
}

TEST_F(shared_store, AServerThatCrashesAgainAndAgainLosesAndDoublesNothing) {
    const auto one = open("gw-1");
    constexpr int rounds = 8, each = 400;
    for (int round = 0; round < rounds; ++round) {
        for (int i = 0; i < each; ++i)
            one->spool.rows.emplace(record(round * each + i).id, record(round * each + i));
        const auto before = one->spool.rows.size();
        until([&] { return one->spool.rows.size() < before; }, 10s); // some went: now
        server.end(SIGQUIT);
        EXPECT_TRUE(until([&] { return !one->heard.trouble.empty(); }));
        server.start();
    }
    EXPECT_TRUE(until([&] { return one->spool.rows.empty(); }, 60s)) << one->heard.trouble;
    EXPECT_EQ(sql("SELECT count(*) FROM tandem.call_record"), std::to_string(rounds * each));
    EXPECT_EQ(sql("SELECT body->>'total' FROM tandem.profile"), std::to_string(rounds * each));
    EXPECT_TRUE(until([&] { return one->heard.trouble.empty(); }));
}

TEST_F(shared_store, Rim21_AFrozenServerIsSaidAndBlocksNothing) {
    const auto one = open("gw-1"), two = open("gw-2");
    ASSERT_TRUE(get(one->store->apply({set("alice", "high")}, "x")));
    const auto frozen = steady::now();
    server.signal_all(SIGSTOP);
    one->spool.rows.emplace(record(1).id, record(1));
    int ticks = 0;
    const auto pending = get(one->store->apply({set("bob", "high")}, "x")); // under way when nothing answers
    EXPECT_FALSE(pending);
    EXPECT_TRUE(until([&] { return ++ticks, !one->heard.trouble.empty(); }));
    std::printf(
        "trouble said %lld ms after the server froze\n",
        static_cast<long long>(std::chrono::duration_cast<std::chrono::milliseconds>(steady::now() - frozen).count()));
    EXPECT_NE(one->heard.trouble.find("is away"), std::string::npos) << one->heard.trouble;
    EXPECT_EQ(one->heard.rules.size(), 1u);
    EXPECT_FALSE(get(one->store->apply({set("bob", "high")}, "x"))) << "at once, with a sentence";
    const auto found = get(one->store->find(query(100)));
    ASSERT_TRUE(found) << "what is here is shown";
    EXPECT_EQ(found->size(), 1u);
    const auto before = steady::now();
    two->store->stop(); // the end of a program does not wait for the server
    EXPECT_LT(steady::now() - before, 10s);
    server.signal_all(SIGCONT);
    EXPECT_TRUE(until([&] { return one->heard.trouble.empty() && one->spool.rows.empty(); })) << one->heard.trouble;
    EXPECT_EQ(sql("SELECT count(*) FROM tandem.call_record"), "1");
    EXPECT_EQ(one->heard.said.size(), 2u) << "one trouble, one return";
}

TEST_F(shared_store, Rim21_AServerThatIsNotThereIsFoundLater) {
    const auto first = open("gw-0");
    ASSERT_TRUE(get(first->store->apply({set("alice", "high")}, "x")));
    server.end(SIGINT);
    gateway one(io, server.conninfo(name), "gw-1");
    EXPECT_TRUE(until([&] { return !one.heard.trouble.empty(); }));
    EXPECT_NE(one.heard.trouble.find("check that its server runs"), std::string::npos) << one.heard.trouble;
    EXPECT_TRUE(one.heard.rules.empty());
    server.start();
    EXPECT_TRUE(until([&] { return one.heard.rules.size() == 1 && one.heard.trouble.empty(); }));
    // What changed while gw-0 was not connected reaches it by the log's numbers, not by loading everything.
    EXPECT_TRUE(until([&] { return first->store->status().connected; }));
    EXPECT_EQ(first->heard.replaced, 1);
}

TEST_F(shared_store, WhatChangedDuringAnOutageIsCaughtUp) {
    const auto one = open("gw-1");
    ASSERT_TRUE(get(one->store->apply({set("alice", "high"), set("bob", "high")}, "x")));
    server.end(SIGINT);
    EXPECT_TRUE(until([&] { return !one->heard.trouble.empty(); }));
    server.start(); // gw-1 waits for its next attempt
    EXPECT_EQ(sql("DELETE FROM tandem.rule WHERE address = 'bob'; INSERT INTO tandem.rule VALUES ('carol', 'basic')"),
              "");
    EXPECT_TRUE(until([&] { return one->heard.rules.contains("carol") && !one->heard.rules.contains("bob"); }));
    EXPECT_EQ(one->heard.replaced, 1);
}

TEST_F(shared_store, ConnectionsThatAnAdministratorEndsAreMadeAnew) {
    const auto one = open("gw-1");
    ASSERT_TRUE(get(one->store->apply({set("alice", "high")}, "x")));
    const auto end = [&](const std::string& which) {
        sql("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '" + name +
            "' AND pid <> pg_backend_pid() AND " + which);
    };
    const auto watchers = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT 1' AND datname = '" + name + "'";
    EXPECT_TRUE(until([&] { return sql(watchers) == "1"; }));
    end("query <> 'SELECT 1'"); // the worker's alone, while it is idle
    EXPECT_TRUE(get(one->store->apply({set("bob", "high")}, "x")));
    end("true");
    EXPECT_TRUE(until([&] { return one->store->status().connects == 2; })) << one->heard.trouble;
    EXPECT_TRUE(get(one->store->apply({set("carol", "high")}, "x")));
    EXPECT_EQ(one->heard.rules.size(), 3u);
}

TEST_F(shared_store, Rim27_ManyProfilesAtOnceAreLoadedAnew) {
    const auto one = open("gw-1");
    sql("INSERT INTO tandem.profile SELECT 'a' || n, 'b', '{\"total\":1,\"calls\":[[1700000000000,300000,false]]}' "
        "FROM "
        "generate_series(1, 600) n");
    EXPECT_TRUE(until([&] { return one->heard.profiles.size() == 600; }));
    EXPECT_EQ((one->heard.profiles[{"a7", "b"}].calls.at(0).duration), 300s);
    EXPECT_EQ(*get(one->store->forget_profiles("", "")), 600u);
    EXPECT_TRUE(until([&] { return one->heard.profiles.empty(); }));
}

// A hundred thousand; sanitized, without optimisation, a fifth of them.
TEST_F(shared_store, ManyRulesAreImportedAndLoaded) {
#ifdef __SANITIZE_ADDRESS__
    constexpr unsigned many = 20'000;
#else
    constexpr unsigned many = 100'000;
#endif
    const auto one = open("gw-1"), two = open("gw-2");
    std::vector<policy::rule_edit> edits;
    for (unsigned i = 0; i < many; ++i)
        edits.push_back(set(fmt::format("+46{:08}", i), "high"));
    auto begin = steady::now();
    const auto ms = [&] { return static_cast<long long>((steady::now() - begin) / 1ms); };
    const auto done = get(one->store->apply(std::move(edits), "import"));
    ASSERT_TRUE(done) << done.error();
    EXPECT_EQ(*done, many);
    EXPECT_EQ(one->heard.rules.size(), many);
    std::printf("%u rules imported in %lld ms\n", many, ms());
    EXPECT_TRUE(until([&] { return two->heard.rules.size() == many; }));
    begin = steady::now();
    const auto late = open("gw-3");
    std::printf("loaded in %lld ms\n", ms());
    EXPECT_EQ(late->heard.rules.size(), many);
}

} // namespace
} // namespace tandem::store
