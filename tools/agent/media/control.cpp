// SPDX-License-Identifier: Apache-2.0
// What the gateway asks of the unit's media: MEDIA_OPEN, SEED_MAKE, SEED, MEDIA_CLOSE
// (controlplane/protocol/messages.def).
#include <algorithm>

#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

#include "controlplane/protocol/address_name.hpp"
#include "tools/agent/device/text.hpp"
#include "tools/agent/media/entry.hpp"
#include "tools/agent/media/table.hpp"

namespace tandem::agent {

using protocol::message;
using protocol::status;
using protocol::tlv;

namespace {

endpoint from_wire(const protocol::endpoint& wire) {
    return {wire.address.bytes, wire.port};
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
    const auto use = protocol::named<key_use>(request.get<tlv::key_use>().value_or(0));
    if (!use)
        return tl::unexpected(status::bad_tlv);
    config.use = *use;
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

// The seeds in force for the message's epoch, whoever made them; bad_seed where they are not there.
tl::expected<epoch_seeds, status> read_seeds(const message& request, key_source source, const seed_store& own) {
    epoch_seeds seeds;
    seeds.epoch = *request.get<tlv::epoch>();
    std::vector<protocol::secret> theirs;
    for (std::size_t i = 0; i < request.count<tlv::seed>(); i++)
        theirs.push_back(std::move(*request.get_secret<tlv::seed>(i)));
    auto whole = own.combine(*request.get<tlv::media_id>(), seeds.epoch, source, std::move(theirs));
    if (!whole)
        return tl::unexpected(whole.error());
    seeds.seeds = std::move(*whole);
    return seeds;
}

tl::expected<key_source, status> read_source(const message& request) {
    const auto source = protocol::named<key_source>(request.get<tlv::key_source>().value_or(0));
    if (!source)
        return tl::unexpected(status::bad_tlv);
    return *source;
}

std::string first_peer(const message& request) {
    for (std::size_t i = 0; i < request.count<tlv::peer>(); i++)
        if (auto name = protocol::parse_address_name(*request.get<tlv::peer>(i)))
            return std::move(name->text);
    return {};
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
    const auto source = read_source(request);
    const auto path = protocol::named<path_choice>(request.get<tlv::path>().value_or(0));
    if (!source || !path)
        return request.response(status::bad_tlv);
    auto seeds = read_seeds(request, *source, seeds_);
    if (!seeds)
        return request.response(seeds.error(), "no seed for this epoch, or the halves differ in length");
    open_request open{request,
                      std::move(*config),
                      std::move(*seeds),
                      *source,
                      *path,
                      first_peer(request),
                      request.get<tlv::goes_on>().value_or(0) != 0,
                      {}};
    const std::uint32_t media = open.config.media;
    const auto key = secondary::send_key(open.config, open.seeds);
    if (!key)
        return request.response(to_status(key.error()));
    const auto used = keys_.find(*key);
    const auto found = media_.find(media);
    if (found != media_.end() && used && used->media == media &&
        open.config.suite == found->second->tunnel->config().suite)
        return move(found->second, open);
    if (used) // its state is gone, and a key never begins again
        return request.response(status::bad_epoch, "this seed was in use before");
    if (open.goes_on)
        return request.response(status::unknown_media);
    if (found != media_.end()) {
        open.call_began = found->second->call_began;
        if (open.peer.empty())
            open.peer = found->second->peer;
        remove(media, "opened anew", ending::goes_on);
    }
    if (media_.size() >= max_media)
        return request.response(status::no_resources, "this unit carries 64 media already");
    return add(open, *key);
}

// A seed that we have had: a re-offer moved the phone or the gateway, or the gateway asks again. Whatever epoch it
// names, keys, indices and windows are what they are.
message media_table::move(const entry_ptr& item, open_request& open) {
    const bool other_family = is_ipv4(item->tunnel->config().gateway_media.ip) != is_ipv4(open.config.gateway_media.ip);
    unindex(*item);
    item->tunnel->move(open.config);
    index(item);
    item->wanted = open.path;
    if (other_family)
        move_path(item, choose_path(item->wanted, open.config.gateway_media.ip, {}));
    else
        check_paths();
    auto answer = open.request.response(status::ok).add<tlv::media_id>(open.config.media);
    answer.add<tlv::unit_media>(outer_address(*item));
    return answer;
}

message media_table::add(open_request& open, const protocol::secret& key) {
    const std::uint32_t media = open.config.media;
    auto opened = secondary::open(std::move(open.config), open.seeds);
    if (!opened) {
        seeds_.forget(media);
        return open.request.response(to_status(opened.error()));
    }
    const auto item = std::make_shared<entry>(io_);
    item->tunnel = std::move(*opened);
    const secondary_config& in_force = item->tunnel->config();
    item->overlap = in_force.overlap;
    item->keys = open.keys;
    item->peer = std::move(open.peer);
    item->call_began = open.call_began.value_or(item->call_began);
    item->wanted = open.path;
    if (!open_socket(*item, choose_path(item->wanted, in_force.gateway_media.ip, {}))) {
        seeds_.forget(media);
        return open.request.response(status::no_resources, "no UDP socket");
    }
    media_[media] = item;
    keys_.add(key, {media, open.seeds.epoch});
    index(item);
    opened_++;
    path_fallbacks_ += item->path.fallback ? 1 : 0;
    seeds_.used(media, open.seeds.epoch, open.keys);
    receive(item, item->socket);
    greet(*item);
    arm(item);
    spdlog::info("media {} open: {}, keys by {}, epoch {}, gateway {}, phone {}, path {} ({}{})", media,
                 api::info(in_force.suite).name, name_of(open.keys), item->tunnel->receive_epoch(),
                 to_text(in_force.gateway_media), to_text(in_force.phone_media), name_of(item->wanted),
                 item->path.interface, item->path.fallback ? ", no such path is up" : "");
    auto answer = open.request.response(status::ok).add<tlv::media_id>(media);
    answer.add<tlv::unit_media>(outer_address(*item));
    return answer;
}

message media_table::media_close(const message& request) {
    const auto media = *request.get<tlv::media_id>();
    if (!media_.contains(media))
        return request.response(status::unknown_media);
    remove(media, "closed by the gateway", ending::call);
    return request.response(status::ok).add<tlv::media_id>(media);
}

message media_table::seed(const message& request) {
    const auto media = *request.get<tlv::media_id>();
    const auto found = media_.find(media);
    if (found == media_.end())
        return request.response(status::unknown_media);
    secondary& tunnel = *found->second->tunnel;
    const auto epoch = *request.get<tlv::epoch>();
    const auto refuse = [&](status why) {
        spdlog::warn("media {}: SEED for epoch {} refused ({}); in force is {}", media, epoch, protocol::text_of(why),
                     tunnel.receive_epoch());
        return request.response(why);
    };
    const auto source = read_source(request);
    if (!source)
        return refuse(source.error());
    const auto seeds = read_seeds(request, *source, seeds_);
    if (!seeds)
        return refuse(seeds.error());
    const auto key = secondary::send_key(tunnel.config(), *seeds);
    if (!key)
        return refuse(to_status(key.error()));
    const key_history::use here{media, epoch};
    if (const auto used = keys_.find(*key); used && *used != here)
        return refuse(status::bad_seed); // another epoch's: packets of then would be taken once more
    if (const auto prepared = tunnel.prepare(*seeds); !prepared)
        return refuse(to_status(prepared.error()));
    keys_.add(*key, here);
    seeds_.used(media, epoch, *source);
    found->second->keys = *source;
    if (const auto overlap = request.get<tlv::overlap_ms>())
        found->second->overlap = std::chrono::milliseconds(*overlap);
    return request.response(status::ok).add<tlv::media_id>(media).add<tlv::epoch>(epoch);
}

// The next seed, made here. It comes before MEDIA_OPEN of a media that is not known yet, too.
message media_table::seed_make(const message& request) {
    const auto media = *request.get<tlv::media_id>();
    const auto epoch = *request.get<tlv::epoch>();
    if (!media_.contains(media) && media_.size() >= max_media)
        return request.response(status::no_resources, "this unit carries 64 media already");
    const auto made = seeds_.make(media, epoch, *request.get<tlv::seed_bytes>(),
                                  request.get<tlv::seed_count>().value_or(1), clock::now());
    if (!made) {
        spdlog::warn("media {}: SEED_MAKE for epoch {} refused ({})", media, epoch, protocol::text_of(made.error()));
        return request.response(made.error());
    }
    auto answer = request.response(status::ok).add<tlv::media_id>(media).add<tlv::epoch>(epoch);
    for (const auto& one : **made)
        answer.add<tlv::seed>(one.view());
    return answer;
}

void media_table::seed_answered(std::uint32_t media) {
    const auto found = media_.find(media);
    if (found == media_.end())
        return;
    entry& item = *found->second;
    if (!item.tunnel->switch_to_prepared())
        return; // nothing was prepared: the SEED was refused, or repeated
    item.retirements.push_back({clock::now() + item.overlap, item.tunnel->receive_epoch(), item.tunnel->older_heard()});
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
                        {"keys", name_of(item->keys)},
                        {"peer", item->peer},
                        {"path",
                         {{"wanted", name_of(item->wanted)},
                          {"in_use", name_of(item->path.in_use)},
                          {"interface", item->path.interface},
                          {"bound", item->bound},
                          {"fallback", item->path.fallback},
                          {"moves", item->moves}}},
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
    return {{"opened", opened_},           {"closed", closed_},
            {"after_close", after_close_}, {"path_fallbacks", path_fallbacks_},
            {"path_moves", path_moves_},   {"seeds_made", seeds_.made()},
            {"seeds_held", seeds_.size()}, {"open", std::move(list)}};
}

} // namespace tandem::agent
