// SPDX-License-Identifier: Apache-2.0
// Opening ports: the way of an AF_XDP interface from its name to a started DPDK port, and the ports of tests.
#include "dataplane/io/port.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include <fmt/format.h>
#include <net/if.h>
#include <rte_bus_vdev.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <rte_mempool.h>
#include <rte_ring.h>
#include <unistd.h>

#include "bpf/loader/driver.hpp"
#include "bpf/loader/edge.hpp"
#include "dataplane/io/capture.hpp"
#include "dataplane/io/interface.hpp"

namespace tandem::io {

namespace {

constexpr std::uint16_t ring_size = 4096;
// What a buffer holds behind AF_XDP's own 256 bytes, less Ethernet header and VLAN tag.
constexpr unsigned max_mtu = 2048 - 256 - 18;

using failure = tl::unexpected<std::string>;
using status = tl::expected<void, std::string>;

std::string failed(const port& p, const char* what, int rc, const stderr_capture& said) {
    return fmt::format("{}: {}: {}{}", p.name, what, rte_strerror(-rc), said.words());
}

status configure_device(const port& p, const stderr_capture& said) {
    rte_eth_conf conf{};
    if (int rc = rte_eth_dev_configure(p.id, p.rx_queues, p.tx_queues, &conf); rc != 0)
        return failure(failed(p, "DPDK cannot configure the port", rc, said));
    return {};
}

int set_up_receive_queue(const port& p, std::uint16_t queue, rte_mempool* pool) {
    return rte_eth_rx_queue_setup(p.id, queue, p.descriptors, SOCKET_ID_ANY, nullptr, pool);
}

status start_device(port& p, rte_mempool* pool, const stderr_capture& said) {
    for (std::uint16_t q = 0; q < p.rx_queues; ++q)
        if (int rc = set_up_receive_queue(p, q, pool); rc != 0)
            return failure(failed(p, "cannot set up a receive queue", rc, said));
    for (std::uint16_t q = 0; q < p.tx_queues; ++q)
        if (int rc = rte_eth_tx_queue_setup(p.id, q, p.descriptors, SOCKET_ID_ANY, nullptr); rc != 0)
            return failure(failed(p, "cannot set up a transmit queue", rc, said));
    if (int rc = rte_eth_dev_start(p.id); rc != 0)
        return failure(failed(p, "cannot start the port", rc, said));
    rte_ether_addr mac{};
    rte_eth_macaddr_get(p.id, &mac);
    std::copy_n(mac.addr_bytes, p.mac.size(), p.mac.begin());
    return {};
}

// Makes a virtual device by its driver's name and finds its port id.
status make_device(port& p, const std::string& device, const std::string& args, const stderr_capture& said) {
    if (int rc = rte_eal_hotplug_add("vdev", device.c_str(), args.c_str()); rc != 0)
        return failure(fmt::format("{}: DPDK cannot make the port: {}{}", p.name, rte_strerror(-rc), said.words()));
    if (rte_eth_dev_get_port_by_name(device.c_str(), &p.id) != 0)
        return failure(fmt::format("{}: DPDK made no port", p.name));
    return {};
}

void close_device(port& p) noexcept {
    // After a rehearsal alone the driver is not in a state to be closed; the process's end does that.
    if (p.id == port::no_id || (p.driver && p.driver->sockets.empty()))
        return;
    stderr_capture quiet(true);
    bpf::driver_parts nothing;
    const bpf::driver_scope closing(bpf::driver_scope::act::close, p.driver ? *p.driver : nothing);
    rte_eth_dev_stop(p.id);
    rte_eth_dev_info info{};
    bool known = rte_eth_dev_info_get(p.id, &info) == 0;
    rte_eth_dev_close(p.id);
    if (known && info.device != nullptr)
        rte_dev_remove(info.device);
    p.id = port::no_id;
}

// Of its first piece, which is the one that net_af_xdp registers.
const void* end_of(const rte_mempool& pool) {
    const rte_mempool_memhdr* const first = STAILQ_FIRST(&pool.mem_list);
    return static_cast<const std::byte*>(first->addr) + first->len;
}

// The interface as it is now; a standby may have been made long before its turn.
status look_at_interface(port& p) {
    auto link = find_interface(p.name);
    if (!link)
        return failure(link.error());
    if (p.ifindex != 0 && p.ifindex != link->ifindex)
        return failure(fmt::format("{} is not the interface that it was when this data plane was started", p.name));
    p.ifindex = link->ifindex;
    p.loopback = link->loopback;
    p.mtu = link->mtu;
    if (p.loopback) { // media are short; what is longer goes to the kernel as ever
        p.mtu = max_mtu;
        return {};
    }
    if (link->mtu > max_mtu)
        return failure(fmt::format("{} has MTU {}, more than {}: ip link set dev {} mtu 1500", p.name, link->mtu,
                                   max_mtu, p.name));
    return {};
}

// net_af_xdp is led up to the last step (bpf/loader/driver.hpp), which it then finds impossible.
status rehearse(port& p, const std::string& args, rte_mempool* pool) {
    const bpf::driver_scope rehearsal(bpf::driver_scope::act::rehearse, *p.driver);
    const stderr_capture said(true);
    if (auto made = make_device(p, "net_af_xdp_" + p.name, args, said); !made)
        return made;
    if (auto configured = configure_device(p, said); !configured)
        return configured;
    for (std::uint16_t q = 0; q < p.rx_queues; ++q) {
        const int rc = set_up_receive_queue(p, q, pool);
        if (p.driver->program < 0 || p.driver->umems_made != q + 1u)
            return failure(failed(p, "cannot set up a receive queue", rc, said));
    }
    return {};
}

status prepare_af_xdp(port& p, const port_config& config, rte_mempool* pool, unsigned workers) {
    if (auto there = look_at_interface(p); !there)
        return there;
    if (auto allowed = check_privileges(); !allowed)
        return allowed;
    auto queues = prepare_queues(config, workers);
    if (!queues)
        return failure(queues.error());
    p.rx_queues = p.tx_queues = *queues;
    auto object = bpf::object_path();
    if (!object)
        return failure(object.error());
    if (auto free = bpf::refuse_foreign(p.ifindex, p.name); !free)
        return free;
    raise_memory_lock_limit();
    p.driver = std::make_unique<bpf::driver_parts>();
    p.driver->buffers_end = end_of(*pool);
    const std::string args =
        fmt::format("iface={},start_queue=0,queue_count={},xdp_prog={},busy_budget=0", p.name, *queues, *object);
    if (auto rehearsed = rehearse(p, args, pool); !rehearsed)
        return rehearsed;
    auto maps = bpf::edge::open_loaded(p.driver->program);
    if (!maps)
        return failure(maps.error());
    p.edge = std::make_unique<bpf::edge>(std::move(*maps));
    for (std::uint32_t i = 0; i < config.media_addresses.size(); ++i)
        if (auto added = p.edge->add_media_address(config.media_addresses[i], i); !added)
            return added;
    return {};
}

status start_af_xdp(port& p, rte_mempool* pool) {
    if (auto there = look_at_interface(p); !there)
        return there;
    auto attached = bpf::attach(p.ifindex, p.name, p.driver->program);
    if (!attached)
        return failure(attached.error());
    if (attached->replaced)
        p.notes.emplace_back("took the place of the XDP program of a Tandem before this one");
    p.mode = attached->mode == bpf::attach_mode::generic ? xdp_mode::generic : xdp_mode::driver;
    if (p.mode == xdp_mode::generic && !p.loopback)
        p.notes.emplace_back("its driver has no XDP: running in generic mode, which is slower");
    if (p.loopback && !accept_own_senders())
        p.notes.emplace_back("programs on this host do not hear their calls: sysctl net.ipv4.conf.lo.accept_local=1");
    const bpf::driver_scope opening(bpf::driver_scope::act::open, *p.driver);
    const stderr_capture said(true);
    if (auto started = start_device(p, pool, said); !started)
        return started;
    p.sockets = p.driver->sockets;
    return {};
}

status make_ring(port& p, const port_config& config) {
    for (std::uint16_t q = 0; q < config.queues; ++q) {
        for (auto* rings : {&p.to_worker, &p.from_worker}) {
            std::string name = fmt::format("{}-{}{}", p.name, rings == &p.to_worker ? "rx" : "tx", q);
            rte_ring* ring = rte_ring_create(name.c_str(), ring_size, SOCKET_ID_ANY, 0);
            if (ring == nullptr)
                return failure(fmt::format("{}: cannot make a ring: {}", p.name, rte_strerror(rte_errno)));
            rings->push_back(ring);
        }
    }
    int id =
        rte_eth_from_rings(p.name.c_str(), p.to_worker.data(), config.queues, p.from_worker.data(), config.queues, 0);
    if (id < 0)
        return failure(fmt::format("{}: cannot make a port of rings: {}", p.name, rte_strerror(rte_errno)));
    p.id = static_cast<std::uint16_t>(id);
    return configure_device(p, stderr_capture(true));
}

status make_null(port& p) {
    stderr_capture said(true);
    if (auto made = make_device(p, "net_null_" + p.name, "size=64,copy=0", said); !made)
        return made;
    return configure_device(p, said);
}

status make_pcap(port& p, const port_config& config) {
    std::string args;
    if (!config.pcap_in.empty())
        args += "rx_pcap=" + config.pcap_in;
    if (!config.pcap_out.empty())
        args += (args.empty() ? "tx_pcap=" : ",tx_pcap=") + config.pcap_out;
    stderr_capture said(true);
    if (auto made = make_device(p, "net_pcap_" + p.name, args, said); !made)
        return made;
    return configure_device(p, said);
}

status prepare(port& p, const port_config& config, rte_mempool* pool, unsigned workers) {
    switch (config.kind) {
    case port_kind::af_xdp:
        return prepare_af_xdp(p, config, pool, workers);
    case port_kind::ring:
        return make_ring(p, config);
    case port_kind::null:
        return make_null(p);
    case port_kind::pcap:
        return make_pcap(p, config);
    }
    return {};
}

port empty_port(const port_config& config) {
    port p;
    p.kind = config.kind;
    p.name = config.interface;
    p.rx_queues = p.tx_queues = config.queues;
    p.descriptors = config.descriptors;
    return p;
}

} // namespace

tl::expected<port, std::string> prepare_port(const port_config& config, rte_mempool* pool, unsigned workers) {
    port p = empty_port(config); // what was made so far is closed with it
    if (auto prepared = prepare(p, config, pool, workers); !prepared)
        return failure(prepared.error());
    return p;
}

status claim_port(port& p) {
    if (p.kind != port_kind::af_xdp)
        return {};
    auto claim = bpf::interface_claim::take(p.ifindex, p.name);
    if (!claim)
        return failure(claim.error());
    p.claim = std::make_unique<bpf::interface_claim>(std::move(*claim));
    return {};
}

status start_port(port& p, rte_mempool* pool) {
    if (p.kind == port_kind::af_xdp)
        return start_af_xdp(p, pool);
    const stderr_capture said(true);
    return start_device(p, pool, said);
}

tl::expected<port, std::string> open_port(const port_config& config, rte_mempool* pool, unsigned workers) {
    port p = empty_port(config);
    if (config.kind == port_kind::af_xdp) { // another's is refused before anything is made
        if (auto there = look_at_interface(p); !there)
            return failure(there.error());
        if (auto claimed = claim_port(p); !claimed)
            return failure(claimed.error());
    }
    if (auto prepared = prepare(p, config, pool, workers); !prepared)
        return failure(prepared.error());
    if (auto started = start_port(p, pool); !started)
        return failure(started.error());
    return p;
}

void close_port(port& p) noexcept {
    p.edge.reset();
    close_device(p);
    if (p.ifindex != 0 && p.claim && p.driver) // without the claim the program is another's
        bpf::detach(p.ifindex, p.driver->program,
                    p.mode == xdp_mode::generic ? bpf::attach_mode::generic : bpf::attach_mode::driver);
    p.claim.reset();
    for (auto* rings : {&p.to_worker, &p.from_worker}) {
        for (rte_ring* ring : *rings)
            rte_ring_free(ring);
        rings->clear();
    }
}

void leave_port(port& p) noexcept {
    for (const int socket : std::exchange(p.sockets, {}))
        ::close(socket);
    p.claim.reset();
}

port::port(port&& other) noexcept {
    *this = std::move(other);
}

port& port::operator=(port&& other) noexcept {
    if (this == &other)
        return *this;
    close_port(*this);
    id = std::exchange(other.id, no_id);
    kind = other.kind;
    mode = other.mode;
    name = std::move(other.name);
    ifindex = std::exchange(other.ifindex, 0u);
    loopback = other.loopback;
    mac = other.mac;
    mtu = other.mtu;
    rx_queues = other.rx_queues;
    descriptors = other.descriptors;
    tx_queues = other.tx_queues;
    edge = std::move(other.edge);
    claim = std::move(other.claim);
    driver = std::move(other.driver);
    sockets = std::move(other.sockets);
    notes = std::move(other.notes);
    to_worker = std::exchange(other.to_worker, {});
    from_worker = std::exchange(other.from_worker, {});
    return *this;
}

port::port() noexcept = default;
port::~port() {
    close_port(*this);
}

api::port_entry describe(const port& p) noexcept {
    api::port_entry entry{};
    std::strncpy(entry.name, p.name.c_str(), sizeof(entry.name) - 1);
    entry.ifindex = p.ifindex;
    entry.mtu = p.mtu;
    std::copy(p.mac.begin(), p.mac.end(), entry.mac);
    const char* mode = p.mode == xdp_mode::driver ? "driver" : p.mode == xdp_mode::generic ? "generic" : "none";
    std::strncpy(entry.xdp_mode, mode, sizeof(entry.xdp_mode) - 1);
    entry.queues = p.rx_queues;
    return entry;
}

} // namespace tandem::io

#ifdef __SANITIZE_ADDRESS__
// net_af_xdp of DPDK 22.11 never closes the BPF object that it loaded, nor its first socket.
extern "C" const char* __lsan_default_suppressions();
extern "C" const char* __lsan_default_suppressions() {
    return "leak:libbpf.so\nleak:libxdp.so\nleak:librte_net_af_xdp.so\n";
}
#endif
