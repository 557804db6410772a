// SPDX-License-Identifier: Apache-2.0
// See observation.hpp.
#include "dataplane/app/observation.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

namespace tandem::app {

namespace {

std::string text_of(const api::net_address& a) {
    char text[INET6_ADDRSTRLEN] = "";
    const bool v4 = IN6_IS_ADDR_V4MAPPED(reinterpret_cast<const in6_addr*>(a.ip));
    inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? a.ip + 12 : a.ip, text, sizeof text);
    return v4 ? fmt::format("{}:{}", text, a.port) : fmt::format("[{}]:{}", text, a.port);
}

std::string list_of(const api::observed_places& places) {
    std::string out;
    for (std::size_t i = 0; i < places.count; ++i)
        out += fmt::format(R"({}"{}")", i != 0 ? "," : "", text_of(places.at[i]));
    return out;
}

constexpr std::size_t message_bytes = api::contract_max_message - sizeof(api::contract_header) - 4096;

// Records carry the burst's CLOCK_MONOTONIC until they leave the process.
std::int64_t realtime_offset() {
    timespec t{};
    clock_gettime(CLOCK_REALTIME, &t);
    const auto real = static_cast<std::int64_t>(t.tv_sec) * 1'000'000'000 + t.tv_nsec;
    return real - static_cast<std::int64_t>(pipeline::monotonic_ns());
}

std::size_t size_of(const api::trace_record&) noexcept {
    return sizeof(api::trace_record);
}
std::size_t size_of(const api::capture_record& r) noexcept {
    return api::padded_capture(r.captured);
}

enum class delivery { done, later, broken };

delivery send_message(int fd, api::message_type type, std::uint16_t count, std::span<const std::byte> body) {
    api::contract_header header{api::contract_magic, api::contract_version, type, 0, count, 0};
    iovec parts[2] = {{&header, sizeof header}, {const_cast<std::byte*>(body.data()), body.size()}};
    msghdr message{};
    message.msg_iov = parts;
    message.msg_iovlen = 2;
    if (sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
        return delivery::done;
    return errno == EAGAIN || errno == ENOBUFS || errno == EINTR ? delivery::later : delivery::broken;
}

template <class Tap>
struct kind_of;
template <>
struct kind_of<pipeline::trace_tap> {
    using record = api::trace_record;
    static constexpr auto type = api::message_type::trace_records;
};
template <>
struct kind_of<pipeline::capture_tap> {
    using record = api::capture_record;
    static constexpr auto type = api::message_type::capture_records;
};

std::string_view name_of(api::observe_end_reason reason) {
    constexpr std::string_view names[] = {"complete", "time", "data plane ended"};
    return names[static_cast<std::size_t>(reason)];
}

auto busy(std::string_view what, std::uint32_t pid) {
    return tl::unexpected(observe_handler::refusal{
        api::status::busy, fmt::format("another {} runs (process {}); end it first", what, pid)});
}

} // namespace

template <class Tap>
std::uint64_t observation::stream<Tap>::lost() const noexcept {
    std::uint64_t n = 0;
    for (const auto& t : taps)
        n += t->lost();
    return n;
}

// Fills one message; false: there is nothing.
template <class Tap>
bool observation::stream<Tap>::gather(std::int64_t realtime_offset_ns) {
    using record = typename kind_of<Tap>::record;
    for (const auto& t : taps)
        while (!enough() && message.size() < message_bytes) {
            const std::byte* const slot = t->ring().front();
            if (slot == nullptr)
                break;
            record r;
            std::memcpy(&r, slot, sizeof r);
            const std::size_t bytes = size_of(r), at = message.size();
            r.time_ns = static_cast<std::uint64_t>(static_cast<std::int64_t>(r.time_ns) + realtime_offset_ns);
            message.insert(message.end(), slot, slot + bytes);
            std::memcpy(message.data() + at, &r, sizeof r);
            t->ring().pop();
            ++count;
            ++records;
        }
    return count != 0;
}

template <class Tap>
void observation::tap(stream<Tap>& s, bool on) {
    if (s.tapped == on)
        return;
    s.tapped = on;
    for (std::size_t i = 0; i < s.taps.size(); ++i) {
        pipeline::worker* const w = shared_.workers[i];
        Tap* const with = on ? s.taps[i].get() : nullptr;
        w->call([w, with] { w->tap(with); });
    }
}

template <class Tap>
bool observation::pump(stream<Tap>& s, std::uint64_t now_ns) {
    if (!s.ending && (s.enough() || (s.until_ns != 0 && now_ns >= s.until_ns))) {
        tap(s, false);
        s.ending = s.enough() ? api::observe_end_reason::complete : api::observe_end_reason::time;
    }
    const std::int64_t offset = realtime_offset();
    constexpr int messages_at_once = 64;
    for (int i = 0; i < messages_at_once; ++i) {
        if (s.count == 0 && !s.gather(offset)) {
            if (!s.ending)
                return true;
            const api::observe_end end{*s.ending, 0, 0, s.records, s.lost()};
            return send_message(s.who.fd, api::message_type::observe_end, 1, std::as_bytes(std::span(&end, 1))) ==
                   delivery::later;
        }
        const delivery d = send_message(s.who.fd, kind_of<Tap>::type, s.count, s.message);
        if (d == delivery::later)
            return true;
        explicit_bzero(s.message.data(), s.message.size());
        s.message.clear();
        s.count = 0;
        if (d == delivery::broken)
            return false; // the server closes it
    }
    return true;
}

void observation::pump(std::uint64_t now_ns) {
    if (trace_ && !pump(*trace_, now_ns)) {
        tap(*trace_, false);
        trace_.reset();
    }
    if (capture_ && !pump(*capture_, now_ns))
        over(*capture_, capture_->ending ? name_of(*capture_->ending) : "closed");
}

void observation::closed(int fd) {
    if (trace_ && trace_->who.fd == fd) {
        tap(*trace_, false);
        trace_.reset();
    }
    if (capture_ && capture_->who.fd == fd)
        over(*capture_, "closed");
}

bool observation::serves(int fd) const {
    return (trace_ && trace_->who.fd == fd) || (capture_ && capture_->who.fd == fd);
}

void observation::end() {
    const auto last_words = [this](auto& s) {
        tap(*s, false);
        s->ending = api::observe_end_reason::data_plane_ends;
        (void)pump(*s, 0);
    };
    if (trace_) {
        last_words(trace_);
        trace_.reset();
    }
    if (capture_) {
        last_words(capture_);
        over(*capture_, name_of(api::observe_end_reason::data_plane_ends));
    }
}

void observation::over(stream<pipeline::capture_tap>& s, std::string_view cause) {
    tap(s, false);
    explicit_bzero(s.message.data(), s.message.size());
    spdlog::info("capture of process {} (user {}) ends: {}; {} packets, {} lost", s.who.pid, s.who.uid, cause,
                 s.records, s.lost());
    if (const auto done = audit_.write("capture_end", s.who.uid, s.who.pid,
                                       fmt::format(R"("plaintext":{},"records":{},"lost":{},"cause":"{}")", s.plaintext,
                                                   s.records, s.lost(), cause));
        !done)
        spdlog::error("{}", done.error());
    capture_.reset();
}

observe_handler::answer observation::describe() const {
    answer a{};
    a.reply.workers = static_cast<std::uint32_t>(shared_.workers.size());
    a.reply.pid = static_cast<std::uint32_t>(getpid());
    for (const auto& port : ports_)
        a.ports.push_back(io::describe(port));
    return a;
}

// One of them at least has a flow: muxed RTCP has a place of its own and none.
tl::expected<void, observe_handler::refusal> observation::known_places(const api::observed_places& places) const {
    if (places.count > api::max_observed_places)
        return tl::unexpected(
            refusal{api::status::bad_message, fmt::format("{} places at most", api::max_observed_places)});
    const auto has_flow = [this](const api::net_address& place) {
        const auto address = shared_.table.address_index(place.ip);
        return address && shared_.table.find(api::make_flow_id(*address, place.port)) != flow::no_slot;
    };
    if (places.count != 0 && std::none_of(places.at, places.at + places.count, has_flow))
        return tl::unexpected(refusal{api::status::unknown_flow, "no flow at that local address and port"});
    return {};
}

tl::expected<observe_handler::answer, observe_handler::refusal> observation::trace(const peer& who,
                                                                                   const api::trace_request& what) {
    if (trace_)
        return busy("trace", trace_->who.pid);
    if (what.packets == 0 || what.packets > api::max_trace_packets)
        return tl::unexpected(
            refusal{api::status::bad_message, fmt::format("a trace takes 1 to {} packets", api::max_trace_packets)});
    if (auto there = known_places(what.places); !there)
        return tl::unexpected(std::move(there.error()));
    auto& s = trace_.emplace();
    s.who = who;
    s.limit = what.packets;
    for (unsigned i = 0; i < shared_.workers.size(); ++i)
        s.taps.push_back(std::make_unique<pipeline::trace_tap>(what, i, shared_.table, shared_.worker_stats[i]));
    tap(s, true);
    return describe();
}

tl::expected<pipeline::capture_choice, observe_handler::refusal>
observation::choice(const api::capture_request& what) const {
    const auto bad = [](api::status status, std::string text) {
        return tl::unexpected(refusal{status, std::move(text)});
    };
    pipeline::capture_choice c;
    c.ports = 0xffffffff;
    const std::string_view port(what.port, strnlen(what.port, sizeof what.port));
    if (!port.empty()) {
        const auto found = std::find_if(ports_.begin(), ports_.end(), [&](auto& p) { return p.name == port; });
        if (found == ports_.end())
            return bad(api::status::bad_port, "no port of that name; `tandemctl port` lists them");
        c.ports = 1u << (found - ports_.begin());
    }
    if (what.direction == 0 || what.direction > (api::capture_in | api::capture_out))
        return bad(api::status::bad_message, "direction is in, out or both");
    if (static_cast<std::size_t>(what.drop) >= api::drop_count)
        return bad(api::status::bad_message, "no such drop reason");
    if (what.snap_length == 0 || what.snap_length > api::max_snap_length)
        return bad(api::status::bad_message, fmt::format("snap length is 1 to {}", api::max_snap_length));
    c.direction = what.direction;
    c.plaintext = what.plaintext != 0;
    c.drop = what.drop;
    c.snap_length = what.snap_length;
    c.packets = what.packets;
    if (auto there = known_places(what.places); !there)
        return tl::unexpected(std::move(there.error()));
    c.places = what.places;
    return c;
}

// Before the first packet: without its line in the log there is no plaintext.
tl::expected<void, observe_handler::refusal> observation::audit_start(const peer& who,
                                                                      const api::capture_request& what) {
    constexpr std::string_view directions[] = {"", "in", "out", "both"};
    const std::string_view port(what.port, strnlen(what.port, sizeof what.port)); // one of ours: it was checked
    const std::string filter = fmt::format(
        R"("plaintext":{},"port":"{}","direction":"{}","drop":"{}","snap_length":{},"packets":{},"seconds":{},"places":[{}])",
        what.plaintext != 0, port.empty() ? "all" : port, directions[what.direction],
        what.drop == api::drop::none ? "any" : api::info(what.drop).name, what.snap_length, what.packets, what.seconds,
        list_of(what.places));
    const auto done = audit_.write("capture_start", who.uid, who.pid, filter);
    if (!done) {
        spdlog::error("{}", done.error());
        if (what.plaintext != 0)
            return tl::unexpected(refusal{api::status::not_possible,
                                          "no plaintext: the audit log cannot be written (see the data plane's log)"});
    }
    spdlog::log(what.plaintext != 0 ? spdlog::level::warn : spdlog::level::info, "capture by process {} (user {}): {}",
                who.pid, who.uid, filter);
    return {};
}

tl::expected<observe_handler::answer, observe_handler::refusal> observation::capture(const peer& who,
                                                                                     const api::capture_request& what) {
    if (capture_)
        return busy("capture", capture_->who.pid);
    const auto chosen = choice(what);
    if (!chosen)
        return tl::unexpected(chosen.error());
    if (what.plaintext != 0 && who.uid != 0)
        return tl::unexpected(refusal{api::status::not_permitted, "--plaintext is root's alone"});
    if (const auto logged = audit_start(who, what); !logged)
        return tl::unexpected(logged.error());
    auto& s = capture_.emplace();
    s.who = who;
    s.limit = what.packets;
    s.plaintext = what.plaintext != 0;
    s.until_ns = what.seconds == 0 ? 0 : pipeline::monotonic_ns() + std::uint64_t{what.seconds} * 1'000'000'000;
    for (unsigned i = 0; i < shared_.workers.size(); ++i)
        s.taps.push_back(std::make_unique<pipeline::capture_tap>(*chosen, i, shared_.worker_stats[i]));
    tap(s, true);
    return describe();
}

} // namespace tandem::app
