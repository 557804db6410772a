/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The edge's maps. What they hold and who writes: dataplane/api/edge_maps.h. */
#ifndef TANDEM_BPF_MAPS_H
#define TANDEM_BPF_MAPS_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "dataplane/api/edge_maps.h"

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, TANDEM_EDGE_MAX_ADDRESSES);
    __type(key, struct tandem_edge_address);
    __type(value, __u32);
} media_addresses SEC(".maps");

/* Mapped into the data plane's memory: opening a port is a store, not a system call. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, TANDEM_EDGE_MAX_ADDRESSES* TANDEM_EDGE_PORT_WORDS);
    __type(key, __u32);
    __type(value, __u64);
} open_ports SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 64);
    __type(key, struct tandem_edge_service);
    __type(value, __u32);
} tunnel_ports SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 65536);
    __type(key, struct tandem_edge_prefix);
    __type(value, struct tandem_edge_bucket);
} handshake_buckets SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct tandem_edge_bucket);
} handshake_total SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 65536);
    __type(key, struct tandem_edge_prefix);
    __type(value, __u8);
} proven_sources SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct tandem_edge_settings);
} settings SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct tandem_edge_inner);
} inner_networks SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 256);
    __type(key, __u32);
    __type(value, __u64);
} verdicts SEC(".maps");

/* DPDK's net_af_xdp looks for this name. */
struct {
    __uint(type, BPF_MAP_TYPE_XSKMAP);
    __uint(max_entries, 256);
    __type(key, __u32);
    __type(value, __u32);
} xsks_map SEC(".maps");

#endif
