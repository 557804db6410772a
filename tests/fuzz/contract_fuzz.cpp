// SPDX-License-Identifier: Apache-2.0
// fuzz: dep_dataplane_outside
// Messages on the contract socket: any bytes get one reply or a closed connection; the server neither crashes nor
// hangs.
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <vector>

#include <spdlog/spdlog.h>

#include "dataplane/app/contract_server.hpp"

using namespace tandem;

namespace {

struct nobody final : app::contract_handler {
    void hello(api::hello_reply&, std::vector<api::address_entry>&) override {}
    api::status flow_add(const api::flow_config&, std::uint32_t&) override { return api::status::ok; }
    api::status flow_update(const api::flow_update&) override { return api::status::ok; }
    api::status flow_remove(const api::flow_ref&) override { return api::status::unknown_flow; }
    api::status epoch_install(const api::epoch_key&) override { return api::status::ok; }
    api::status epoch_switch(const api::epoch_ref&) override { return api::status::ok; }
    api::status epoch_retire(const api::epoch_ref&) override { return api::status::ok; }
    std::vector<api::flow_entry> flow_list(const api::list_request&) override {
        return std::vector<api::flow_entry>(3);
    }
    std::vector<api::port_entry> port_list() override { return {}; }
    std::vector<api::health_entry> health() override { return std::vector<api::health_entry>(2); }
    void flow_replace(std::span<const api::flow_replacement> group, std::span<api::item_status> statuses) override {
        if (group.empty() || group.size() != statuses.size() || group.front().group != group.back().group)
            std::abort();
        sum_ += group.back().out_key.salt[15]; // to its last byte
    }
    void stream_put(std::span<const api::stream_item> items, std::span<api::item_status> statuses) override {
        if (items.size() != statuses.size())
            std::abort();
        for (const auto& item : items)
            sum_ += item.state.rtcp.seen[1];
    }
    api::status source_prove(const api::proven_source& item) override {
        sum_ += item.ip[15];
        return api::status::ok;
    }
    api::status inner_set(const api::inner_perimeter& item, std::uint32_t&) override {
        sum_ += static_cast<std::uint64_t>(item.from[api::max_inner_from - 1][15]);
        return api::status::ok;
    }
    void packet_out(std::span<const app::packet_to_send> items, std::span<api::item_status> statuses) override {
        if (items.size() != statuses.size())
            std::abort();
        for (const auto& item : items) {
            if (item.bytes.empty() || item.bytes.size() != item.what.length)
                std::abort();
            sum_ += std::to_integer<std::uint64_t>(item.bytes.back());
        }
    }
    std::vector<api::stream_item> stream_list(const api::list_request& from) override {
        return std::vector<api::stream_item>(from.has_after != 0 ? 0 : 3);
    }

private:
    std::uint64_t sum_ = 0;
};

struct watcher final : app::observe_handler {
    tl::expected<answer, refusal> trace(const peer&, const api::trace_request& what) override {
        if (what.packets == 0)
            return tl::unexpected(refusal{api::status::bad_message, std::string(300, 'x')});
        return answer{{}, std::vector<api::port_entry>(2)};
    }
    tl::expected<answer, refusal> capture(const peer&, const api::capture_request&) override { return answer{}; }
    void closed(int) override {}
    [[nodiscard]] bool serves(int fd) const override { return fd % 2 == 0; }
};

void turn(app::contract_server& server) {
    std::vector<pollfd> fds;
    server.add_descriptors(fds);
    poll(fds.data(), fds.size(), 0);
    server.ready(fds);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static nobody handler;
    static watcher observer;
    static const std::string path = "/tmp/contract-fuzz-" + std::to_string(getpid());
    static auto server = [] {
        spdlog::set_level(spdlog::level::off);
        auto made = std::move(*app::contract_server::listen(path, geteuid(), handler));
        made->observe_by(observer);
        return made;
    }();
    sockaddr_un to{};
    to.sun_family = AF_UNIX;
    path.copy(to.sun_path, sizeof to.sun_path - 1);
    const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0)
        std::abort();
    turn(*server);
    const struct {
        api::contract_header header;
        api::hello hello;
    } first{{api::contract_magic, api::contract_version, api::message_type::hello, 1, 1, 0},
            {api::contract_version, 1}};
    if (send(fd, &first, sizeof first, 0) < 0 || (size != 0 && send(fd, data, size, 0) < 0 && errno != EMSGSIZE))
        std::abort();
    turn(*server);
    turn(*server);
    static std::vector<char> reply(api::contract_max_message);
    while (recv(fd, reply.data(), reply.size(), 0) > 0) {
    }
    close(fd);
    turn(*server);
    return 0;
}
