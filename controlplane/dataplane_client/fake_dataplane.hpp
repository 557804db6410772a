// SPDX-License-Identifier: Apache-2.0
// For tests: a data plane that speaks the contract over a real SOCK_SEQPACKET socket and only keeps books. Runs on a
// thread of its own; what tests look at is behind one mutex. `timeline` is shared with other fakes, so that orders can
// be checked.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <deque>
#include <fcntl.h>
#include <fmt/format.h>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <poll.h>
#include <set>
#include <string>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <thread>
#include <tuple>
#include <unistd.h>
#include <vector>

#include "controlplane/dataplane_client/client.hpp"
#include "dataplane/api/stats.hpp"

namespace tandem::dataplane_client {

struct timeline {
    std::mutex lock;
    std::vector<std::string> lines;
    void add(std::string line) {
        const std::lock_guard guard(lock);
        lines.push_back(std::move(line));
    }
    std::vector<std::string> all() {
        const std::lock_guard guard(lock);
        return lines;
    }
    std::ptrdiff_t find(const std::string& start, std::ptrdiff_t after = -1) {
        const std::lock_guard guard(lock);
        for (auto i = after + 1; i < static_cast<std::ptrdiff_t>(lines.size()); ++i)
            if (lines[static_cast<std::size_t>(i)].starts_with(start))
                return i;
        return -1;
    }
    std::size_t count(const std::string& start) {
        const std::lock_guard guard(lock);
        return static_cast<std::size_t>(
            std::ranges::count_if(lines, [&](const auto& line) { return line.starts_with(start); }));
    }
};

// Counts the points at which somebody waits for an answer of these fakes, and makes one of them fail.
struct fault_plan {
    // refused; lost before it was done; done, but its answer lost; an error inside; answered, but `meanwhile` ran
    // before.
    enum class how { refuse, lose, do_and_lose, error, meanwhile };
    std::mutex lock;
    std::vector<std::string> points; // that came by since begin()
    std::optional<std::pair<std::size_t, how>> at;
    std::function<void()> meanwhile;

    void begin(std::optional<std::pair<std::size_t, how>> where) {
        const std::lock_guard guard(lock);
        points.clear();
        at = where;
    }
    std::optional<how> next(std::string what) {
        const std::lock_guard guard(lock);
        points.push_back(std::move(what));
        return at && points.size() == at->first + 1 ? std::optional(at->second) : std::nullopt;
    }
    std::vector<std::string> all() {
        const std::lock_guard guard(lock);
        return points;
    }
};

class fake_dataplane {
public:
    struct kept {
        api::flow_config config{};
        std::map<std::uint32_t, std::vector<std::uint8_t>> in, out; // epoch -> key || salt
        std::uint32_t sending = 0;
        std::uint32_t slot = 0;
        std::map<std::uint32_t, api::stream_state> in_streams,
            out_streams; // by SSRC; tests put them, or the control plane
    };

    explicit fake_dataplane(timeline& to) : timeline_(to) {
        static std::atomic<int> number = 0;
        base = fmt::format("/tmp/tandem-fake-{}-{}", ::getpid(), number++);
        stats_path = base + ".stats";
        const auto bytes = sizeof(api::stats_header) + sizeof(api::worker_stats) + slots * sizeof(api::flow_stats);
        const int file = ::open(stats_path.c_str(), O_RDWR | O_CREAT | O_TRUNC, 0600);
        if (file < 0 || ::ftruncate(file, static_cast<off_t>(bytes)) != 0)
            std::abort();
        stats_ = static_cast<std::uint8_t*>(::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));
        ::close(file);
        auto* head = reinterpret_cast<api::stats_header*>(stats_);
        head->magic = api::stats_magic;
        head->version = api::stats_version;
        head->workers = 1;
        head->max_flows = slots;
        head->worker_offset = sizeof(api::stats_header);
        head->flow_offset = sizeof(api::stats_header) + sizeof(api::worker_stats);
        start();
    }
    ~fake_dataplane() {
        stop();
        ::unlink(stats_path.c_str());
    }

    [[nodiscard]] std::string path() const { return base + ".sock"; }
    void start() {
        ::unlink(path().c_str());
        listener_ = ::socket(AF_UNIX, SOCK_SEQPACKET, 0);
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::memcpy(address.sun_path, path().data(), path().size());
        if (::bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0 ||
            ::listen(listener_, 4) != 0)
            std::abort();
        running_ = true;
        thread_ = std::thread([this] { serve(); });
    }
    void stop() {
        if (!running_.exchange(false))
            return;
        thread_.join();
        if (peer_ >= 0)
            ::close(peer_);
        ::close(listener_);
        peer_ = -1;
        ::unlink(path().c_str());
    }
    void forget_flows() {
        const std::lock_guard guard(lock);
        for (const auto& [id, flow] : flows)
            spend(flow);
        flows.clear();
        ++generation;
        std::memset(stats_ + sizeof(api::stats_header) + sizeof(api::worker_stats), 0, slots * sizeof(api::flow_stats));
    }
    void send(api::event_type type, api::flow_id id, std::uint64_t tag, api::net_address where = {},
              api::source_rule rule = {}) {
        struct {
            api::contract_header header;
            api::flow_event event;
        } message{};
        message.header = {api::contract_magic, api::contract_version, api::message_type::event, 0, 1, 0};
        message.event.type = type;
        message.event.rule = rule;
        message.event.id = id;
        message.event.tag = tag;
        message.event.address = where;
        (void)!::send(peer_, &message, sizeof(message), MSG_NOSIGNAL);
    }
    void send_packets(std::span<const std::uint8_t> items, std::uint16_t count) {
        const api::contract_header header{
            api::contract_magic, api::contract_version, api::message_type::packet_in, 0, count, 0};
        std::vector<std::uint8_t> message;
        put(message, header);
        message.insert(message.end(), items.begin(), items.end());
        (void)!::send(peer_, message.data(), message.size(), MSG_NOSIGNAL);
    }
    [[nodiscard]] api::flow_stats& stats(api::flow_id id) {
        const std::lock_guard guard(lock);
        return slot(flows.at(id).slot);
    }
    [[nodiscard]] std::map<api::flow_id, kept> copy() {
        const std::lock_guard guard(lock);
        return flows;
    }
    // A stream of a flow's side has come to this index.
    void speak(api::flow_id id, api::side side, std::uint32_t ssrc, std::uint64_t next) {
        const std::lock_guard guard(lock);
        auto& flow = flows.at(id);
        auto& stream = (side == api::side::in ? flow.in_streams : flow.out_streams)[ssrc];
        stream.ssrc = ssrc;
        stream.rtp = {next, {1, 0}};
    }
    [[nodiscard]] std::uint32_t mki(api::flow_id id, api::side side, std::uint32_t epoch) {
        const std::lock_guard guard(lock);
        return mkis_.at({id, side, epoch});
    }
    // What goes out of this flow goes elsewhere now, as where its reverse latched.
    void move(api::flow_id id, const char* ip, std::uint16_t port) {
        const std::lock_guard guard(lock);
        flows.at(id).config.route.rtp_remote = to_net_address(asio::ip::make_address(ip), port);
    }
    // Keys under which a side began again at index 0 although it was in use: never, whatever is asked.
    [[nodiscard]] std::vector<std::string> repeats() {
        const std::lock_guard guard(lock);
        return repeats_;
    }

    std::mutex lock;
    std::map<api::flow_id, kept> flows;
    std::vector<api::stream_item> streams;     // what STREAM_LIST says beside the flows' own
    std::vector<api::stream_item> put_streams; // by STREAM_PUT
    std::vector<std::pair<api::packet_out, std::vector<std::uint8_t>>> packets; // by PACKET_OUT
    std::atomic<unsigned> streams_asked{0};                                     // STREAM_LISTs so far
    std::uint64_t generation = 7;
    std::set<api::message_type> refuse; // these requests' items get `table_full`
    std::set<api::message_type> ignore; // these are never answered
    std::set<api::message_type> mute;   // these are done, and not answered
    std::vector<api::health_entry> health{{api::health_kind::worker, api::health_state::ok, 0, 0, "worker 0"},
                                          {api::health_kind::port, api::health_state::ok, 0, 0, "acc0"}};
    fault_plan* faults = nullptr; // of requests that change something; a lost answer loses the connection
    std::string base, stats_path;

private:
    static constexpr std::uint32_t slots = 64;
    [[nodiscard]] api::flow_stats& slot(std::uint32_t n) {
        return reinterpret_cast<api::flow_stats*>(stats_ + sizeof(api::stats_header) + sizeof(api::worker_stats))[n];
    }

    void serve() {
        std::vector<std::uint8_t> buffer(api::contract_max_message);
        while (running_) {
            pollfd watch[2] = {{listener_, POLLIN, 0}, {peer_, POLLIN, 0}};
            if (::poll(watch, peer_ >= 0 ? 2 : 1, 5) <= 0)
                continue;
            if ((watch[0].revents & POLLIN) != 0) {
                if (peer_ >= 0)
                    ::close(peer_);
                peer_ = ::accept(listener_, nullptr, nullptr);
                continue;
            }
            const auto length = ::recv(peer_, buffer.data(), buffer.size(), 0);
            if (length <= 0) {
                ::close(peer_);
                peer_ = -1;
                continue;
            }
            bool lost = false;
            const auto reply = answer({buffer.data(), static_cast<std::size_t>(length)}, lost);
            if (lost) {
                ::close(peer_);
                peer_ = -1;
                continue;
            }
            if (!reply.empty())
                (void)!::send(peer_, reply.data(), reply.size(), MSG_NOSIGNAL);
        }
    }

    template <class T>
    static T take(std::span<const std::uint8_t> from, std::size_t n) {
        T out;
        std::memcpy(&out, from.data() + sizeof(api::contract_header) + n * sizeof(T), sizeof(T));
        return out;
    }
    template <class T>
    static void put(std::vector<std::uint8_t>& to, const T& item) {
        const auto* bytes = reinterpret_cast<const std::uint8_t*>(&item);
        to.insert(to.end(), bytes, bytes + sizeof(item));
    }

    static bool changes(api::message_type type) {
        return type != api::message_type::hello && type != api::message_type::flow_list &&
               type != api::message_type::port_list && type != api::message_type::stream_list &&
               type != api::message_type::health;
    }

    std::vector<std::uint8_t> answer(std::span<const std::uint8_t> request, bool& lost) {
        api::contract_header header;
        std::memcpy(&header, request.data(), sizeof(header));
        if (ignore.contains(header.type))
            return {};
        std::optional<fault_plan::how> fault;
        if (faults != nullptr && changes(header.type))
            fault = faults->next(fmt::format("data plane {}", static_cast<unsigned>(header.type)));
        lost = fault == fault_plan::how::lose || fault == fault_plan::how::do_and_lose;
        if (fault == fault_plan::how::lose)
            return {};
        if (fault == fault_plan::how::meanwhile)
            faults->meanwhile();
        const bool refuses = fault == fault_plan::how::refuse && refuse.insert(header.type).second;
        std::vector<std::uint8_t> body;
        std::string what;
        const std::lock_guard guard(lock);
        std::uint16_t count = header.count;
        if (header.type == api::message_type::hello)
            count = hello(body);
        else if (header.type == api::message_type::flow_list)
            count = list(take<api::list_request>(request, 0), body);
        else if (header.type == api::message_type::port_list)
            count = 0;
        else if (header.type == api::message_type::stream_list)
            count = list_streams(take<api::list_request>(request, 0), body);
        else if (header.type == api::message_type::flow_replace)
            for (std::size_t n = 0; n < header.count;)
                n = replace_group(request, n, header.count, body, what);
        else if (header.type == api::message_type::packet_out)
            take_packets(request, header.count, body);
        else if (header.type == api::message_type::health)
            for (count = 0; count < health.size(); ++count)
                put(body, health[count]);
        else
            for (std::size_t n = 0; n < header.count; ++n)
                item(header.type, request, n, body, what);
        if (!what.empty())
            timeline_.add(what);
        if (refuses)
            refuse.erase(header.type);
        if (mute.contains(header.type))
            return {};
        std::vector<std::uint8_t> reply;
        put(reply, api::contract_header{api::contract_magic, api::contract_version,
                                        static_cast<api::message_type>(static_cast<std::uint16_t>(header.type) + 1),
                                        header.sequence, count, 0});
        reply.insert(reply.end(), body.begin(), body.end());
        return reply;
    }

    void take_packets(std::span<const std::uint8_t> request, std::size_t count, std::vector<std::uint8_t>& body) {
        auto rest = request.subspan(sizeof(api::contract_header));
        for (std::size_t n = 0; n < count; ++n) {
            api::packet_out what;
            std::memcpy(&what, rest.data(), sizeof(what));
            const auto bytes = rest.subspan(sizeof(what), what.length);
            packets.emplace_back(what, std::vector<std::uint8_t>(bytes.begin(), bytes.end()));
            rest = rest.subspan(sizeof(what) + api::padded_packet(what.length));
            put(body,
                api::item_status{what.id, flows.contains(what.id) ? api::status::ok : api::status::unknown_flow, 0, 0});
        }
    }

    std::uint16_t hello(std::vector<std::uint8_t>& body) {
        api::hello_reply reply{};
        reply.max_flows = slots;
        reply.flows = static_cast<std::uint32_t>(flows.size());
        reply.generation = generation;
        std::memcpy(reply.stats_path, stats_path.data(), stats_path.size());
        put(body, reply);
        std::uint32_t index = 0;
        for (const auto& [name, ip] : {std::pair{"access", "192.0.2.1"},
                                       {"core", "198.51.100.1"},
                                       {"access", "2001:db8:a::1"},
                                       {"core", "2001:db8:c::1"}}) {
            api::address_entry entry{};
            const auto address = to_net_address(asio::ip::make_address(ip), 0);
            std::memcpy(entry.ip, address.ip, sizeof(entry.ip));
            entry.index = index++;
            std::strncpy(entry.name, name, sizeof(entry.name) - 1);
            put(body, entry);
        }
        return static_cast<std::uint16_t>(index);
    }

    std::uint16_t list(const api::list_request& page, std::vector<std::uint8_t>& body) {
        std::uint16_t count = 0;
        for (const auto& [id, flow] : flows) {
            if ((page.has_after != 0 && id <= page.after) || count == api::list_page)
                continue;
            api::flow_entry entry{};
            entry.config = flow.config;
            for (auto in = flow.in.rbegin(); in != flow.in.rend() && entry.in_epoch_count < 3; ++in)
                entry.in_epochs[entry.in_epoch_count++] = in->first;
            for (auto out = flow.out.rbegin(); out != flow.out.rend() && entry.out_epoch_count < 3; ++out)
                entry.out_epochs[entry.out_epoch_count++] = out->first;
            entry.sending_epoch = flow.sending;
            entry.stats_index = flow.slot;
            put(body, entry);
            ++count;
        }
        return count;
    }

    std::uint16_t list_streams(const api::list_request& page, std::vector<std::uint8_t>& body) {
        std::uint16_t count = 0;
        ++streams_asked;
        for (const auto& stream : streams)
            if (page.has_after == 0 || stream.id > page.after) {
                put(body, stream);
                ++count;
            }
        for (const auto& [id, flow] : flows) {
            if (page.has_after != 0 && id <= page.after)
                continue;
            for (const auto side : {api::side::in, api::side::out})
                for (const auto& [ssrc, state] : side == api::side::in ? flow.in_streams : flow.out_streams) {
                    put(body, api::stream_item{id, side, {}, state});
                    ++count;
                }
        }
        return count;
    }

    using key_bytes = std::vector<std::uint8_t>;
    static key_bytes bytes_of(const api::epoch_key& key) {
        key_bytes out(key.key, key.key + key.key_length);
        out.insert(out.end(), key.salt, key.salt + key.salt_length);
        return out;
    }
    void spend(const kept& flow) {
        for (const auto& [epoch, key] : flow.in)
            spent_.insert(key);
        for (const auto& [epoch, key] : flow.out)
            spent_.insert(key);
    }
    // A key comes into a side: new, or with its streams.
    void begin(api::flow_id id, const key_bytes& key, bool goes_on) {
        if (!goes_on && spent_.contains(key))
            timeline_.add(fmt::format("repeat {}:{}", id >> 16, id & 0xffff));
        if (!goes_on && spent_.contains(key))
            repeats_.push_back(fmt::format("flow {}:{} begins again under a used key", id >> 16, id & 0xffff));
    }

    // One side of a replacement: what it takes of the flows that it names, and its first key.
    void take_side(kept& to, const api::flow_replacement& item, api::side side,
                   const std::map<api::flow_id, kept>& before, std::string& what) {
        const bool in = side == api::side::in;
        auto& keys = in ? to.in : to.out;
        auto& streams = in ? to.in_streams : to.out_streams;
        bool goes_on = false;
        for (const auto id : in ? item.in_from : item.out_from) {
            if (id == 0)
                continue;
            const auto& old = before.at(id);
            const auto &was = in ? old.config.in : old.config.out, &is = in ? item.config.in : item.config.out;
            what += fmt::format("{}{}", in ? "<" : ">", id & 0xffff);
            if (was.suite != is.suite || was.mki_length != is.mki_length)
                continue;
            goes_on = true;
            streams.insert((in ? old.in_streams : old.out_streams).begin(),
                           (in ? old.in_streams : old.out_streams).end());
            if ((in ? item.in_keys : item.out_keys) == api::key_choice::keep) {
                keys.insert((in ? old.in : old.out).begin(), (in ? old.in : old.out).end());
                to.sending = in ? to.sending : old.sending;
            }
        }
        const auto& first = in ? item.in_key : item.out_key;
        if (first.key_length == 0)
            return;
        keys[first.epoch] = bytes_of(first);
        mkis_[{first.id, first.side, first.epoch}] = first.mki;
        begin(item.config.id, keys[first.epoch], goes_on);
        to.sending = in ? to.sending : first.epoch;
        what += fmt::format("/{}{}", in ? "in" : "out", first.epoch);
    }

    [[nodiscard]] api::status verdict_of(const api::flow_replacement& item) {
        for (const auto* names : {&item.in_from, &item.out_from})
            for (const auto id : *names)
                if (id != 0 && !flows.contains(id))
                    return api::status::unknown_flow;
                else if (id != 0 && flows.at(id).config.tag != item.config.tag)
                    return api::status::not_yours;
        return refuse.contains(api::message_type::flow_replace) ? api::status::table_full : api::status::ok;
    }

    std::size_t replace_group(std::span<const std::uint8_t> request, std::size_t n, std::size_t count,
                              std::vector<std::uint8_t>& body, std::string& what) {
        std::vector<api::flow_replacement> group{take<api::flow_replacement>(request, n)};
        while (++n < count && take<api::flow_replacement>(request, n).group == group.front().group)
            group.push_back(take<api::flow_replacement>(request, n));
        bool fine = true;
        for (const auto& item : group)
            fine = fine && verdict_of(item) == api::status::ok;
        const auto before = flows;
        std::map<api::flow_id, kept> made;
        what += what.empty() ? "replace" : ";";
        for (const auto& item : group) {
            what += fmt::format(" {}:{}", item.config.id >> 16, item.config.id & 0xffff);
            if (!fine)
                continue;
            auto& to = made[item.config.id];
            to.config = item.config;
            take_side(to, item, api::side::in, before, what);
            take_side(to, item, api::side::out, before, what);
            for (auto& [now, was] : {std::pair{&to.config.route.rtp_remote, &api::route_config::rtp_remote},
                                     {&to.config.route.rtcp_remote, &api::route_config::rtcp_remote}})
                if (now->port == 0 && item.out_from[0] != 0)
                    *now = before.at(item.out_from[0]).config.route.*was;
            std::uint32_t at = 0;
            while (slot(at).id != 0)
                ++at;
            slot(at) = item.in_from[0] != 0 ? slot(before.at(item.in_from[0]).slot) : api::flow_stats{};
            slot(at).id = item.config.id;
            to.slot = at;
        }
        for (const auto& item : group)
            put(body, api::item_status{item.config.id,
                                       fine                                  ? api::status::ok
                                       : verdict_of(item) == api::status::ok ? api::status::group_refused
                                                                             : verdict_of(item),
                                       0, fine ? made.at(item.config.id).slot : 0});
        if (!fine)
            return n;
        std::set<api::flow_id> over;
        for (const auto& item : group)
            for (const auto id : {item.config.id, item.in_from[0], item.in_from[1], item.out_from[0], item.out_from[1]})
                if (flows.contains(id))
                    over.insert(id);
        for (const auto id : over) {
            slot(flows[id].slot).id = 0;
            flows.erase(id);
        }
        for (auto& [id, flow] : made)
            flows[id] = flow;
        for (const auto& [id, flow] : before) // keys that are in force nowhere any more
            if (over.contains(id))
                spend_unless_in_force(flow);
        return n;
    }
    void spend_unless_in_force(const kept& old) {
        for (const auto* keys : {&old.in, &old.out})
            for (const auto& [epoch, key] : *keys) {
                const bool lives = std::ranges::any_of(flows, [&](const auto& flow) {
                    const auto has = [&](const auto& some) {
                        return std::ranges::any_of(some, [&](const auto& one) { return one.second == key; });
                    };
                    return has(flow.second.in) || has(flow.second.out);
                });
                if (!lives)
                    spent_.insert(key);
            }
    }

    void item(api::message_type type, std::span<const std::uint8_t> request, std::size_t n,
              std::vector<std::uint8_t>& body, std::string& what) {
        const auto said = [&](const char* verb, api::flow_id id, const std::string& rest = "") {
            what +=
                (what.empty() ? std::string(verb) + " " : ", ") + fmt::format("{}:{}{}", id >> 16, id & 0xffff, rest);
        };
        api::flow_id id = 0;
        auto status = refuse.contains(type) ? api::status::table_full : api::status::ok;
        const auto known = [&] { return flows.contains(id) ? status : api::status::unknown_flow; };
        if (type == api::message_type::flow_add) {
            const auto config = take<api::flow_config>(request, n);
            id = config.id;
            said("add", id);
            if (status == api::status::ok && flows.contains(id))
                status = api::status::flow_exists;
            if (status == api::status::ok) {
                std::uint32_t at = 0;
                while (slot(at).id != 0)
                    ++at;
                slot(at) = {};
                slot(at).id = id;
                flows[id] = {config, {}, {}, 0, at, {}, {}};
            }
        } else if (type == api::message_type::flow_update) {
            const auto update = take<api::flow_update>(request, n);
            id = update.id;
            said("update", id, fmt::format("/mask{}", update.mask));
            if ((status = known()) == api::status::ok) {
                auto& config = flows[id].config;
                if ((update.mask & api::update_remote) != 0) {
                    config.route.rtp_remote = update.route.rtp_remote;
                    config.route.rtcp_remote = update.route.rtcp_remote;
                }
                if ((update.mask & api::update_flags) != 0)
                    config.flags = update.flags;
                if ((update.mask & api::update_source) != 0) {
                    config.source = update.source;
                }
            }
        } else if (type == api::message_type::flow_remove) {
            id = take<api::flow_ref>(request, n).id;
            said("remove", id);
            if ((status = known()) == api::status::ok) {
                spend(flows[id]);
                slot(flows[id].slot).id = 0;
                flows.erase(id);
            }
        } else if (type == api::message_type::epoch_install) {
            const auto key = take<api::epoch_key>(request, n);
            id = key.id;
            said("install", id, fmt::format("/{}{}", key.side == api::side::in ? "in" : "out", key.epoch));
            if ((status = known()) == api::status::ok) {
                auto& side = key.side == api::side::in ? flows[id].in : flows[id].out;
                const auto bytes = bytes_of(key);
                mkis_[{id, key.side, key.epoch}] = key.mki;
                const auto& streams = key.side == api::side::in ? flows[id].in_streams : flows[id].out_streams;
                begin(id, bytes, !side.empty() || !streams.empty());
                if (side.size() >= 3 && !side.contains(key.epoch))
                    status = api::status::too_many_epochs;
                else if (side.contains(key.epoch) && side[key.epoch] != bytes)
                    status = api::status::bad_epoch;
                else
                    side[key.epoch] = bytes;
            }
        } else if (type == api::message_type::stream_put) {
            const auto one = take<api::stream_item>(request, n);
            id = one.id;
            said("put", id, fmt::format("/{}", one.side == api::side::in ? "in" : "out"));
            if ((status = known()) == api::status::ok) {
                auto& flow = flows[id];
                put_streams.push_back(one);
                if (!(one.side == api::side::in ? flow.in : flow.out).empty())
                    status = api::status::bad_state;
                else
                    (one.side == api::side::in ? flow.in_streams : flow.out_streams)[one.state.ssrc] = one.state;
            }
        } else {
            const auto ref = take<api::epoch_ref>(request, n);
            id = ref.id;
            const bool retire = type == api::message_type::epoch_retire;
            said(retire ? "retire" : "switch", id,
                 fmt::format("/{}{}", ref.side == api::side::in ? "in" : "out", ref.epoch));
            if ((status = known()) == api::status::ok) {
                auto& side = ref.side == api::side::in ? flows[id].in : flows[id].out;
                if (!side.contains(ref.epoch))
                    status = api::status::bad_epoch;
                else if (retire)
                    side.erase(ref.epoch);
                else
                    flows[id].sending = ref.epoch;
            }
        }
        const bool added = type == api::message_type::flow_add && status == api::status::ok;
        put(body, api::item_status{id, status, 0, added ? flows[id].slot : 0});
    }

    timeline& timeline_;
    std::set<key_bytes> spent_; // keys that were in force on a side that is gone
    std::vector<std::string> repeats_;
    std::map<std::tuple<api::flow_id, api::side, std::uint32_t>, std::uint32_t> mkis_;
    std::uint8_t* stats_ = nullptr;
    int listener_ = -1;
    std::atomic<int> peer_ = -1;
    std::atomic<bool> running_ = false;
    std::thread thread_;
};

} // namespace tandem::dataplane_client
