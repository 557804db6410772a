// SPDX-License-Identifier: Apache-2.0
// The state memory: what must survive `kill -9` of the data plane. A memfd that the holder keeps, mapped by each data
// plane in turn: header, flow records, SRTP sides, keys. Locked, not dumpable, sealed against a change of size.
//
// Owner: the control thread makes and checks it; workers write their own flows and the heartbeat. It holds keys.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>

#include <tl/expected.hpp>

#include "dataplane/crypto/key_pool.hpp"
#include "dataplane/flow/record.hpp"
#include "dataplane/flow/side.hpp"

namespace tandem::flow {

inline constexpr std::uint64_t memory_magic = 0x54414e44454d5354; // "TANDEMST"
inline constexpr std::uint32_t memory_version = 1;

struct alignas(64) memory_header {
    std::uint64_t magic; // written last when the memory is made
    std::uint32_t version;
    std::uint32_t record_bytes;
    std::uint32_t side_bytes;
    std::uint32_t key_bytes;
    std::uint32_t max_flows;
    std::uint32_t max_keys;
    std::uint32_t addresses;
    std::uint32_t reserved;
    std::uint64_t total_bytes;
    std::uint64_t generation;                     // random; changes when flows were lost
    std::uint32_t starts;                         // data planes that have used it
    std::uint32_t last_gap_ms;                    // silence before the last restart
    std::uint64_t heartbeat_ns;                   // CLOCK_MONOTONIC, by worker 0, every 10 ms or so
    std::uint8_t address[api::max_addresses][16]; // flow ids are indexes into it
};

// Both sides under SRTP with two epochs each. Most flows have one such side; the pool is shared.
inline constexpr std::uint32_t keys_per_flow = 4;

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
    [[nodiscard]] std::span<record> records() const noexcept { return records_; }
    [[nodiscard]] std::span<side> ins() const noexcept { return ins_; }
    [[nodiscard]] std::span<side> outs() const noexcept { return outs_; }
    [[nodiscard]] crypto::key_pool keys() const noexcept { return {keys_, header_->max_keys}; } // a view
    [[nodiscard]] bool fresh() const noexcept { return fresh_; }
    [[nodiscard]] bool locked() const noexcept { return locked_; } // mlock succeeded
    [[nodiscard]] static std::size_t bytes_per_flow() noexcept {
        return sizeof(record) + 2 * sizeof(side) + keys_per_flow * sizeof(crypto::key_object);
    }

private:
    memory() = default;
    static tl::expected<memory, memory_error> map(int fd, std::size_t bytes);
    void lay_out(std::uint32_t max_flows) noexcept;
    void find_parts() noexcept;
    [[nodiscard]] std::string check(std::size_t bytes) const;

    void* base_ = nullptr;
    std::size_t bytes_ = 0;
    memory_header* header_ = nullptr;
    std::span<record> records_;
    std::span<side> ins_;
    std::span<side> outs_;
    void* keys_ = nullptr;
    bool fresh_ = false;
    bool locked_ = false;
};

} // namespace tandem::flow
