// SPDX-License-Identifier: Apache-2.0
// srtp_peer: an RTP/SRTP end on one UDP socket for tests, on libsrtp2 (another implementation than the data plane's).
// Sends streams of known packets, receives and verifies, and prints one line of JSON with what it counted.
//
// A sent packet's payload is: 8 bytes CLOCK_MONOTONIC ns, 4 bytes SSRC, 8 bytes index (ROC << 16 | sequence), filling.
// So the receiver knows what the sender sent, whatever the gateway did between. Keys are test keys: key || salt in hex.
#include <algorithm>
#include <arpa/inet.h>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <netinet/in.h>
#include <poll.h>
#include <set>
#include <stdexcept>
#include <string>
#include <sys/socket.h>
#include <thread>
#include <time.h>
#include <unistd.h>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <srtp2/srtp.h>

namespace {

using nlohmann::json;

struct options {
    std::string bind, to, suite = "RTP", record, record_sent, replay;
    std::vector<std::string> send_keys, receive_keys; // epoch:hex
    std::vector<std::string> switches;                // packet:epoch
    unsigned mki = 0, ssrcs = 1, payload = 160, rtcp_every = 0;
    std::uint32_t ssrc = 0x1000;
    std::uint64_t first_index = 0;
    std::uint64_t count = 0;
    double rate = 50, linger = 0.5, duration = 0, delay = 0;
    bool no_receive = false;
    std::uint64_t receive_roc = 0;
};

std::uint64_t now_ns() {
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(t.tv_nsec);
}

sockaddr_storage parse_address(const std::string& text, socklen_t& length) {
    const auto colon = text.rfind(':');
    std::string host = text.substr(0, colon);
    const auto port = htons(static_cast<std::uint16_t>(std::stoul(text.substr(colon + 1))));
    sockaddr_storage out{};
    if (!host.empty() && host.front() == '[') {
        host = host.substr(1, host.size() - 2);
        auto* a = reinterpret_cast<sockaddr_in6*>(&out);
        a->sin6_family = AF_INET6;
        a->sin6_port = port;
        length = sizeof *a;
        if (inet_pton(AF_INET6, host.c_str(), &a->sin6_addr) == 1)
            return out;
    } else {
        auto* a = reinterpret_cast<sockaddr_in*>(&out);
        a->sin_family = AF_INET;
        a->sin_port = port;
        length = sizeof *a;
        if (inet_pton(AF_INET, host.c_str(), &a->sin_addr) == 1)
            return out;
    }
    throw std::runtime_error("not an address: " + text);
}

// A libsrtp2 session with all epochs' keys.
class srtp_end {
public:
    srtp_end(const std::string& suite, const std::vector<std::string>& keys, unsigned mki, bool inbound)
        : clear_(suite == "RTP" || keys.empty()) {
        if (clear_)
            return;
        std::memset(&policy_, 0, sizeof policy_);
        const std::map<std::string, void (*)(srtp_crypto_policy_t*)> setters{
            {"AES_CM_128_HMAC_SHA1_80", srtp_crypto_policy_set_rtp_default},
            {"AES_CM_128_HMAC_SHA1_32", srtp_crypto_policy_set_aes_cm_128_hmac_sha1_32},
            {"AES_256_CM_HMAC_SHA1_80", srtp_crypto_policy_set_aes_cm_256_hmac_sha1_80},
            {"AES_256_CM_HMAC_SHA1_32", srtp_crypto_policy_set_aes_cm_256_hmac_sha1_32},
            {"AEAD_AES_128_GCM", srtp_crypto_policy_set_aes_gcm_128_16_auth},
            {"AEAD_AES_256_GCM", srtp_crypto_policy_set_aes_gcm_256_16_auth}};
        setters.at(suite)(&policy_.rtp);
        auto for_rtcp = suite; // keeps 80 bits (RFC 4568 6.2.2)
        if (for_rtcp.ends_with("SHA1_32"))
            for_rtcp.replace(for_rtcp.size() - 2, 2, "80");
        setters.at(for_rtcp)(&policy_.rtcp);
        policy_.ssrc.type = inbound ? ssrc_any_inbound : ssrc_any_outbound;
        policy_.window_size = 1024;
        policy_.allow_repeat_tx = 0;
        for (const auto& text : keys) {
            const auto colon = text.find(':');
            const auto epoch = static_cast<std::uint32_t>(std::stoul(text.substr(0, colon)));
            auto& k = stored_.emplace_back(std::make_unique<stored>());
            for (std::size_t i = colon + 1; i + 1 < text.size(); i += 2)
                k->key.push_back(static_cast<unsigned char>(std::stoul(text.substr(i, 2), nullptr, 16)));
            k->key.resize(64);
            for (unsigned i = 0; i < mki; ++i)
                k->mki.push_back(static_cast<unsigned char>(epoch >> (8 * (mki - 1 - i))));
            k->master.key = k->key.data();
            k->master.mki_id = k->mki.data();
            k->master.mki_size = mki;
            place_[epoch] = static_cast<unsigned>(list_.size());
            list_.push_back(&k->master);
        }
        use_mki_ = mki != 0;
        if (use_mki_) {
            policy_.keys = list_.data();
            policy_.num_master_keys = list_.size();
        } else {
            policy_.key = stored_.front()->key.data();
        }
        if (srtp_create(&session_, &policy_) != srtp_err_status_ok)
            throw std::runtime_error("srtp_create failed for " + suite);
    }

    bool protect(std::vector<std::uint8_t>& packet, bool rtcp, std::uint32_t epoch) {
        if (clear_)
            return true;
        int length = static_cast<int>(packet.size());
        packet.resize(packet.size() + SRTP_MAX_TRAILER_LEN + 8);
        const unsigned at = use_mki_ ? place_.at(epoch) : 0;
        const auto status = rtcp ? srtp_protect_rtcp_mki(session_, packet.data(), &length, use_mki_, at)
                                 : srtp_protect_mki(session_, packet.data(), &length, use_mki_, at);
        packet.resize(static_cast<std::size_t>(length));
        return status == srtp_err_status_ok;
    }

    srtp_err_status_t unprotect(std::vector<std::uint8_t>& packet, bool rtcp) {
        if (clear_)
            return srtp_err_status_ok;
        int length = static_cast<int>(packet.size());
        const auto status = rtcp ? srtp_unprotect_rtcp_mki(session_, packet.data(), &length, use_mki_)
                                 : srtp_unprotect_mki(session_, packet.data(), &length, use_mki_);
        packet.resize(static_cast<std::size_t>(length));
        return status;
    }

    // A stream that begins at a given rollover counter.
    void set_roc(std::uint32_t ssrc, std::uint32_t roc) {
        if (clear_ || roc == 0)
            return;
        auto one = policy_;
        one.ssrc.type = ssrc_specific;
        one.ssrc.value = ssrc;
        if (srtp_add_stream(session_, &one) != srtp_err_status_ok ||
            srtp_set_stream_roc(session_, ssrc, roc) != srtp_err_status_ok)
            throw std::runtime_error("cannot set the rollover counter");
    }

private:
    struct stored {
        std::vector<unsigned char> key, mki;
        srtp_master_key_t master{};
    };
    bool clear_;
    bool use_mki_ = false;
    srtp_policy_t policy_{};
    srtp_t session_ = nullptr;
    std::vector<std::unique_ptr<stored>> stored_;
    std::vector<srtp_master_key_t*> list_;
    std::map<std::uint32_t, unsigned> place_;
};

void put32(std::uint8_t* at, std::uint32_t v) {
    for (int i = 0; i < 4; ++i)
        at[i] = static_cast<std::uint8_t>(v >> (24 - 8 * i));
}
std::uint32_t get32(const std::uint8_t* at) {
    return std::uint32_t{at[0]} << 24 | std::uint32_t{at[1]} << 16 | std::uint32_t{at[2]} << 8 | at[3];
}
void put64(std::uint8_t* at, std::uint64_t v) {
    put32(at, static_cast<std::uint32_t>(v >> 32));
    put32(at + 4, static_cast<std::uint32_t>(v));
}
std::uint64_t get64(const std::uint8_t* at) {
    return std::uint64_t{get32(at)} << 32 | get32(at + 4);
}

std::vector<std::uint8_t> rtp(std::uint32_t ssrc, std::uint64_t index, unsigned payload) {
    std::vector<std::uint8_t> p(12 + std::max(payload, 20u));
    p[0] = 0x80;
    p[1] = 0;
    p[2] = static_cast<std::uint8_t>(index >> 8);
    p[3] = static_cast<std::uint8_t>(index);
    put32(p.data() + 4, static_cast<std::uint32_t>(index * 160));
    put32(p.data() + 8, ssrc);
    put64(p.data() + 12, now_ns());
    put32(p.data() + 20, ssrc);
    put64(p.data() + 24, index);
    return p;
}

std::vector<std::uint8_t> rtcp(std::uint32_t ssrc) { // an empty receiver report
    std::vector<std::uint8_t> p{0x80, 201, 0, 1, 0, 0, 0, 0};
    put32(p.data() + 4, ssrc);
    return p;
}

struct counts {
    std::uint64_t sent = 0, sent_rtcp = 0, received = 0, received_rtcp = 0, auth_failed = 0, replayed = 0,
                  malformed = 0, doubled = 0, send_errors = 0, wrong_content = 0;
    double longest_gap_ms = 0, delay_max_us = 0;
    std::map<std::uint32_t, std::set<std::uint64_t>> seen; // SSRC -> indices as the sender wrote them
    std::uint64_t last_ns = 0;
};

std::atomic<bool> stopping{false};

class peer {
public:
    explicit peer(options o)
        : o_(std::move(o)), out_(o_.suite, o_.send_keys, o_.mki, false), in_(o_.suite, o_.receive_keys, o_.mki, true) {
        socklen_t length = 0;
        const auto local = parse_address(o_.bind, length);
        fd_ = socket(local.ss_family, SOCK_DGRAM, 0);
        const int big = 8 << 20;
        setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &big, sizeof big);
        if (bind(fd_, reinterpret_cast<const sockaddr*>(&local), length) != 0)
            throw std::runtime_error(o_.bind + ": " + std::strerror(errno));
        if (!o_.to.empty())
            to_ = parse_address(o_.to, to_length_);
        if (!o_.record_sent.empty())
            sent_file_.open(o_.record_sent, std::ios::binary);
        for (const auto& s : o_.switches)
            switches_[std::stoull(s.substr(0, s.find(':')))] =
                static_cast<std::uint32_t>(std::stoul(s.substr(s.find(':') + 1)));
        for (unsigned i = 0; i < o_.ssrcs; ++i)
            out_.set_roc(o_.ssrc + i, static_cast<std::uint32_t>(o_.first_index >> 16));
    }

    void run() {
        std::thread receiver([this] { receive(); });
        std::this_thread::sleep_for(std::chrono::duration<double>(o_.delay));
        const std::uint64_t begin = now_ns();
        if (!o_.replay.empty())
            replay();
        else if (!o_.to.empty())
            send();
        while (!stopping && o_.duration > 0 && static_cast<double>(now_ns() - begin) < o_.duration * 1e9)
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
        for (int i = 0; !stopping && i < static_cast<int>(o_.linger * 100); ++i)
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        done_ = true;
        receiver.join();
        print();
    }

private:
    static void write_to(std::ofstream& file, const std::vector<std::uint8_t>& p) {
        const auto length = static_cast<std::uint16_t>(p.size());
        file.write(reinterpret_cast<const char*>(&length), sizeof length);
        file.write(reinterpret_cast<const char*>(p.data()), length);
    }

    void send_bytes(const std::vector<std::uint8_t>& p) {
        if (sent_file_.is_open())
            write_to(sent_file_, p);
        if (sendto(fd_, p.data(), p.size(), 0, reinterpret_cast<const sockaddr*>(&to_), to_length_) < 0)
            ++c_.send_errors;
    }

    void send() {
        std::uint32_t epoch = 0;
        if (!o_.send_keys.empty())
            epoch = static_cast<std::uint32_t>(std::stoul(o_.send_keys.front()));
        const std::uint64_t begin = now_ns();
        for (std::uint64_t n = 0; n < o_.count && !stopping; ++n) {
            const auto due = begin + static_cast<std::uint64_t>(static_cast<double>(n) * 1e9 / o_.rate);
            for (std::uint64_t now = now_ns(); now < due; now = now_ns())
                std::this_thread::sleep_for(std::chrono::nanoseconds(std::min<std::uint64_t>(due - now, 2'000'000)));
            if (const auto s = switches_.find(n); s != switches_.end())
                epoch = s->second;
            const std::uint32_t ssrc = o_.ssrc + static_cast<std::uint32_t>(n % o_.ssrcs);
            auto p = rtp(ssrc, o_.first_index + n / o_.ssrcs, o_.payload);
            if (!out_.protect(p, false, epoch)) {
                ++c_.send_errors;
                continue;
            }
            send_bytes(p);
            ++c_.sent;
            if (o_.rtcp_every != 0 && n % o_.rtcp_every == 0) {
                auto r = rtcp(ssrc);
                if (out_.protect(r, true, epoch)) {
                    send_bytes(r);
                    ++c_.sent_rtcp;
                }
            }
        }
    }

    void replay() {
        std::ifstream file(o_.replay, std::ios::binary);
        for (std::uint16_t length = 0; file.read(reinterpret_cast<char*>(&length), sizeof length) && !stopping;) {
            std::vector<std::uint8_t> p(length);
            file.read(reinterpret_cast<char*>(p.data()), length);
            send_bytes(p);
            ++c_.sent;
            std::this_thread::sleep_for(std::chrono::nanoseconds(static_cast<std::int64_t>(1e9 / o_.rate)));
        }
    }

    void receive() {
        std::ofstream file;
        if (!o_.record.empty())
            file.open(o_.record, std::ios::binary);
        std::vector<std::uint8_t> p;
        while (!done_) {
            pollfd f{fd_, POLLIN, 0};
            if (poll(&f, 1, 20) != 1)
                continue;
            p.resize(4096);
            const auto got = recv(fd_, p.data(), p.size(), MSG_DONTWAIT);
            if (got <= 0 || o_.no_receive)
                continue;
            p.resize(static_cast<std::size_t>(got));
            if (file.is_open())
                write_to(file, p);
            take(p);
        }
    }

    void take(std::vector<std::uint8_t>& p) {
        if (p.size() < 8) {
            ++c_.malformed;
            return;
        }
        const bool is_rtcp = p[1] >= 192 && p[1] <= 223;
        if (!is_rtcp && p.size() >= 12 && o_.receive_roc != 0 && c_.seen.find(get32(p.data() + 8)) == c_.seen.end())
            in_.set_roc(get32(p.data() + 8), static_cast<std::uint32_t>(o_.receive_roc));
        const auto status = in_.unprotect(p, is_rtcp);
        if (status == srtp_err_status_replay_fail || status == srtp_err_status_replay_old) {
            ++c_.replayed;
            return;
        }
        if (status != srtp_err_status_ok) {
            ++c_.auth_failed;
            return;
        }
        if (is_rtcp) {
            ++c_.received_rtcp;
            return;
        }
        ++c_.received;
        note(p);
    }

    void note(const std::vector<std::uint8_t>& p) {
        if (p.size() < 32 || get32(p.data() + 20) != get32(p.data() + 8) ||
            static_cast<std::uint16_t>(get64(p.data() + 24)) != (p[2] << 8 | p[3])) {
            ++c_.wrong_content;
            return;
        }
        if (!c_.seen[get32(p.data() + 8)].insert(get64(p.data() + 24)).second)
            ++c_.doubled;
        const std::uint64_t now = now_ns();
        if (c_.last_ns != 0)
            c_.longest_gap_ms = std::max(c_.longest_gap_ms, static_cast<double>(now - c_.last_ns) / 1e6);
        c_.last_ns = now;
        c_.delay_max_us = std::max(c_.delay_max_us, static_cast<double>(now - get64(p.data() + 12)) / 1e3);
    }

    void print() const {
        json streams = json::object();
        std::uint64_t lost = 0;
        for (const auto& [ssrc, indices] : c_.seen) {
            const std::uint64_t span = *indices.rbegin() - *indices.begin() + 1;
            lost += span - indices.size();
            streams[std::to_string(ssrc)] = {
                {"first", *indices.begin()}, {"last", *indices.rbegin()}, {"received", indices.size()}};
        }
        std::cout << json{{"sent", c_.sent},
                          {"sent_rtcp", c_.sent_rtcp},
                          {"send_errors", c_.send_errors},
                          {"received", c_.received},
                          {"received_rtcp", c_.received_rtcp},
                          {"auth_failed", c_.auth_failed},
                          {"replayed", c_.replayed}, // (SSRC, index) that came under one key twice
                          {"doubled", c_.doubled},   // the same sender's packet delivered twice
                          {"malformed", c_.malformed},
                          {"wrong_content", c_.wrong_content},
                          {"lost", lost},
                          {"longest_gap_ms", c_.longest_gap_ms},
                          {"delay_max_us", c_.delay_max_us},
                          {"streams", streams}}
                         .dump()
                  << std::endl;
    }

    options o_;
    srtp_end out_, in_;
    int fd_ = -1;
    std::ofstream sent_file_;
    sockaddr_storage to_{};
    socklen_t to_length_ = 0;
    std::map<std::uint64_t, std::uint32_t> switches_;
    counts c_;
    std::atomic<bool> done_{false};
};

} // namespace

int main(int argc, char** argv) {
    options o;
    CLI::App cli{"An RTP/SRTP end for tests"};
    cli.add_option("--bind", o.bind, "address:port")->required();
    cli.add_option("--to", o.to, "address:port; without it nothing is sent");
    cli.add_option("--suite", o.suite, "RTP or a suite's name");
    cli.add_option("--mki", o.mki, "MKI bytes, 0 = none");
    cli.add_option("--send-key", o.send_keys, "epoch:hex of key and salt, the first is sent under first");
    cli.add_option("--receive-key", o.receive_keys, "epoch:hex");
    cli.add_option("--switch", o.switches, "packet:epoch");
    cli.add_option("--ssrc", o.ssrc);
    cli.add_option("--ssrcs", o.ssrcs);
    cli.add_option("--first", o.first_index, "first index: ROC << 16 | sequence");
    cli.add_option("--receive-roc", o.receive_roc, "rollover counter that received streams begin with");
    cli.add_option("--count", o.count);
    cli.add_option("--rate", o.rate, "packets a second");
    cli.add_option("--payload", o.payload);
    cli.add_option("--rtcp-every", o.rtcp_every, "an RTCP packet after so many RTP packets");
    cli.add_option("--record", o.record, "raw datagrams received");
    cli.add_option("--record-sent", o.record_sent, "raw datagrams sent");
    cli.add_option("--replay", o.replay, "send a recorded file's datagrams");
    cli.add_option("--linger", o.linger, "seconds to go on receiving");
    cli.add_option("--duration", o.duration, "seconds at least");
    cli.add_option("--delay", o.delay, "seconds to listen only, before the first packet");
    cli.add_flag("--no-receive", o.no_receive);
    CLI11_PARSE(cli, argc, argv);
    std::signal(SIGTERM, [](int) { stopping = true; });
    std::signal(SIGINT, [](int) { stopping = true; });
    try {
        srtp_init();
        peer(o).run();
    } catch (const std::exception& wrong) {
        std::cerr << "srtp_peer: " << wrong.what() << "\n";
        return 1;
    }
    return 0;
}
