// SPDX-License-Identifier: Apache-2.0
// probe_unit: many units in one process, for tests that must know what a real agent never tells.
//
// Speaks the real control protocol over real TLS 1.3 (external PSK), answers MEDIA_OPEN, SEED and MEDIA_CLOSE, sends
// SRTP on each media at 50 packets/s and checks what returns by libsrtp2. It has no TUN: inner addresses are only told.
// On demand it writes every seed and master key that it learned or made (--reveal), so that a test can look for them in
// the gateway's memory. It makes seeds where it is asked (SEED_MAKE) and advises (CONTACT, --advice); --seed-make and
// --contact make it misbehave.
//
//   probe_unit --gateway 192.0.2.1:4433 --keys DIR --units a,b,c [--reveal FILE] [--first-sequence N]
//       [--advice [UNIT/]PEER=LEVEL[:PROFILE_LEVEL[:KEY_SOURCE]]]...  PEER * = any; levels may be empty
//       [--contact ok|silent|refuse] [--seed-make ok|long|repeat|silent|refuse]
//   DIR holds ID.psk (hex). Prints a JSON object per line: configured, contact, seed_make, media_open, seed,
//   media_close; at the end, totals.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fmt/format.h>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "controlplane/protocol/framing.hpp"
#include "controlplane/protocol/message.hpp"
#include "tests/tools/probe_media.hpp"

namespace {

using namespace tandem;
using namespace tandem::probing;
using clock_type = std::chrono::steady_clock;

volatile std::sig_atomic_t stopping = 0;

struct options {
    std::string address;
    std::uint16_t port = 0;
    std::string keys, reveal;
    std::uint16_t first_sequence = 1;
    std::vector<std::string> advice;
    std::string contact = "ok", seed_make = "ok";
};

// What one --advice says, where it is about this unit and one of these peers.
struct advice {
    std::string level, profile_level, keys;
};
std::optional<advice> advice_of(const std::string& words, const std::string& unit,
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
    probe(std::string id, const options& o, SSL_CTX* context, std::ostream* reveal)
        : id_(std::move(id)), options_(o), reveal_(reveal) {
        std::ifstream file(o.keys + "/" + id_ + ".psk");
        std::string line;
        file >> line;
        for (std::size_t i = 0; i + 1 < line.size(); i += 2)
            psk_.push_back(static_cast<std::uint8_t>(std::stoul(line.substr(i, 2), nullptr, 16)));
        connect(context);
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
                    if (const auto m = decode(frame->bytes))
                        handle(*m);
        }
    }
    void tick() {
        for (auto& [id, media] : media_)
            media->send(sum);
    }
    void keepalive() { send(message::request(exchange::keepalive)); }
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

    void connect(SSL_CTX* context) {
        socket_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in to{};
        to.sin_family = AF_INET;
        to.sin_port = htons(options_.port);
        inet_pton(AF_INET, options_.address.c_str(), &to.sin_addr);
        const int one = 1;
        ::setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        if (::connect(socket_, reinterpret_cast<sockaddr*>(&to), sizeof(to)) != 0)
            return fail("refused");
        ssl_ = SSL_new(context);
        SSL_set_app_data(ssl_, this);
        SSL_set_psk_use_session_callback(ssl_, use_session);
        SSL_set_fd(ssl_, socket_);
        if (SSL_connect(ssl_) != 1)
            return fail("handshake refused");
        ::fcntl(socket_, F_SETFL, O_NONBLOCK);
        send(message::request(exchange::config).add<tlv::id_code>(id_).add<tlv::agent_version>("probe"));
    }

    void fail(const char* why) {
        fmt::print("{{\"event\":\"lost\",\"unit\":\"{}\",\"why\":\"{}\"}}\n", id_, why);
        std::fflush(stdout);
        ::close(socket_);
        socket_ = -1;
        media_.clear();
    }

    void send(message m) {
        if (!m.is_response()) {
            m.set_tsid(tsid_);
            m.set_sequence(++sequence_);
        }
        const auto bytes = m.encode();
        std::vector<std::uint8_t> out;
        append_frame(out, std::span<const std::uint8_t>(bytes));
        if (up())
            SSL_write(ssl_, out.data(), static_cast<int>(out.size()));
    }

    void handle(const message& m) {
        if (m.is_response()) {
            if (m.is(exchange::config))
                configured(m);
            return;
        }
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
        const auto source = m.get<tlv::key_source>().value_or(0);
        const auto own = made_.find({id, epoch});
        std::vector<secret> out;
        if (source == 1 && own != made_.end())
            for (const auto& one : own->second)
                out.push_back(one.copy());
        for (std::size_t n = 0; source != 1 && n < m.count<tlv::seed>(); ++n) {
            auto one = *m.get_secret<tlv::seed>(n);
            if (source == 2 && (own == made_.end() || own->second.size() <= n || own->second[n].size() != one.size()))
                return {};
            if (source == 2) {
                const auto half = one.copy();
                const auto whole = one.resize(half.size());
                for (std::size_t k = 0; k < whole.size(); ++k)
                    whole[k] = static_cast<std::uint8_t>(half.view()[k] ^ own->second[n].view()[k]);
            }
            out.push_back(std::move(one));
        }
        if (reveal_ != nullptr && source != 0)
            reveal_halves(m, id, epoch);
        if (own != made_.end() && epoch > 1)
            made_.erase(made_.lower_bound({id, 0}), made_.lower_bound({id, epoch - 1}));
        return out;
    }
    void reveal_halves(const message& m, std::uint32_t id, std::uint32_t epoch) {
        for (const auto& one : made_[{id, epoch}])
            *reveal_ << fmt::format("{{\"media\":{},\"epoch\":{},\"made\":\"{}\"}}\n", id, epoch, hex(one.view()));
        for (std::size_t n = 0; n < m.count<tlv::seed>(); ++n)
            *reveal_ << fmt::format("{{\"media\":{},\"epoch\":{},\"half\":\"{}\"}}\n", id, epoch,
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
        fmt::print("{{\"event\":\"{}\",\"unit\":\"{}\"{}}}\n", event, id_, more);
        std::fflush(stdout);
    }

    void configured(const message& m) {
        tsid_ = m.tsid();
        const auto inner = m.get<tlv::inner_address>();
        fmt::print("{{\"event\":\"configured\",\"unit\":\"{}\",\"tsid\":\"{:016x}\",\"inner\":\"{}\",\"status\":{}}}\n",
                   id_, tsid_, inner ? text({*inner, 0}) : "", static_cast<int>(m.code()));
        std::fflush(stdout);
    }

    void open(const message& m) {
        const auto id = *m.get<tlv::media_id>();
        const auto epoch = *m.get<tlv::epoch>();
        auto& media = media_[id];
        if (!media || media->sending() != epoch || media->suite() != static_cast<api::suite>(*m.get<tlv::suite>()))
            media = std::make_unique<probe_media>(m, tsid_, reveal_, options_.first_sequence);
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
    std::ostream* reveal_;
    std::vector<std::uint8_t> psk_;
    int socket_ = -1;
    SSL* ssl_ = nullptr;
    framer framer_;
    std::uint64_t tsid_ = no_tsid;
    std::uint32_t sequence_ = 0;
    std::map<std::uint32_t, std::unique_ptr<probe_media>> media_;
    std::map<std::pair<std::uint32_t, std::uint32_t>, std::vector<secret>> made_; // by media, epoch
};

void run(std::vector<std::unique_ptr<probe>>& units) {
    using namespace std::chrono_literals;
    auto next_packet = clock_type::now(), next_keepalive = next_packet + 1s;
    while (stopping == 0) {
        std::vector<pollfd> wait;
        for (const auto& unit : units)
            unit->watch(wait);
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(next_packet - clock_type::now());
        ::poll(wait.data(), wait.size(), static_cast<int>(std::max<std::int64_t>(left.count(), 0)));
        for (const auto& unit : units)
            unit->work();
        const auto now = clock_type::now();
        if (now >= next_packet) {
            next_packet += 20ms;
            for (const auto& unit : units)
                unit->tick();
        }
        if (now >= next_keepalive) {
            next_keepalive += 1s;
            for (const auto& unit : units)
                unit->keepalive();
        }
    }
}

} // namespace

int main(int argc, char** argv) {
    CLI::App app("probe_unit: many units in one process, for tests");
    options o;
    std::string gateway;
    std::vector<std::string> ids;
    app.add_option("--gateway", gateway, "address:port of the primary")->required();
    app.add_option("--keys", o.keys, "directory of ID.psk files")->required();
    app.add_option("--units", ids, "id codes")->required()->delimiter(',');
    app.add_option("--reveal", o.reveal, "file for seeds and master keys (tests only)");
    app.add_option("--advice", o.advice, "[UNIT/]PEER=LEVEL[:PROFILE_LEVEL[:KEY_SOURCE]]");
    app.add_option("--contact", o.contact, "ok, silent or refuse");
    app.add_option("--seed-make", o.seed_make, "ok, long, repeat, silent or refuse");
    app.add_option("--first-sequence", o.first_sequence, "RTP sequence number to begin with");
    CLI11_PARSE(app, argc, argv);
    const auto colon = gateway.rfind(':');
    o.address = gateway.substr(0, colon);
    o.port = static_cast<std::uint16_t>(std::stoul(gateway.substr(colon + 1)));

    std::signal(SIGPIPE, SIG_IGN);
    for (const int s : {SIGINT, SIGTERM})
        std::signal(s, [](int) { stopping = 1; });
    std::ofstream reveal;
    if (!o.reveal.empty())
        reveal.open(o.reveal);
    SSL_CTX* context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    SSL_CTX_set_ciphersuites(context, "TLS_AES_256_GCM_SHA384");
    std::vector<std::unique_ptr<probe>> units;
    for (const auto& id : ids)
        units.push_back(std::make_unique<probe>(id, o, context, reveal.is_open() ? &reveal : nullptr));
    run(units);
    totals all;
    for (const auto& unit : units) {
        all.sent += unit->sum.sent;
        all.received += unit->sum.received;
        all.refused += unit->sum.refused;
        all.seeds += unit->sum.seeds;
        all.made += unit->sum.made;
    }
    fmt::print("{{\"event\":\"totals\",\"sent\":{},\"received\":{},\"refused\":{},\"seeds\":{},\"made\":{}}}\n",
               all.sent, all.received, all.refused, all.seeds, all.made);
    units.clear();
    SSL_CTX_free(context);
}
