// fuzz: dep_flow
// SPDX-License-Identifier: Apache-2.0
// Hostile SRTP and SRTCP against a side with keys: never a crash, never accepted, no state changed. The first byte
// chooses suite and MKI length; the rest is cut into a burst of up to three packets.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "dataplane/crypto/ipsecmb.hpp"
#include "dataplane/flow/side.hpp"

namespace {

using namespace tandem;

struct target {
    alignas(64) flow::side in{};
    alignas(64) std::uint8_t memory[crypto::key_pool::bytes(2)] = {};
    alignas(64) std::uint8_t streams[flow::stream_pool::bytes(2)] = {};
};

void prepare(target& it, crypto::engine& engine, std::uint8_t choice) {
    static constexpr std::uint8_t lengths[] = {0, 1, 4, 2};
    const auto suite = static_cast<api::suite>(choice % api::suite_table.size());
    const std::uint8_t mki = suite == api::suite::clear ? 0 : lengths[choice / api::suite_table.size() % 4];
    crypto::key_pool pool(it.memory, 2);
    api::epoch_key key{};
    key.key_length = api::info(suite).key_length;
    key.salt_length = api::info(suite).salt_length;
    key.epoch = key.mki = 7;
    if (flow::init_side(it.in, api::side::in, suite, mki) != api::status::ok ||
        (suite != api::suite::clear && flow::install(it.in, pool, engine, key) != api::status::ok))
        std::abort();
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const auto engine = crypto::make_ipsecmb();
    static target ready[20];
    if (size < 1)
        return 0;
    const std::uint8_t choice = data[0] % 20;
    target& it = ready[choice];
    if (it.in.generation == 0 && it.in.which == api::side::in && it.in.suite == api::suite::clear)
        prepare(it, *engine, choice);
    crypto::key_pool pool(it.memory, 2);
    flow::stream_pool streams(it.streams, 2);
    const flow::side before = it.in;
    const std::size_t third = (size - 1) / 3;
    crypto::op ops[3];
    std::vector<std::vector<std::uint8_t>> packets; // exact sizes: a read too far is seen
    for (std::size_t i = 0; i < 3; ++i)
        packets.emplace_back(data + 1 + i * third, i == 2 ? data + size : data + 1 + (i + 1) * third);
    for (std::size_t i = 0; i < 3; ++i)
        static_cast<void>(flow::prepare_unprotect(it.in, pool, streams, packets[i].data(),
                                                  static_cast<std::uint32_t>(packets[i].size()), ops[i]));
    engine->unprotect(ops);
    // Nobody guesses a tag of 10 or 16 bytes; one of 4 bytes falls to 2^32 tries.
    const bool guessable = api::info(it.in.suite).rtp_tag_length == 4;
    for (auto& op : ops)
        if (op.key != nullptr &&
            flow::commit_unprotect(it.in, pool, streams, *engine, op, flow::has_another_index(it.in, streams, op)) ==
                api::drop::none &&
            !guessable)
            std::abort();
    if (it.in.suite != api::suite::clear && !guessable && std::memcmp(&before, &it.in, sizeof before) != 0)
        std::abort();
    return 0;
}
