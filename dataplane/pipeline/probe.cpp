// SPDX-License-Identifier: Apache-2.0
// See probe.hpp.
#include "dataplane/pipeline/probe.hpp"

#include <cstring>
#include <span>
#include <sys/random.h>
#include <utility>
#include <vector>

#include <rte_mbuf.h>
#include <rte_ring.h>

#include "dataplane/flow/store.hpp"
#include "dataplane/pipeline/frame_usual.hpp"
#include "dataplane/pipeline/ownership.hpp"
#include "dataplane/rtp/packet.hpp"

namespace tandem::pipeline {

namespace {

// Both kinds of engine work: the counter modes with a separate hash, and AEAD.
constexpr api::suite suite_in = api::suite::aead_aes_128_gcm, suite_out = api::suite::aes_cm_128_hmac_sha1_80;
constexpr std::uint32_t ssrc_of_it = 0x54616e64;
constexpr std::uint16_t payload_bytes = 160, rtp_header = 12;
constexpr std::uint8_t dscp_of_it = 46;

// Addresses that exist nowhere else: these tables are the probe's own.
constexpr std::uint16_t near_in = 5004, near_out = 5006;
constexpr api::net_address loopback(std::uint8_t host, std::uint16_t port) noexcept {
    return {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, host}, port, {}};
}
constexpr api::net_address far_sender = loopback(2, 6000), far_receiver = loopback(3, 6002);
constexpr api::flow_id flow_of_it = api::make_flow_id(0, near_in);

constexpr link_out link_in{{2, 0, 0, 0, 0, 2}, {2, 0, 0, 0, 0, 1}, no_vlan};
constexpr link_out link_away{{2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 3}, no_vlan};

api::flow_config flow_of_probe() noexcept {
    api::flow_config c{};
    c.id = flow_of_it;
    c.in.suite = suite_in;
    c.out.suite = suite_out;
    c.carries = api::carries_rtp;
    c.dscp = dscp_of_it;
    c.source.policy = api::source_policy::authenticated;
    c.route.rtp_out = api::make_flow_id(0, near_out);
    c.route.rtp_remote = far_receiver;
    return c;
}

} // namespace

// What a flow needs around it, as app/ makes it for the real ones.
struct probe::ground {
    explicit ground(flow::memory own)
        : memory(std::move(own)), table(std::vector{std::to_array(loopback(1, 0).ip)}), hops(memory.records().size()),
          flow_stats(memory.records().size()), shared{memory, table, hops, worker_stats, flow_stats, {}}, pool(shared) {
    }

    flow::memory memory;
    flow::port_table table;
    hop_table hops;
    std::array<api::worker_stats, 1> worker_stats{};
    std::vector<api::flow_stats> flow_stats;
    shared_state shared;
    worker_pool pool;
    std::unique_ptr<worker> walker; // no thread: run_once() is the errand
};

probe::probe(worker& subject, const lane& by, rte_mempool* buffers, crypto::engine& judge)
    : subject_(subject), by_(by), buffers_(buffers), judge_(judge) {}

probe::~probe() {
    take_back();
    crypto::wipe(&in_key_, sizeof in_key_);
    crypto::wipe(&out_key_, sizeof out_key_);
}

tl::expected<std::unique_ptr<probe>, std::string> probe::make(worker& subject, const lane& by, rte_mempool* buffers,
                                                              crypto::engine& judge) {
    std::unique_ptr<probe> made(new probe(subject, by, buffers, judge));
    if (auto wrong = made->set_up(); !wrong.empty())
        return tl::unexpected("a worker's probe cannot be made: " + wrong);
    return made;
}

bool probe::make_key(api::suite suite, api::epoch_key& master, crypto::key_object& expanded) const {
    master.id = flow_of_it;
    master.key_length = api::info(suite).key_length;
    master.salt_length = api::info(suite).salt_length;
    if (getrandom(master.key, sizeof master.key, 0) != static_cast<ssize_t>(sizeof master.key) ||
        getrandom(master.salt, sizeof master.salt, 0) != static_cast<ssize_t>(sizeof master.salt))
        return false;
    crypto::session_keys session{};
    const bool done = crypto::derive_session_keys(suite, {master.key, master.key_length},
                                                  {master.salt, master.salt_length}, session) &&
                      judge_.build(suite, session, expanded);
    crypto::wipe(&session, sizeof session);
    return done;
}

std::string probe::set_up() {
    auto memory = flow::memory::make(1);
    if (!memory)
        return memory.error().text;
    auto builder =
        crypto::make_engine(subject_.engine()->name()); // keys are expanded as the worker's engine reads them
    if (!builder)
        return builder.error();
    ground_ = std::make_unique<ground>(std::move(*memory));
    ground& g = *ground_;
    port_use port = by_.port;
    port.mtu = 1500;
    g.walker = std::make_unique<worker>(0, g.shared, subject_.engine(), std::vector{port}, idle_mode::poll);
    g.shared.workers.push_back(g.walker.get());
    flow::store flows(g.memory, g.table, **builder, g.pool, 1);
    flows.recover();
    api::epoch_key in{}, out{};
    in.side = api::side::in;
    out.side = api::side::out;
    const bool done = make_key(suite_in, in, in_key_) && make_key(suite_out, out, out_key_) &&
                      flows.add(flow_of_probe(), monotonic_ns()) == api::status::ok &&
                      flows.install(in) == api::status::ok && flows.install(out) == api::status::ok;
    crypto::wipe(&in, sizeof in);
    crypto::wipe(&out, sizeof out);
    if (!done)
        return "no keys, or no flow for them";
    hop& way = g.hops[g.table.find(flow_of_it)].rtp;
    way.link = link_away;
    way.mtu = port.mtu;
    way.state = hop_state::routed;
    round_ = [this] {
        ground_->walker->run_once();
        finished_ns_.store(monotonic_ns(), std::memory_order_relaxed); // before the errand is said to be done
    };
    return {};
}

// RTP number `count_` under the key, by the judge, with headers around it.
probe::frame probe::make_frame(const crypto::key_object& key, const endpoints& ends, const link_out& link,
                               std::uint8_t class_, std::uint8_t hops) const {
    frame f{};
    const std::size_t headers = header_bytes(true, false);
    std::uint8_t* const packet = f.bytes.data() + headers;
    static_assert(plain_headers + rtp_header + payload_bytes + rtp::max_trailer <= largest);
    packet[0] = 0x80;
    packet[2] = static_cast<std::uint8_t>(count_ >> 8);
    packet[3] = static_cast<std::uint8_t>(count_);
    rtp::store32(packet + 4, static_cast<std::uint32_t>(count_ * payload_bytes));
    rtp::store32(packet + 8, ssrc_of_it);
    for (unsigned i = 0; i < payload_bytes; ++i)
        packet[rtp_header + i] = static_cast<std::uint8_t>(count_ + i * 7);
    crypto::op op;
    op.packet = packet;
    op.key = &key;
    op.index = count_;
    op.length = rtp_header + payload_bytes;
    op.ssrc = ssrc_of_it;
    op.header = rtp_header;
    op.sequence = static_cast<std::uint16_t>(count_);
    judge_.protect({&op, 1});
    write_headers(packet, static_cast<std::uint16_t>(op.length), link, ends, class_, hops);
    f.length = static_cast<std::uint16_t>(headers + op.length);
    return f;
}

bool probe::inject() {
    rte_mbuf* const m = rte_pktmbuf_alloc(buffers_);
    if (m == nullptr)
        return false;
    ++count_;
    const frame in = make_frame(in_key_, make_endpoints(far_sender, loopback(1, near_in)), link_in, 0, own_hops);
    expected_ =
        make_frame(out_key_, make_endpoints(loopback(1, near_out), far_receiver), link_away, dscp_of_it, own_hops - 1);
    takes(m);
    std::memcpy(rte_pktmbuf_append(m, in.length), in.bytes.data(), in.length);
    gives(m);
    if (rte_ring_enqueue(by_.in, m) == 0)
        return true;
    rte_pktmbuf_free(m);
    return false;
}

// Everything that is in the rings; sees whether it is what should have come.
void probe::take_back() {
    bool right = false;
    void* next = nullptr;
    while (rte_ring_dequeue(by_.out, &next) == 0) {
        auto* const m = static_cast<rte_mbuf*>(next);
        takes(m);
        right = m->data_len == expected_.length &&
                std::memcmp(rte_pktmbuf_mtod(m, const void*), expected_.bytes.data(), expected_.length) == 0;
        rte_pktmbuf_free(m);
    }
    while (rte_ring_dequeue(by_.in, &next) == 0) // not even taken
        rte_pktmbuf_free(static_cast<rte_mbuf*>(next));
    state_ = right ? api::health_state::ok : api::health_state::wrong;
    dropped_ = take_drop();
}

// Nobody writes them while no probe is on its way.
api::drop probe::take_drop() noexcept {
    api::drop found = api::drop::none;
    if (!ground_)
        return found;
    auto& drops = ground_->worker_stats[0].drops;
    for (std::size_t reason = 1; reason < api::drop_count; ++reason)
        if (std::exchange(drops[reason], 0) != 0)
            found = static_cast<api::drop>(reason);
    return found;
}

void probe::look() {
    if (!under_way_ || !errand_.done.load(std::memory_order_acquire))
        return;
    under_way_ = false;
    take_back();
    if (state_ == api::health_state::ok)
        good_ns_ = finished_ns_.load(std::memory_order_relaxed);
    std::array<api::flow_event, 16> events; // nobody hears of them
    while (ground_->walker->drain_events(events) != 0) {
    }
}

void probe::turn() {
    look();
    if (under_way_) {
        state_ = api::health_state::no_answer;
        return;
    }
    if (!inject()) {
        state_ = api::health_state::no_buffer;
        return;
    }
    sent_ns_ = monotonic_ns();
    under_way_ = subject_.post(errand_);
    if (!under_way_) { // a full mailbox
        take_back();
        state_ = api::health_state::no_answer;
    }
}

} // namespace tandem::pipeline
