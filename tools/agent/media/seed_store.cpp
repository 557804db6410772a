// SPDX-License-Identifier: Apache-2.0
// getrandom(2), XOR, and forgetting.
#include "tools/agent/media/seed_store.hpp"

#include <cerrno>

#include <sys/random.h>

namespace tandem::agent {

using protocol::secret;
using protocol::status;

namespace {

bool fill(std::span<std::uint8_t> out) {
    while (!out.empty()) {
        const ssize_t got = ::getrandom(out.data(), out.size(), 0);
        if (got < 0 && errno != EINTR)
            return false;
        if (got > 0)
            out = out.subspan(static_cast<std::size_t>(got));
    }
    return true;
}

} // namespace

tl::expected<const std::vector<secret>*, status> seed_store::make(std::uint32_t media, std::uint32_t epoch,
                                                                  std::size_t bytes, std::size_t count,
                                                                  clock::time_point now) {
    const auto& seed = protocol::info(protocol::tlv::seed);
    if (bytes < seed.min || bytes > seed.max)
        return tl::unexpected(status::bad_seed);
    if (count < 1 || count > 2) // one for both directions, or one each (seed-is-key)
        return tl::unexpected(status::bad_tlv);
    const auto found = held_.find(media);
    if (found == held_.end() && held_.size() >= most_media)
        return tl::unexpected(status::no_resources);
    if (found != held_.end()) {
        if (const auto same = found->second.find(epoch); same != found->second.end()) {
            const auto& before = same->second.seeds;
            if (before.size() == count && before.front().size() == bytes)
                return &before;
            if (same->second.in_use)
                return tl::unexpected(status::bad_epoch);
        } else if (found->second.size() >= most_epochs) {
            return tl::unexpected(status::no_resources);
        }
    }
    std::vector<secret> seeds(count);
    for (auto& one : seeds)
        if (!fill(one.resize(bytes)))
            return tl::unexpected(status::internal);
    made_ += count;
    entry& item = held_[media][epoch];
    item = {std::move(seeds), now, false};
    return &item.seeds;
}

tl::expected<std::vector<secret>, status> seed_store::combine(std::uint32_t media, std::uint32_t epoch,
                                                              key_source source, std::vector<secret> theirs) const {
    if (source == key_source::gateway) {
        if (theirs.empty())
            return tl::unexpected(status::bad_seed);
        return theirs;
    }
    const auto found = held_.find(media);
    if (found == held_.end() || !found->second.contains(epoch))
        return tl::unexpected(status::bad_seed);
    const auto& ours = found->second.at(epoch).seeds;
    if (theirs.size() != (source == key_source::both ? ours.size() : 0))
        return tl::unexpected(status::bad_seed);
    std::vector<secret> out;
    out.reserve(ours.size());
    for (std::size_t i = 0; i < ours.size(); i++) {
        out.push_back(ours[i].copy());
        if (source == key_source::unit)
            continue;
        if (theirs[i].size() != ours[i].size())
            return tl::unexpected(status::bad_seed);
        const auto bytes = out.back().resize(ours[i].size());
        for (std::size_t at = 0; at < bytes.size(); at++)
            bytes[at] = ours[i].view()[at] ^ theirs[i].view()[at];
    }
    return out;
}

void seed_store::used(std::uint32_t media, std::uint32_t epoch, key_source source) {
    const auto found = held_.find(media);
    if (found == held_.end())
        return;
    auto& epochs = found->second;
    epochs.erase(epochs.begin(), epochs.lower_bound(epoch));
    if (const auto own = epochs.find(epoch); own != epochs.end()) {
        own->second.in_use = true;
        if (source == key_source::gateway)
            epochs.erase(own);
    }
    if (epochs.empty())
        held_.erase(found);
}

void seed_store::forget(std::uint32_t media) {
    held_.erase(media);
}

void seed_store::expire(clock::time_point now) {
    for (auto& [media, epochs] : held_)
        std::erase_if(epochs,
                      [now](const auto& item) { return !item.second.in_use && now - item.second.made_at > patience; });
    std::erase_if(held_, [](const auto& item) { return item.second.empty(); });
}

std::size_t seed_store::size() const noexcept {
    std::size_t sum = 0;
    for (const auto& [media, epochs] : held_)
        sum += epochs.size();
    return sum;
}

} // namespace tandem::agent
