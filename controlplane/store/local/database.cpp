// SPDX-License-Identifier: Apache-2.0
// Opening, timers, and the public face over the room's parts. Owner thread: io_context.
#include "controlplane/store/local/database.hpp"

#include <asio/post.hpp>
#include <filesystem>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "controlplane/store/local/parts.hpp"
#include "controlplane/store/local/schema.hpp"

namespace tandem::store {

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
    : options(std::move(o)), keys(std::move(k)), units(link, failed, keys), writes(link),
      sessions(link, failed, writes), live(link, writes, options.instance, options.shared_records),
      records(link, failed, options.shared_records) {}

void database::impl::set_up() {
    sqlite3_busy_timeout(link.get(), 2000);
    // A process killed at any point loses nothing; a power cut may lose the last moments, never consistency.
    if (link.writable())
        link.run("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA secure_delete = ON;");
    sqlite3_wal_hook(link.get(), &impl::moved_on, this);
}

// What is there is read, even where nothing can be written: by SQLite's usual way while that goes (a full disk often
// has room for its -shm file still), else with all beside the file in memory.
tl::expected<void, std::string> database::impl::open_link() {
    const auto why = open_to_write();
    if (why.empty())
        return {};
    if (open_to_read()) {
        spdlog::error("database: {} cannot be opened for writing ({}): what it holds is read, changes wait in its log; "
                      "make room on the disk, or see that it is well",
                      path, why);
        return {};
    }
    return tl::unexpected(
        fmt::format("database {} cannot be opened ({}): make room on its disk, or check `database` in "
                    "controlplane.toml and the directory's owner",
                    path, why));
}

// Empty, or what SQLite says.
std::string database::impl::open_to_write() {
    const auto before = ::umask(0077);
    const bool opened = link.open(path);
    ::umask(before);
    if (!opened)
        return sqlite3_errmsg(link.get());
    try {
        set_up();
        (void)schema_of(link);
    } catch (const sqlite_error& error) {
        return error.what();
    }
    return {};
}

bool database::impl::open_to_read() {
    for (const auto way : {connection::way::to_read, connection::way::frozen}) {
        try {
            if (way == connection::way::frozen && std::filesystem::file_size(path + "-wal") > 0)
                return false; // what is newest would be missing
        } catch (const std::filesystem::filesystem_error&) {
            // no WAL: the file is all there is
        }
        try {
            if (!link.open(path, way))
                continue;
            set_up();
            if (schema_of(link) == schema_version)
                return true;
        } catch (const sqlite_error& error) {
            spdlog::debug("database: {}", error.what());
        }
    }
    return false;
}

// By its usual way again, where there may be room now.
bool database::impl::reopen() {
    struct statvfs disk {};
    if (::statvfs(path.c_str(), &disk) == 0 && (disk.f_bavail == 0 || (disk.f_flag & ST_RDONLY) != 0))
        return false;
    if (const auto why = open_to_write(); why.empty()) {
        spdlog::info("database: {} can be written again", path);
        return true;
    }
    (void)open_to_read();
    return false;
}

tl::expected<void, std::string> database::impl::open(const std::string& file) {
    path = file;
    const auto parent = std::filesystem::path(path).parent_path();
    std::error_code ignored;
    if (!parent.empty() && std::filesystem::create_directories(parent, ignored))
        spdlog::warn("database: {} was not there and was made; nothing is known of units and calls of before",
                     parent.string());
    const bool fresh = !std::filesystem::exists(path, ignored) || std::filesystem::file_size(path, ignored) == 0;
    if (auto opened = open_link(); !opened)
        return opened;
    try {
        if (auto fine = bring_up(link, path, options.instance); !fine)
            return fine;
        if (auto fine = writes.open_log(path, options.log_bytes); !fine)
            return fine;
        load_clock();
        live.recover();
        records.count_waiting();
    } catch (const sqlite_error& error) {
        return tl::unexpected(fmt::format("database {} cannot be used: {}{}", path, error.what(),
                                          error.full() ? "; make room on its disk" : ""));
    }
    const auto& log = writes.log_file();
    if (fresh && log.size() < log.wanted()) {
        for (const char* end : {"", "-wal", "-shm", "-changes"}) // the next start is a first one again
            std::filesystem::remove(path + end, ignored);
        return tl::unexpected(
            fmt::format("{}-changes needs {} MiB on its disk, taken at once, so that a full disk loses no call: make "
                        "room, put `database` elsewhere, or set [store] log_mib lower",
                        path, log.wanted() >> 20));
    }
    records.before_reading = [this] { writes.settle(); };
    writes.on_record = [this](bool to_ship) {
        if (to_ship)
            records.one_more();
    };
    ::chmod(path.c_str(), 0600);
    return {};
}

std::string database::impl::trouble() const {
    if (!writes.trouble().empty())
        return writes.trouble();
    if (const auto& log = writes.log_file(); log.size() < log.wanted())
        return fmt::format("{}-changes has {} MiB of the {} that it is to have: make room on its disk, else calls are "
                           "lost when that is full",
                           path, log.size() >> 20, log.wanted() >> 20);
    return checkpoint_fault ? "the database's WAL cannot be moved into it and grows: see that the disk is well and has "
                              "room"
                            : "";
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
    if (!trouble().empty())
        writes.fit_log();
    if (!writes.trouble().empty() && (link.writable() || reopen()) && writes.due(true))
        apply_soon(std::chrono::milliseconds(0));
    after(retry_every, &impl::retry, retry_timer_);
}

// Where what was kept cannot be read, the newest record says where the clock was.
void database::impl::load_clock() {
    clock.believe_after(std::max(std::chrono::hours(24), std::chrono::hours(24) * options.keep_days));
    auto row = once(link, "SELECT value FROM fact WHERE name = 'clock'");
    if (!row.step() || !clock.load(row.view(0)))
        if (const auto newest = records.newest())
            clock.start_from(*newest);
    clock.look(protocol::moment::now());
}

void database::impl::keep_clock() {
    if (!writes.trouble().empty())
        return; // one minute of what it knows is lost
    try {
        once(link, "INSERT OR REPLACE INTO fact(name, value) VALUES('clock', ?)").bind(clock.text()).step();
    } catch (const sqlite_error& error) {
        said(failed, "keeping the clock's state", error);
    }
}

void database::impl::expire() {
    std::size_t gone = 0;
    const auto now = protocol::moment::now();
    clock.look(now);
    keep_clock();
    if (options.keep_days != 0 && clock.trusted())
        gone += records.expire_ended(now.wall - std::chrono::hours(24) * options.keep_days, expire_step);
    if (options.shared_records && clock.trusted())
        gone += records.expire_shipped(now.wall - keep_shipped, expire_step);
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
                                                   const std::string& comment, std::span<const std::uint8_t> spki) {
    return impl_->units.add(id, psk, comment, spki);
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
tl::expected<void, std::string> database::add_unit_name(const std::string& id, const std::string& name) {
    return impl_->units.add_name(id, name);
}
bool database::remove_unit_name(const std::string& id, const std::string& name) {
    return impl_->units.remove_name(id, name);
}
std::vector<std::string> database::unit_names(const std::string& id) {
    return impl_->units.names(id);
}
std::vector<std::pair<std::string, std::string>> database::all_unit_names() {
    return impl_->units.all_names();
}
std::string database::owner_of_name(std::string_view name) {
    return impl_->units.owner(name);
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
    return {failures(),     writes.retried,   writes.lost,       writes.records,
            impl_->expired, writes.waiting(), impl_->clock.jumps};
}
std::string database::trouble() const {
    return impl_->trouble();
}
std::string database::clock_doubt() {
    impl_->clock.look(protocol::moment::now());
    return impl_->clock.doubt();
}
void database::accept_clock() {
    impl_->clock.accept(protocol::moment::now());
    impl_->keep_clock();
}
std::optional<std::string> database::no_room(std::size_t calls) const {
    return impl_->writes.no_room(calls);
}

} // namespace tandem::store
