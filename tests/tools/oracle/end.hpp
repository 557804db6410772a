// SPDX-License-Identifier: Apache-2.0
// One end of a call as the oracle plays it: two sockets (RTP and RTCP, as SDP has them), a stream of numbered packets
// in clear or SRTP, a receiver that judges, and a recorder whose packets can be injected again.
//
// A unit's end is the phone and the unit in one: it has one socket, muxed, and its keys have an MKI; they come by
// the primary (unit.hpp) instead of SDP.
#pragma once

#include <deque>
#include <netinet/in.h>
#include <random>

#include "tests/tools/oracle/identity.hpp"
#include "tests/tools/oracle/judge.hpp"

namespace tandem::oracle {

struct address {
    sockaddr_storage storage{};
    socklen_t length = 0;
    [[nodiscard]] const sockaddr* raw() const noexcept { return reinterpret_cast<const sockaddr*>(&storage); }
};
[[nodiscard]] address make_address(const std::string& ip, std::uint16_t port);
[[nodiscard]] std::uint16_t port_of(const address& a) noexcept;

// A UDP socket in the namespace (a file of /run/netns; empty: here), not blocking.
[[nodiscard]] int open_socket(const std::string& space, const address& local);

enum class roc_choice { keep, zero };

class end {
public:
    struct settings {
        std::uint32_t number = 0;
        std::string call, space;
        std::uint32_t ssrc = 0;
        std::uint64_t first = 0; // sequence
        bool unit = false;
    };
    end(settings s, ledger& book);
    ~end();
    end(const end&) = delete;
    end& operator=(const end&) = delete;

    // Sockets at an address, the RTP one's port even; those of before are read until the next move.
    void place(const std::string& ip);
    // A unit's one socket, at any port.
    void place_unit();
    [[nodiscard]] std::uint16_t port() const noexcept { return port_; }

    // What it sends under from now on; nothing: in clear.
    void send_under(std::optional<srtp_key> key, roc_choice roc);
    void send_to(const address& rtp, const address& rtcp) { to_rtp_ = rtp, to_rtcp_ = rtcp; }
    void start(bool sends) { sending_ = sends; }
    // The source begins anew: another SSRC, and any sequence.
    void restart(std::uint32_t ssrc, std::uint64_t first);
    void far(end* other) noexcept { far_ = other; }

    void tick(moment now);
    // Every packet that waits in its sockets.
    void receive(moment now);
    // Something that came: as receive() does it.
    void take(const bytes& wire, moment now);
    void look_again(moment now, std::chrono::milliseconds patience);

    // Packets of the record that must be refused, chosen by `chance`, sent again from `socket` (-1: its own). The
    // number of them that were sent; none where it does not send SRTP.
    unsigned inject(std::mt19937& chance, unsigned count, int socket);
    // What the gateway sent here, sent back to it.
    unsigned reflect(std::mt19937& chance, unsigned count);

    [[nodiscard]] bool delivered(std::uint64_t number) const { return delivered_.contains(number); }
    [[nodiscard]] std::vector<int> sockets() const;
    [[nodiscard]] const address& gateway() const noexcept { return to_rtp_; }
    [[nodiscard]] const settings& who() const noexcept { return settings_; }
    [[nodiscard]] std::uint64_t sent_numbers() const noexcept { return numbers_; }

    violations wrong; // before what writes to it
    receiver ears;
    std::uint64_t sent = 0, newest_heard = 0, heard = 0, injected = 0;
    std::vector<std::string> send_keys; // that it had, for the ledger's sake

private:
    struct recorded {
        bytes wire;
        std::string key;
        std::uint64_t number = 0, index = 0;
        std::uint32_t ssrc = 0;
        bool rtcp = false;
    };
    // A stream under one key; its context began when the source had rolled over `base` times.
    struct outgoing {
        std::unique_ptr<srtp_stream> stream;
        std::uint64_t base = 0;
    };
    void send(bytes plain);
    [[nodiscard]] outgoing& stream_of(std::uint32_t ssrc);
    [[nodiscard]] bool protect(bytes& packet, const packet_head& head, std::uint64_t& index);
    void transmit(const bytes& wire, bool rtcp, int socket) const;
    void hear(const bytes& plain);
    [[nodiscard]] std::vector<const recorded*> refusable() const;

    settings settings_;
    ledger& book_;
    int rtp_ = -1, rtcp_ = -1;
    std::vector<int> left_; // sockets of the place before
    std::uint16_t port_ = 0;
    address to_rtp_, to_rtcp_;
    bool sending_ = false;
    end* far_ = nullptr;

    std::uint32_t ssrc_;
    std::uint64_t next_; // index: rollovers of its sequence since the beginning, and sequence
    std::optional<srtp_key> key_;
    std::string follows_; // the key whose rollover counters this one goes on with
    std::map<std::string, std::map<std::uint32_t, outgoing>> streams_; // by key, SSRC
    std::uint64_t numbers_ = 0;
    moment due_{};
    std::vector<recorded> record_;
    std::deque<bytes> came_;
    std::unordered_set<std::uint64_t> delivered_; // numbers of the far end
};

} // namespace tandem::oracle
