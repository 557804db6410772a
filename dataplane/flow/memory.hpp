// SPDX-License-Identifier: Apache-2.0
// The state memory: what must survive `kill -9` of the data plane. A memfd that the holder keeps, mapped by each data
// plane in turn: header, flow records, SRTP sides, further streams, keys. Locked, not dumpable, sealed against a change
// of size. Keys lie behind the flows; their pages are made (and locked) when a key first needs them.
//
// Owner: the control thread makes and checks it; workers write their own flows and the heartbeat. It holds keys.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>

#include <tl/expected.hpp>

#include "dataplane/crypto/key_pool.hpp"
#include "dataplane/flow/record.hpp"
#include "dataplane/flow/side.hpp"

namespace tandem::flow {

inline constexpr std::uint64_t memory_magic = 0x54414e44454d5354; // "TANDEMST"
inline constexpr std::uint32_t memory_version = 5;

struct alignas(64) memory_header {
    std::uint64_t magic; // written last when the memory is made
    std::uint32_t version;
    std::uint32_t record_bytes;
    std::uint32_t side_bytes;
    std::uint32_t key_bytes;
    std::uint32_t max_flows;
    std::uint32_t max_keys;
    std::uint32_t addresses;
    std::uint32_t max_streams; // further ones, in the pool
    std::uint64_t total_bytes;
    std::uint64_t generation;   // random; changes when flows were lost
    std::uint32_t starts;       // data planes that have used it
    std::uint32_t last_gap_ms;  // silence before the last restart
    std::uint64_t heartbeat_ns; // CLOCK_MONOTONIC, by worker 0, every 10 ms or so
    std::uint32_t decided; // 1 = a replacement is: flows that come are in force, those that go are gone (flow::part)
    std::uint32_t reserved;
    std::uint8_t address[api::max_addresses][16]; // flow ids are indexes into it
};

// A flow's own state in one piece, so that a packet's lines of it share a page.
struct flow_block {
    record flow;
    side in;
    side out;
};

// Slots beyond max_flows, where a full table's flows can still be replaced: the new ones are built beside the old.
inline constexpr std::uint32_t spare_slots = 16;

// Room for both sides under AEAD with two epochs each. Most flows have one key; the pool is shared, and what was never
// used of it costs no memory.
inline constexpr std::uint32_t keys_per_flow = 4;

// Places for further streams: one a flow. Most sides see one SSRC, those of a transfer, of video with retransmissions,
// or of both media on one port two or three; so the pool is full only where nearly all do.
[[nodiscard]] constexpr std::uint32_t further_streams(std::uint32_t max_flows) noexcept {
    return max_flows + 64;
}
inline constexpr std::size_t further_bytes_per_flow = stream_pool::bytes_each;

// One kind of part of every flow's block, by slot.
template <class T, T flow_block::*Part>
class column {
public:
    constexpr column() = default;
    constexpr column(flow_block* first, std::size_t count) noexcept : first_(first), count_(count) {}
    [[nodiscard]] T& operator[](std::size_t slot) const noexcept { return first_[slot].*Part; }
    [[nodiscard]] std::size_t size() const noexcept { return count_; }

private:
    flow_block* first_ = nullptr;
    std::size_t count_ = 0;
};
using record_column = column<record, &flow_block::flow>;
using in_column = column<side, &flow_block::in>;
using out_column = column<side, &flow_block::out>;

// Why a memory could not be used.
struct memory_error {
    enum class kind { system, layout } what;
    std::string text;
};

class memory {
public:
    // A fresh one, owned by this process only.
    [[nodiscard]] static tl::expected<memory, memory_error> make(std::uint32_t max_flows);
    // The holder's. Empty (size 0) is laid out afresh; one in use is checked; kind::layout = ask the holder for
    // another.
    [[nodiscard]] static tl::expected<memory, memory_error> adopt(int fd, std::uint32_t max_flows);

    memory(memory&& other) noexcept;
    memory& operator=(memory&& other) noexcept;
    memory(const memory&) = delete;
    memory& operator=(const memory&) = delete;
    ~memory();

    [[nodiscard]] memory_header& header() const noexcept { return *header_; }
    [[nodiscard]] std::uint32_t slots() const noexcept { return header_->max_flows + spare_slots; }
    [[nodiscard]] record_column records() const noexcept { return {blocks_, slots()}; }
    [[nodiscard]] in_column ins() const noexcept { return {blocks_, slots()}; }
    [[nodiscard]] out_column outs() const noexcept { return {blocks_, slots()}; }
    [[nodiscard]] crypto::key_pool keys() const noexcept { return {keys_, header_->max_keys}; }     // a view
    [[nodiscard]] stream_pool streams() const noexcept { return {streams_, header_->max_streams}; } // likewise
    [[nodiscard]] bool fresh() const noexcept { return fresh_; }
    [[nodiscard]] bool locked() const noexcept { return locked_; } // mlock succeeded
    // In use by a flow with `keys` keys of a suite, its share of the pool of streams with it, without the process's own
    // tables.
    [[nodiscard]] static constexpr std::size_t bytes_per_flow(api::suite suite = api::suite::aead_aes_128_gcm,
                                                              unsigned keys = 1) noexcept {
        return sizeof(flow_block) + further_bytes_per_flow +
               keys * (crypto::key_bytes(suite) + crypto::key_bytes(suite) / 64);
    }

private:
    memory() = default;
    static tl::expected<memory, memory_error> map(int fd, std::size_t bytes);
    void lock(std::size_t keys) noexcept;
    void lay_out(std::uint32_t max_flows) noexcept;
    void find_parts() noexcept;
    [[nodiscard]] std::string check(std::size_t bytes) const;

    void* base_ = nullptr;
    std::size_t bytes_ = 0;
    memory_header* header_ = nullptr;
    flow_block* blocks_ = nullptr;
    void* streams_ = nullptr;
    void* keys_ = nullptr;
    bool fresh_ = false;
    bool locked_ = false;
};

} // namespace tandem::flow
