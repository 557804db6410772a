// SPDX-License-Identifier: Apache-2.0
// contract SOCKET: speaks the data plane's contract for tests. One JSON command a line on stdin, one JSON answer a line
// on stdout; events come as {"event": ...} lines with the answers. Own code, so that it judges the control plane's
// client too.
//
//   {"do":"hello"}  {"do":"ports"}  {"do":"list"}  {"do":"events","ms":500}  {"do":"raw","hex":"..."}
//   {"do":"add","flows":[{"id":"access:4000","reverse":"core:5000","in":"AEAD_AES_128_GCM","out":"RTP","carries":3,
//      "source":"authenticated","in_mki":4,"out_mki":0,"timeout":0,"dscp":46,"tag":7,"rtp_out":"core:5000",
//      "rtcp_out":"core:5000","rtp_remote":"192.0.2.9:7000","rtcp_remote":"192.0.2.9:7000","signalled":"..."}]}
//   {"do":"update","flows":[{"id":..., "mask":..., ...}]}  {"do":"remove","ids":["access:4000"]}
//   {"do":"install","keys":[{"id":"access:4000","side":"in","epoch":0,"mki":0,"key":"hex","salt":"hex"}]}
//   {"do":"replace","flows":[{...as for add..., "group":1,"in_from":["access:4000"],"out_from":["access:4000"],
//      "in_key":{"epoch":1,"key":"hex","salt":"hex"}}]}: a key, or "in_fresh":true, means fresh; keep else
//   {"do":"streams"}
//   {"do":"put","streams":[{"id":...,"side":"out","ssrc":1,"offset":0,"rtp":[next,seen0,seen1],"rtcp":[...]}]}
//   {"do":"packets","ms":500}: PACKET_INs, {"id","kind","source","tag","hex"} each
//   {"do":"send","packets":[{"id":"access:4000","to":"192.0.2.9:7000","hex":"16fe.."}]}: PACKET_OUT
//   {"do":"switch","refs":[{"id":..., "side":"out","epoch":1}]}  {"do":"retire","refs":[...]}
//   {"do":"bulk","verb":"add|install|switch|retire|remove","first":0,"count":1000000,"epoch":0,"suite":...,"unit":"192.0.2.10:1024",
//      "core":"198.51.100.10:1024"}: flows of bulk_items.hpp, in messages as full as they may be; how many had which
//      status
//   {"do":"count"}: what FLOW_LIST says in numbers
#include <arpa/inet.h>
#include <chrono>
#include <cstring>
#include <iostream>
#include <map>
#include <poll.h>
#include <span>
#include <stdexcept>
#include <string>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "dataplane/api/contract.hpp"
#include "tests/tools/bulk_items.hpp"
#include "tests/tools/contract_items.hpp"

namespace {

using namespace tandem;
using nlohmann::json;
using tests::contract_items;

constexpr const char* status_names[] = {
    "ok",          "bad_message",   "bad_version",     "unknown_flow", "flow_exists",     "bad_address",
    "bad_port",    "bad_suite",     "bad_key_length",  "bad_epoch",    "too_many_epochs", "table_full",
    "bad_timeout", "not_permitted", "not_controlling", "busy",         "not_possible",    "bad_state",
    "not_yours",   "group_refused"};
static_assert(std::size(status_names) == static_cast<std::size_t>(api::status::group_refused) + 1);
constexpr const char* event_names[] = {"?",         "flow_timeout",   "flow_active", "flow_latched",
                                       "key_limit", "epoch_first_use"};

std::string name_of(api::status s) {
    return status_names[static_cast<std::size_t>(s) % std::size(status_names)];
}

class session : contract_items {
public:
    explicit session(const std::string& path) : fd_(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)) {
        sockaddr_un to{};
        to.sun_family = AF_UNIX;
        path.copy(to.sun_path, sizeof to.sun_path - 1);
        if (connect(fd_, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0)
            throw std::runtime_error(path + ": " + std::strerror(errno));
    }

    json run(const json& command) {
        const auto what = command.at("do").get<std::string>();
        if (what == "hello")
            return hello(command);
        if (what == "ports")
            return ports();
        if (what == "list")
            return list();
        if (what == "events")
            return events(command.value("ms", 0));
        if (what == "add")
            return items<api::message_type::flow_add>(command.at("flows"), &session::config);
        if (what == "update")
            return items<api::message_type::flow_update>(command.at("flows"), &session::change);
        if (what == "replace")
            return items<api::message_type::flow_replace>(command.at("flows"), &session::replacement);
        if (what == "streams")
            return streams();
        if (what == "put")
            return items<api::message_type::stream_put>(command.at("streams"), &session::stream);
        if (what == "remove")
            return items<api::message_type::flow_remove>(command.at("ids"), &session::ref);
        if (what == "install")
            return items<api::message_type::epoch_install>(command.at("keys"), &session::key);
        if (what == "switch")
            return items<api::message_type::epoch_switch>(command.at("refs"), &session::epoch);
        if (what == "retire")
            return items<api::message_type::epoch_retire>(command.at("refs"), &session::epoch);
        if (what == "bulk")
            return bulk(command);
        if (what == "count")
            return count();
        if (what == "packets")
            return packets(command.value("ms", 0));
        if (what == "send")
            return send_packets(command.at("packets"));
        if (what == "raw")
            return raw(command.at("hex"));
        throw std::runtime_error("unknown command " + what);
    }

private:
    struct reply {
        api::contract_header header{};
        std::vector<std::uint8_t> body;
    };

    static std::string text(const api::net_address& a) {
        char buffer[INET6_ADDRSTRLEN] = "";
        static constexpr std::uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
        if (std::memcmp(a.ip, mapped, sizeof mapped) == 0)
            inet_ntop(AF_INET, a.ip + 12, buffer, sizeof buffer);
        else
            inet_ntop(AF_INET6, a.ip, buffer, sizeof buffer);
        return std::string(buffer) + ":" + std::to_string(a.port);
    }

    json streams() {
        json all = json::array();
        api::list_request from{};
        for (;;) {
            const reply r = request(api::message_type::stream_list, std::as_bytes(std::span(&from, 1)), 1);
            if (r.header.type == api::message_type::error_reply)
                return error(r);
            for (std::size_t i = 0; i < r.header.count; ++i) {
                api::stream_item s;
                std::memcpy(&s, r.body.data() + i * sizeof s, sizeof s);
                const auto window = [](const api::window_state& w) { return json{w.next, w.seen[0], w.seen[1]}; };
                all.push_back({{"id", s.id},
                               {"side", s.side == api::side::in ? "in" : "out"},
                               {"ssrc", s.state.ssrc},
                               {"offset", s.state.offset},
                               {"rtp", window(s.state.rtp)},
                               {"rtcp", window(s.state.rtcp)}});
                from = {s.id, 1};
            }
            if (r.header.count == 0)
                return {{"streams", all}};
        }
    }

    template <api::message_type type>
    json items(const json& list, api::request_of<type> (session::*make)(const json&) const) {
        std::vector<api::request_of<type>> all;
        for (const auto& j : list)
            all.push_back((this->*make)(j));
        return statuses(request(type, std::as_bytes(std::span(all)), all.size()));
    }

    json statuses(const reply& r) const {
        if (r.header.type == api::message_type::error_reply)
            return error(r);
        json list = json::array(), values = json::array();
        for (std::size_t i = 0; i < r.header.count; ++i) {
            api::item_status s;
            std::memcpy(&s, r.body.data() + i * sizeof s, sizeof s);
            list.push_back(name_of(s.status));
            values.push_back(s.value);
        }
        return {{"status", list}, {"value", values}};
    }

    static json error(const reply& r) {
        api::contract_error e{};
        std::memcpy(&e, r.body.data(), std::min(sizeof e, r.body.size()));
        return {{"error", name_of(e.status)}, {"text", e.text}};
    }

    json hello(const json& command) {
        const api::hello said{command.value("version", std::uint32_t{api::contract_version}),
                              static_cast<std::uint32_t>(getpid())};
        const reply r = request(api::message_type::hello, std::as_bytes(std::span(&said, 1)), 1);
        if (r.header.type == api::message_type::error_reply)
            return error(r);
        api::hello_reply h;
        std::memcpy(&h, r.body.data(), sizeof h);
        json addresses = json::object();
        for (std::size_t i = 0; i < r.header.count; ++i) {
            api::address_entry a;
            std::memcpy(&a, r.body.data() + sizeof h + i * sizeof a, sizeof a);
            addresses_[a.name] = a.index;
            addresses[a.name] = a.index;
        }
        return {{"max_flows", h.max_flows},     {"flows", h.flows},
                {"generation", h.generation},   {"restarts", h.restarts},
                {"last_gap_ms", h.last_gap_ms}, {"stats_path", h.stats_path},
                {"addresses", addresses}};
    }

    json ports() {
        const reply r = request(api::message_type::port_list, {}, 0);
        json list = json::array();
        for (std::size_t i = 0; i < r.header.count; ++i) {
            api::port_entry p;
            std::memcpy(&p, r.body.data() + i * sizeof p, sizeof p);
            list.push_back({{"name", p.name},
                            {"ifindex", p.ifindex},
                            {"mtu", p.mtu},
                            {"xdp_mode", p.xdp_mode},
                            {"queues", p.queues}});
        }
        return {{"ports", list}};
    }

    // Pages through FLOW_LIST; what an error says, else null.
    template <class Each>
    json pages(Each&& each) {
        api::list_request from{};
        for (;;) {
            const reply r = request(api::message_type::flow_list, std::as_bytes(std::span(&from, 1)), 1);
            if (r.header.type == api::message_type::error_reply)
                return error(r);
            for (std::size_t i = 0; i < r.header.count; ++i) {
                api::flow_entry e;
                std::memcpy(&e, r.body.data() + i * sizeof e, sizeof e);
                each(e);
                from = {e.config.id, 1};
            }
            if (r.header.count < api::list_page)
                return nullptr;
        }
    }

    json list() {
        json all = json::array();
        const json wrong = pages([&](const auto& e) { all.push_back(describe(e)); });
        return wrong.is_null() ? json{{"flows", all}} : wrong;
    }

    json count() {
        std::uint64_t flows = 0, in_epochs = 0, out_epochs = 0, foreign = 0, before = 0;
        const json wrong = pages([&](const auto& e) {
            ++flows;
            in_epochs += e.in_epoch_count;
            out_epochs += e.out_epoch_count;
            // In the order of ids, and with the mark that goes with the id (bulk_items.hpp).
            foreign += e.config.tag == 0 ||
                       tests::bulk::id(static_cast<std::uint32_t>(e.config.tag - 1)) != e.config.id ||
                       (flows > 1 && e.config.id <= before);
            before = e.config.id;
        });
        return wrong.is_null()
                   ? json{{"flows", flows}, {"in_epochs", in_epochs}, {"out_epochs", out_epochs}, {"foreign", foreign}}
                   : wrong;
    }

    json bulk(const json& command) {
        const auto first = command.value("first", std::uint32_t{0}),
                   last = first + command.at("count").get<std::uint32_t>();
        const auto epoch = command.value("epoch", std::uint32_t{0});
        const tests::bulk of{suite(command.value("suite", "AEAD_AES_128_GCM")), address(command.value("unit", "")),
                             address(command.value("core", "")), command.value("timeout", std::uint16_t{0}),
                             command.value("own_phones", false)};
        const auto verb = command.at("verb").get<std::string>();
        const auto refs = [&](std::uint32_t n) { return api::epoch_ref{of.id(n), epoch, of.sealed_side(n), {}}; };
        if (verb == "add")
            return many<api::message_type::flow_add>(first, last, 1, [&](auto n) { return of.flow(n); });
        if (verb == "install")
            return many<api::message_type::epoch_install>(first, last, 1, [&](auto n) { return of.key(n, epoch); });
        if (verb == "switch") // of those that send SRTP
            return many<api::message_type::epoch_switch>(first | 1, last, 2, refs);
        if (verb == "retire")
            return many<api::message_type::epoch_retire>(first, last, 1, refs);
        if (verb == "remove")
            return many<api::message_type::flow_remove>(first, last, 1,
                                                        [&](auto n) { return api::flow_ref{of.id(n)}; });
        throw std::runtime_error("unknown verb " + verb);
    }

    template <api::message_type type, class Make>
    json many(std::uint32_t first, std::uint32_t last, std::uint32_t step, Make&& make) {
        using Item = api::request_of<type>;
        constexpr std::size_t full = (api::contract_max_message - sizeof(api::contract_header)) / sizeof(Item);
        std::map<std::string, std::uint64_t> statuses;
        std::vector<Item> items;
        const auto begin = std::chrono::steady_clock::now();
        for (std::uint32_t n = first; n < last; n += step) {
            items.push_back(make(n));
            if (items.size() < std::min<std::size_t>(full, 2000) && n + step < last)
                continue;
            const reply r = request(type, std::as_bytes(std::span(items)), items.size());
            if (r.header.type == api::message_type::error_reply)
                return error(r);
            for (std::size_t i = 0; i < r.header.count; ++i) {
                api::item_status s;
                std::memcpy(&s, r.body.data() + i * sizeof s, sizeof s);
                ++statuses[name_of(s.status)];
            }
            items.clear();
        }
        return {{"statuses", statuses},
                {"seconds", std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count()}};
    }

    static json describe(const api::flow_entry& e) {
        json in = json::array(), out = json::array();
        for (unsigned i = 0; i < e.in_epoch_count; ++i)
            in.push_back(e.in_epochs[i]);
        for (unsigned i = 0; i < e.out_epoch_count; ++i)
            out.push_back(e.out_epochs[i]);
        return {{"id", e.config.id},
                {"reverse", e.config.reverse},
                {"tag", e.config.tag},
                {"in", api::info(e.config.in.suite).name},
                {"out", api::info(e.config.out.suite).name},
                {"flags", e.config.flags},
                {"rtp_remote", text(e.config.route.rtp_remote)},
                {"rtcp_remote", text(e.config.route.rtcp_remote)},
                {"source", text(e.source)},
                {"latched", e.latched},
                {"rule", static_cast<unsigned>(e.rule)},
                {"in_epochs", in},
                {"out_epochs", out},
                {"sending", e.sending_epoch},
                {"stats_index", e.stats_index},
                {"worker", e.worker}};
    }

    json events(int ms) {
        json list = json::array();
        pollfd p{fd_, POLLIN, 0};
        while (pending_.empty() && poll(&p, 1, ms) == 1)
            keep(read_one());
        for (auto& e : pending_)
            list.push_back(e);
        pending_.clear();
        return {{"events", list}};
    }

    json packets(int ms) {
        pollfd p{fd_, POLLIN, 0};
        while (packets_.size() < 200 && poll(&p, 1, packets_.empty() ? ms : 0) == 1)
            keep(read_one());
        return {{"packets", std::exchange(packets_, json::array())}};
    }

    json send_packets(const json& list) {
        std::vector<std::byte> body;
        for (const auto& j : list) {
            const auto bytes = hex(j.at("hex"));
            const api::packet_out about{id(j.at("id")), j.value("length", static_cast<std::uint16_t>(bytes.size())), 0,
                                        address(j.at("to"))};
            const auto at = body.size();
            body.resize(at + sizeof about + api::padded_packet(bytes.size()));
            std::memcpy(body.data() + at, &about, sizeof about);
            std::memcpy(body.data() + at + sizeof about, bytes.data(), bytes.size());
        }
        return statuses(request(api::message_type::packet_out, body, list.size()));
    }

    json raw(const std::string& text) {
        const auto bytes = hex(text);
        if (send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL) < 0)
            return {{"closed", true}};
        const reply r = read_one();
        return r.header.magic == 0                               ? json{{"closed", true}}
               : r.header.type == api::message_type::error_reply ? error(r)
                                                                 : json{{"type", r.header.type}};
    }

    reply request(api::message_type type, std::span<const std::byte> body, std::size_t count) {
        api::contract_header h{
            api::contract_magic, api::contract_version, type, ++sequence_, static_cast<std::uint16_t>(count), 0};
        std::vector<std::byte> message(sizeof h + body.size());
        std::memcpy(message.data(), &h, sizeof h);
        if (!body.empty())
            std::memcpy(message.data() + sizeof h, body.data(), body.size());
        if (send(fd_, message.data(), message.size(), MSG_NOSIGNAL) < 0)
            throw std::runtime_error(std::string("data plane: ") + std::strerror(errno));
        for (;;) {
            reply r = read_one();
            if (r.header.magic == 0)
                throw std::runtime_error("the data plane closed the connection");
            if (r.header.sequence == sequence_)
                return r;
            keep(r);
        }
    }

    reply read_one() {
        std::vector<std::uint8_t> buffer(api::contract_max_message);
        const auto got = recv(fd_, buffer.data(), buffer.size(), 0);
        reply r;
        if (got < static_cast<ssize_t>(sizeof r.header))
            return r;
        std::memcpy(&r.header, buffer.data(), sizeof r.header);
        r.body.assign(buffer.begin() + sizeof r.header, buffer.begin() + got);
        return r;
    }

    void keep_packets(const reply& r) {
        static constexpr const char* kinds[] = {"none", "stun", "dtls", "control"};
        std::size_t at = 0;
        for (std::size_t i = 0; i < r.header.count; ++i) {
            api::packet_in p;
            std::memcpy(&p, r.body.data() + at, sizeof p);
            at += sizeof p;
            std::string bytes;
            for (std::size_t n = 0; n < p.length; ++n) {
                char digits[3];
                std::snprintf(digits, sizeof digits, "%02x", r.body.at(at + n));
                bytes += digits;
            }
            at += api::padded_packet(p.length);
            packets_.push_back({{"id", p.id},
                                {"kind", kinds[static_cast<std::size_t>(p.kind) % std::size(kinds)]},
                                {"source", text(p.source)},
                                {"tag", p.tag},
                                {"hex", bytes}});
        }
        if (at != r.body.size())
            throw std::runtime_error("a PACKET_IN of another length than its packets'");
    }

    void keep(const reply& r) {
        if (r.header.type == api::message_type::packet_in)
            return keep_packets(r);
        if (r.header.type != api::message_type::event)
            return;
        for (std::size_t i = 0; i < r.header.count; ++i) {
            api::flow_event e;
            std::memcpy(&e, r.body.data() + i * sizeof e, sizeof e);
            pending_.push_back({{"event", event_names[static_cast<std::size_t>(e.type) % std::size(event_names)]},
                                {"id", e.id},
                                {"tag", e.tag},
                                {"epoch", e.epoch},
                                {"address", text(e.address)}});
        }
    }

    int fd_;
    std::uint32_t sequence_ = 0;
    std::vector<json> pending_;
    json packets_ = json::array();
};

} // namespace

int main(int argc, char** argv) {
    if (argc != 2) {
        std::cerr << "usage: contract SOCKET < commands\n";
        return 2;
    }
    try {
        session s(argv[1]);
        for (std::string line; std::getline(std::cin, line);)
            if (!line.empty())
                std::cout << s.run(json::parse(line)).dump() << std::endl;
    } catch (const std::exception& wrong) {
        std::cerr << "contract: " << wrong.what() << "\n";
        return 1;
    }
    return 0;
}
