// SPDX-License-Identifier: Apache-2.0
// ng over UDP: sockets, cookies, retransmissions, dispatch. One thread: the control plane's io_context.
#include "controlplane/callcontrol/ng_server.hpp"

#include <algorithm>
#include <asio/post.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "controlplane/callcontrol/ng_reply.hpp"
#include "controlplane/callcontrol/source_queues.hpp"
#include "controlplane/callcontrol/state.hpp"
#include "controlplane/protocol/spawn.hpp"

namespace tandem::callcontrol {

namespace {

using asio::ip::udp;

// A reply goes in one datagram; what does not fit is told in one that does.
constexpr std::size_t largest_reply = 65'000;
constexpr std::size_t small_reply = 100; // not counted: what is sent to a made-up source is no more than it sent
constexpr std::size_t most_waiting = 64; // commands of one call
// What one queue gets in a turn of the io_context, so that a flood leaves the others theirs. Where many of its requests
// are under way it gets a few all the same: a ping is answered though the data plane is slow.
constexpr unsigned most_at_once = 256; // datagrams
constexpr unsigned most_begun = 16;    // requests
constexpr unsigned begun_alone = 64;   // while the other queues have nothing: calls under way share a turn
constexpr unsigned begun_when_full = 4;
constexpr auto patience_when_full = std::chrono::milliseconds(10);

std::string text_of(const udp::endpoint& e) {
    return e.address().is_v6() ? fmt::format("[{}]:{}", e.address().to_string(), e.port())
                               : fmt::format("{}:{}", e.address().to_string(), e.port());
}

// A coroutine begins when the io_context comes to it, maybe after the server is gone: what it works on is held from
// here on.
asio::awaitable<void> keep(std::shared_ptr<void> alive, asio::awaitable<void> work) {
    co_await std::move(work);
    alive.reset();
}

std::uint64_t& counter_of(counters& count, command what) {
    switch (what) {
    case command::ping:
        return count.pings;
    case command::offer:
        return count.offers;
    case command::answer:
        return count.answers;
    case command::remove:
        return count.deletes;
    case command::query:
        return count.queries;
    case command::list:
        break;
    }
    return count.lists;
}

} // namespace

server::server(asio::io_context& io, config c, media::relay& relay, session::directory& sessions, call_store& store)
    : state_(std::make_shared<state>(io, std::move(c), relay, sessions, store)) {
    relay.on_ended = [weak = std::weak_ptr(state_)](media::media_id id, const std::string& call_id,
                                                    const std::string& cause) {
        if (const auto self = weak.lock())
            self->media_ended(id, call_id, cause);
    };
}

server::~server() {
    stop();
    state_->relay.on_ended = nullptr;
}

tl::expected<void, std::string> server::start() {
    const auto& settings = state_->settings;
    for (const auto& where : settings.listen) {
        const source_queues queues(where.address(), {settings.from, settings.inner});
        auto sockets = queues.bind(state_->context, where.port());
        if (!sockets) {
            stop();
            return tl::unexpected(fmt::format(
                "ng cannot listen on {}: {}. Is the address configured here and the port free? See [ng] listen.",
                text_of(where), sockets.error().message()));
        }
        for (bool strangers = true; auto& socket : *sockets)
            state_->listeners.push_back(std::make_shared<listener>(std::move(socket), std::exchange(strangers, false)));
        if (settings.from.empty() && !where.address().is_loopback())
            spdlog::warn("ng listens on {} to anybody: name the SIP proxies in [ng] from", text_of(where));
    }
    state_->recover();
    for (const auto& one : state_->listeners)
        protocol::spawn(state_->context, "reader of ng", keep(state_, state_->receive(one)));
    protocol::spawn(state_->context, "sweep of calls", keep(state_, state_->sweep()));
    return {};
}

void server::stop() {
    state_->stopped = true;
    for (const auto& one : state_->listeners) {
        asio::error_code ignored;
        one->socket.close(ignored);
        one->room.cancel();
    }
    state_->listeners.clear();
    state_->sweeper.cancel();
}

const counters& server::count() const {
    state_->count_dropped();
    return state_->count;
}

const flag_counters& server::ignored() const noexcept {
    return state_->ignored;
}

std::size_t server::size() const noexcept {
    return state_->calls.size();
}

admission& server::gates() noexcept {
    return state_->gates;
}

std::vector<udp::endpoint> server::endpoints() const {
    std::vector<udp::endpoint> out;
    for (const auto& one : state_->listeners) {
        asio::error_code ignored;
        if (one->strangers) // one of each address
            out.push_back(one->socket.local_endpoint(ignored));
    }
    return out;
}

std::vector<call_summary> server::calls() const {
    std::vector<call_summary> out;
    for (const auto& [id, live] : state_->calls) {
        const auto none = call();
        const auto& c = live->branches.empty() ? none : chief(live->branches);
        call_summary one{id, {}, {}, c.caller, c.callee, live->created, live->answered(), {}};
        if (!c.tags[0].empty())
            one.from_tag = c.tags[0].back();
        if (!c.tags[1].empty())
            one.to_tag = c.tags[1].back();
        one.media = live->media();
        out.push_back(std::move(one));
    }
    return out;
}

bool server::end_call(const std::string& call_id, const std::string& cause) {
    const auto at = state_->calls.find(call_id);
    if (at == state_->calls.end())
        return false;
    state_->forget(std::shared_ptr(at->second), cause);
    return true;
}

// A SIP proxy that died between offer and answer never deletes: its ports come back here.
asio::awaitable<void> server::state::sweep() {
    const auto interval = std::clamp<std::chrono::milliseconds>(
        settings.offer_timeout / 4, std::chrono::milliseconds(10), std::chrono::seconds(30));
    while (!stopped) {
        sweeper.expires_after(interval);
        asio::error_code ended;
        co_await sweeper.async_wait(asio::redirect_error(asio::use_awaitable, ended));
        count_dropped();
        const auto limit = std::chrono::steady_clock::now() - settings.offer_timeout;
        std::vector<std::pair<std::shared_ptr<live_call>, std::uint32_t>> old;
        for (const auto& [id, live] : calls)
            for (const auto& c : live->branches)
                if (!c.answered && c.offered < limit && !speaks(c))
                    old.emplace_back(live, c.branch);
        for (const auto& [id, live] : calls)
            release_rejected(*live, limit);
        for (const auto& [live, branch] : old)
            if (!stopped)
                forget_branch(live, branch, never_answered);
    }
}

// False where none of its media go on: they ended while nobody was here.
bool server::state::take_up(call& c) const {
    for (auto* some : {&c.lines, c.reoffered ? &*c.reoffered : &c.lines})
        for (auto& line : *some)
            if (line.id != 0 && !relay.info(line.id))
                line.id = 0;
    c.offered = std::chrono::steady_clock::now();
    return !c.media().empty();
}

// Somebody's early media.
bool server::state::speaks(const call& c) const {
    const auto most = std::chrono::duration<double>(settings.offer_timeout).count();
    for (const auto id : c.media())
        if (const auto info = relay.info(id))
            for (const auto& leg : info->legs)
                if (const auto silence = leg.received.seconds_since_packet; silence >= 0 && silence < most)
                    return true;
    return false;
}

void server::state::recover() {
    std::vector<std::string> unreadable;
    std::vector<ended_call> over;
    store.each([&](const std::string& call_id, const std::string& text) {
        auto loaded = load(text);
        if (!loaded) {
            spdlog::warn("ng: stored call \"{}\" is not readable, forgotten", call_id);
            unreadable.push_back(call_id);
            return;
        }
        auto live = std::make_shared<live_call>();
        const auto last = chief(*loaded);
        live->call_id = call_id;
        live->created = last.created;
        for (auto& c : *loaded)
            if (take_up(c))
                live->branches.push_back(std::move(c));
        if (live->branches.empty()) { // the process died between the end of its media and its own
            over.push_back({call_id, last.caller, last.callee, "media ended", last.created, protocol::moment::now()});
            return;
        }
        if (!last.lines.empty())
            if (const auto& from = last.lines.front().legs[0].source.received_from)
                shares.begin(live->source = source_key(*from));
        for (const auto& c : live->branches)
            live->last_branch = std::max(live->last_branch, c.branch);
        calls.emplace(call_id, std::move(live));
        ++count.calls_recovered;
    });
    for (const auto& call_id : unreadable)
        store.erase(call_id);
    for (const auto& call : over)
        store.end(call);
}

unsigned server::state::may_begin(const listener& on) const {
    if (on.under_way >= under_way::most)
        return begun_when_full;
    const auto has_work = [&](const auto& one) { return one.get() != &on && (one->more || one->under_way != 0); };
    return std::none_of(listeners.begin(), listeners.end(), has_work) ? begun_alone : most_begun;
}

// What has come meanwhile is taken at once, so that calls under way share a turn: one write to the store, one message
// to the data plane.
asio::awaitable<void> server::state::receive(std::shared_ptr<listener> on) {
    asio::error_code fault;
    const auto ended = [&] { return asio::redirect_error(asio::use_awaitable, fault); };
    while (!stopped) {
        co_await on->socket.async_wait(udp::socket::wait_read, ended());
        if (stopped || fault == asio::error::operation_aborted || fault == asio::error::bad_descriptor)
            co_return;
        const auto most = may_begin(*on);
        on->more = true; // until it is found empty
        for (unsigned taken = 0, begun = 0; taken < most_at_once && begun < most; ++taken) {
            udp::endpoint from;
            const auto length = on->socket.receive_from(asio::buffer(buffer), from, 0, fault);
            if (fault) { // would_block, or an ICMP error for an earlier reply
                on->more = false;
                break;
            }
            begun += take(on, from, length) ? 1 : 0;
        }
        if (on->under_way >= under_way::most) {
            on->room.expires_after(patience_when_full);
            co_await on->room.async_wait(ended());
        }
    }
}

// The kernel counts per socket, in 32 bits.
void server::state::count_dropped() {
    for (const auto& one : listeners) {
        const auto now = dropped_by(one->socket);
        (one->strangers ? count.strangers : count.queue_full) += now - std::exchange(one->dropped, now);
    }
}

// A unit's phone is no proxy: nothing from the inner network is listened to, whatever the configuration says.
bool server::state::may_ask(const asio::ip::address& from) const {
    if (from.is_loopback())
        return true;
    if (settings.is_inner && settings.is_inner(from))
        return false;
    return settings.from.empty() ||
           std::any_of(settings.from.begin(), settings.from.end(), [&](const auto& one) { return one.contains(from); });
}

// Whether it is one more request to be worked on.
bool server::state::take(const std::shared_ptr<listener>& on, const udp::endpoint& from, std::size_t length) {
    ++count.datagrams;
    if (!may_ask(from.address())) {
        ++count.strangers;
        return false;
    }
    const auto parts = split({buffer.data(), length});
    if (!parts) {
        ++count.malformed;
        return false;
    }
    std::string cookie(parts->cookie);
    // The address as the kernel has it: shorter to make than its text.
    std::string key(reinterpret_cast<const char*>(from.data()), from.size());
    key += cookie;
    std::string payload(parts->payload);
    protocol::wipe(buffer.data(), length);
    const auto known = cookies.begin(key, cookie_cache::clock::now());
    if (known.what == cookie_cache::found::fresh) {
        auto work = serve(on, under_way(on), from, std::move(cookie), std::move(key), std::move(payload));
        protocol::spawn_contained(context, "ng request", keep(shared_from_this(), std::move(work)));
        return true;
    }
    ++count.retransmissions;
    sdp::wipe(payload);
    if (known.what == cookie_cache::found::done)
        reply_later(on, from, *known.reply);
    return false;
}

void server::state::reply_later(std::shared_ptr<listener> on, const udp::endpoint& to, std::string bytes) {
    if (replies.empty())
        asio::post(context, [self = shared_from_this()] { self->send_replies(); });
    replies.push_back({std::move(on), to, std::move(bytes)});
}

// A reply that the kernel has no room for is lost as on the wire: it is asked for again.
void server::state::send_replies() {
    store.flush();
    for (auto& one : std::exchange(replies, {})) {
        asio::error_code ignored;
        if (one.on->socket.is_open())
            one.on->socket.send_to(asio::buffer(one.bytes), one.to, 0, ignored);
        sdp::wipe(one.bytes);
    }
}

asio::awaitable<void> server::state::serve(std::shared_ptr<listener> on, [[maybe_unused]] under_way counted,
                                           udp::endpoint to, std::string cookie, std::string key, std::string payload) {
    auto parsed = read_request(payload);
    sdp::wipe(payload);
    bencode::value reply;
    bool keep_reply = true;
    if (parsed) {
        // What costs little to answer again and changes nothing is not kept.
        keep_reply = parsed->what != command::ping && parsed->what != command::query && parsed->what != command::list;
        ++counter_of(count, parsed->what);
        cookies.belongs(key, parsed->call_id);
        ignored.count(parsed->ignored);
        const auto not_done = std::move(parsed->ignored);
        try {
            reply = co_await run(std::move(*parsed));
            warn_of(reply, not_done);
        } catch (const std::exception& fault) { // no room throws on purpose; one command must not end the others
            spdlog::error("ng: request failed inside: {}", fault.what());
            reply = error_reply("Internal error");
        }
    } else {
        if (parsed.error().starts_with("Could not decode") || parsed.error().starts_with("Invalid"))
            ++count.malformed;
        spdlog::debug("ng: {} from {}", parsed.error(), text_of(to));
        reply = error_reply(std::move(parsed.error()));
    }
    if (reply.text_of("result") == "error")
        ++count.errors;
    std::string bytes;
    bytes.reserve(2000);
    bytes += cookie;
    bytes += ' ';
    bencode::append(bytes, reply);
    if (bytes.size() > largest_reply) {
        sdp::wipe(bytes);
        bytes = cookie + ' ' + bencode::print(error_reply("Reply is too large for a datagram"));
    }
    if (!keep_reply && reply.find("result") != nullptr && bytes.size() > small_reply && !to.address().is_loopback() &&
        !told.take(to.address(), bytes.size(), !settings.from.empty(), reply_budget::clock::now())) {
        ++count.replies_limited;
        bytes = cookie + ' ' + bencode::print(error_reply("Too much was asked: try again in a second"));
    }
    if (keep_reply)
        cookies.finish(key, bytes);
    else
        cookies.finish_without_reply(key);
    reply_later(std::move(on), to, std::move(bytes));
}

// An error takes a sick node out of a proxy's hands at once; silence would cost it a time-out at every try.
bencode::value server::state::pong() {
    auto why = settings.trouble ? settings.trouble() : std::string();
    if (why.empty())
        return bencode::dict{{"result", "pong"}};
    ++count.pings_refused;
    return error_reply(std::move(why));
}

asio::awaitable<bencode::value> server::state::run(request r) {
    if (const auto at = calls.find(r.call_id); at != calls.end() && at->second->turns.waiting() >= most_waiting) {
        sdp::wipe(r.sdp);
        co_return error_reply("Too many requests of this call at once: try again");
    }
    switch (r.what) {
    case command::ping:
        co_return pong();
    case command::offer:
        co_return co_await offer(std::move(r));
    case command::answer:
        co_return co_await answer(std::move(r));
    case command::remove:
        co_return co_await remove(std::move(r));
    case command::query:
        co_return co_await query(std::move(r));
    case command::list:
        break;
    }
    co_return list(r);
}

} // namespace tandem::callcontrol
