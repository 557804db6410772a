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
#include <map>
#include <mutex>
#include <poll.h>
#include <set>
#include <string>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <thread>
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

class fake_dataplane {
public:
    struct kept {
        api::flow_config config{};
        std::map<std::uint32_t, std::vector<std::uint8_t>> in, out; // epoch -> key || salt
        std::uint32_t sending = 0;
        std::uint32_t slot = 0;
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
        flows.clear();
        ++generation;
        std::memset(stats_ + sizeof(api::stats_header) + sizeof(api::worker_stats), 0, slots * sizeof(api::flow_stats));
    }
    void send(api::event_type type, api::flow_id id, std::uint64_t tag, api::net_address where = {}) {
        struct {
            api::contract_header header;
            api::flow_event event;
        } message{};
        message.header = {api::contract_magic, api::contract_version, api::message_type::event, 0, 1, 0};
        message.event.type = type;
        message.event.id = id;
        message.event.tag = tag;
        message.event.address = where;
        (void)!::send(peer_, &message, sizeof(message), MSG_NOSIGNAL);
    }
    [[nodiscard]] api::flow_stats& stats(api::flow_id id) {
        const std::lock_guard guard(lock);
        return slot(flows.at(id).slot);
    }
    [[nodiscard]] std::map<api::flow_id, kept> copy() {
        const std::lock_guard guard(lock);
        return flows;
    }

    std::mutex lock;
    std::map<api::flow_id, kept> flows;
    std::vector<api::stream_item> streams; // what STREAM_LIST says
    std::vector<api::stream_item> put_streams;
    std::uint64_t generation = 7;
    std::set<api::message_type> refuse; // these requests' items get `table_full`
    std::set<api::message_type> ignore; // these are never answered
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
            const auto reply = answer({buffer.data(), static_cast<std::size_t>(length)});
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

    std::vector<std::uint8_t> answer(std::span<const std::uint8_t> request) {
        api::contract_header header;
        std::memcpy(&header, request.data(), sizeof(header));
        if (ignore.contains(header.type))
            return {};
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
            replace(request, header.count, body, what);
        else
            for (std::size_t n = 0; n < header.count; ++n)
                item(header.type, request, n, body, what);
        if (!what.empty())
            timeline_.add(what);
        std::vector<std::uint8_t> reply;
        put(reply, api::contract_header{api::contract_magic, api::contract_version,
                                        static_cast<api::message_type>(static_cast<std::uint16_t>(header.type) + 1),
                                        header.sequence, count, 0});
        reply.insert(reply.end(), body.begin(), body.end());
        return reply;
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
        for (const auto& stream : streams)
            if (page.has_after == 0 || stream.id > page.after) {
                put(body, stream);
                ++count;
            }
        return count;
    }

    // A side's keys as a replacement leaves them; false where it names a flow that is not there.
    bool carry(const api::flow_id (&from)[2], api::key_choice choice, const api::epoch_key& key, bool out, kept& to) {
        auto& keys = out ? to.out : to.in;
        for (const auto id : from) {
            if (id == 0)
                continue;
            const auto old = flows.find(id);
            if (old == flows.end() || old->second.config.tag != to.config.tag)
                return false;
            if (choice == api::key_choice::keep)
                keys.insert((out ? old->second.out : old->second.in).begin(),
                            (out ? old->second.out : old->second.in).end());
            if (out && choice == api::key_choice::keep)
                to.sending = old->second.sending;
        }
        if (choice == api::key_choice::fresh && key.key_length != 0) {
            auto& bytes = keys[key.epoch];
            bytes.assign(key.key, key.key + key.key_length);
            bytes.insert(bytes.end(), key.salt, key.salt + key.salt_length);
            if (out)
                to.sending = key.epoch;
        }
        return true;
    }

    // Group by group: all of it or nothing.
    void replace(std::span<const std::uint8_t> request, std::size_t count, std::vector<std::uint8_t>& body,
                 std::string& what) {
        for (std::size_t at = 0, end = 0; at < count; at = end) {
            std::map<api::flow_id, kept> made;
            std::set<api::flow_id> gone;
            const auto group = take<api::flow_replacement>(request, at).group;
            auto status = refuse.contains(api::message_type::flow_replace) ? api::status::table_full : api::status::ok;
            for (; end < count && take<api::flow_replacement>(request, end).group == group; ++end) {
                const auto item = take<api::flow_replacement>(request, end);
                what += (what.empty() ? "replace " : ", ") +
                        fmt::format("{}:{}", item.config.id >> 16, item.config.id & 0xffff);
                kept& to = made[item.config.id];
                to.config = item.config;
                if (!carry(item.in_from, item.in_keys, item.in_key, false, to) ||
                    !carry(item.out_from, item.out_keys, item.out_key, true, to))
                    status = api::status::unknown_flow;
                gone.insert({item.config.id, item.in_from[0], item.in_from[1], item.out_from[0], item.out_from[1]});
            }
            if (status == api::status::ok)
                take_force(made, gone);
            for (; at < end; ++at) {
                const auto id = take<api::flow_replacement>(request, at).config.id;
                put(body, api::item_status{id, status, 0, status == api::status::ok ? flows[id].slot : 0});
            }
        }
    }

    // Counters stay with the port that a flow keeps.
    void take_force(std::map<api::flow_id, kept>& made, const std::set<api::flow_id>& gone) {
        std::map<api::flow_id, api::flow_stats> counted;
        for (const auto id : gone)
            if (const auto old = flows.find(id); old != flows.end()) {
                counted[id] = slot(old->second.slot);
                slot(old->second.slot).id = 0;
                flows.erase(old);
            }
        for (auto& [id, flow] : made) {
            while (slot(flow.slot).id != 0)
                ++flow.slot;
            slot(flow.slot) = counted.contains(id) ? counted[id] : api::flow_stats{};
            slot(flow.slot).id = id;
            flows[id] = flow;
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
                flows[id] = {config, {}, {}, 0, at};
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
        } else if (type == api::message_type::stream_put) {
            const auto stream = take<api::stream_item>(request, n);
            id = stream.id;
            said("streams", id);
            if ((status = known()) == api::status::ok)
                put_streams.push_back(stream);
        } else if (type == api::message_type::flow_remove) {
            id = take<api::flow_ref>(request, n).id;
            said("remove", id);
            if ((status = known()) == api::status::ok) {
                slot(flows[id].slot).id = 0;
                flows.erase(id);
            }
        } else if (type == api::message_type::epoch_install) {
            const auto key = take<api::epoch_key>(request, n);
            id = key.id;
            said("install", id, fmt::format("/{}{}", key.side == api::side::in ? "in" : "out", key.epoch));
            if ((status = known()) == api::status::ok) {
                auto& side = key.side == api::side::in ? flows[id].in : flows[id].out;
                std::vector<std::uint8_t> bytes(key.key, key.key + key.key_length);
                bytes.insert(bytes.end(), key.salt, key.salt + key.salt_length);
                if (side.size() >= 3 && !side.contains(key.epoch))
                    status = api::status::too_many_epochs;
                else if (side.contains(key.epoch) && side[key.epoch] != bytes)
                    status = api::status::bad_epoch;
                else
                    side[key.epoch] = bytes;
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
    std::uint8_t* stats_ = nullptr;
    int listener_ = -1;
    std::atomic<int> peer_ = -1;
    std::atomic<bool> running_ = false;
    std::thread thread_;
};

} // namespace tandem::dataplane_client
