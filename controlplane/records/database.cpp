// SPDX-License-Identifier: Apache-2.0
// Opening, timers, and the public face over the room's parts. Owner thread: io_context.
#include "controlplane/records/database.hpp"

#include <asio/post.hpp>
#include <filesystem>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include "controlplane/records/parts.hpp"
#include "controlplane/records/schema.hpp"

namespace tandem::records {

namespace {

constexpr auto apply_after = std::chrono::milliseconds(20); // from the log into the database
constexpr auto retry_every = std::chrono::milliseconds(500);
constexpr auto expire_every = std::chrono::minutes(1);
constexpr auto expire_pause = std::chrono::milliseconds(100); // while there is more to delete
constexpr std::size_t expire_step = 200;
constexpr int checkpoint_pages = 1000;
constexpr auto keep_shipped = std::chrono::hours(24);

} // namespace

database::impl::impl(identity::sealer k, database_options o)
    : options(std::move(o)), keys(std::move(k)), units(link, failed, keys), sessions(link, failed), writes(link),
      live(link, writes, options.instance, options.shared_records), records(link, failed, options.shared_records) {}

tl::expected<void, std::string> database::impl::open(const std::string& path) {
    const auto parent = std::filesystem::path(path).parent_path();
    std::error_code ignored;
    if (!parent.empty())
        std::filesystem::create_directories(parent, ignored);
    const auto before = ::umask(0077);
    const bool opened = link.open(path);
    ::umask(before);
    if (!opened)
        return tl::unexpected(
            fmt::format("database {} cannot be opened ({}): check `database` in controlplane.toml and the "
                        "directory's owner",
                        path, sqlite3_errmsg(link.get())));
    try {
        sqlite3_busy_timeout(link.get(), 2000);
        // A process killed at any point loses nothing; a power cut may lose the last moments, never consistency.
        link.run("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA secure_delete = ON;");
        sqlite3_wal_hook(link.get(), &impl::moved_on, this);
        if (auto fine = bring_up(link, path, options.instance); !fine)
            return fine;
        if (auto fine = writes.open_log(path + "-log"); !fine)
            return fine;
        live.recover();
        records.count_waiting();
    } catch (const sqlite_error& error) {
        return tl::unexpected(fmt::format("database {} cannot be used: {}", path, error.what()));
    }
    records.before_reading = [this] { writes.settle(); };
    writes.on_record = [this](bool to_ship) {
        if (to_ship)
            records.one_more();
    };
    ::chmod(path.c_str(), 0600);
    return {};
}

// SQLite's own automatic checkpoint keeps its faults to itself.
int database::impl::moved_on(void* self, sqlite3* db, const char* /*name*/, int pages) {
    auto* in = static_cast<impl*>(self);
    if (pages < checkpoint_pages)
        return SQLITE_OK;
    const int result = sqlite3_wal_checkpoint_v2(db, nullptr, SQLITE_CHECKPOINT_PASSIVE, nullptr, nullptr);
    const bool fault = result != SQLITE_OK && result != SQLITE_BUSY && result != SQLITE_LOCKED;
    if (fault) {
        ++in->failed;
        if (!in->checkpoint_fault)
            spdlog::error("database: what is in its WAL cannot be moved into it ({}): it is safe there, but the WAL "
                          "grows; see that the disk is well and has room",
                          sqlite3_errstr(result));
    }
    in->checkpoint_fault = fault;
    return SQLITE_OK;
}

void database::impl::start(asio::io_context& io) {
    io_ = &io;
    writes.put_off([this] { apply_soon(apply_after); });
    live.flush_at_end_of_turn = [this] {
        if (std::exchange(flush_posted, true))
            return;
        asio::post(*io_, [weak = weak_from_this()] {
            if (const auto self = weak.lock()) {
                self->flush_posted = false;
                self->writes.flush();
            }
        });
    };
    retry();
    expire();
}

void database::impl::stop() {
    if (std::exchange(io_, nullptr) == nullptr)
        return;
    writes.put_off_no_more();
    live.flush_at_end_of_turn = nullptr;
    for (const auto& slot : {apply_timer_, retry_timer_, expire_timer_})
        if (const auto one = slot.lock())
            one->cancel();
    apply_set = flush_posted = false;
    writes.settle(true);
}

// The timer belongs to its handler.
void database::impl::after(std::chrono::milliseconds pause, step next, timer& slot) {
    const auto one = std::make_shared<asio::steady_timer>(*io_, pause);
    slot = one;
    one->async_wait([weak = weak_from_this(), next, one](const asio::error_code& error) {
        if (const auto self = weak.lock(); self && !error && self->io_ != nullptr)
            ((*self).*next)();
    });
}

// A little at a time: other work comes between.
void database::impl::apply_soon(std::chrono::milliseconds pause) {
    if (!std::exchange(apply_set, true))
        after(pause, &impl::apply, apply_timer_);
}

void database::impl::apply() {
    apply_set = false;
    if (writes.due())
        apply_soon(std::chrono::milliseconds(0));
}

void database::impl::retry() {
    if (!writes.trouble().empty() && writes.due(true))
        apply_soon(std::chrono::milliseconds(0));
    after(retry_every, &impl::retry, retry_timer_);
}

void database::impl::expire() {
    std::size_t gone = 0;
    const auto now = std::chrono::system_clock::now();
    if (options.keep_days != 0)
        gone += records.expire_ended(now - std::chrono::hours(24) * options.keep_days, expire_step);
    if (options.shared_records)
        gone += records.expire_shipped(now - keep_shipped, expire_step);
    expired += gone;
    after(gone >= expire_step ? expire_pause : std::chrono::milliseconds(expire_every), &impl::expire, expire_timer_);
}

database::database(std::shared_ptr<impl> made) : impl_(std::move(made)) {}
database::~database() {
    stop();
    impl_->writes.settle(true);
}

tl::expected<std::unique_ptr<database>, std::string> database::open(const std::string& path, identity::sealer keys,
                                                                    database_options options) {
    auto made = std::make_shared<impl>(std::move(keys), std::move(options));
    if (auto opened = made->open(path); !opened)
        return tl::unexpected(opened.error());
    return std::unique_ptr<database>(new database(std::move(made)));
}

void database::start(asio::io_context& io) {
    impl_->start(io);
}
void database::stop() {
    impl_->stop();
}

tl::expected<void, std::string> database::add_unit(const std::string& id, std::span<const std::uint8_t> psk,
                                                   const std::string& comment) {
    return impl_->units.add(id, psk, comment);
}
bool database::remove_unit(const std::string& id) {
    return impl_->units.remove(id);
}
std::vector<unit> database::units() {
    return impl_->units.all();
}
std::optional<unit> database::find_unit(const std::string& id) {
    return impl_->units.find(id);
}
std::size_t database::unit_count() {
    return impl_->units.count();
}

identity::psk_store& database::identities() noexcept {
    return impl_->units;
}
session::session_store& database::sessions() noexcept {
    return impl_->sessions;
}
callcontrol::call_store& database::calls() noexcept {
    return impl_->live;
}
media::journal& database::media() noexcept {
    return impl_->live;
}
archive& database::records() noexcept {
    return impl_->records;
}
record_spool& database::spool() noexcept {
    return impl_->records;
}

std::uint64_t database::failures() const noexcept {
    return impl_->failed + impl_->writes.failures;
}
database_counters database::count() const noexcept {
    const auto& writes = impl_->writes;
    return {failures(), writes.retried, writes.lost, writes.records, impl_->expired, writes.waiting()};
}
std::string database::trouble() const {
    if (!impl_->writes.trouble().empty() || !impl_->checkpoint_fault)
        return impl_->writes.trouble();
    return "the database's WAL cannot be moved into it and grows: see that the disk is well and has room";
}

} // namespace tandem::records
