// SPDX-License-Identifier: Apache-2.0
// A unit without TUN and phone, for tests: the real control protocol over real TLS 1.3 (external PSK). Answers
// MEDIA_OPEN, SEED, SEED_MAKE, CONTACT and MEDIA_CLOSE; what becomes of a secondary's keys and packets is its
// unit_media's.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fmt/format.h>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "controlplane/protocol/channel.hpp"
#include "controlplane/protocol/framing.hpp"
#include "tests/tools/probe_media.hpp"

namespace tandem::probing {

using clock_type = std::chrono::steady_clock;

struct options {
    std::string address;
    std::uint16_t port = 0;
    std::string keys;               // directory of ID.psk
    std::ostream* reveal = nullptr; // for seeds and master keys
    std::vector<std::string> advice;
    std::string contact = "ok", seed_make = "ok";
    bool reconnect = false;   // a primary that was lost is made again, its media go on meanwhile
    std::FILE* says = stdout; // what happens, a JSON object per line
    std::function<std::unique_ptr<unit_media>(const message& open, std::uint64_t tsid)> make_media;
};

inline std::vector<std::uint8_t> psk_of(const options& o, const std::string& unit) {
    std::ifstream file(o.keys + "/" + unit + ".psk");
    std::string line;
    file >> line;
    return from_hex(line);
}

inline SSL_CTX* tls_context() {
    SSL_CTX* context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    SSL_CTX_set_ciphersuites(context, "TLS_AES_256_GCM_SHA384");
    return context;
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
    probe(std::string id, std::vector<std::uint8_t> psk, const options& o, SSL_CTX* context)
        : id_(std::move(id)), options_(o), context_(context), psk_(std::move(psk)) {
        connect();
    }
    ~probe() {
        SSL_free(ssl_);
        if (socket_ >= 0)
            ::close(socket_);
    }
    probe(const probe&) = delete;
    probe& operator=(const probe&) = delete;

    [[nodiscard]] bool up() const noexcept { return socket_ >= 0; }
    void watch(std::vector<pollfd>& out) const {
        if (up())
            out.push_back({socket_, POLLIN, 0});
        for (const auto& [id, media] : media_)
            out.push_back({media->socket(), POLLIN, 0});
    }
    void work() {
        for (auto& [id, media] : media_)
            media->receive(sum);
        while (up()) {
            const auto room = framer_.prepare();
            const int got = SSL_read(ssl_, room.data(), static_cast<int>(room.size()));
            if (got <= 0) {
                if (SSL_get_error(ssl_, got) != SSL_ERROR_WANT_READ)
                    fail("closed");
                return;
            }
            framer_.commit(static_cast<std::size_t>(got));
            while (const auto frame = framer_.next())
                if (frame->kind == frame_kind::control)
                    act(channel_.receive(link_, frame->bytes, clock_type::now()));
        }
    }
    void tick() {
        for (auto& [id, media] : media_)
            media->send(sum);
    }
    void keepalive() {
        if (configured_)
            act(channel_.request(nobody, message::request(exchange::keepalive), patience, clock_type::now()));
        act(channel_.poll(clock_type::now()));
    }
    // Its process dies: no word to the gateway, nothing kept.
    void die() {
        fail("killed");
        media_.clear();
        made_.clear();
        tsid_ = no_tsid;
        channel_ = channel(role::unit);
    }
    void connect_again() {
        if (!up())
            connect();
    }
    [[nodiscard]] const std::string& inner() const noexcept { return inner_; } // empty while it has none
    totals sum;

private:
    static int use_session(SSL* ssl, const EVP_MD*, const unsigned char** id, std::size_t* length, SSL_SESSION** out) {
        auto* self = static_cast<probe*>(SSL_get_app_data(ssl));
        static const unsigned char aes_256_gcm_sha384[] = {0x13, 0x02};
        SSL_SESSION* session = SSL_SESSION_new();
        SSL_SESSION_set1_master_key(session, self->psk_.data(), self->psk_.size());
        SSL_SESSION_set_cipher(session, SSL_CIPHER_find(ssl, aes_256_gcm_sha384));
        SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION);
        *id = reinterpret_cast<const unsigned char*>(self->id_.data());
        *length = self->id_.size();
        *out = session;
        return 1;
    }

    void connect() {
        socket_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in to{};
        to.sin_family = AF_INET;
        to.sin_port = htons(options_.port);
        inet_pton(AF_INET, options_.address.c_str(), &to.sin_addr);
        const int one = 1;
        ::setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        if (::connect(socket_, reinterpret_cast<sockaddr*>(&to), sizeof(to)) != 0)
            return fail("refused");
        ssl_ = SSL_new(context_);
        SSL_set_app_data(ssl_, this);
        SSL_set_psk_use_session_callback(ssl_, use_session);
        SSL_set_fd(ssl_, socket_);
        if (SSL_connect(ssl_) != 1)
            return fail("handshake refused");
        ::fcntl(socket_, F_SETFL, O_NONBLOCK);
        framer_ = framer();
        auto request = message::request(exchange::config).add<tlv::id_code>(id_).add<tlv::agent_version>("probe");
        if (tsid_ != no_tsid)
            request.add<tlv::resume_tsid>(tsid_);
        link_ = channel_.attach(carrier::stream, clock_type::now());
        act(channel_.configure(link_, config_ticket, std::move(request), patience, clock_type::now()));
    }

    void fail(const char* why) {
        say("lost", fmt::format(",\"why\":\"{}\"", why));
        SSL_free(std::exchange(ssl_, nullptr));
        if (socket_ >= 0)
            ::close(std::exchange(socket_, -1));
        configured_ = false;
        (void)channel_.lost(link_, clock_type::now()); // nobody waits for what it says
        if (!options_.reconnect)
            media_.clear();
    }

    void send(const message& response) { act(channel_.answer(link_, response, clock_type::now())); }
    void act(actions todo) {
        for (auto& a : todo) {
            if (const auto* s = std::get_if<to_send>(&a))
                write(s->bytes);
            else if (const auto* r = std::get_if<to_serve>(&a))
                handle(r->request);
            else if (const auto* f = std::get_if<to_finish>(&a); f != nullptr && f->of == config_ticket && f->response)
                configured(*f->response);
            else if (std::holds_alternative<to_close>(a))
                fail("against the rules");
        }
    }
    void write(std::span<const std::uint8_t> control) {
        std::vector<std::uint8_t> out;
        append_frame(out, control);
        if (up())
            SSL_write(ssl_, out.data(), static_cast<int>(out.size()));
    }

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
        say("seed", fmt::format(",\"media\":{},\"epoch\":{},\"source\":{},\"at\":{:.3f},\"fits\":{}", id, epoch,
                                m.get<tlv::key_source>().value_or(0),
                                std::chrono::duration<double>(clock_type::now().time_since_epoch()).count(), fits));
        auto answer = m.response(fits ? status::ok : status::bad_seed);
        answer.add<tlv::media_id>(id).add<tlv::epoch>(epoch);
        send(std::move(answer));
    }

    void close(const message& m) {
        const auto id = *m.get<tlv::media_id>();
        const auto media = media_.find(id);
        if (media == media_.end())
            return send(std::move(m.response(status::unknown_media).add<tlv::media_id>(id)));
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
        configured_ = m.code() == status::ok;
        const auto inner = m.get<tlv::inner_address>();
        if (inner)
            inner_ = text({*inner, 0});
        say("configured", fmt::format(",\"tsid\":\"{:016x}\",\"inner\":\"{}\",\"status\":{}", tsid_,
                                      inner ? inner_ : "", static_cast<int>(m.code())));
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

    std::string id_;
    const options& options_;
    SSL_CTX* context_;
    std::vector<std::uint8_t> psk_;
    int socket_ = -1;
    SSL* ssl_ = nullptr;
    framer framer_;
    std::uint64_t tsid_ = no_tsid;
    bool configured_ = false;
    std::string inner_;
    static constexpr ticket config_ticket = 1;
    static constexpr auto patience = std::chrono::seconds(30);
    channel channel_{role::unit};
    link_id link_ = 0;
    std::map<std::uint32_t, std::unique_ptr<unit_media>> media_;
    std::map<std::pair<std::uint32_t, std::uint32_t>, std::vector<secret>> made_; // by media, epoch
};

} // namespace tandem::probing
