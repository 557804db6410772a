// SPDX-License-Identifier: Apache-2.0
// See rig.hpp.
#include "bench/path/rig.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <random>
#include <rte_mbuf.h>
#include <rte_ring.h>
#include <x86intrin.h>

#include "dataplane/crypto/openssl.hpp"
#include "dataplane/crypto/trailer.hpp"
#include "dataplane/pipeline/checksum.hpp"
#include "dataplane/rtp/index.hpp"

namespace tandem::bench {

namespace {

constexpr unsigned burst = pipeline::burst_size;
constexpr std::uint32_t flows_per_address = 60'000;
constexpr std::uint32_t first_port = 1024;
constexpr std::uint32_t ssrc = 0x1000;
constexpr std::uint32_t per_session = 6; // lines of the shortest key: pool indices to few session numbers
constexpr std::size_t headers = 14 + 20 + 8;

template <class T>
T value_of(tl::expected<T, std::string> made) {
    if (!made)
        std::fprintf(stderr, "path_bench: %s\n", made.error().c_str());
    require(made.has_value(), "the start");
    return std::move(*made);
}

flow::memory make_memory(std::uint32_t flows) {
    auto made = flow::memory::make(flows);
    if (!made)
        std::fprintf(stderr, "path_bench: %s\n", made.error().text.c_str());
    require(made.has_value(), "the state memory");
    return std::move(*made);
}

flow::ip_bytes local_ip(std::uint32_t index) {
    return {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, static_cast<std::uint8_t>(index + 1)};
}

std::vector<flow::ip_bytes> local_ips(std::uint32_t flows) {
    std::vector<flow::ip_bytes> all;
    for (std::uint32_t i = 0; i <= flows / flows_per_address; ++i)
        all.push_back(local_ip(i));
    return all;
}

api::flow_id id_of(std::uint32_t flow) {
    return api::make_flow_id(flow / flows_per_address,
                             static_cast<std::uint16_t>(first_port + flow % flows_per_address));
}

api::net_address far(std::uint8_t net, std::uint32_t flow) {
    api::net_address a{};
    a.ip[10] = a.ip[11] = 0xff;
    a.ip[12] = net;
    a.ip[13] = static_cast<std::uint8_t>(flow >> 16);
    a.ip[14] = static_cast<std::uint8_t>(flow >> 8);
    a.ip[15] = static_cast<std::uint8_t>(flow);
    a.port = static_cast<std::uint16_t>(10'000 + flow % 50'000);
    return a;
}

void put16(std::uint8_t* to, std::size_t value) {
    to[0] = static_cast<std::uint8_t>(value >> 8);
    to[1] = static_cast<std::uint8_t>(value);
}

// The packet as it is in clear, RTP header and payload: what must come out again.
void write_rtp(std::uint8_t* to, std::uint32_t flow, std::uint64_t index, std::size_t payload) {
    to[0] = 0x80;
    to[1] = 0;
    put16(to + 2, index & 0xffff);
    rtp::store32(to + 4, static_cast<std::uint32_t>(index * 160));
    rtp::store32(to + 8, ssrc);
    std::memset(to + header_room, static_cast<int>(index & 0xff), payload);
    std::memcpy(to + header_room, &flow, sizeof flow);
    std::memcpy(to + header_room + sizeof flow, &index, sizeof index);
}

} // namespace

world world::make() {
    auto eal = value_of(io::eal::start({"path-bench", 1, io::hugepages::automatic, 1, false}));
    io::port_config c;
    c.kind = io::port_kind::ring;
    c.interface = "bench0";
    auto port = value_of(io::open_port(c, eal.pool(), 1));
    return {std::move(eal), std::move(port)};
}

rig::rig(world& in, const shape& of)
    : world_(in), shape_(of), memory_(make_memory(of.flows)), table_(local_ips(of.flows)), hops_(memory_.slots()),
      worker_stats_(1), flow_stats_(memory_.slots()), shared_{memory_, table_, hops_, worker_stats_, flow_stats_, {}},
      pool_(shared_), builder_(value_of(crypto::make_engine("auto"))), judge_(crypto::make_openssl(nullptr)),
      store_(memory_, table_, *builder_, pool_, 1), in_keys_(of.flows), out_keys_(of.flows), order_(of.flows),
      next_(of.flows), mbufs_(batch), scratch_keys_(burst), scratch_ops_(burst) {
    const index_of_key index = [keys = memory_.keys()](const crypto::key_object* key) {
        return keys.index_of(*key) / per_session;
    };
    const auto add_worker = [&](contender who, std::unique_ptr<crypto::engine> engine) {
        workers_[who] = std::make_unique<pipeline::worker>(
            0, shared_, std::move(engine),
            std::vector<pipeline::port_use>{{world_.port.id, 0, 1, 1, 0, 1500, world_.port.mac}},
            pipeline::idle_mode::poll);
    };
    const auto add_peer = [&](contender who, std::unique_ptr<session_engine> engine) {
        sessions_[who] = engine.get();
        add_worker(who, std::move(engine));
    };
    add_worker(none, make_no_crypto());
    add_worker(tandem_engine, value_of(crypto::make_engine("ipsecmb")));
    if (shape_.with[evp])
        add_peer(evp, make_evp(index));
    if (shape_.with[libsrtp2])
        add_peer(libsrtp2, make_libsrtp(index));

    store_.on_publish = [this](flow::slot_index slot, const flow::record&) {
        pipeline::hop way{};
        way.link = {{2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 2}, pipeline::no_vlan};
        way.mtu = 1500;
        way.state = pipeline::hop_state::routed;
        hops_[slot] = {way, way};
    };
    store_.recover();
    std::mt19937_64 random(20261121);
    for (std::uint32_t flow = 0; flow < of.flows; ++flow)
        add_flow(flow, random());
    std::iota(order_.begin(), order_.end(), std::uint32_t{0});
    std::shuffle(order_.begin(), order_.end(), random);
    require(rte_pktmbuf_alloc_bulk(world_.eal.pool(), mbufs_.data(), batch) == 0, "taking buffers");
}

rig::~rig() {
    rte_pktmbuf_free_bulk(mbufs_.data(), batch);
}

void rig::add_flow(std::uint32_t flow, std::uint64_t seed) {
    const bool in = shape_.way != direction::rtp_srtp, out = shape_.way != direction::srtp_rtp;
    api::flow_config c{};
    c.id = id_of(flow);
    c.in.suite = in ? shape_.suite : api::suite::clear;
    c.out.suite = out ? shape_.suite : api::suite::clear;
    c.carries = api::carries_rtp;
    c.source.policy = in ? api::source_policy::authenticated : api::source_policy::signalled;
    c.source.signalled = far(10, flow);
    c.route.rtp_out = c.route.rtcp_out = c.id;
    c.route.rtp_remote = c.route.rtcp_remote = far(11, flow);
    require(store_.add(c, 0) == api::status::ok, "adding a flow");
    std::mt19937_64 random(seed);
    const auto install = [&](api::side side, std::vector<crypto::raw_keys>& raw, bool sender) {
        api::epoch_key key{};
        key.id = c.id;
        key.side = side;
        key.key_length = api::info(shape_.suite).key_length;
        key.salt_length = api::info(shape_.suite).salt_length;
        for (auto& byte : key.key)
            byte = static_cast<std::uint8_t>(random());
        for (auto& byte : key.salt)
            byte = static_cast<std::uint8_t>(random());
        require(store_.install(key) == api::status::ok, "installing a key");
        const flow::slot_index slot = store_.find(c.id);
        const flow::side& made = side == api::side::in ? memory_.ins()[slot] : memory_.outs()[slot];
        const auto index = static_cast<std::uint32_t>(made.epochs[0] >> 32) - 1;
        raw[flow] = memory_.keys()[index].cold().raw.rtp;
        for (session_engine* peer : sessions_)
            if (peer != nullptr)
                peer->add_session(index / per_session, key, shape_.suite, raw[flow], sender);
    };
    if (in)
        install(api::side::in, in_keys_, false);
    if (out)
        install(api::side::out, out_keys_, true);
    next_[flow] = 65'000 + random() % 500; // the roll-over counter moves soon
    next_[flow] &= 0xffff;
}

void rig::write_packet(unsigned at, std::size_t payload) {
    const shot& s = shots_[at];
    rte_mbuf* const m = mbufs_[at];
    rte_pktmbuf_reset(m);
    const std::size_t udp = 8 + header_room + payload;
    auto* frame = reinterpret_cast<std::uint8_t*>(rte_pktmbuf_append(m, static_cast<std::uint16_t>(34 + udp)));
    const flow::ip_bytes local = local_ip(s.flow / flows_per_address);
    const api::net_address from = far(10, s.flow);
    static constexpr std::uint8_t ether[14] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0};
    std::memcpy(frame, ether, sizeof ether);
    std::uint8_t* ip = frame + 14;
    std::memset(ip, 0, 20);
    ip[0] = 0x45;
    ip[8] = 64;
    ip[9] = 17;
    std::memcpy(ip + 12, from.ip + 12, 4);
    std::memcpy(ip + 16, local.data() + 12, 4);
    put16(ip + 20, from.port);
    put16(ip + 22, id_of(s.flow) & 0xffff);
    put16(ip + 26, 0);
    write_rtp(ip + 28, s.flow, s.index, payload);
}

// Lengths and checksums, after the payload has its final size.
void finish_frame(rte_mbuf* m, std::size_t rtp) {
    std::uint8_t* ip = rte_pktmbuf_mtod_offset(m, std::uint8_t*, 14);
    put16(ip + 2, 28 + rtp);
    put16(ip + 24, 8 + rtp);
    put16(ip + 10, 0);
    const std::uint16_t sum = pipeline::checksum::fold(pipeline::checksum::add(ip, 20));
    std::memcpy(ip + 10, &sum, sizeof sum);
    m->data_len = static_cast<std::uint16_t>(headers + rtp);
    m->pkt_len = m->data_len;
}

// Protects `count` packets as their sender does, with keys expanded on the spot: a sender's key memory is not ours.
void rig::seal(unsigned from, unsigned count) {
    for (unsigned i = 0; i < count; ++i) {
        const shot& s = shots_[from + i];
        rte_mbuf* const m = mbufs_[from + i];
        crypto::session_keys keys{};
        keys.rtp = in_keys_[s.flow];
        require(builder_->build(shape_.suite, keys, scratch_keys_[i]), "expanding a sender's key");
        crypto::op& op = scratch_ops_[i];
        op = {};
        op.packet = rte_pktmbuf_mtod_offset(m, std::uint8_t*, headers);
        op.key = &scratch_keys_[i];
        op.index = s.index;
        op.length = m->data_len - static_cast<std::uint32_t>(headers);
        op.ssrc = ssrc;
        op.header = header_room;
    }
    builder_->protect({scratch_ops_.data(), count});
}

void rig::choose(std::size_t payload) {
    for (unsigned at = 0; at < batch; ++at) {
        const std::uint32_t flow = order_[at_];
        shots_[at] = {flow, next_[flow]++};
        if (++at_ == order_.size())
            at_ = 0;
        write_packet(at, payload);
        if (at % burst != burst - 1)
            continue;
        const unsigned from = at + 1 - burst;
        if (shape_.way != direction::rtp_srtp)
            seal(from, burst);
        for (unsigned i = 0; i < burst; ++i)
            finish_frame(mbufs_[from + i],
                         shape_.way == direction::rtp_srtp ? header_room + payload : scratch_ops_[i].length);
    }
}

// One packet as it left, against what it was: in clear by its bytes, protected by the reference engine.
void rig::check_out(unsigned at, contender who, std::size_t payload) {
    const shot& s = shots_[at];
    const rte_mbuf* const m = mbufs_[at];
    std::array<std::uint8_t, 1600> want, got;
    write_rtp(want.data(), s.flow, s.index, payload);
    std::uint32_t length = m->data_len - static_cast<std::uint32_t>(headers);
    std::memcpy(got.data(), rte_pktmbuf_mtod_offset(m, const std::uint8_t*, headers), length);
    if (who != none && shape_.way != direction::srtp_rtp) {
        crypto::session_keys keys{};
        keys.rtp = out_keys_[s.flow];
        require(judge_->build(shape_.suite, keys, scratch_keys_[0]), "the judge's key");
        crypto::op op;
        op.packet = got.data();
        op.key = &scratch_keys_[0];
        op.index = s.index;
        op.length = length;
        op.ssrc = ssrc;
        op.header = header_room;
        judge_->unprotect({&op, 1});
        require(op.result == api::drop::none, "the tag of a packet that left");
        length = op.length;
    }
    const std::size_t tag =
        shape_.way != direction::srtp_rtp && who == none ? api::info(shape_.suite).rtp_tag_length : 0;
    require(length == header_room + payload + tag, "the length of a packet that left");
    const bool same = std::memcmp(want.data(), got.data(), header_room + (who == none ? 0 : payload)) == 0;
    require(same, "the content of a packet that left");
}

void rig::check_account() const {
    std::uint64_t dropped = 0;
    for (const std::uint64_t n : worker_stats_[0].drops)
        dropped += n;
    if (dropped != 0)
        for (std::size_t i = 0; i < api::drop_count; ++i)
            if (worker_stats_[0].drops[i] != 0)
                std::fprintf(stderr, "path_bench: %zu x drop %zu\n",
                             static_cast<std::size_t>(worker_stats_[0].drops[i]), i);
    require(dropped == 0 && sent_ == received_, "a packet: every one must come out, but that");
}

void rig::run(contender who, std::size_t payload, samples& cycles, std::uint64_t budget) {
    choose(payload);
    pipeline::worker& worker = *workers_[who];
    rte_ring* const to = world_.port.to_worker[0];
    rte_ring* const from = world_.port.from_worker[0];
    std::array<void*, burst> got;
    // Few flows: making the packets has pushed their state out of the caches, so the first round is not counted.
    const std::uint32_t warm = shape_.flows <= batch / 3 ? shape_.flows : 0;
    std::uint64_t used = 0;
    unsigned at = 0;
    for (; at < batch && used < budget; at += burst) {
        require(rte_ring_enqueue_bulk(to, reinterpret_cast<void**>(&mbufs_[at]), burst, nullptr) == burst, "feeding");
        const api::worker_sight sight = worker_stats_[0].sight;
        const std::uint64_t before = __rdtsc();
        const unsigned taken = worker.run_once();
        const std::uint64_t spent = __rdtsc() - before;
        const unsigned n = rte_ring_dequeue_burst(from, got.data(), burst, nullptr);
        sent_ += taken;
        received_ += n;
        used += spent;
        if (taken != burst || n != burst)
            check_account();
        require(taken == burst && n == burst, "a whole burst");
        if (at < warm)
            continue;
        cycles.all.push_back(static_cast<double>(spent) / burst);
        for (std::size_t stage = 0; stage < api::stage_count; ++stage)
            cycles.stages[stage].push_back(
                static_cast<double>(worker_stats_[0].sight.stage_tsc[stage] - sight.stage_tsc[stage]) / burst);
    }
    std::array<api::flow_event, 256> events;
    while (worker.drain_events(events) != 0) {
    }
    for (unsigned i = 0; i < at; i += 61)
        check_out(i, who, payload);
    for (unsigned i = at; i < batch; ++i) // not sent: their turn comes again
        --next_[shots_[i].flow];
    check_account();
}

void rig::warm(std::size_t payload) {
    samples unused;
    if (shape_.with[libsrtp2]) // it must see each stream once before the roll-over
        run(libsrtp2, payload, unused, ~std::uint64_t{0});
    for (std::uint64_t done = 0; done < shape_.flows + std::uint64_t{batch}; done += batch)
        run(tandem_engine, payload, unused, ~std::uint64_t{0});
}

} // namespace tandem::bench
