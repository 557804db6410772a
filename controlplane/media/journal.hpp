// SPDX-License-Identifier: Apache-2.0
// What media must remember over a `kill -9` of the control plane: everything but keys. The data plane keeps the flows
// and their epochs; these rows say what the flows mean. Implemented by store/. Owner thread: io_context.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "controlplane/media/facts.hpp"
#include "controlplane/media/relay.hpp"

namespace tandem::media {

struct leg_row : leg_facts {
    asio::ip::address outer; // our address
    std::uint16_t port = 0;
    std::uint32_t epoch = 0;
};

struct media_row : facts, line_facts {
    bool installed = false;
    std::array<leg_row, 2> legs;
    // Secondaries that a change under way opens beside those in force: TSID and number, as the unit knows them.
    std::vector<std::pair<std::uint64_t, std::uint32_t>> opening;
};

// One ended media. The level is that in force at the end, empty where no leg is a unit's.
struct media_record : facts {
    std::string cause;
    protocol::moment ended;
    struct side {
        std::string kind, unit, suite;
        std::uint64_t packets = 0, bytes = 0, lost = 0, auth_failures = 0, replays = 0;
        // What this leg's end reported of what it hears (RTCP report blocks, RFC 3550 6.4.1); none where it never did.
        std::uint64_t reports = 0;
        std::uint64_t reported_lost = 0; // cumulative, the last report's
        double jitter_ms = 0, max_jitter_ms = 0;
    };
    std::array<side, 2> legs; // what each leg received
};

class journal {
public:
    virtual ~journal() = default;
    virtual void put(const media_row& row) = 0; // new or replaced
    virtual void erase(media_id id) = 0;        // never became a media: no record
    // Likewise of a media that is known, where nobody was told of the change (a re-key): left out where the disk is
    // short of room.
    virtual void note(const media_row& row) { put(row); }
    // What an earlier process put, one by one; nothing is put meanwhile.
    using taker = std::function<void(const media_row&)>;
    virtual void each(const taker& give) = 0;
    [[nodiscard]] std::vector<media_row> load() {
        std::vector<media_row> rows;
        each([&](const media_row& row) { rows.push_back(row); });
        return rows;
    }
    // The row goes and its record comes, both or neither.
    virtual void record(const media_record& ended) = 0;
    // Generation of the data plane's flow memory that these rows belong to.
    virtual void set_generation(std::uint64_t generation) = 0;
    [[nodiscard]] virtual std::uint64_t generation() = 0;
};

// For tests and for running without a database: forgets.
class no_journal final : public journal {
public:
    void put(const media_row&) override {}
    void erase(media_id) override {}
    void each(const taker&) override {}
    void record(const media_record&) override {}
    void set_generation(std::uint64_t) override {}
    std::uint64_t generation() override { return 0; }
};

} // namespace tandem::media
