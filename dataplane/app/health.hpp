// SPDX-License-Identifier: Apache-2.0
// Whether the data plane does what it is for, by its parts: a probe through each worker, a look at each port, four
// times a second. The contract's HEALTH tells it; the holder hears no more of a data plane whose worker hangs. Owner:
// the control thread. The workers have ended before this goes.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "dataplane/crypto/engine.hpp"
#include "dataplane/io/port.hpp"
#include "dataplane/pipeline/probe.hpp"

namespace tandem::app {

class health {
public:
    health(std::span<pipeline::worker* const> workers, std::span<const io::port> ports, rte_mempool* buffers);

    void tick(std::uint64_t now_ns); // each turn of the control thread
    [[nodiscard]] std::vector<api::health_entry> report(std::uint64_t now_ns);
    // A worker that has left its probe lie for so long.
    [[nodiscard]] std::optional<unsigned> hangs(std::uint64_t now_ns, std::uint64_t for_ns) const;

private:
    struct part {
        std::unique_ptr<pipeline::probe> probe; // of a worker; null where it could not be made
        api::health_state state;
        std::uint64_t good_ns;
    };
    void make_probes();
    void note(const char* kind, const std::string& name, part& of, api::health_state now, std::uint64_t now_ns);
    void look(std::uint64_t now_ns);

    std::span<pipeline::worker* const> subjects_;
    std::span<const io::port> real_ports_;
    rte_mempool* buffers_;
    std::unique_ptr<crypto::engine> judge_;
    std::vector<io::port> rings_; // the probes' own
    std::vector<part> workers_;
    std::vector<part> ports_;
    std::uint64_t next_ns_ = 0;
};

} // namespace tandem::app
