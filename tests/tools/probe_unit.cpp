// SPDX-License-Identifier: Apache-2.0
// probe_unit: many units in one process, for tests that must know what a real agent never tells.
//
// Speaks the real control protocol over real TLS 1.3 (external PSK), answers MEDIA_OPEN, SEED and MEDIA_CLOSE, sends
// SRTP on each media at 50 packets/s and checks what returns by libsrtp2. It has no TUN: inner addresses are only told.
// On demand it writes every seed and master key that it learned (--reveal), so that a test can look for them in the
// gateway's memory.
//
//   probe_unit --gateway 192.0.2.1:4433 --keys DIR --units a,b,c [--reveal FILE] [--first-sequence N]
//   DIR holds ID.psk (hex). Prints a JSON object per line: configured, media_open, seed, media_close; at the end,
//   totals.
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
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fmt/core.h>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "controlplane/protocol/framing.hpp"
#include "controlplane/protocol/message.hpp"
#include "controlplane/protocol/seed_keys.hpp"
#include "tools/agent/srtp.hpp"

namespace {

using namespace tandem;
using namespace tandem::protocol;
using clock_type = std::chrono::steady_clock;

volatile std::sig_atomic_t stopping = 0;

std::string hex(std::span<const std::uint8_t> bytes) {
    std::string out;
    for (const auto b : bytes)
        out += fmt::format("{:02x}", b);
    return out;
}

struct options {
    std::string address;
    std::uint16_t port = 0;
    std::string keys, reveal;
    std::uint16_t first_sequence = 1;
};

sockaddr_in to_sockaddr(const endpoint& e) {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(e.port);
    std::memcpy(&to.sin_addr, &e.address.bytes[12], 4);
    return to;
}

std::string text(const endpoint& e) {
    char out[INET_ADDRSTRLEN];
    inet_ntop(AF_INET, &e.address.bytes[12], out, sizeof(out));
    return fmt::format("{}:{}", out, e.port);
}

struct totals {
    std::uint64_t sent = 0, received = 0, refused = 0, seeds = 0;
};

// One secondary: its keys, its socket and a 50 packets/s stream.
class probe_media {
public:
    probe_media(const message& open, std::uint64_t tsid, std::ostream* reveal, std::uint16_t sequence)
        : id_(*open.get<tlv::media_id>()), tsid_(tsid), suite_(static_cast<api::suite>(*open.get<tlv::suite>())),
          gateway_(*open.get<tlv::gateway_media>()), inner_(*open.get<tlv::inner_media>()), receiver_(suite_),
          reveal_(reveal), sequence_(sequence) {
        socket_ = ::socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        sockaddr_in any{};
        any.sin_family = AF_INET;
        ::bind(socket_, reinterpret_cast<sockaddr*>(&any), sizeof(any));
        RAND_bytes(reinterpret_cast<unsigned char*>(&ssrc_), sizeof(ssrc_));
        (void)rekey(*open.get_secret<tlv::seed>(), *open.get<tlv::epoch>());
    }
    ~probe_media() { ::close(socket_); }
    probe_media(const probe_media&) = delete;
    probe_media& operator=(const probe_media&) = delete;

    bool rekey(const secret& seed, std::uint32_t epoch) {
        const auto up = derive_keys(seed, {tsid_, id_, direction::to_gateway, epoch, suite_});
        const auto down = derive_keys(seed, {tsid_, id_, direction::to_unit, epoch, suite_});
        if (!up || !down)
            return false;
        if (reveal_ != nullptr)
            *reveal_
                << fmt::format(
                       "{{\"media\":{},\"epoch\":{},\"suite\":\"{}\",\"seed\":\"{}\",\"up\":\"{}\",\"down\":\"{}\"}}\n",
                       id_, epoch, api::info(suite_).name, hex(seed.view()), hex(up->view()), hex(down->view()))
                << std::flush;
        if (!receiver_.install(*down, epoch))
            return false;
        if (!sender_)
            sender_ = agent::srtp_sender::create(suite_, *up, epoch);
        else if (!sender_->rekey(*up, epoch))
            return false;
        if (epoch > 1)
            receiver_.retire_below(epoch - 1);
        return sender_ != nullptr;
    }

    void send(totals& sum) {
        std::uint8_t packet[12 + 160 + agent::max_trailer] = {0x80, 0};
        store_be(std::span(packet).subspan(2, 2), sequence_++);
        store_be(std::span(packet).subspan(4, 4), timestamp_ += 160);
        store_be(std::span(packet).subspan(8, 4), ssrc_);
        std::memset(packet + 12, 0xD5, 160);
        const auto length = sender_->protect(agent::packet_class::rtp, packet, 12 + 160);
        const auto to = to_sockaddr(gateway_);
        if (length && ::sendto(socket_, packet, *length, 0, reinterpret_cast<const sockaddr*>(&to), sizeof(to)) > 0)
            ++sum.sent;
    }

    void receive(totals& sum) {
        std::uint8_t packet[2048];
        for (ssize_t got; (got = ::recv(socket_, packet, sizeof(packet), 0)) > 0;) {
            const bool rtcp = got > 1 && packet[1] >= 192 && packet[1] <= 223;
            const auto ok = receiver_.unprotect(rtcp ? agent::packet_class::rtcp : agent::packet_class::rtp, packet,
                                                static_cast<std::size_t>(got));
            ++(ok ? sum.received : sum.refused);
        }
    }

    [[nodiscard]] int socket() const noexcept { return socket_; }
    [[nodiscard]] const endpoint& gateway() const noexcept { return gateway_; }
    [[nodiscard]] api::suite suite() const noexcept { return suite_; }
    [[nodiscard]] endpoint local() const {
        sockaddr_in at{};
        socklen_t size = sizeof(at);
        ::getsockname(socket_, reinterpret_cast<sockaddr*>(&at), &size);
        endpoint out;
        out.address.bytes[10] = out.address.bytes[11] = 0xFF;
        out.port = ntohs(at.sin_port);
        return out;
    }

private:
    std::uint32_t id_;
    std::uint64_t tsid_;
    api::suite suite_;
    endpoint gateway_, inner_;
    agent::srtp_receiver receiver_;
    std::unique_ptr<agent::srtp_sender> sender_;
    std::ostream* reveal_;
    int socket_ = -1;
    std::uint16_t sequence_;
    std::uint32_t timestamp_ = 0, ssrc_ = 0;
};

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
        if (m.is(exchange::media_open))
            return open(m);
        const auto id = m.get<tlv::media_id>();
        const auto media = id ? media_.find(*id) : media_.end();
        if (m.is(exchange::seed) || m.is(exchange::media_close)) {
            if (media == media_.end())
                return send(m.response(status::unknown_media).add<tlv::media_id>(*id));
            if (m.is(exchange::media_close)) {
                media_.erase(media);
                fmt::print("{{\"event\":\"media_close\",\"unit\":\"{}\",\"media\":{}}}\n", id_, *id);
            } else {
                ++sum.seeds;
                (void)media->second->rekey(*m.get_secret<tlv::seed>(), *m.get<tlv::epoch>());
                fmt::print("{{\"event\":\"seed\",\"unit\":\"{}\",\"media\":{},\"epoch\":{},\"at\":{:.3f}}}\n", id_, *id,
                           *m.get<tlv::epoch>(),
                           std::chrono::duration<double>(clock_type::now().time_since_epoch()).count());
            }
            std::fflush(stdout);
            auto answer = m.response(status::ok);
            answer.add<tlv::media_id>(*id);
            if (m.is(exchange::seed))
                answer.add<tlv::epoch>(*m.get<tlv::epoch>());
            return send(std::move(answer));
        }
        send(m.response(status::ok));
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
        auto media = std::make_unique<probe_media>(m, tsid_, reveal_, options_.first_sequence);
        auto answer = m.response(status::ok);
        answer.add<tlv::media_id>(id).add<tlv::unit_media>(media->local());
        fmt::print("{{\"event\":\"media_open\",\"unit\":\"{}\",\"media\":{},\"gateway\":\"{}\",\"suite\":\"{}\",\"seed_"
                   "length\":{}}}\n",
                   id_, id, text(media->gateway()), api::info(media->suite()).name, m.get<tlv::seed>()->size());
        std::fflush(stdout);
        media_[id] = std::move(media);
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
    }
    fmt::print("{{\"event\":\"totals\",\"sent\":{},\"received\":{},\"refused\":{},\"seeds\":{}}}\n", all.sent,
               all.received, all.refused, all.seeds);
    units.clear();
    SSL_CTX_free(context);
}
