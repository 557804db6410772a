// SPDX-License-Identifier: Apache-2.0
// What a receiver may demand of a gateway's SRTP, judged with every key known: no (key, SSRC, index) twice, everything
// authenticates after the first packet of its SSRC, nothing in clear, nothing under a key that was replaced.
//
// `ledger` is one for all ends, so that a key which protects two legs is seen. `receiver` is one end's independent SRTP
// state: a packet that it cannot open as a strict receiver would is opened by force (all keys, all rollover counters)
// to say what is wrong with it. Time is given: tests make it.
#pragma once

#include <chrono>
#include <map>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "tests/tools/oracle/srtp.hpp"

namespace tandem::oracle {

using moment = std::chrono::steady_clock::time_point;

// (key, SSRC, index) that were used, RTP and RTCP apart.
class ledger {
public:
    // False where it was used before.
    bool use(const std::string& material, std::uint32_t ssrc, bool rtcp, std::uint64_t index) {
        return used_[material][{ssrc, rtcp}].insert(index).second;
    }
    [[nodiscard]] bool used(const std::string& material, std::uint32_t ssrc, bool rtcp, std::uint64_t index) const;
    void forget(const std::string& material) { used_.erase(material); }

    // Whose key it is: false where another has it.
    bool own(const std::string& material, const std::string& whose) {
        return owners_.try_emplace(material, whose).first->second == whose;
    }

private:
    std::unordered_map<std::string, std::map<std::pair<std::uint32_t, bool>, std::unordered_set<std::uint64_t>>> used_;
    std::unordered_map<std::string, std::string> owners_;
};

// What is wrong, and how often; the first one's details.
struct violation {
    std::string what, detail;
    std::uint64_t count = 0;
};
class violations {
public:
    void add(const std::string& what, const std::string& detail) {
        auto& one = list_[what];
        if (one.count++ == 0)
            one.what = what, one.detail = detail;
    }
    [[nodiscard]] const std::map<std::string, violation>& list() const noexcept { return list_; }

private:
    std::map<std::string, violation> list_;
};

class receiver {
public:
    // After a key was replaced, packets under it may still be on their way for so long.
    receiver(ledger& book, violations& to, std::chrono::milliseconds grace) : book_(book), wrong_(to), grace_(grace) {}

    // From now on packets under this key too; no key: in clear. `carry`: streams go on with the index that they have
    // under older keys, or begin at 0 (either is right, RFC 3711 3.3.1 and RFC 4568 7.1.4); else at 0 only.
    void expect(std::optional<srtp_key> key, bool carry);
    // Only what was expected last is right, but for what is on its way.
    void settle(moment now);
    // An end that begins anew, at rollover counter 0. What is on its way came under the keys of its life before.
    void begin_anew(moment now);

    // The packet without protection; nothing where it cannot be opened (kept for what may still be told).
    [[nodiscard]] std::optional<bytes> take(const bytes& wire, moment now);
    // Packets that waited for a key. Call after expect(); what is older than `patience` is a violation.
    [[nodiscard]] std::vector<bytes> waited(moment now, std::chrono::milliseconds patience);

    // Whether RTP went by in clear: only a test's own payload is told from ciphertext.
    static bool in_clear(const bytes& wire) noexcept;

    std::uint64_t opened = 0;

private:
    struct stream {
        std::unique_ptr<srtp_stream> rtp, rtcp;
        std::uint64_t highest = 0;
    };
    struct acceptance {
        std::optional<srtp_key> key;
        bool carry = true;
        std::optional<moment> replaced;
        bool past = false; // of a life before
        std::map<std::uint32_t, stream> streams;
    };
    struct waiting {
        bytes wire;
        moment since;
    };

    [[nodiscard]] std::optional<bytes> open(const bytes& wire, moment now);
    [[nodiscard]] std::optional<bytes> open_under(acceptance& under, const bytes& wire, const packet_head& head);
    [[nodiscard]] std::optional<bytes> open_rtp(acceptance& under, const bytes& bare, const packet_head& head);
    [[nodiscard]] std::optional<bytes> open_rtcp(acceptance& under, const bytes& bare, const packet_head& head);
    [[nodiscard]] std::string highest_text(std::uint32_t ssrc) const;
    [[nodiscard]] bool force(const bytes& wire, const packet_head& head);
    [[nodiscard]] std::optional<bytes> bare_of(const acceptance& under, const bytes& wire, bool rtcp) const;
    void note(const acceptance& under, const packet_head& head, std::uint64_t index);

    ledger& book_;
    violations& wrong_;
    std::chrono::milliseconds grace_;
    std::vector<acceptance> accepted_;               // the newest last
    std::map<std::uint32_t, std::uint64_t> highest_; // RTP, over all keys
    std::vector<waiting> waiting_;
};

} // namespace tandem::oracle
