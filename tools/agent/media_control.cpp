// SPDX-License-Identifier: Apache-2.0
// What the gateway asks of the unit's media: MEDIA_OPEN, SEED, MEDIA_CLOSE (controlplane/protocol/messages.def).
#include <algorithm>

#include <asio/ip/address.hpp>
#include <netinet/in.h>
#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

#include "tools/agent/media.hpp"
#include "tools/agent/media_entry.hpp"
#include "tools/agent/text.hpp"

namespace tandem::agent {

using protocol::message;
using protocol::status;
using protocol::tlv;

namespace {

endpoint from_wire(const protocol::endpoint& wire) {
    return {wire.address.bytes, wire.port};
}
protocol::endpoint to_wire(const endpoint& local) {
    return {{local.ip}, local.port};
}

template <tlv T>
std::optional<endpoint> get_endpoint(const message& from) {
    const auto wire = from.get<T>();
    return wire ? std::optional(from_wire(*wire)) : std::nullopt;
}

// Every TLV that NEEDS names is there: decode() saw to it. RTCP's addresses default to RTP's (muxed).
tl::expected<secondary_config, status> read_config(const message& request) {
    secondary_config config;
    config.tsid = request.tsid();
    config.media = *request.get<tlv::media_id>();
    const auto* suite = api::find_suite(*request.get<tlv::suite>());
    if (suite == nullptr || suite->id == api::suite::clear)
        return tl::unexpected(status::bad_suite);
    config.suite = suite->id;
    const auto use = request.get<tlv::key_use>().value_or(0);
    if (use > 1)
        return tl::unexpected(status::bad_tlv);
    config.use = static_cast<key_use>(use);
    config.level = request.get<tlv::level>().value_or("");
    config.overlap = std::chrono::milliseconds(request.get<tlv::overlap_ms>().value_or(2000));
    config.gateway_media = *get_endpoint<tlv::gateway_media>(request);
    config.gateway_rtcp = get_endpoint<tlv::gateway_rtcp>(request);
    config.inner_media = *get_endpoint<tlv::inner_media>(request);
    config.inner_rtcp = get_endpoint<tlv::inner_rtcp>(request).value_or(config.inner_media);
    config.phone_media = *get_endpoint<tlv::phone_media>(request);
    config.phone_rtcp = get_endpoint<tlv::phone_rtcp>(request).value_or(config.phone_media);
    const bool inner4 = is_ipv4(config.inner_media.ip);
    for (const endpoint* point : {&config.inner_rtcp, &config.phone_media, &config.phone_rtcp})
        if (is_ipv4(point->ip) != inner4)
            return tl::unexpected(status::bad_tlv);
    return config;
}

epoch_seeds read_seeds(const message& request) {
    epoch_seeds seeds;
    seeds.epoch = *request.get<tlv::epoch>();
    for (std::size_t i = 0; i < request.count<tlv::seed>(); i++)
        seeds.seeds.push_back(std::move(*request.get_secret<tlv::seed>(i)));
    return seeds;
}

status to_status(secondary_error error) noexcept {
    switch (error) {
    case secondary_error::bad_suite:
        return status::bad_suite;
    case secondary_error::bad_seed:
        return status::bad_seed;
    case secondary_error::bad_epoch:
        return status::bad_epoch;
    case secondary_error::internal:
        break;
    }
    return status::internal;
}

// Room for a burst, no fragments on the outer path (the sender learns EMSGSIZE instead).
void set_options(asio::ip::udp::socket& socket, bool ipv4) {
    const int value = ipv4 ? IP_PMTUDISC_DO : IPV6_PMTUDISC_DO;
    ::setsockopt(socket.native_handle(), ipv4 ? IPPROTO_IP : IPPROTO_IPV6, ipv4 ? IP_MTU_DISCOVER : IPV6_MTU_DISCOVER,
                 &value, sizeof value);
    asio::error_code ignored;
    socket.set_option(asio::socket_base::receive_buffer_size(1 << 19), ignored);
}

// The address that the kernel would send from now, with the media socket's port: a hint for the gateway.
endpoint outer_address(asio::io_context& io, const asio::ip::udp::socket& socket, const endpoint& gateway) {
    endpoint local;
    asio::error_code error;
    local.port = socket.local_endpoint(error).port();
    const asio::ip::address_v6 wire(gateway.ip);
    const auto to = wire.is_v4_mapped() ? asio::ip::address(asio::ip::make_address_v4(asio::ip::v4_mapped, wire))
                                        : asio::ip::address(wire);
    const asio::ip::udp::endpoint target(to, gateway.port);
    asio::ip::udp::socket probe(io);
    probe.open(target.protocol(), error);
    probe.connect(target, error);
    const auto mine = probe.local_endpoint(error).address();
    local.ip = mine.is_v4() ? asio::ip::make_address_v6(asio::ip::v4_mapped, mine.to_v4()).to_bytes()
                            : mine.to_v6().to_bytes();
    return local;
}

} // namespace

bool media_table::endpoints_taken(const secondary_config& config) const {
    for (const endpoint* point : {&config.inner_media, &config.inner_rtcp})
        if (const auto found = by_inner_.find(*point);
            found != by_inner_.end() && found->second->tunnel->config().media != config.media)
            return true;
    return false;
}

message media_table::media_open(const message& request) {
    auto config = read_config(request);
    if (!config)
        return request.response(config.error());
    if (endpoints_taken(*config))
        return request.response(status::no_resources, "inner address is in use by another media");
    const epoch_seeds seeds = read_seeds(request);
    if (const auto found = media_.find(config->media); found != media_.end()) {
        entry& item = *found->second;
        if (item.tunnel->same_keys(*config, seeds) &&
            is_ipv4(item.tunnel->config().gateway_media.ip) == is_ipv4(config->gateway_media.ip)) {
            // Same keys: a re-offer moved the phone or the gateway, or the gateway asks again.
            unindex(item);
            item.tunnel->move(*config);
            index(found->second);
            auto answer = request.response(status::ok).add<tlv::media_id>(config->media);
            answer.add<tlv::unit_media>(to_wire(outer_address(io_, item.socket, config->gateway_media)));
            return answer;
        }
        remove(config->media, "opened anew");
    }
    if (media_.size() >= max_media)
        return request.response(status::no_resources, "this unit carries 64 media already");
    return add(request, std::move(*config), seeds);
}

message media_table::add(const message& request, secondary_config config, const epoch_seeds& seeds) {
    const std::uint32_t media = config.media;
    auto opened = secondary::open(std::move(config), seeds);
    if (!opened)
        return request.response(to_status(opened.error()));
    const auto item = std::make_shared<entry>(io_);
    item->tunnel = std::move(*opened);
    const secondary_config& in_force = item->tunnel->config();
    item->overlap = in_force.overlap;
    const bool ipv4 = is_ipv4(in_force.gateway_media.ip);
    asio::error_code error;
    const auto family = ipv4 ? asio::ip::udp::v4() : asio::ip::udp::v6();
    item->socket.open(family, error);
    if (!error)
        item->socket.bind({family, 0}, error);
    if (!error)
        item->socket.non_blocking(true, error);
    if (error) {
        spdlog::error("media {}: no UDP socket: {}", media, error.message());
        return request.response(status::no_resources, "no UDP socket");
    }
    set_options(item->socket, ipv4);
    media_[media] = item;
    index(item);
    opened_++;
    receive(item);
    send(*item, packet_class::rtcp, item->tunnel->keepalive(clock::now()), 0); // the gateway latches on it
    arm(item);
    spdlog::info("media {} open: {}, epoch {}, gateway {}, phone {}", media, api::info(in_force.suite).name,
                 item->tunnel->receive_epoch(), to_text(in_force.gateway_media), to_text(in_force.phone_media));
    auto answer = request.response(status::ok).add<tlv::media_id>(media);
    answer.add<tlv::unit_media>(to_wire(outer_address(io_, item->socket, in_force.gateway_media)));
    return answer;
}

message media_table::media_close(const message& request) {
    const auto media = *request.get<tlv::media_id>();
    if (!media_.contains(media))
        return request.response(status::unknown_media);
    remove(media, "closed by the gateway");
    return request.response(status::ok).add<tlv::media_id>(media);
}

message media_table::seed(const message& request) {
    const auto media = *request.get<tlv::media_id>();
    const auto found = media_.find(media);
    if (found == media_.end())
        return request.response(status::unknown_media);
    secondary& tunnel = *found->second->tunnel;
    const epoch_seeds seeds = read_seeds(request);
    if (const auto prepared = tunnel.prepare(seeds); !prepared) {
        spdlog::warn("media {}: SEED for epoch {} refused ({}); in force is {}", media, seeds.epoch,
                     protocol::text_of(to_status(prepared.error())), tunnel.receive_epoch());
        return request.response(to_status(prepared.error()));
    }
    if (const auto overlap = request.get<tlv::overlap_ms>())
        found->second->overlap = std::chrono::milliseconds(*overlap);
    return request.response(status::ok).add<tlv::media_id>(media).add<tlv::epoch>(seeds.epoch);
}

void media_table::seed_answered(std::uint32_t media) {
    const auto found = media_.find(media);
    if (found == media_.end())
        return;
    entry& item = *found->second;
    if (!item.tunnel->switch_to_prepared())
        return; // nothing was prepared: the SEED was refused, or repeated
    item.retirements.push_back({clock::now() + item.overlap, item.tunnel->receive_epoch()});
    arm(found->second);
}

nlohmann::json media_table::describe() const {
    auto list = nlohmann::json::array();
    for (const auto& [id, item] : media_) {
        const secondary& tunnel = *item->tunnel;
        const secondary_config& config = tunnel.config();
        const secondary_counters& c = tunnel.counters;
        const auto seconds = std::chrono::duration<double>(clock::now() - item->opened).count();
        list.push_back({{"media", id},
                        {"suite", api::info(config.suite).name},
                        {"level", config.level},
                        {"epoch", tunnel.send_epoch()},
                        {"receive_epoch", tunnel.receive_epoch()},
                        {"epochs_held", tunnel.epochs_held()},
                        {"rekeys", c.rekeys},
                        {"seconds", seconds},
                        {"gateway", to_text(config.gateway_media)},
                        {"inner", to_text(config.inner_media)},
                        {"phone", to_text(config.phone_media)},
                        {"sent", c.sent},
                        {"sent_bytes", c.sent_bytes},
                        {"sent_rtcp", c.sent_rtcp},
                        {"received", c.received},
                        {"received_bytes", c.received_bytes},
                        {"received_rtcp", c.received_rtcp},
                        {"keepalives", c.keepalives},
                        {"auth_failures", c.auth_failures},
                        {"replays", c.replays},
                        {"unknown_epoch", c.unknown_epoch},
                        {"malformed", c.malformed},
                        {"not_protected", c.not_protected},
                        {"wrong_source", c.wrong_source},
                        {"fragments", c.fragments},
                        {"too_big", c.too_big},
                        {"send_failures", c.send_failures},
                        {"phone_failures", c.phone_failures}});
    }
    return {{"opened", opened_}, {"closed", closed_}, {"after_close", after_close_}, {"open", std::move(list)}};
}

} // namespace tandem::agent
