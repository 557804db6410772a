// SPDX-License-Identifier: Apache-2.0
// For tests only: a worker (or two) on ports made of rings, in one process, without privileges. Frames go in and come
// out as bytes; SRTP is made and judged by libsrtp2. When a testbed ends it checks that every frame that went in came
// out or was dropped under a name, and that no buffer is missing.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <rte_mempool.h>

#include "dataplane/flow/store.hpp"
#include "dataplane/io/eal.hpp"
#include "dataplane/io/port.hpp"
#include "dataplane/pipeline/worker.hpp"

struct srtp_ctx_t_;

namespace tandem::pipeline::testing {

using bytes = std::vector<std::uint8_t>;

// Addresses of the testbed, by index. Even ones are behind port 0 ("access"), odd ones behind port 1 ("core").
inline constexpr unsigned access4 = 0, core4 = 1, access6 = 2, core6 = 3;

[[nodiscard]] api::net_address address(const std::string& ip, std::uint16_t port);
inline const api::net_address unit4 = address("192.0.2.77", 7000), phone4 = address("198.51.100.9", 6000);
inline const api::net_address unit6 = address("2001:db8::77", 7000), phone6 = address("2001:db8:1::9", 6000);
inline constexpr auto gcm = api::suite::aead_aes_128_gcm;
[[nodiscard]] api::net_address local(unsigned index, std::uint16_t port);
[[nodiscard]] api::flow_id id(unsigned index, std::uint16_t port);

[[nodiscard]] bytes rtp(std::uint16_t sequence, std::uint32_t ssrc = 0x11223344, std::size_t payload = 160);
[[nodiscard]] bytes rtcp(std::uint32_t ssrc = 0x11223344); // sender report

// Ethernet [VLAN] IP UDP around a payload, made without the code under test.
[[nodiscard]] bytes frame(const bytes& payload, const api::net_address& from, const api::net_address& to,
                          int vlan = -1);

struct opened {
    api::net_address source, destination;
    bytes payload;
    int vlan = -1;
    int dscp = 0, ttl = 0;
    std::array<std::uint8_t, 6> source_mac{}, destination_mac{};
};
// Reads a frame and verifies every length and checksum; nothing where something is wrong (and says what on stderr).
[[nodiscard]] std::optional<opened> open_frame(const bytes& whole);

// One direction of SRTP, by libsrtp2.
class srtp_end {
public:
    struct key {
        std::uint32_t epoch;
        bytes master; // key || salt
    };
    srtp_end(api::suite suite, const std::vector<key>& keys, unsigned mki_length, bool inbound);
    ~srtp_end();
    srtp_end(const srtp_end&) = delete;
    srtp_end& operator=(const srtp_end&) = delete;
    [[nodiscard]] bytes protect(bytes packet, std::uint32_t epoch = 0);
    [[nodiscard]] std::optional<bytes> unprotect(bytes packet);

private:
    struct state;
    std::unique_ptr<state> state_;
};

[[nodiscard]] bytes master_key(api::suite suite, std::uint8_t seed);
[[nodiscard]] api::epoch_key epoch_key(api::flow_id id, api::side side, std::uint32_t epoch, api::suite suite,
                                       std::uint8_t seed);

class testbed {
public:
    // At most 4 workers; queue q is worker q % workers' own.
    explicit testbed(unsigned workers = 1, std::optional<flow::memory> memory = std::nullopt,
                     idle_mode idle = idle_mode::adaptive, bool verify_checksum = false);
    ~testbed();

    [[nodiscard]] flow::store& flows() noexcept { return *store_; }
    [[nodiscard]] pipeline::worker& worker(unsigned i = 0) noexcept { return *workers_[i]; }
    [[nodiscard]] std::uint64_t drops(api::drop reason) const;
    [[nodiscard]] std::uint64_t all_drops() const;
    [[nodiscard]] std::uint64_t counter(api::counter what) const;
    [[nodiscard]] const api::flow_stats& stats(api::flow_id id) const;
    [[nodiscard]] const api::worker_sight& sight(unsigned i = 0) const { return worker_stats_[i].sight; }
    [[nodiscard]] const std::vector<api::flow_stats>& flow_stats() const noexcept { return flow_stats_; }
    [[nodiscard]] std::vector<api::flow_event> events();
    [[nodiscard]] hop_table& hops() noexcept { return hops_; }
    [[nodiscard]] flow::port_table& table() noexcept { return *table_; }
    [[nodiscard]] rte_mempool* buffers();     // of the frames
    [[nodiscard]] flow::memory take_memory(); // ends the workers, as a kill does: nothing is tidied up

    void inject(unsigned port, const bytes& frame, unsigned queue = 0);
    void start(); // the workers run, each in a thread of its own ...
    void halt();  // ... until here
    void pump();  // without threads: until nothing is left to do
    void pump_one(unsigned worker);
    [[nodiscard]] std::vector<bytes> collect(unsigned port);
    // inject, pump, collect: what came out of any port
    std::vector<opened> pass(unsigned port, const std::vector<bytes>& frames);

    // A pair as a call has it: unit leg (SRTP, muxed) at `unit`, core leg in clear at `core`.
    struct pair {
        api::flow_id unit, core;
    };
    // `more`: added to both ports, so that there may be several.
    pair add_pair(unsigned access, unsigned core, api::suite unit_suite, api::suite core_suite = api::suite::clear,
                  std::uint8_t mki = 4, std::uint16_t more = 0);
    std::array<std::uint8_t, 3> retransmissions{}; // of the pairs that are added from now on

    bool check_account = true;
    [[nodiscard]] std::uint64_t injected() const noexcept { return injected_; }
    [[nodiscard]] std::uint64_t collected() const noexcept { return collected_; }

private:
    void settle();
    struct rings;
    flow::memory memory_;
    std::unique_ptr<flow::port_table> table_;
    hop_table hops_;
    std::vector<api::worker_stats> worker_stats_;
    std::vector<api::flow_stats> flow_stats_;
    std::unique_ptr<shared_state> shared_;
    std::unique_ptr<worker_pool> pool_;
    std::unique_ptr<crypto::engine> builder_;
    std::unique_ptr<flow::store> store_;
    std::vector<int> bells_; // one a worker: rung when something is put into its queues
    std::vector<std::unique_ptr<pipeline::worker>> workers_;
    std::vector<std::thread> threads_;
    std::uint64_t injected_ = 0;
    std::uint64_t collected_ = 0;
};

} // namespace tandem::pipeline::testing
