// SPDX-License-Identifier: Apache-2.0
// Rules of the control channel. See channel.hpp.
#include "controlplane/protocol/channel.hpp"

#include <algorithm>
#include <openssl/sha.h>

namespace tandem::protocol {
namespace {

std::array<std::uint8_t, 32> digest_of(std::span<const std::uint8_t> bytes) {
    std::array<std::uint8_t, 32> out{};
    SHA256(bytes.data(), bytes.size(), out.data());
    return out;
}

bool is_request(const header& head) noexcept {
    return (head.type & 1U) == 0;
}

// A refusal need not name it.
bool is_of(const message& response, const std::optional<std::uint32_t>& media) {
    const auto said = response.get<tlv::media_id>();
    return !said || !media || *said == *media;
}

} // namespace

// ---- links
// -----------------------------------------------------------------------------------------------------------

channel::link* channel::find(link_id id) noexcept {
    const auto at = std::ranges::find(links_, id, &link::id);
    return at != links_.end() ? &*at : nullptr;
}

bool channel::bound(link_id id) const noexcept {
    const auto at = std::ranges::find(links_, id, &link::id);
    return at != links_.end() && at->bound;
}

link_id channel::attach(carrier kind, instant now) {
    links_.push_back({.id = next_link_, .kind = kind, .last_heard = now});
    return next_link_++;
}

link_id channel::take_over(channel&& newcomer) {
    auto& from = newcomer.talk_;
    talk_.next_sequence = std::max(talk_.next_sequence, from.next_sequence);
    talk_.last_received = std::max(talk_.last_received, from.last_received);
    std::ranges::move(from.answered, std::back_inserter(talk_.answered));
    auto fresh = newcomer.links_.front();
    fresh.id = next_link_;
    links_.push_back(fresh);
    newcomer.links_.clear();
    return next_link_++;
}

// The newest from now on. The one before it takes no new request of ours but is heard for a moment: what the peer sent
// before it knew of the new one is not lost.
void channel::bind(link_id id, std::uint64_t tsid, instant now, actions& out) {
    const bool another = tsid_ && *tsid_ != tsid;
    tsid_ = tsid;
    if (another)
        fail_all(out);
    std::vector<link_id> over;
    for (auto& l : links_)
        if (l.id != id && l.bound) {
            if (another || l.heard_until)
                over.push_back(l.id);
            else
                l.heard_until = now + limits_.heard_for;
        }
    for (const auto old : over)
        close(old, ending::replaced, now, out);
    find(id)->bound = true;
    newest_ = id;
    keepalive_at_ = now + keepalive_;
    for (auto& [sequence, a] : talk_.outstanding)
        if (find(a.link) == nullptr)
            a.retry_at = now;
    send_again(now, out);
    flush(now, out);
}

void channel::close(link_id id, ending why, instant now, actions& out) {
    out.push_back(to_close{id, why});
    forget(id, now, out);
}

actions channel::lost(link_id id, instant now) {
    actions out;
    forget(id, now, out);
    return out;
}

void channel::forget(link_id id, instant now, actions& out) {
    const link* gone = find(id);
    if (gone == nullptr)
        return;
    const bool stream = gone->kind == carrier::stream;
    std::erase_if(links_, [&](const link& l) { return l.id == id; });
    for (auto at = talk_.outstanding.begin(); at != talk_.outstanding.end();) {
        const auto& a = at->second;
        if (a.link == id && (stream || a.what == exchange::config)) {
            out.push_back(to_finish{a.of, a.what, outcome::failed, {}});
            at = talk_.outstanding.erase(at);
        } else {
            ++at;
        }
    }
    if (newest_ != id)
        return flush(now, out); // where it held places
    newest_.reset();
    if (stream) {
        for (const auto& w : talk_.queue)
            out.push_back(to_finish{w.of, w.what, outcome::failed, {}});
        talk_.queue.clear();
    }
    std::vector<link_id> older;
    for (const auto& l : links_)
        if (l.heard_until)
            older.push_back(l.id);
    for (const auto old : older) // the session is down: it goes on with the next link, not with the last one
        close(old, ending::replaced, now, out);
}

void channel::fail_all(actions& out) {
    for (const auto& [sequence, a] : talk_.outstanding)
        out.push_back(to_finish{a.of, a.what, outcome::failed, {}});
    for (const auto& w : talk_.queue)
        out.push_back(to_finish{w.of, w.what, outcome::failed, {}});
    talk_.outstanding.clear();
    talk_.queue.clear();
}

actions channel::end() {
    actions out;
    fail_all(out);
    links_.clear();
    newest_.reset();
    return out;
}

// ---- the peer's messages
// ---------------------------------------------------------------------------------------------

void channel::heard(link_id id, instant now) noexcept {
    if (auto* l = find(id))
        l->last_heard = now;
}

actions channel::receive(link_id id, std::span<const std::uint8_t> bytes, instant now) {
    actions out;
    link* l = find(id);
    if (l == nullptr)
        return out;
    l->last_heard = now;
    const auto head = peek(bytes);
    if (!head) {
        out.push_back(refused{status::bad_tlv}); // no header to answer to
        return out;
    }
    if (is_request(*head) && served_before(*l, *head, bytes, out))
        return out;
    auto got = decode(bytes);
    if (!got)
        refuse(*l, *head, got.error(), out);
    else if (!accept_tsid(*l, *head, now, out))
        return out;
    else if (got->is_response())
        take_response(*l, std::move(*got), now, out);
    else
        take_request(*l, *head, bytes, std::move(*got), out);
    return out;
}

// The same request again, which datagrams bring: the same response again, as soon as there is one.
bool channel::served_before(const link& l, const header& head, std::span<const std::uint8_t> bytes, actions& out) {
    if (l.kind == carrier::stream)
        return false;
    const auto same = std::ranges::find(talk_.answered, head.sequence, &conversation::kept::sequence);
    if (same == talk_.answered.end() || same->digest != digest_of(bytes))
        return false;
    if (!same->response.empty())
        out.push_back(to_send{l.id, same->response, false});
    return true;
}

// ORA-05, ORA-07, ORA-08. The tunnel is authenticated, so a wrong TSID is a fault of the peer's: the tunnel ends.
bool channel::accept_tsid(link& l, const header& head, instant now, actions& out) {
    if (!l.bound) {
        if (end_ == role::unit || head.tsid == no_tsid)
            return true; // the unit lets through CONFIG's response alone
        refuse(l, head, status::bad_tsid, out);
        return false;
    }
    if (head.tsid == *tsid_)
        return true;
    if (l.kind == carrier::datagrams && !is_request(head)) {
        out.push_back(unmatched{}); // a late refusal of what came before the CONFIG
        return false;
    }
    if (l.kind == carrier::datagrams && talk_.last_received && head.sequence <= *talk_.last_received) {
        refuse(l, head, status::bad_sequence, out); // a late copy of the CONFIG
        return false;
    }
    out.push_back(refused{status::bad_tsid});
    close(l.id, ending::wrong_tsid, now, out);
    return false;
}

void channel::refuse(const link& l, const header& head, status code, actions& out) {
    out.push_back(refused{code});
    if (is_request(head)) // a response is never answered
        send_response(l, head.sequence, message::refusal(head, code).encode(), out);
}

bool channel::accept_sequence(link& l, const header& head, std::span<const std::uint8_t> bytes) {
    auto& last = l.kind == carrier::stream ? l.last_received : talk_.last_received;
    if (last && head.sequence <= *last)
        return false;
    last = head.sequence;
    if (l.kind == carrier::datagrams) {
        talk_.answered.push_back({head.sequence, digest_of(bytes), {}});
        if (talk_.answered.size() > limits_.kept)
            talk_.answered.erase(talk_.answered.begin());
    }
    return true;
}

void channel::take_request(link& l, const header& head, std::span<const std::uint8_t> bytes, message&& request,
                           actions& out) {
    if (!l.bound && end_ == role::unit && l.kind == carrier::datagrams)
        return; // it overtook the CONFIG's response, and comes again
    if (!accept_sequence(l, head, bytes))
        return refuse(l, head, status::bad_sequence, out);
    const bool config = request.is(exchange::config);
    if (!l.bound && (end_ == role::unit || !config))
        return refuse(l, head, status::not_configured, out);
    if (l.bound && end_ == role::gateway && config) // its TSID would have to be all ones, which is not this tunnel's
        return refuse(l, head, status::bad_tsid, out);
    out.push_back(to_serve{l.id, std::move(request)});
}

void channel::take_response(const link& l, message&& response, instant now, actions& out) {
    const auto at = talk_.outstanding.find(response.sequence());
    const bool config = response.is(exchange::config);
    if (at == talk_.outstanding.end() || at->second.what != response.what() ||
        (config ? at->second.link != l.id : at->second.tsid != response.tsid()) || !is_of(response, at->second.media)) {
        out.push_back(unmatched{});
        return;
    }
    auto asked = std::move(at->second);
    talk_.outstanding.erase(at);
    if (response.code() == status::bad_sequence && !asked.bytes.empty() && !config) { // overtaken, so it was not served
        talk_.queue.insert(talk_.queue.begin(),
                           {asked.of, asked.what, asked.deadline, std::move(asked.bytes), asked.media});
        return flush(now, out);
    }
    const auto id = l.id;
    const auto tsid = response.tsid();
    const bool binds = config && end_ == role::unit && response.code() == status::ok && tsid != no_tsid;
    out.push_back(to_finish{asked.of, asked.what, outcome::response, std::move(response)});
    if (binds)
        return bind(id, tsid, now, out);
    flush(now, out);
}

actions channel::answer(link_id id, const message& response, instant now) {
    actions out;
    if (end_ == role::gateway && response.is(exchange::config) && response.code() == status::ok && find(id) != nullptr)
        bind(id, response.tsid(), now, out);
    static const link gone{.id = 0, .kind = carrier::datagrams, .last_heard = {}};
    const link* l = find(id);
    send_response(l != nullptr ? *l : gone, response.sequence(), response.encode(), out);
    return out;
}

// Where the link went meanwhile, the response waits for the request to come again.
void channel::send_response(const link& l, std::uint32_t sequence, wiped_bytes bytes, actions& out) {
    if (l.kind == carrier::datagrams) {
        const auto same = std::ranges::find(talk_.answered, sequence, &conversation::kept::sequence);
        if (same != talk_.answered.end() && same->response.empty())
            same->response = bytes;
    }
    if (l.id != 0)
        out.push_back(to_send{l.id, std::move(bytes), false});
}

// ---- own requests
// ----------------------------------------------------------------------------------------------------

// Numbers under way are never further apart than what the other end keeps: "not above the last" means "not served".
bool channel::room() const noexcept {
    return talk_.outstanding.size() < limits_.outstanding &&
           (talk_.outstanding.empty() || talk_.next_sequence - talk_.outstanding.begin()->first < limits_.kept ||
            talk_.outstanding.begin()->second.bytes.empty());
}

void channel::put_on(const link& l, conversation::waiting&& w, std::uint64_t tsid, instant now, actions& out) {
    const auto sequence = talk_.next_sequence++;
    store_be(std::span(w.bytes).subspan(4, 8), tsid);
    store_be(std::span(w.bytes).subspan(12, 4), sequence);
    conversation::asked a{w.of, w.what, tsid, w.deadline, l.id, w.media};
    if (l.kind == carrier::datagrams) {
        a.bytes = w.bytes;
        a.retry = limits_.retry;
        a.retry_at = now + a.retry;
    }
    talk_.outstanding.emplace(sequence, std::move(a));
    out.push_back(to_send{l.id, std::move(w.bytes), true});
}

void channel::flush(instant now, actions& out) {
    while (newest_ && !talk_.queue.empty() && room()) {
        auto w = std::move(talk_.queue.front());
        talk_.queue.erase(talk_.queue.begin());
        put_on(*find(*newest_), std::move(w), *tsid_, now, out);
    }
}

actions channel::configure(link_id id, ticket of, message config, std::chrono::milliseconds timeout, instant now) {
    actions out;
    if (const link* l = find(id))
        put_on(*l, {of, config.what(), now + timeout, config.encode()}, no_tsid, now, out);
    else
        out.push_back(to_finish{of, config.what(), outcome::failed, {}});
    return out;
}

actions channel::request(ticket of, message what, std::chrono::milliseconds timeout, instant now) {
    actions out;
    if (!up()) {
        out.push_back(to_finish{of, what.what(), outcome::failed, {}});
    } else if (talk_.queue.size() >= limits_.waiting) { // it would not get its turn
        out.push_back(to_finish{of, what.what(), outcome::timeout, {}});
    } else {
        talk_.queue.push_back({of, what.what(), now + timeout, what.encode(), what.get<tlv::media_id>()});
        flush(now, out);
    }
    return out;
}

actions channel::tell(message what) {
    actions out;
    if (!up())
        return out;
    what.set_tsid(*tsid_).set_sequence(talk_.next_sequence++);
    out.push_back(to_send{*newest_, what.encode(), true});
    return out;
}

// ---- time
// ------------------------------------------------------------------------------------------------------------

void channel::keepalive(std::chrono::milliseconds interval, instant now) noexcept {
    keepalive_ = interval;
    keepalive_at_ = now;
}

void channel::time_out(instant now, actions& out) {
    for (auto at = talk_.outstanding.begin(); at != talk_.outstanding.end();) {
        const auto& a = at->second;
        if (a.deadline <= now) {
            out.push_back(to_finish{a.of, a.what, outcome::timeout, {}});
            at = talk_.outstanding.erase(at);
        } else {
            ++at;
        }
    }
    std::erase_if(talk_.queue, [&](const auto& w) {
        if (w.deadline > now)
            return false;
        out.push_back(to_finish{w.of, w.what, outcome::timeout, {}});
        return true;
    });
}

void channel::send_again(instant now, actions& out) {
    for (auto& [sequence, a] : talk_.outstanding) {
        if (a.bytes.empty() || a.retry_at > now)
            continue;
        a.retry *= 2;
        a.retry_at = now + a.retry;
        if (a.what != exchange::config && newest_)
            a.link = *newest_;
        if (find(a.link) != nullptr)
            out.push_back(to_send{a.link, a.bytes, true});
    }
}

actions channel::poll(instant now) {
    actions out;
    time_out(now, out);
    std::vector<link_id> over;
    for (const auto& l : links_)
        if (l.heard_until && *l.heard_until <= now)
            over.push_back(l.id);
    for (const auto id : over)
        close(id, ending::replaced, now, out);
    if (const link* l = newest_ ? find(*newest_) : nullptr; l != nullptr && keepalive_.count() > 0) {
        if (now - l->last_heard > limits_.silent_intervals * keepalive_) {
            close(l->id, ending::silent, now, out);
        } else if (end_ == role::unit && now >= keepalive_at_) {
            keepalive_at_ = now + keepalive_;
            talk_.queue.push_back({nobody, exchange::keepalive, now + limits_.silent_intervals * keepalive_,
                                   message::request(exchange::keepalive).encode()});
        }
    }
    flush(now, out);
    send_again(now, out);
    return out;
}

std::optional<instant> channel::due() const {
    std::optional<instant> first;
    const auto by = [&](instant at) { first = first ? std::min(*first, at) : at; };
    for (const auto& [sequence, a] : talk_.outstanding) {
        by(a.deadline);
        if (!a.bytes.empty())
            by(a.retry_at);
    }
    for (const auto& w : talk_.queue)
        by(w.deadline);
    for (const auto& l : links_) {
        if (l.heard_until)
            by(*l.heard_until);
        if (l.id == newest_ && keepalive_.count() > 0)
            by(l.last_heard + limits_.silent_intervals * keepalive_ + std::chrono::milliseconds(1));
    }
    if (newest_ && keepalive_.count() > 0 && end_ == role::unit)
        by(keepalive_at_);
    return first;
}

// ---- for who explores
// ------------------------------------------------------------------------------------------------

namespace {

struct hash {
    std::uint64_t value = 0xCBF29CE484222325U;
    hash& operator<<(std::uint64_t word) noexcept {
        value = (value ^ word) * 0x9E3779B97F4A7C15U;
        value ^= value >> 29;
        return *this;
    }
    hash& operator<<(std::span<const std::uint8_t> bytes) noexcept {
        *this << bytes.size();
        for (; bytes.size() > 8; bytes = bytes.subspan(8))
            *this << load_be(bytes.first(8));
        return *this << load_be(bytes);
    }
};

} // namespace

std::uint64_t channel::fingerprint(instant now) const {
    hash h;
    const auto left = [&](instant at) { return static_cast<std::uint64_t>((at - now).count()); };
    h << talk_.next_sequence << talk_.last_received.value_or(0) << tsid_.value_or(0);
    for (const auto& [sequence, a] : talk_.outstanding)
        h << sequence << a.of << a.tsid << left(a.deadline) << a.link << left(a.retry_at) * !a.bytes.empty()
          << static_cast<std::uint64_t>(a.retry.count());
    for (const auto& w : talk_.queue)
        h << 1 << w.of << left(w.deadline);
    for (const auto& k : talk_.answered)
        h << 2 << k.sequence << std::span(k.digest) << std::span<const std::uint8_t>(k.response);
    for (const auto& l : links_)
        h << 3 << l.id << l.bound << l.last_received.value_or(0) << (l.heard_until ? left(*l.heard_until) : 0);
    if (keepalive_.count() > 0)
        h << left(keepalive_at_);
    return (h << newest_.value_or(0)).value;
}

} // namespace tandem::protocol
