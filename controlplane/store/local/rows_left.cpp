// SPDX-License-Identifier: Apache-2.0
// Tables and what waits for them (rows_left.hpp). Owner thread: io_context.
#include "controlplane/store/local/rows_left.hpp"

namespace tandem::store {

rows_left::rows_left(connection& db, const std::deque<operation>& waiting) : db_(db) {
    for (const auto& op : waiting)
        take(op);
}

// As the writer performs them.
void rows_left::take(const operation& op) {
    switch (op.kind) {
    case what::call_put:
        calls_[op.key] = {call{op.key, op.name, op.extra, op.body, {}}, op.body, {}, false};
        break;
    case what::call_body:
        calls_[op.key].body = op.body;
        break;
    case what::call_ended:
        calls_[op.key].ended = op.body;
        break;
    case what::call_gone:
        calls_[op.key] = {{}, {}, {}, true};
        break;
    case what::media_put:
        media_[op.key] = {media{op.key, op.call, op.body}, {}, {}, false};
        break;
    case what::media_body:
        media_[op.key].body = op.body;
        break;
    case what::media_gone:
        media_[op.key] = {{}, {}, {}, true};
        break;
    case what::media_over:
        over_[op.key] = {op.key, op.call, op.body};
        break;
    case what::over_gone:
        std::erase_if(over_, [&](const auto& one) { return one.second.call == op.call; });
        over_gone_.insert(op.call);
        break;
    case what::generation:
        generation_ = op.key;
        break;
    case what::session_put:
        sessions_[op.name] = session{op.name, op.key, op.body};
        break;
    case what::session_gone:
        sessions_[op.name] = std::nullopt;
        break;
    case what::record_made:
        break;
    }
}

void rows_left::each_call(const std::function<void(const call&)>& give) {
    auto rest = calls_;
    const auto changed = [&](call row, const later<call>& by) {
        row.body = by.body.value_or(std::move(row.body));
        if (by.ended)
            row.ended = by.ended;
        give(row);
    };
    for (auto row = once(db_, "SELECT n, id, record, body, ended FROM call ORDER BY n"); row.step();) {
        call one{row.number(0), row.text(1), row.text(2), row.text(3), {}};
        if (!row.null(4))
            one.ended = row.text(4);
        const auto by = rest.extract(one.number);
        if (!by)
            give(one);
        else if (!by.mapped().gone)
            changed(std::move(one), by.mapped());
    }
    for (const auto& [number, by] : rest)
        if (by.fresh)
            changed(*by.fresh, by);
}

void rows_left::each_media(const std::function<void(const media&)>& give) {
    auto rest = media_;
    const auto changed = [&](media row, const later<media>& by) {
        if (by.fresh)
            row = *by.fresh; // the id came again
        row.body = by.body.value_or(std::move(row.body));
        give(row);
    };
    for (auto row = once(db_, "SELECT id, call, body FROM media"); row.step();) {
        media one{row.number(0), row.number(1), row.text(2)};
        const auto by = rest.extract(one.key);
        if (!by)
            give(one);
        else if (!by.mapped().gone)
            changed(std::move(one), by.mapped());
    }
    for (const auto& [id, by] : rest)
        if (by.fresh)
            changed(*by.fresh, by);
}

void rows_left::each_over(const std::function<void(const media&)>& give) {
    for (auto row = once(db_, "SELECT n, call, body FROM media_over ORDER BY call, n"); row.step();)
        if (!over_gone_.contains(row.number(1)) && !over_.contains(row.number(0)))
            give({row.number(0), row.number(1), row.text(2)});
    for (const auto& [number, one] : over_)
        give(one);
}

void rows_left::each_session(const std::function<void(const session&)>& give) {
    for (auto row = once(db_, "SELECT unit, tsid, inner FROM session"); row.step();)
        if (!sessions_.contains(row.text(0)))
            give({row.text(0), row.number(1), row.text(2)});
    for (const auto& [unit, one] : sessions_)
        if (one)
            give(*one);
}

std::int64_t rows_left::generation() {
    if (generation_)
        return *generation_;
    auto row = once(db_, "SELECT value FROM fact WHERE name = 'generation'");
    return row.step() ? row.number(0) : 0;
}

} // namespace tandem::store
