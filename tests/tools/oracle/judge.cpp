// SPDX-License-Identifier: Apache-2.0
#include "tests/tools/oracle/judge.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "tests/tools/oracle/identity.hpp"
#include "tools/agent/media/srtp.hpp"

namespace tandem::oracle {

namespace {

using agent::guess_index;

constexpr std::uint32_t most_rocs = 8; // that are tried by force

std::string text_of(const packet_head& head, std::uint64_t index) {
    return head.rtcp ? fmt::format("SRTCP ssrc {:08x} index {}", head.ssrc, index)
                     : fmt::format("SRTP ssrc {:08x} ROC {} sequence {}", head.ssrc, index >> 16, index & 0xffff);
}

std::string text_of(const srtp_key& key) {
    return fmt::format("{}{} key {:02x}{:02x}..", api::info(key.suite).name,
                       key.mki ? fmt::format(" epoch {}", *key.mki) : "", static_cast<unsigned char>(key.material[0]),
                       static_cast<unsigned char>(key.material[1]));
}

} // namespace

bool ledger::used(const std::string& material, std::uint32_t ssrc, bool rtcp, std::uint64_t index) const {
    const auto key = used_.find(material);
    if (key == used_.end())
        return false;
    const auto stream = key->second.find({ssrc, rtcp});
    return stream != key->second.end() && stream->second.contains(index);
}

void receiver::expect(std::optional<srtp_key> key, bool carry) {
    if (key)
        check_key(*key);
    const auto known = std::ranges::find(accepted_, key, &acceptance::key);
    if (known != accepted_.end()) { // as before: its streams go on
        known->replaced.reset();
        std::rotate(known, known + 1, accepted_.end());
        return;
    }
    accepted_.push_back({std::move(key), carry, {}, false, {}});
}

void receiver::settle(moment now) {
    for (std::size_t i = 0; i + 1 < accepted_.size(); ++i)
        if (!accepted_[i].replaced)
            accepted_[i].replaced = now;
}

void receiver::begin_anew(moment now) {
    for (auto& one : accepted_) {
        one.past = true;
        one.replaced = one.replaced.value_or(now);
    }
    highest_.clear();
}

bool receiver::in_clear(const bytes& wire) noexcept {
    constexpr std::size_t empty_report = 8; // an agent's keepalive; SRTCP is longer
    return wire.size() == empty_report || read_identity(wire).has_value();
}

std::optional<bytes> receiver::take(const bytes& wire, moment now) {
    auto plain = open(wire, now);
    if (!plain)
        waiting_.push_back({wire, now});
    return plain;
}

std::vector<bytes> receiver::waited(moment now, std::chrono::milliseconds patience) {
    std::vector<bytes> out;
    std::erase_if(waiting_, [&](const waiting& one) {
        if (auto plain = open(one.wire, one.since)) {
            out.push_back(std::move(*plain));
            return true;
        }
        if (now - one.since < patience)
            return false;
        const auto head = read_head(one.wire);
        if (!head)
            wrong_.add("malformed", fmt::format("{} bytes", one.wire.size()));
        else if (in_clear(one.wire))
            wrong_.add("in clear where SRTP was agreed", text_of(*head, head->sequence));
        else if (!force(one.wire, *head))
            wrong_.add("authenticates under no key",
                       fmt::format("{}, {} ms ago, {}", text_of(*head, head->rtcp ? 0 : head->sequence),
                                   (now - one.since) / std::chrono::milliseconds(1), highest_text(head->ssrc)));
        return true;
    });
    return out;
}

std::optional<bytes> receiver::open(const bytes& wire, moment now) {
    const auto head = read_head(wire);
    if (!head)
        return std::nullopt;
    const bool clear = in_clear(wire);
    for (auto under = accepted_.rbegin(); under != accepted_.rend(); ++under) {
        auto plain = under->key ? open_under(*under, wire, *head) : clear ? std::optional(wire) : std::nullopt;
        if (!plain)
            continue;
        if (under->replaced && now - *under->replaced > grace_)
            wrong_.add(under->key ? "a replaced key is used" : "in clear where SRTP was agreed",
                       fmt::format("{}, {} ms after it was replaced", text_of(*head, head->sequence),
                                   (now - *under->replaced) / std::chrono::milliseconds(1)));
        ++opened;
        return plain;
    }
    return std::nullopt;
}

std::optional<bytes> receiver::bare_of(const acceptance& under, const bytes& wire, bool rtcp) const {
    if (!under.key->mki)
        return wire;
    bytes bare = wire;
    return take_mki(bare, under.key->suite, rtcp) == under.key->mki ? std::optional(std::move(bare)) : std::nullopt;
}

std::optional<bytes> receiver::open_under(acceptance& under, const bytes& wire, const packet_head& head) {
    const auto bare = bare_of(under, wire, head.rtcp);
    if (!bare)
        return std::nullopt;
    return head.rtcp ? open_rtcp(under, *bare, head) : open_rtp(under, *bare, head);
}

// A stream that this key has not protected yet goes on from older keys, or begins; one that it has, goes on.
std::optional<bytes> receiver::open_rtp(acceptance& under, const bytes& bare, const packet_head& head) {
    auto found = under.streams.find(head.ssrc);
    if (found != under.streams.end() && found->second.rtp) {
        auto plain = found->second.rtp->open(bare, false);
        if (plain) {
            const auto index = guess_index(found->second.highest, head.sequence);
            found->second.highest = std::max(found->second.highest, index);
            note(under, head, index);
        }
        return plain;
    }
    std::set<std::uint64_t> candidates{head.sequence};
    if (const auto before = highest_.find(head.ssrc); under.carry && before != highest_.end())
        candidates.insert(guess_index(before->second, head.sequence));
    for (const auto index : candidates) {
        auto fresh = std::make_unique<srtp_stream>(*under.key, head.ssrc, static_cast<std::uint32_t>(index >> 16));
        if (auto plain = fresh->open(bare, false)) {
            auto& s = under.streams[head.ssrc];
            s.rtp = std::move(fresh);
            s.highest = index;
            note(under, head, index);
            return plain;
        }
    }
    return std::nullopt;
}

std::optional<bytes> receiver::open_rtcp(acceptance& under, const bytes& bare, const packet_head& head) {
    auto& known = under.streams[head.ssrc].rtcp;
    auto fresh = known ? nullptr : std::make_unique<srtp_stream>(*under.key, head.ssrc, 0);
    auto plain = (known ? known : fresh)->open(bare, true);
    if (!plain)
        return std::nullopt;
    if (fresh)
        known = std::move(fresh);
    note(under, head, srtcp_index(bare, under.key->suite));
    return plain;
}

void receiver::note(const acceptance& under, const packet_head& head, std::uint64_t index) {
    if (!book_.use(under.key->material, head.ssrc, head.rtcp, index))
        wrong_.add("an index twice under one key", text_of(*under.key) + ", " + text_of(head, index));
    if (!head.rtcp && !under.past) {
        auto& highest = highest_[head.ssrc];
        highest = std::max(highest, index);
    }
}

std::string receiver::highest_text(std::uint32_t ssrc) const {
    const auto known = highest_.find(ssrc);
    return known == highest_.end()
               ? "none was heard of it before"
               : fmt::format("the highest is ROC {} sequence {}", known->second >> 16, known->second & 0xffff);
}

// Says what is wrong with a packet that a receiver refuses; false where no key of this end made it.
bool receiver::force(const bytes& wire, const packet_head& head) {
    for (auto under = accepted_.rbegin(); under != accepted_.rend(); ++under) {
        const auto bare = under->key ? bare_of(*under, wire, head.rtcp) : std::nullopt;
        for (std::uint32_t roc = 0; bare && roc < (head.rtcp ? 1 : most_rocs); ++roc) {
            if (!srtp_stream(*under->key, head.ssrc, roc).open(*bare, head.rtcp))
                continue;
            const auto index =
                head.rtcp ? srtcp_index(*bare, under->key->suite) : std::uint64_t{roc} << 16 | head.sequence;
            const bool twice = !book_.use(under->key->material, head.ssrc, head.rtcp, index);
            wrong_.add(twice ? "an index twice under one key" : "not the index that a receiver expects",
                       fmt::format("{}, {}, {}", text_of(*under->key), text_of(head, index), highest_text(head.ssrc)));
            return true;
        }
    }
    return false;
}

} // namespace tandem::oracle
