// SPDX-License-Identifier: Apache-2.0
// The ng server's inside, shared by ng_server.cpp (sockets, cookies, dispatch), commands.cpp (offer, answer), ends.cpp
// (delete, query, list), places.cpp, names.cpp. Not for other rooms. One thread: the control plane's io_context.
#pragma once

#include <array>
#include <asio/awaitable.hpp>
#include <asio/ip/udp.hpp>
#include <asio/steady_timer.hpp>
#include <deque>
#include <list>
#include <map>
#include <random>

#include "controlplane/callcontrol/branches.hpp"
#include "controlplane/callcontrol/cookie_cache.hpp"
#include "controlplane/callcontrol/ng_server.hpp"

namespace tandem::callcontrol {

inline tl::unexpected<reason> refuse(reason why) {
    return tl::unexpected(std::move(why));
}

// A call's turn: its commands run one after the other, in the order in which they came.
class turnstile {
public:
    class pass {
    public:
        explicit pass(turnstile& of) : of_(&of) {}
        pass(pass&& from) noexcept : of_(std::exchange(from.of_, nullptr)) {}
        pass& operator=(pass&&) = delete;
        ~pass() {
            if (of_ != nullptr)
                of_->leave();
        }

    private:
        turnstile* of_;
    };
    asio::awaitable<pass> enter();
    [[nodiscard]] std::size_t waiting() const noexcept { return waiting_.size(); }

private:
    void leave();
    bool busy_ = false;
    std::list<asio::steady_timer> waiting_;
};

inline constexpr const char* never_answered = "offer was never answered"; // a cause

struct live_call {
    std::string call_id;
    protocol::moment created;
    std::vector<call> branches; // empty only while the first offer is worked out
    std::uint32_t last_branch = 0;
    turnstile turns;
    std::string source;                 // whose call it is: source_shares
    bool gone = false;                  // removed from the table while others waited
    std::optional<ended_call> was_up;   // a branch that was answered and is over, while others only ring
    std::vector<media::media_id> ended; // media that ended by themselves during the turn that goes on
    std::vector<std::string> refused;   // via-branches of the last offers that were refused

    void note_refused(const std::string& via_branch);
    // Its offer was refused, and it is no branch's that is there.
    [[nodiscard]] bool is_refused(const std::string& via_branch) const;
    [[nodiscard]] call* find(std::uint32_t branch);
    [[nodiscard]] std::vector<media::media_id> media() const;
    [[nodiscard]] bool answered() const;
};

// Lines of media that ended during the turn have none any more.
void drop_ended(std::vector<media_line>& lines, const live_call& of);

// A call and its turn: nobody else changes it while this lives.
struct held_call {
    std::shared_ptr<live_call> live;
    turnstile::pass turn;
};

// One of the queues of a listen address (source_queues).
struct listener {
    listener(asio::ip::udp::socket s, bool of_strangers)
        : socket(std::move(s)), room(socket.get_executor()), strangers(of_strangers) {}
    asio::ip::udp::socket socket;
    asio::steady_timer room;   // woken when fewer are under way
    std::size_t under_way = 0; // requests that are worked on
    std::uint32_t dropped = 0; // by the kernel, when it was last asked
    bool more = false;         // has datagrams waiting, as far as is known
    bool strangers;
};

// A request that is worked on, among those of its queue.
class under_way {
public:
    static constexpr std::size_t most = 32; // then the queue's next ones wait
    explicit under_way(std::shared_ptr<listener> on) : on_(std::move(on)) { ++on_->under_way; }
    under_way(under_way&& from) noexcept = default;
    under_way& operator=(under_way&&) = delete;
    ~under_way() {
        if (on_ == nullptr)
            return;
        if (--on_->under_way == most / 2)
            on_->room.cancel();
    }

private:
    std::shared_ptr<listener> on_;
};

// A reply that goes out at the end of the io_context's turn, once what it says is in the store.
struct waiting_reply {
    std::shared_ptr<listener> on;
    asio::ip::udp::endpoint to;
    std::string bytes;
};

struct server::state : std::enable_shared_from_this<server::state> {
    state(asio::io_context& io, config c, media::relay& r, session::directory& d, call_store& s)
        : context(io), settings(std::move(c)), relay(r), sessions(d), store(s), shares(settings.source_share),
          cookies(settings.cookie_lifetime), sweeper(io) {
        gates.add([this] { return health_gate(); });
    }

    asio::io_context& context;
    config settings;
    media::relay& relay;
    session::directory& sessions;
    call_store& store;
    counters count;
    flag_counters ignored;
    reply_budget told;
    admission gates;
    source_shares shares;
    turned_away refused;
    std::chrono::steady_clock::time_point refusal_said{}; // in the log
    cookie_cache cookies;
    std::map<std::string, std::shared_ptr<live_call>, std::less<>> calls;
    std::vector<std::shared_ptr<listener>> listeners;
    std::array<char, 65'536> buffer{}; // of the datagram that is taken
    std::vector<waiting_reply> replies;
    asio::steady_timer sweeper;
    const std::uint64_t instance = std::random_device()() | std::uint64_t{std::random_device()()} << 32;
    bool stopped = false;

    // ng_server.cpp
    [[nodiscard]] unsigned may_begin(const listener&) const; // requests in this turn
    asio::awaitable<void> receive(std::shared_ptr<listener>);
    [[nodiscard]] bool may_ask(const asio::ip::address&) const;
    bool take(const std::shared_ptr<listener>&, const asio::ip::udp::endpoint& from, std::size_t length);
    asio::awaitable<void> serve(std::shared_ptr<listener>, under_way, asio::ip::udp::endpoint, std::string cookie,
                                std::string key, std::string payload);
    void count_dropped();
    void reply_later(std::shared_ptr<listener>, const asio::ip::udp::endpoint&, std::string bytes);
    void send_replies();
    asio::awaitable<bencode::value> run(request);
    [[nodiscard]] bencode::value pong();
    asio::awaitable<void> sweep();
    void release_rejected(live_call&, std::chrono::steady_clock::time_point offered_before);
    [[nodiscard]] bool speaks(const call&) const;
    void recover();
    [[nodiscard]] bool take_up(call&) const;

    // commands.cpp, ends.cpp
    [[nodiscard]] std::optional<refusal> count_gate(const request&) const;
    [[nodiscard]] std::optional<refusal> share_gate(const std::string& source) const;
    [[nodiscard]] bool concerns_unit(const request&) const;
    [[nodiscard]] std::optional<refusal> health_gate() const;
    [[nodiscard]] std::optional<refusal> refuse_new_call(const request&, const std::string& source);
    [[nodiscard]] bencode::value turn_away(const request&, const refusal&);
    asio::awaitable<bencode::value> offer(request);
    asio::awaitable<bencode::value> offer_in(std::shared_ptr<live_call>, request, offered_place);
    asio::awaitable<bencode::value> answer(request);
    asio::awaitable<bencode::value> remove(request);
    asio::awaitable<bencode::value> query(request);
    bencode::value list(const request&) const;
    // `cause` goes into the call's record, `media_cause` (empty: the same) into its media's.
    [[nodiscard]] static ended_call ended(const live_call&, const call&, const std::string& cause);
    void forget(const std::shared_ptr<live_call>&, const std::string& cause, const std::string& media_cause = {});
    // Likewise of one branch; the last one takes the call with it.
    void forget_branch(const std::shared_ptr<live_call>&, std::uint32_t branch, const std::string& cause);
    void media_ended(media::media_id, const std::string& call_id, const std::string& cause);

private:
    // places.cpp
    [[nodiscard]] bool is_callees_offer(const request&) const;
    void settle_addresses(sdp::session& said, const request&) const;
    [[nodiscard]] outcome<void> check_unit(const std::string& unit, const request&) const;
    [[nodiscard]] outcome<place> place_of_sender(const call&, const media_line&, const sdp::media&, side,
                                                 const request&) const;
    [[nodiscard]] outcome<place> place_of_other(const call&, const media_line&, const sdp::media&, side,
                                                const request&) const;
    [[nodiscard]] asio::ip::address shown_to(const call&, side, const request&) const;
    [[nodiscard]] sdp::rewrite_options rewriting(const call&, side to, const request&) const;
    [[nodiscard]] std::string write(call& draft, side to, const request&, const sdp::session& said,
                                    const std::vector<sdp::media_rewrite>&) const;

    // names.cpp
    [[nodiscard]] outcome<void> settle_name(call& draft, side, const place&);

    void close_media(const std::vector<media::media_id>&, const std::string& cause);
    void take_back(const std::vector<media_line>& wanted, const call& in_force); // what a re-offer took
    asio::awaitable<std::optional<held_call>> hold(const std::string& call_id);  // nothing: unknown, or ended meanwhile
    asio::awaitable<outcome<std::string>> run_offer(call& draft, request&, side from);
    asio::awaitable<outcome<std::string>> run_answer(const live_call&, call& draft, request&, side from);
    asio::awaitable<outcome<void>> apply(const live_call&, call& draft, std::vector<bool>& taken);
    asio::awaitable<outcome<void>> take_ports(const call&, media_line&);
    [[nodiscard]] bool comes_again(const live_call&, const request&) const;
    void put(const live_call&);
    [[nodiscard]] call begin_branch(const live_call&) const;
    [[nodiscard]] std::string unreachable(const sdp::media&) const; // why
    [[nodiscard]] outcome<void> check_answerer(const media_line&, const sdp::media&, side, const request&) const;
};

} // namespace tandem::callcontrol
