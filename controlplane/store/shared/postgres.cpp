// SPDX-License-Identifier: Apache-2.0
// The shared store's public face on the io_context: hands work to the worker, tells the listener what the watcher
// heard, empties the local spool batch by batch, and says in one sentence what is wrong. Owner thread: io_context.
#include "controlplane/store/shared/postgres.hpp"

#include <algorithm>
#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>
#include <fmt/format.h>
#include <map>
#include <set>
#include <spdlog/spdlog.h>
#include <unordered_set>

#include "controlplane/protocol/spawn.hpp"
#include "controlplane/store/shared/link.hpp"
#include "controlplane/store/shared/records.hpp"
#include "controlplane/store/shared/rules.hpp"
#include "controlplane/store/shared/threads.hpp"

namespace tandem::store {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

namespace {

constexpr milliseconds pump_interval = 200ms, pump_pause = 1s;

// What came of a batch: ids that are in the shared store now, and those that it will never take.
struct shipment {
    std::vector<std::string> there, refused;
    std::size_t fresh = 0;
    std::string why; // of the last one refused
};

bool is_data_error(const pg_error& error) { // 22: data exception, 23: constraint violated
    return error.state.starts_with("22") || error.state.starts_with("23");
}

shipment ship(pg_link& link, const std::vector<call_record>& records) {
    shipment done;
    const auto all_there = [&](const std::vector<call_record>& some) {
        done.fresh += ship_records(link, some);
        for (const auto& one : some)
            done.there.push_back(one.id);
    };
    try {
        all_there(records);
        return done;
    } catch (const pg_error& error) {
        if (!is_data_error(error))
            throw;
    }
    for (const auto& record : records) { // one that is refused must not hold up the others
        try {
            all_there({record});
        } catch (const pg_error& error) {
            if (!is_data_error(error))
                throw;
            done.refused.push_back(record.id);
            done.why = error.what();
        }
    }
    return done;
}

class front final : public pg_ears, public std::enable_shared_from_this<front> {
public:
    front(asio::io_context& io, postgres_options options, record_spool& spool, archive& local)
        : io_(io), options_(options), spool_(spool), local_(local), pump_wait_(io), news_(io),
          threads_(std::make_shared<pg_threads>(io, std::move(options))) {}

    void start(policy::store::listener& to) {
        listener_ = &to;
        threads_->start(weak_from_this());
        protocol::spawn(io_, "pump of records to PostgreSQL", pump(shared_from_this()));
    }
    void stop() {
        if (std::exchange(stopped_, true))
            return;
        listener_ = nullptr;
        threads_->stop();
        pump_wait_.cancel();
        news_.cancel();
        for (auto& [id, timer] : waiting_)
            timer->cancel();
    }

    asio::awaitable<outcome<std::size_t>> apply(std::vector<policy::rule_edit> edits, std::string who);
    asio::awaitable<outcome<std::vector<policy::rule_change>>> history(std::size_t limit);
    asio::awaitable<outcome<std::size_t>> forget(std::string a, std::string b);
    asio::awaitable<outcome<std::vector<call_record>>> find(record_query what);
    asio::awaitable<outcome<std::optional<call_record>>> show(std::string id);
    [[nodiscard]] std::size_t waiting() const { return spool_.waiting(); }
    [[nodiscard]] postgres_status status() const {
        auto now = status_;
        now.trouble = trouble();
        return now;
    }

private:
    asio::io_context& io_;
    postgres_options options_;
    record_spool& spool_;
    archive& local_;
    policy::store::listener* listener_ = nullptr;
    bool stopped_ = false, loaded_ = false;
    std::uint64_t number_ = 0; // of the last change that the listener heard
    std::string connection_trouble_ = "not connected yet", ship_trouble_, told_;
    postgres_status status_;
    asio::steady_timer pump_wait_, news_;
    std::map<std::uint64_t, std::shared_ptr<asio::steady_timer>> waiting_; // coroutines that wait for the worker
    std::uint64_t last_wait_ = 0;
    std::unordered_set<std::string> refused_; // records that the server will not take, as long as this process lives
    std::shared_ptr<pg_threads> threads_;

    void loaded(everything all, bool with_rules) override;
    void heard_rules(rule_news news) override;
    void heard_profiles(std::vector<protocol::profile> profiles) override;
    void connection(std::string trouble) override;
    [[nodiscard]] std::string trouble() const;
    void say_trouble();
    void heard_up_to(std::uint64_t number);
    static asio::awaitable<void> pump(std::shared_ptr<front> self);
    asio::awaitable<bool> ship_some();
    template <class T>
    asio::awaitable<outcome<T>> ask(std::function<T(pg_link&)> work, milliseconds limit, const char* what);
};

// -- what the watcher tells ---------------------------------------------------------

void front::loaded(everything all, bool with_rules) {
    loaded_ = true;
    if (with_rules)
        spdlog::info("shared store: {} rules and {} profiles loaded", all.rules.size(), all.profiles.size());
    if (listener_ != nullptr && with_rules)
        listener_->rules_replaced(std::move(all.rules));
    if (listener_ != nullptr)
        listener_->profiles_replaced(std::move(all.profiles));
    heard_up_to(with_rules ? all.number : number_);
}

void front::heard_rules(rule_news news) {
    if (listener_ != nullptr)
        listener_->rules_changed(news.edits);
    heard_up_to(news.number);
}

void front::heard_profiles(std::vector<protocol::profile> profiles) {
    for (const auto& one : profiles)
        if (listener_ != nullptr)
            listener_->profile_changed(one);
}

void front::heard_up_to(std::uint64_t number) {
    number_ = number;
    news_.cancel(); // wakes those who wait for it
}

void front::connection(std::string trouble) {
    const bool well = trouble.empty();
    if (well && !status_.connected)
        ++status_.connects;
    status_.connected = well;
    connection_trouble_ = std::move(trouble);
    say_trouble();
    if (well)
        pump_wait_.cancel();
}

std::string front::trouble() const {
    if (!connection_trouble_.empty())
        return fmt::format("the shared store (PostgreSQL) is away: {}; check that its server runs and that [store] "
                           "conninfo in controlplane.toml names it, call records wait here meanwhile",
                           connection_trouble_);
    return ship_trouble_;
}

void front::say_trouble() {
    const auto now = trouble();
    if (now == told_)
        return;
    if (now.empty())
        spdlog::info("the shared store (PostgreSQL) is well; {} records wait to go there", spool_.waiting());
    else if (told_.empty())
        spdlog::error("{}", now);
    told_ = now;
    if (listener_ != nullptr)
        listener_->store_trouble(now);
}

// -- asking the worker --------------------------------------------------------------

// `what` is said of a request that came to nothing before it was begun.
template <class T>
asio::awaitable<outcome<T>> front::ask(std::function<T(pg_link&)> work, milliseconds limit, const char* what) {
    if (!status_.connected)
        co_return tl::unexpected(fmt::format("{}; {}", trouble(), what));
    struct answer {
        std::optional<outcome<T>> value;
        std::atomic<bool> given_up = false, begun = false;
    };
    const auto self = shared_from_this();
    const auto slot = std::make_shared<answer>();
    const auto id = ++last_wait_;
    const auto wait = std::make_shared<asio::steady_timer>(io_, limit);
    waiting_[id] = wait;
    // The worker's side holds no timer: it may outlive the io_context. The weak pointer is taken on the io_context.
    const auto deliver = [threads = threads_.get(), weak = weak_from_this(), slot, id](outcome<T> value) {
        threads->post([weak, slot, id, value = std::move(value)]() mutable {
            slot->value = std::move(value);
            if (const auto here = weak.lock())
                if (const auto found = here->waiting_.find(id); found != here->waiting_.end())
                    found->second->cancel();
        });
    };
    threads_->queue({[work = std::move(work), deliver, slot](pg_link& link) {
                         slot->begun = true;
                         deliver(work(link));
                     },
                     [deliver](const std::string& why) { deliver(tl::unexpected(why)); },
                     std::shared_ptr<const std::atomic<bool>>(slot, &slot->given_up)});
    asio::error_code ignored;
    co_await wait->async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    waiting_.erase(id);
    slot->given_up = true;
    if (!slot->value)
        co_return tl::unexpected(fmt::format("the shared store (PostgreSQL) gave no answer within {} s; {}",
                                             limit.count() / 1000,
                                             slot->begun ? "what was asked for may still happen: look again" : what));
    if (!*slot->value)
        co_return tl::unexpected(fmt::format("the shared store (PostgreSQL) failed: {}; {}", slot->value->error(),
                                             slot->begun ? "look whether it was done before trying again" : what));
    co_return std::move(*slot->value);
}

asio::awaitable<outcome<std::size_t>> front::apply(std::vector<policy::rule_edit> edits, std::string who) {
    const auto self = shared_from_this();
    const auto limit = 30s + milliseconds(edits.size() / 2); // a server that is away ends it sooner (the watcher)
    const auto size = edits.size();
    std::function<outcome<applied>(pg_link&)> work = [edits = std::move(edits), who = std::move(who)](pg_link& link) {
        if (auto wrong = what_is_wrong(edits); !wrong.empty())
            return outcome<applied>(tl::unexpected(std::move(wrong)));
        return outcome<applied>(apply_rules(link, edits, who.empty() ? "somebody by this program" : who));
    };
    auto answer = co_await ask(std::move(work), limit, "no rule was changed");
    if (!answer)
        co_return tl::unexpected(answer.error());
    if (!*answer)
        co_return tl::unexpected(answer->error());
    const auto until = std::chrono::steady_clock::now() + limit;
    while (number_ < (*answer)->number && !stopped_ && std::chrono::steady_clock::now() < until) {
        asio::error_code ignored;
        news_.expires_at(until);
        co_await news_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    }
    co_return size;
}

asio::awaitable<outcome<std::vector<policy::rule_change>>> front::history(std::size_t limit) {
    std::function<std::vector<policy::rule_change>(pg_link&)> work = [limit](pg_link& link) {
        return rule_history(link, limit);
    };
    return ask(std::move(work), 10s, "its change log cannot be read now");
}

asio::awaitable<outcome<std::size_t>> front::forget(std::string a, std::string b) {
    std::function<std::size_t(pg_link&)> work = [a = std::move(a), b = std::move(b)](pg_link& link) {
        return forget_profiles(link, a, b);
    };
    return ask(std::move(work), 30s, "no profile was forgotten");
}

// -- records ------------------------------------------------------------------------

asio::awaitable<outcome<std::vector<call_record>>> front::find(record_query what) {
    const auto self = shared_from_this();
    // The local ones first: one that goes to the server meanwhile is then in both, never in neither.
    auto here = co_await local_.find(what);
    std::function<std::vector<call_record>(pg_link&)> work = [what](pg_link& link) { return find_records(link, what); };
    auto there = co_await ask(std::move(work), 30s, "only this gateway's own records are shown");
    if (!there) {
        spdlog::warn("store: {}", there.error());
        co_return here;
    }
    std::unordered_set<std::string> known;
    for (const auto& one : *there)
        known.insert(one.id);
    if (here)
        for (auto& one : *here)
            if (known.insert(one.id).second)
                there->push_back(std::move(one));
    std::ranges::sort(*there, [](const auto& a, const auto& b) { return a.ended > b.ended; });
    if (there->size() > what.limit)
        there->resize(what.limit);
    co_return there;
}

asio::awaitable<outcome<std::optional<call_record>>> front::show(std::string id) {
    const auto self = shared_from_this();
    auto here = co_await local_.show(id);
    if (here && *here)
        co_return here;
    std::function<std::optional<call_record>(pg_link&)> work = [id = std::move(id)](pg_link& link) {
        return show_record(link, id);
    };
    co_return co_await ask(std::move(work), 10s, "this gateway has no such record of its own");
}

// True: there may be more.
asio::awaitable<bool> front::ship_some() {
    auto batch = spool_.unshipped(options_.batch + refused_.size());
    std::erase_if(batch, [&](const call_record& one) { return refused_.contains(one.id); });
    if (batch.empty())
        co_return false;
    const auto size = batch.size();
    const auto records = std::make_shared<const std::vector<call_record>>(std::move(batch));
    std::function<shipment(pg_link&)> work = [records](pg_link& link) { return ship(link, *records); };
    auto done = co_await ask(std::move(work), 120s, "records wait here");
    if (stopped_)
        co_return false;
    if (!done) {
        ++status_.ship_failures;
        if (status_.connected)
            ship_trouble_ = fmt::format("records of calls cannot be written to the shared store: {}", done.error());
        say_trouble();
        co_return false;
    }
    spool_.mark_shipped(done->there);
    status_.shipped += done->fresh;
    status_.doubles_refused += done->there.size() - done->fresh;
    refused_.insert(done->refused.begin(), done->refused.end());
    ship_trouble_ = refused_.empty()
                        ? std::string()
                        : fmt::format("{} records of calls are refused by the shared store ({}): they stay "
                                      "here; see the log for the first of them",
                                      refused_.size(), done->why);
    if (!done->refused.empty())
        spdlog::error("record {} is refused by the shared store: {}", done->refused.front(), done->why);
    say_trouble();
    co_return size >= options_.batch;
}

asio::awaitable<void> front::pump(std::shared_ptr<front> self) {
    while (!self->stopped_) {
        milliseconds pause = pump_interval;
        if (self->status_.connected && self->spool_.waiting() > self->refused_.size()) {
            const auto failures = self->status_.ship_failures;
            const bool more = co_await self->ship_some();
            pause = more ? 0ms : self->status_.ship_failures > failures ? pump_pause : pump_interval;
        }
        if (self->stopped_)
            co_return;
        asio::error_code ignored;
        self->pump_wait_.expires_after(pause);
        co_await self->pump_wait_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    }
}

// -- the handle that main holds -----------------------------------------------------

class handle final : public postgres {
public:
    explicit handle(std::shared_ptr<front> face) : face_(std::move(face)) {}
    ~handle() override { face_->stop(); }
    void start(listener& to) override { face_->start(to); }
    void stop() override { face_->stop(); }
    asio::awaitable<outcome<std::size_t>> apply(std::vector<policy::rule_edit> edits, std::string who) override {
        return face_->apply(std::move(edits), std::move(who));
    }
    asio::awaitable<outcome<std::vector<policy::rule_change>>> history(std::size_t limit) override {
        return face_->history(limit);
    }
    asio::awaitable<outcome<std::size_t>> forget_profiles(std::string a, std::string b) override {
        return face_->forget(std::move(a), std::move(b));
    }
    asio::awaitable<outcome<std::vector<call_record>>> find(record_query what) override { return face_->find(what); }
    asio::awaitable<outcome<std::optional<call_record>>> show(std::string id) override {
        return face_->show(std::move(id));
    }
    [[nodiscard]] std::size_t waiting() const override { return face_->waiting(); }
    [[nodiscard]] postgres_status status() const override { return face_->status(); }

private:
    std::shared_ptr<front> face_;
};

} // namespace

tl::expected<std::unique_ptr<postgres>, std::string> open_postgres(asio::io_context& io, postgres_options options,
                                                                   record_spool& spool, archive& local) {
    if (auto fine = check_conninfo(options.conninfo); !fine)
        return tl::unexpected(fine.error());
    return std::make_unique<handle>(std::make_shared<front>(io, std::move(options), spool, local));
}

} // namespace tandem::store
