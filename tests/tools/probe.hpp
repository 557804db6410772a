// SPDX-License-Identifier: Apache-2.0
// A unit without TUN and phone, for tests: the real control protocol over the agent's own connection. Answers
// MEDIA_OPEN, SEED, SEED_MAKE, CONTACT and MEDIA_CLOSE; what becomes of a secondary's keys and packets is its
// unit_media's. Owner thread: the io_context's.
#pragma once

#include <algorithm>
#include <asio/io_context.hpp>
#include <chrono>
#include <cstdio>
#include <fmt/format.h>
#include <functional>
#include <map>
#include <memory>
#include <openssl/rand.h>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "controlplane/protocol/channel_asio.hpp"
#include "controlplane/protocol/spawn.hpp"
#include "controlplane/protocol/tls.hpp"
#include "tests/tools/probe_media.hpp"
#include "tools/agent/link/connection.hpp"

namespace tandem::probing {

struct options {
    link::endpoint gateway;
    std::ostream* reveal = nullptr; // for seeds and master keys
    std::vector<std::string> advice;
    std::string contact = "ok", seed_make = "ok";
    bool reconnect = false;   // a primary that was lost is made again, its media go on meanwhile
    std::FILE* says = stdout; // what happens, a JSON object per line
    std::function<std::unique_ptr<unit_media>(const message& open, std::uint64_t tsid)> make_media;
};

// --gateway's.
inline link::endpoint gateway_at(const std::string& text) {
    const auto at = link::parse_endpoint(text);
    if (!at)
        throw std::runtime_error("no address and port: " + text);
    return *at;
}

// What one --advice says, where it is about this unit and one of these peers.
struct advice {
    std::string level, profile_level, keys;
};
inline std::optional<advice> advice_of(const std::string& words, const std::string& unit,
                                       const std::vector<std::string>& peers) {
    const auto equals = words.rfind('=');
    if (equals == std::string::npos)
        return std::nullopt;
    auto peer = words.substr(0, equals);
    if (const auto slash = peer.find('/'); slash != std::string::npos) {
        if (peer.substr(0, slash) != unit)
            return std::nullopt;
        peer.erase(0, slash + 1);
    }
    if (peer != "*" && std::ranges::find(peers, peer) == peers.end())
        return std::nullopt;
    std::istringstream fields(words.substr(equals + 1));
    advice out;
    std::getline(fields, out.level, ':');
    std::getline(fields, out.profile_level, ':');
    std::getline(fields, out.keys, ':');
    return out;
}

class probe {
public:
    probe(asio::io_context& io, std::string id, secret psk, const options& o)
        : io_(io), id_(std::move(id)), options_(o), context_(make_client_context(id_, std::move(psk)).value()),
          again_(io) {
        connect();
    }
    probe(const probe&) = delete;
    probe& operator=(const probe&) = delete;

    [[nodiscard]] bool up() const noexcept { return configured_; }
    void tick() {
        for (auto& [id, media] : media_) {
            media->receive(sum);
            media->send(sum);
        }
    }
    // Its process dies: no word to the gateway, nothing kept.
    void die() {
        primary_->close("killed");
        media_.clear();
        made_.clear();
        tsid_ = no_tsid;
        channel_ = new_channel();
    }
    [[nodiscard]] const std::string& inner() const noexcept { return inner_; } // empty while it has none
    totals sum;

private:
    [[nodiscard]] std::shared_ptr<channel_driver> new_channel() {
        return std::make_shared<channel_driver>(io_.get_executor(), role::unit);
    }

    void connect() {
        agent::connection::handlers calls{.packet = [](auto) {},
                                          .request = [this](auto&, const message& m) { handle(m); },
                                          .lost = [this](auto& was) { lost(was.why()); }};
        primary_ = std::make_shared<agent::connection>(io_, context_.get(), channel_, id_, std::move(calls));
        protocol::spawn(io_, "a primary's begin", [this, primary = primary_] { return begin(primary); });
    }
    asio::awaitable<void> begin(std::shared_ptr<agent::connection> primary) {
        const agent::path_place anywhere; // with a name: see findings/gxx_awaited_lambda_destroyed_twice.sh
        const auto opened = co_await primary->open(options_.gateway, patience, anywhere);
        if (!opened)
            co_return lost(opened.error().text);
        auto config = message::request(exchange::config).add<tlv::id_code>(id_).add<tlv::agent_version>("probe");
        if (tsid_ != no_tsid)
            config.add<tlv::resume_tsid>(tsid_);
        const auto answer = co_await primary->configure(std::move(config), patience);
        if (!answer)
            co_return primary->close(answer.error().text);
        if (primary->closed())
            co_return;
        configured(*answer);
        primary->begin();
    }

    void lost(const std::string& why) {
        say("lost", fmt::format(",\"why\":\"{}\"", why));
        configured_ = false;
        if (!options_.reconnect)
            return media_.clear();
        again_.expires_after(std::chrono::milliseconds(100));
        again_.async_wait([this](std::error_code error) {
            if (!error)
                connect();
        });
    }

    void send(const message& response) { primary_->respond(response); }

    void handle(const message& m) {
        switch (m.what()) {
        case exchange::media_open:
            return open(m);
        case exchange::contact:
            return advise(m);
        case exchange::seed_make:
            return make_seeds(m);
        case exchange::seed:
            return seed(m);
        case exchange::media_close:
            return close(m);
        default:
            return send(m.response(status::ok));
        }
    }

    void advise(const message& m) {
        std::vector<std::string> peers;
        for (std::size_t n = 0; n < m.count<tlv::peer>(); ++n)
            peers.emplace_back(*m.get<tlv::peer>(n));
        say("contact", fmt::format(",\"peers\":\"{}\"", fmt::join(peers, " ")));
        if (options_.contact == "silent")
            return;
        if (options_.contact == "refuse")
            return send(m.response(status::unknown_type));
        auto answer = m.response(status::ok);
        for (const auto& words : options_.advice)
            if (const auto said = advice_of(words, id_, peers)) {
                if (!said->level.empty())
                    answer.add<tlv::level>(said->level);
                if (!said->profile_level.empty())
                    answer.add<tlv::profile_level>(said->profile_level);
                if (!said->keys.empty())
                    answer.add<tlv::key_source>(static_cast<std::uint8_t>(std::stoul(said->keys)));
                answer.add<tlv::reason>("--advice " + words);
                break;
            }
        send(std::move(answer));
    }

    // The same seeds where it is asked again for the same media and epoch.
    void make_seeds(const message& m) {
        const auto id = *m.get<tlv::media_id>();
        const auto epoch = *m.get<tlv::epoch>();
        const std::size_t length = *m.get<tlv::seed_bytes>() + (options_.seed_make == "long" ? 1U : 0U);
        say("seed_make", fmt::format(",\"media\":{},\"epoch\":{},\"length\":{}", id, epoch, length));
        if (options_.seed_make == "silent")
            return;
        if (options_.seed_make == "refuse")
            return send(m.response(status::unknown_type));
        auto& seeds = made_[{id, epoch}];
        while (seeds.size() < m.get<tlv::seed_count>().value_or(1)) {
            secret fresh;
            const auto bytes = fresh.resize(length);
            if (options_.seed_make == "repeat")
                std::ranges::fill(bytes, std::uint8_t{7});
            else
                RAND_bytes(bytes.data(), static_cast<int>(bytes.size()));
            seeds.push_back(std::move(fresh));
        }
        auto answer = m.response(status::ok);
        answer.add<tlv::media_id>(id).add<tlv::epoch>(epoch);
        for (const auto& one : seeds)
            answer.add<tlv::seed>(one.view());
        ++sum.made;
        send(std::move(answer));
    }

    // Of MEDIA_OPEN or SEED: the gateway's, our own, or both XORed; none where it does not fit.
    std::vector<secret> seeds_of(const message& m, std::uint32_t id, std::uint32_t epoch) {
        const auto source = protocol::named<key_source>(m.get<tlv::key_source>().value_or(0));
        const auto own = made_.find({id, epoch});
        std::vector<secret> out;
        if (source == key_source::unit && own != made_.end())
            for (const auto& one : own->second)
                out.push_back(one.copy());
        for (std::size_t n = 0; source != key_source::unit && n < m.count<tlv::seed>(); ++n) {
            auto one = *m.get_secret<tlv::seed>(n);
            if (source == key_source::both &&
                (own == made_.end() || own->second.size() <= n || own->second[n].size() != one.size()))
                return {};
            if (source == key_source::both) {
                const auto half = one.copy();
                const auto whole = one.resize(half.size());
                for (std::size_t k = 0; k < whole.size(); ++k)
                    whole[k] = static_cast<std::uint8_t>(half.view()[k] ^ own->second[n].view()[k]);
            }
            out.push_back(std::move(one));
        }
        if (options_.reveal != nullptr && source != key_source::gateway)
            reveal_halves(m, id, epoch);
        if (own != made_.end() && epoch > 1)
            made_.erase(made_.lower_bound({id, 0}), made_.lower_bound({id, epoch - 1}));
        return out;
    }
    void reveal_halves(const message& m, std::uint32_t id, std::uint32_t epoch) {
        for (const auto& one : made_[{id, epoch}])
            *options_.reveal << fmt::format("{{\"media\":{},\"epoch\":{},\"made\":\"{}\"}}\n", id, epoch,
                                            hex(one.view()));
        for (std::size_t n = 0; n < m.count<tlv::seed>(); ++n)
            *options_.reveal << fmt::format("{{\"media\":{},\"epoch\":{},\"half\":\"{}\"}}\n", id, epoch,
                                            hex(*m.get<tlv::seed>(n)));
    }

    void seed(const message& m) {
        const auto id = *m.get<tlv::media_id>();
        const auto epoch = *m.get<tlv::epoch>();
        const auto media = media_.find(id);
        if (media == media_.end())
            return send(std::move(m.response(status::unknown_media).add<tlv::media_id>(id)));
        ++sum.seeds;
        const bool fits = media->second->rekey(seeds_of(m, id, epoch), epoch);
        say("seed",
            fmt::format(",\"media\":{},\"epoch\":{},\"source\":{},\"at\":{:.3f},\"fits\":{}", id, epoch,
                        m.get<tlv::key_source>().value_or(0),
                        std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(),
                        fits));
        auto answer = m.response(fits ? status::ok : status::bad_seed);
        answer.add<tlv::media_id>(id).add<tlv::epoch>(epoch);
        send(std::move(answer));
    }

    void close(const message& m) {
        const auto id = *m.get<tlv::media_id>();
        const auto media = media_.find(id);
        if (media == media_.end())
            return send(std::move(m.response(status::unknown_media).add<tlv::media_id>(id)));
        media->second->receive(sum);
        const auto& own = media->second->own;
        say("media_close", fmt::format(",\"media\":{},\"suite\":\"{}\",\"sent\":{},\"received\":{},\"refused\":{}", id,
                                       api::info(media->second->suite()).name, own.sent, own.received, own.refused));
        media_.erase(media);
        made_.erase(made_.lower_bound({id, 0}), made_.upper_bound({id, ~0U}));
        auto answer = m.response(status::ok);
        answer.add<tlv::media_id>(id);
        send(std::move(answer));
    }

    void say(const char* event, const std::string& more) const {
        fmt::print(options_.says, "{{\"event\":\"{}\",\"unit\":\"{}\"{}}}\n", event, id_, more);
        std::fflush(options_.says);
    }

    void configured(const message& m) {
        if (m.tsid() != tsid_)
            media_.clear(); // another session
        tsid_ = m.tsid();
        configured_ = true;
        channel_->keepalive(std::chrono::milliseconds(m.get<tlv::keepalive_ms>().value_or(1000)));
        const auto inner = m.get<tlv::inner_address>();
        if (inner)
            inner_ = text({*inner, 0});
        say("configured", fmt::format(",\"tsid\":\"{:016x}\",\"inner\":\"{}\"", tsid_, inner ? inner_ : ""));
    }

    void open(const message& m) {
        const auto id = *m.get<tlv::media_id>();
        const auto epoch = *m.get<tlv::epoch>();
        auto& media = media_[id];
        if (!media || media->sending() != epoch || media->suite() != static_cast<api::suite>(*m.get<tlv::suite>()))
            media = options_.make_media(m, tsid_);
        else
            media->moved(m);
        const auto seeds = seeds_of(m, id, epoch);
        const bool fits = media->rekey(seeds, epoch);
        say("media_open",
            fmt::format(",\"media\":{},\"gateway\":\"{}\",\"suite\":\"{}\",\"seed_length\":{},\"level\":\"{}\","
                        "\"source\":{},\"path\":{},\"epoch\":{},\"fits\":{}",
                        id, text(media->gateway()), api::info(media->suite()).name, seeds.empty() ? 0 : seeds[0].size(),
                        m.get<tlv::level>().value_or(""), m.get<tlv::key_source>().value_or(0),
                        m.get<tlv::path>().value_or(0), epoch, fits));
        auto answer = m.response(fits ? status::ok : status::bad_seed);
        answer.add<tlv::media_id>(id).add<tlv::unit_media>(media->local());
        send(std::move(answer));
    }

    asio::io_context& io_;
    std::string id_;
    const options& options_;
    ssl_context context_;
    std::shared_ptr<channel_driver> channel_ = new_channel(); // outlives connections
    std::shared_ptr<agent::connection> primary_;
    asio::steady_timer again_;
    std::uint64_t tsid_ = no_tsid;
    bool configured_ = false;
    std::string inner_;
    static constexpr auto patience = std::chrono::seconds(30);
    std::map<std::uint32_t, std::unique_ptr<unit_media>> media_;
    std::map<std::pair<std::uint32_t, std::uint32_t>, std::vector<secret>> made_; // by media, epoch
};

} // namespace tandem::probing
