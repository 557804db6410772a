// SPDX-License-Identifier: Apache-2.0
// From calls and media to records, exactly once (ledger.hpp). Owner thread: io_context.
#include "controlplane/store/local/ledger.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

#include "controlplane/policy/rule.hpp"
#include "controlplane/store/record_text.hpp"
#include "controlplane/store/rows.hpp"

namespace tandem::store {

namespace {

std::string ended_json(const callcontrol::ended_call& call) {
    json_out to;
    to.open('{').field("caller", call.caller).field("callee", call.callee).field("cause", call.cause);
    to.field("started", in_ms(call.started.wall)).field("ended", in_ms(call.ended.wall));
    write_uptimes(to, {&call.started, &call.ended});
    to.close('}');
    return to.take();
}

callcontrol::ended_call ended_from_json(std::string_view text, const std::string& call_id) {
    callcontrol::ended_call call;
    call.call_id = call_id;
    try {
        const auto value = nlohmann::json::parse(text);
        call.caller = value.at("caller");
        call.callee = value.at("callee");
        call.cause = value.at("cause");
        call.started.wall = from_ms(value.at("started"));
        call.ended.wall = from_ms(value.at("ended"));
        read_uptimes(value, {&call.started, &call.ended});
    } catch (const nlohmann::json::exception&) {
        call.cause = "how it ended cannot be read";
    }
    return call;
}

std::int64_t key_of(media::media_id id) { // 53 bits
    return static_cast<std::int64_t>(id);
}

bool was_denied(const media::media_record& media) {
    return media.level.name == policy::deny;
}

bool was_answered(const media::media_record& media) {
    return media.answered.was();
}

// Puts the moments of one call on one axis: the wall's clock as it stood at its start.
class axis {
public:
    explicit axis(const protocol::moment& start) : start_(start) {}
    [[nodiscard]] std::chrono::system_clock::time_point of(const protocol::moment& when) const {
        return from_ms(in_ms(start_.wall) + protocol::between(start_, when).count()); // as it is read back
    }
    void put(protocol::moment& when) const {
        if (when.was())
            when = {of(when), {}, 0};
    }

private:
    protocol::moment start_;
};

constexpr auto opened_first = [](const media::media_record& a, const media::media_record& b) {
    return protocol::earlier(a.opened, b.opened);
};
constexpr auto ended_first = [](const media::media_record& a, const media::media_record& b) {
    return protocol::earlier(a.ended, b.ended);
};

} // namespace

ledger::ledger(connection& db, writer& to, std::string instance, bool to_ship)
    : db_(db), to_(to), instance_(std::move(instance)), to_ship_(to_ship) {}

// --- what goes on ----------------------------------------------------------------------------------------------------

ledger::call_ptr ledger::open_call(const std::string& call_id) {
    auto& c = open_[call_id];
    if (!c) {
        c = std::make_shared<call>();
        c->number = ++last_call_;
        c->call_id = call_id;
    }
    return c;
}

void ledger::put(const std::string& call_id, const std::string& json) {
    const auto c = open_call(call_id);
    if (c->put) {
        add({.kind = what::call_body, .key = c->number, .body = json});
    } else {
        c->put = true;
        c->record = new_record_id();
        add({.kind = what::call_put, .key = c->number, .name = call_id, .extra = c->record, .body = json});
    }
    complete(); // the answer to the SIP proxy goes out after flush()
}

void ledger::erase(const std::string& call_id) {
    const auto found = open_.find(call_id);
    if (found == open_.end())
        return;
    const auto c = found->second;
    if (std::exchange(c->put, false))
        add({.kind = what::call_gone, .key = c->number});
    settle(c);
    complete();
}

void ledger::end(const callcontrol::ended_call& ended) {
    const auto found = open_.find(ended.call_id);
    if (found == open_.end())
        return; // refused before anything was there
    const auto c = found->second;
    open_.erase(found);
    c->ended = ended;
    if (c->put && c->live > 0)
        add({.kind = what::call_ended, .key = c->number, .body = ended_json(ended)});
    settle(c);
    complete();
}

void ledger::put(const media::media_row& row) {
    if (media_.contains(row.id)) {
        add({.kind = what::media_body, .key = key_of(row.id), .body = to_json(row)});
    } else {
        const auto c = open_call(row.call_id);
        ++c->live;
        media_.emplace(row.id, c);
        add({.kind = what::media_put, .key = key_of(row.id), .call = c->number, .body = to_json(row)});
    }
    complete();
}

void ledger::note(const media::media_row& row) {
    if (to_.roomy() && media_.contains(row.id))
        put(row);
}

void ledger::erase(media::media_id id) {
    const auto found = media_.find(id);
    if (found == media_.end())
        return;
    const auto c = found->second;
    media_.erase(found);
    --c->live;
    add({.kind = what::media_gone, .key = key_of(id)});
    settle(c);
    complete();
}

void ledger::record(const media::media_record& ended) {
    call_ptr c;
    if (const auto found = media_.find(ended.id); found != media_.end()) {
        c = found->second;
        media_.erase(found);
        --c->live;
        add({.kind = what::media_gone, .key = key_of(ended.id)});
    } else {
        c = open_call(ended.call_id);
    }
    c->over.push_back(ended);
    if (!due(*c)) {
        c->over_kept = true;
        add({.kind = what::media_over, .key = ++last_over_, .call = c->number, .body = to_json(ended)});
    }
    settle(c);
    complete();
}

// --- what is over ----------------------------------------------------------------------------------------------------

bool ledger::due(const call& c) const {
    return c.live == 0 && (c.ended || !c.put);
}

// A call that call control never put, or whose row could not be read, is known by its media alone: it was one where it
// was answered, else an offer that was refused, of which there is a record where policy denied it.
void ledger::settle(const call_ptr& c) {
    if (!due(*c))
        return;
    if (const auto still = open_.find(c->call_id); still != open_.end() && still->second == c)
        open_.erase(still);
    if (c->put || std::ranges::any_of(c->over, [](const auto& m) { return was_answered(m) || was_denied(m); }))
        add_record(*c);
    if (c->put)
        add({.kind = what::call_gone, .key = c->number});
    if (c->over_kept)
        add({.kind = what::over_gone, .call = c->number});
}

void ledger::add_record(call& c) {
    auto record = record_of(c);
    operation op{.kind = what::record_made};
    op.body = store::to_json(record);
    op.done = std::make_unique<finished>(finished_of(std::move(record), to_ship_));
    add(std::move(op));
}

void ledger::take_times(call_record& record, call& c) {
    const auto start = c.ended ? c.ended->started : std::ranges::min_element(c.over, opened_first)->opened;
    const auto end = c.ended ? c.ended->ended : std::ranges::max_element(c.over, ended_first)->ended;
    const axis line(start);
    record.started = line.of(start);
    record.ended = line.of(end);
    record.clock_set = protocol::clock_set(start, end);
    for (auto& media : c.over) {
        if (was_answered(media))
            record.answered =
                record.was_answered() ? std::min(record.answered, line.of(media.answered)) : line.of(media.answered);
        for (auto* when : {&media.opened, &media.answered, &media.ended})
            line.put(*when);
    }
    record.answered = std::min(record.answered, record.ended); // over a start of the machine, by a clock set back
}

call_record ledger::record_of(call& c) const {
    call_record record;
    record.id = c.record.empty() ? new_record_id() : c.record;
    record.instance = instance_;
    record.call_id = c.call_id;
    std::ranges::stable_sort(c.over, {}, &media::media_record::index);
    if (c.ended) {
        record.caller = c.ended->caller;
        record.callee = c.ended->callee;
        record.cause = c.ended->cause;
    } else {
        record.cause = c.over.front().cause;
    }
    take_times(record, c);
    if (!c.over.empty()) {
        const auto& first = c.over.front();
        record.caller = record.caller.empty() ? first.caller : record.caller;
        record.callee = record.callee.empty() ? first.callee : record.callee;
        record.level = first.level.name;
        record.decided_by = first.decided_by;
        record.why = first.why;
    }
    record.media = std::move(c.over);
    return record;
}

void ledger::complete() {
    if (change_.empty())
        return;
    change_.back().last = true;
    for (auto& op : change_)
        to_.add(std::move(op));
    change_.clear();
    if (flush_at_end_of_turn)
        flush_at_end_of_turn();
    else
        to_.flush();
}

// --- over a restart --------------------------------------------------------------------------------------------------

void ledger::load_calls(rows_left& from, std::map<std::int64_t, call_ptr>& all) {
    from.each_call([&](const rows_left::call& row) {
        auto c = std::make_shared<call>();
        c->number = row.number;
        c->call_id = row.call_id;
        c->record = row.record;
        c->put = true;
        if (row.ended)
            c->ended = ended_from_json(*row.ended, c->call_id);
        else
            open_[c->call_id] = c;
        all.emplace(c->number, c);
    });
}

void ledger::load_media(rows_left& from, std::map<std::int64_t, call_ptr>& all) {
    const auto of = [&](std::int64_t number, const std::string& call_id) {
        auto& c = all[number];
        if (!c) {
            c = std::make_shared<call>();
            c->number = number;
            c->call_id = call_id;
            open_.try_emplace(call_id, c); // the proxy may send its offer again
        }
        return c;
    };
    from.each_media([&](const rows_left::media& row) {
        const auto body = media_row_from_json(row.body);
        if (!body) {
            spdlog::warn("database: a media row cannot be read and is left out");
            add({.kind = what::media_gone, .key = row.key});
            return;
        }
        const auto c = of(row.call, body->call_id);
        ++c->live;
        media_.emplace(body->id, c);
    });
    from.each_over([&](const rows_left::media& row) {
        last_over_ = std::max(last_over_, row.key);
        auto body = media_record_from_json(row.body);
        if (!body)
            body.emplace(); // its place in the record stays
        const auto c = of(row.call, body->call_id);
        c->over_kept = true;
        c->over.push_back(std::move(*body));
    });
}

void ledger::recover() {
    std::map<std::int64_t, call_ptr> all;
    {
        rows_left left(db_, to_.pending());
        load_calls(left, all);
        load_media(left, all);
    }
    if (!all.empty())
        last_call_ = all.rbegin()->first;
    complete();
    std::size_t done = 0;
    for (const auto& [number, c] : all) {
        if (c->put && !c->ended && open_.at(c->call_id) != c) { // two that go on: a damaged file
            const auto now = protocol::moment::now();
            c->ended = callcontrol::ended_call{c->call_id, {}, {}, "its call is not known any more", now, now};
        }
        done += due(*c) ? 1 : 0;
        settle(c);
        complete();
    }
    if (done > 0)
        spdlog::info("database: {} calls that ended when the last process did are finished", done);
}

void ledger::read(const char* what, const std::function<void(rows_left&)>& work) {
    to_.settle();
    try {
        rows_left left(db_, to_.pending());
        work(left);
    } catch (const sqlite_error& error) {
        ++to_.failures;
        spdlog::error("database: {} of the last process cannot be read: {}", what, error.what());
    }
}

void ledger::each(const callcontrol::call_store::taker& give) {
    read("the calls", [&](rows_left& left) {
        left.each_call([&](const rows_left::call& row) {
            if (!row.ended)
                give(row.call_id, row.body);
        });
    });
}

void ledger::each(const media::journal::taker& give) {
    read("the media", [&](rows_left& left) {
        left.each_media([&](const rows_left::media& row) {
            if (const auto body = media_row_from_json(row.body))
                give(*body);
        });
    });
}

void ledger::set_generation(std::uint64_t generation) {
    add({.kind = what::generation, .key = static_cast<std::int64_t>(generation)});
    complete();
}

std::uint64_t ledger::generation() {
    std::uint64_t found = 0;
    read("the generation", [&](rows_left& left) { found = static_cast<std::uint64_t>(left.generation()); });
    return found;
}

} // namespace tandem::store
