// SPDX-License-Identifier: Apache-2.0
// The data plane in one process, without privileges: the real contract server, control thread, flow store and a worker
// on a ring port; routes are answered from memory (one neighbour), so the kernel's netlink is not in any figure.
//
// Traffic is made and taken inside the worker's receive call (a DPDK receive callback), so that no third thread
// competes for the cores: RTP goes to clear flows, comes out as SRTP under `out` keys, is put on the wire again, and is
// accepted by flows that hold the same keys on their `in` side; what comes out then is counted. A packet that is
// neither there nor dropped under a name is lost.
//
// Threads: the worker's lcore (traffic), the control thread (made here), the caller's (the contract's client).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "dataplane/app/control.hpp"
#include "dataplane/io/eal.hpp"

struct rte_mbuf;
struct rte_eth_rxtx_callback;

namespace tandem::bench::setup {

inline constexpr unsigned traffic_pairs = 64;
inline constexpr std::uint16_t clear_port = 2000, sealed_port = 4000, sink_port = 9; // + pair; address 0
inline constexpr unsigned flows_per_address = 64'000;

[[nodiscard]] api::net_address address_of(unsigned index, std::uint16_t port) noexcept;

// What the worker's polls looked like since reset(), and the traffic's account.
struct observed {
    double longest_gap_us = 0;     // between two polls of the worker, its traffic's making not counted
    double longest_own_gap_us = 0; // of those in which the kernel did not take the core away from the worker
    double longest_command_us = 0; // inside one command of the control thread, likewise
    double most_commands_us = 0;   // no longer than that: 99.9 % of them
    std::uint64_t own_gaps_over_50us = 0;
    std::uint64_t preempted = 0; // gaps in which it did
    std::uint64_t sent = 0, received = 0;
};

class rig {
public:
    rig(std::uint32_t flows, unsigned packets_per_second);
    ~rig();
    rig(const rig&) = delete;
    rig& operator=(const rig&) = delete;

    [[nodiscard]] const std::string& socket_path() const noexcept { return settings_.run_dir_socket; }
    [[nodiscard]] std::uint32_t keys_in_use() const noexcept { return stats_->header().keys; }
    [[nodiscard]] std::uint64_t drops() const noexcept;
    [[nodiscard]] std::size_t state_bytes() const noexcept { return memory_->header().total_bytes; }

    void traffic(bool on) noexcept; // off: returns when everything that was sent has come back or was dropped
    void reset() noexcept;          // of what is observed
    [[nodiscard]] observed look() noexcept;
    void pass_rounds(unsigned n) const noexcept; // waits until the worker has polled n times more

private:
    struct paths {
        std::string directory, run_dir_socket;
    };
    // Times what the control thread makes the worker do.
    struct timed final : flow::executor {
        explicit timed(flow::executor& real) : to(real) {}
        void run(unsigned worker, const std::function<void()>& what) override;
        void quiesce() override { to.quiesce(); }
        flow::executor& to;
        void reset() noexcept;
        [[nodiscard]] double most_us(double share) const noexcept;
        std::atomic<std::uint64_t> longest{0};
        std::array<std::atomic<std::uint64_t>, 200> by_half_us{};
        std::uint64_t look_closer_tsc = 0; // 10 us
        std::uint64_t switches_before = 0; // the worker's
    };

    static std::uint16_t on_receive(std::uint16_t port, std::uint16_t queue, rte_mbuf** packets, std::uint16_t count,
                                    std::uint16_t most, void* self);
    std::uint16_t wire(rte_mbuf** packets, std::uint16_t count, std::uint16_t most) noexcept;
    std::uint16_t take_sent(rte_mbuf** packets, std::uint16_t count, std::uint16_t most) noexcept;
    std::uint16_t make_packets(rte_mbuf** packets, std::uint16_t count, std::uint16_t most) noexcept;
    void note_gap(std::uint64_t gap) noexcept;

    paths settings_;
    app::config config_;
    double tsc_per_us_;
    std::uint64_t tsc_per_packet_;
    std::unique_ptr<io::eal> eal_;
    std::vector<io::port> ports_;
    std::unique_ptr<flow::memory> memory_;
    std::unique_ptr<app::stats_file> stats_;
    std::unique_ptr<flow::port_table> table_;
    pipeline::hop_table hops_;
    std::unique_ptr<pipeline::shared_state> shared_;
    std::unique_ptr<pipeline::worker_pool> pool_;
    std::unique_ptr<timed> timed_;
    std::unique_ptr<crypto::engine> builder_;
    std::unique_ptr<flow::store> flows_;
    std::unique_ptr<io::nexthop_resolver> resolver_;
    app::holder_link holder_{-1}; // none
    std::unique_ptr<app::control> control_;
    std::unique_ptr<pipeline::worker> worker_;
    std::unique_ptr<app::contract_server> server_;
    const rte_eth_rxtx_callback* callback_ = nullptr;
    int stop_[2] = {-1, -1};
    std::thread thread_;

    // The worker's
    std::vector<std::array<std::uint8_t, 214>> frames_; // one RTP frame of each pair, 160 bytes of payload
    unsigned next_pair_ = 0;
    std::uint64_t next_packet_tsc_ = 0, left_tsc_ = 0;
    std::atomic<bool> on_{false};
    std::uint64_t switches_before_ = 0;
    std::atomic<std::uint64_t> rounds_{0}, sent_{0}, received_{0}, longest_gap_{0}, longest_own_gap_{0}, own_over_{0},
        preempted_{0};
};

} // namespace tandem::bench::setup
