// SPDX-License-Identifier: Apache-2.0
// What path_bench measures on: N one-way flows of one suite and direction in a real state memory, installed by the real
// store, and the real pipeline::worker on a ring port, once per contender, over the same flows. Packets lie in
// thousands of buffers that go round; they are made (and protected) outside the timed part and what comes out is
// checked.
//
// Owner: the benchmark's one thread; nothing else runs in the process.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "bench/path/contenders.hpp"
#include "dataplane/flow/store.hpp"
#include "dataplane/io/eal.hpp"
#include "dataplane/io/port.hpp"
#include "dataplane/pipeline/worker.hpp"

namespace tandem::bench {

enum class direction : std::uint8_t { srtp_rtp, rtp_srtp, srtp_srtp };
inline constexpr std::array<std::string_view, 3> direction_names{"srtp-rtp", "rtp-srtp", "srtp-srtp"};

enum contender : unsigned { none, tandem_engine, evp, libsrtp2, contenders };
inline constexpr std::array<std::string_view, contenders> contender_names{"none", "tandem", "evp", "libsrtp2"};

inline constexpr unsigned batch = 4032; // packets made at once, then run in bursts of 64: fits a ring of 4,096
inline constexpr std::size_t header_room = 12;

// EAL and the port that all rigs of a run use.
struct world {
    io::eal eal;
    io::port port;
    static world make();
};

class rig {
public:
    struct shape {
        api::suite suite;
        direction way;
        std::uint32_t flows;
        bool with[contenders];
    };
    rig(world& in, const shape& of);
    rig(const rig&) = delete;
    rig& operator=(const rig&) = delete;
    ~rig();

    struct samples { // TSC cycles per packet, one for each burst
        std::vector<double> all;
        std::array<std::vector<double>, api::stage_count> stages;
    };
    // One batch of packets with `payload` bytes through the path of one contender; adds the cycles of each burst. Stops
    // early where `budget` TSC are used.
    void run(contender who, std::size_t payload, samples& cycles, std::uint64_t budget);
    // Every flow once, unmeasured: sources are latched, streams made.
    void warm(std::size_t payload);

    [[nodiscard]] std::uint64_t packets() const noexcept { return sent_; }

private:
    struct shot { // what a packet is
        std::uint32_t flow;
        std::uint64_t index;
    };
    void add_flow(std::uint32_t flow, std::uint64_t random);
    void choose(std::size_t payload);
    void write_packet(unsigned at, std::size_t payload);
    void seal(unsigned from, unsigned count);
    void check_out(unsigned at, contender who, std::size_t payload);
    void check_account() const;

    world& world_;
    shape shape_;
    flow::memory memory_;
    flow::port_table table_;
    pipeline::hop_table hops_;
    std::vector<api::worker_stats> worker_stats_;
    std::vector<api::flow_stats> flow_stats_;
    pipeline::shared_state shared_;
    pipeline::worker_pool pool_;
    std::unique_ptr<crypto::engine> builder_;
    std::unique_ptr<crypto::engine> judge_; // the reference engine
    flow::store store_;
    std::array<session_engine*, contenders> sessions_{};
    std::array<std::unique_ptr<pipeline::worker>, contenders> workers_;

    std::vector<crypto::raw_keys> in_keys_, out_keys_; // by flow, for making and judging packets
    std::vector<std::uint32_t> order_;                 // of the flows in a round
    std::vector<std::uint64_t> next_;                  // index by flow
    std::size_t at_ = 0;                               // in order_
    std::vector<rte_mbuf*> mbufs_;
    std::array<shot, batch> shots_{};
    std::vector<crypto::key_object> scratch_keys_;
    std::vector<crypto::op> scratch_ops_;
    std::uint64_t sent_ = 0;
    std::uint64_t received_ = 0;
};

} // namespace tandem::bench
