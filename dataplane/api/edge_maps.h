/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Layout of the XDP edge's maps, shared by the BPF program and user space. Plain C.
 *
 * Owner of every write: the data plane's control thread (never a worker). All addresses network byte order.
 *   media_addresses   hash   tandem_edge_address -> __u32 address index
 *   open_ports        array  index * 1024 + port / 64 -> __u64, bit port % 64 set while a flow is open
 *   tunnel_ports      hash   tandem_edge_service -> __u32 (1 = rate limited)
 *   handshake_buckets LRU    tandem_edge_prefix  -> tandem_edge_bucket
 *   handshake_total   array  0 -> tandem_edge_bucket, of all sources that are not proven
 *   proven_sources    LRU    tandem_edge_prefix  -> __u8, from where a unit has authenticated
 *   settings          array  0 -> tandem_edge_settings
 *   inner_networks    array  0 -> tandem_edge_inner
 *   verdicts          per-CPU array, index = verdict (tandem_edge_verdict, drops by drops.def) -> __u64 packets
 *   xsks_map          XSKMAP receive queue -> AF_XDP socket (filled by DPDK's net_af_xdp)
 */
#ifndef TANDEM_EDGE_MAPS_H
#define TANDEM_EDGE_MAPS_H

#include <linux/types.h>

#define TANDEM_EDGE_MAX_ADDRESSES 64
#define TANDEM_EDGE_PORT_WORDS (65536 / 64)

struct tandem_edge_address {
    __u8 ip[16]; /* IPv4 as ::ffff:a.b.c.d */
};

struct tandem_edge_service {
    __u16 port;    /* host byte order */
    __u8 protocol; /* IPPROTO_TCP or IPPROTO_UDP */
    __u8 reserved;
};

struct tandem_edge_prefix {
    __u8 ip[8]; /* IPv4: ::ffff:a.b.c.0/24 folded as 00..00 a b c 00; IPv6: the /64 */
};

struct tandem_edge_bucket {
    __u64 refilled_ns; /* bpf_ktime_get_ns */
    __u64 millitokens;
};

struct tandem_edge_settings {
    __u32 handshakes_per_second; /* per source prefix; 0 = no limit */
    __u32 handshake_burst;
    __u32 total_per_second; /* of all prefixes together that are not proven; 0 = no limit */
    __u32 total_burst;
};

/* Networks whose packets may not come by this interface: the inner network, which is reached by tunnels alone. An
 * address is of one where (address & mask) equals its own. Words as they lie in memory, IPv4 as ::ffff:a.b.c.d. */
#define TANDEM_EDGE_MAX_INNER 4
struct tandem_edge_network {
    __u64 address[2];
    __u64 mask[2];
};

struct tandem_edge_inner {
    __u64 count;
    struct tandem_edge_network network[TANDEM_EDGE_MAX_INNER];
};

/* Verdicts that are no drop follow the drop reasons of drops.def in the verdicts array. */
#define TANDEM_EDGE_VERDICT_BASE 128
enum tandem_edge_verdict {
    TANDEM_EDGE_TO_WORKER = TANDEM_EDGE_VERDICT_BASE, /* redirected to AF_XDP */
    TANDEM_EDGE_TO_KERNEL,                            /* everything else */
    TANDEM_EDGE_HANDSHAKE,                            /* handshake within its bucket, to the kernel */
    TANDEM_EDGE_VERDICTS
};

#endif
